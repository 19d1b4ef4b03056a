"""Starts for the recovery of orientations from distances: spectral without symmetry, by many random starts with it, and images placed one by one."""

from __future__ import annotations

import torch
from torch import Tensor

from ..imaging.poses import random_rotations, rotation_grid
from .alignment import nearest_rotations
from .kernel import SimilarityKernel
from .polish import polish

__all__ = ["place_images", "random_start", "spectral_start"]

_SUBSET = 200
_FEW, _CARRIED = 60, 4
_ROUNDS, _LAST_ROUNDS = 40, 10
_STEPS = 100


def spectral_start(distances_rad: Tensor, restarts: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rotations (L, 3, 3) from distances (L, L) without symmetry, and how well each restart fits (restarts,).

    ``1 + 2 cos d = <A, A'>`` is a Gram matrix of rank 9: its top eigenvectors are the rotations up to O(9). Which of O(9) makes rotations of them is
    found by alternating the nearest rotations and the best O (Procrustes) on a subset, from many starts; the best is kept.
    """
    cosine = 1 + 2 * torch.cos(distances_rad.double().clamp(0, torch.pi))
    values, vectors = torch.linalg.eigh((cosine + cosine.T) / 2)
    places = vectors[:, -9:] * values[-9:].clamp(min=0).sqrt()
    generator = torch.Generator().manual_seed(seed)
    some = torch.randperm(len(places), generator=generator)[:_SUBSET].to(places.device)
    turns = torch.linalg.qr(torch.randn(restarts, 9, 9, generator=generator, dtype=torch.float64))[0].to(places.device)
    for _ in range(_ROUNDS):
        turns, _ = _nearest_turn(places[some], turns)
    _, fits = _nearest_turn(places[some], turns)
    best = turns[int(fits.argmin())][None]
    for _ in range(_LAST_ROUNDS):
        best, _ = _nearest_turn(places, best)
    return nearest_rotations((places @ best[0]).view(-1, 3, 3)), fits


def _nearest_turn(places: Tensor, turns: Tensor) -> tuple[Tensor, Tensor]:
    """One round for (r, 9, 9) turns: the next ones, and the mean squared misfit (r,) of the given ones."""
    turned = places @ turns
    rotations = nearest_rotations(turned.unflatten(-1, (3, 3))).flatten(-2)
    u, _, vt = torch.linalg.svd(places.T @ rotations)
    return u @ vt, (turned - rotations).square().mean((1, 2))


def random_start(distances_rad: Tensor, kernel: SimilarityKernel, restarts: int, seed: int) -> tuple[Tensor, Tensor]:
    """Rotations (L, 3, 3) from distances (L, L) for symmetric particles, and the loss of each restart (restarts,) on a few images.

    Random starts of a few images find their way often and cheaply; the best ones are carried on to more images, and the one that fits those best to all.
    """
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(distances_rad), generator=generator).to(distances_rad.device)
    few, more = order[:_FEW], order[:_SUBSET]
    alone = torch.arange(len(few), device=order.device)
    tries = [polish(distances_rad[few][:, few], alone, random_rotations(len(few), generator, torch.float64).to(order.device), kernel, steps=_STEPS)
             for _ in range(restarts)]
    losses = torch.tensor([item.loss for item in tries])
    carried = []
    for number in losses.argsort()[:_CARRIED]:
        placed = place_images(distances_rad[more][:, few], tries[int(number)].rotations, kernel)
        carried.append(polish(distances_rad[more][:, more], torch.arange(len(more), device=order.device), placed, kernel, steps=_STEPS))
    best = min(carried, key=lambda item: item.loss)
    return place_images(distances_rad[:, more], best.rotations, kernel), losses


def place_images(distances_rad: Tensor, places: Tensor, kernel: SimilarityKernel, weights: Tensor | None = None) -> Tensor:
    """Rotations (P, 3, 3) of images from their distances (P, L) to solved ones (L, 3, 3), by the best of a grid.

    ``sum_l w (d_pl - d_gl)^2`` over the grid is three matrix products.
    """
    step = 12.0 if len(kernel.matrices) < 12 else 7.0
    grid = rotation_grid(step, dtype=torch.float64, device=places.device)
    table = torch.cat([kernel.distance_rad(some[:, None], places[None]) for some in grid.split(256)]).float()
    found = torch.empty(len(distances_rad), 3, 3, dtype=torch.float64, device=places.device)
    for start in range(0, len(distances_rad), 2048):
        some = slice(start, start + 2048)
        distance = distances_rad[some].float()
        weight = torch.ones_like(distance) if weights is None else weights[some].float()
        misfit = weight @ table.square().T - 2 * (weight * distance) @ table.T
        found[some] = grid[misfit.argmin(1)]
    return found
