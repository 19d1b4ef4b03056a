"""Starts that need no guess, for any group: poses of a coarse grid are given to a few images by annealing, the rest are placed against those."""

from __future__ import annotations

import math

import roma
import torch
from torch import Tensor

from ...imaging.poses import rotation_grid
from ..similarity_kernel import SimilarityKernel
from .gauss_newton import Measured, group_quaternions, nearest_products

__all__ = ["anneal", "domain_grid", "place"]

_SWEEPS = 40
_HOT, _COLD = 0.5, 0.02  # temperature in units of an image's energy in disorder; the first and the last
_GRID = 600
_AT_ONCE = 1 << 24  # values in memory


def domain_grid(kernel: SimilarityKernel, count: int) -> Tensor:
    """About ``count`` poses (g, 4), quaternions, spread evenly over those that the group does not make equal: nearest to the identity of their copies."""
    group = kernel.matrices
    step = math.degrees((8 * math.pi**2 / (count * len(group))) ** (1 / 3))
    kept = []
    for poses in rotation_grid(step, torch.float64).split(max(1, _AT_ONCE // (9 * len(group)))):
        copies = kernel.traces(torch.eye(3, dtype=torch.float64), poses)
        kept.append(poses[copies[:, 0] >= copies.amax(1) - 1e-9])
    return roma.rotmat_to_unitquat(torch.cat(kept))


def distances_between(first: Tensor, second: Tensor, group: Tensor) -> Tensor:
    """Distances (b, c) in radians of quaternions (b, 4) and (c, 4) modulo the group (n, 4)."""
    turned = roma.quat_product(second[None].expand(len(group), -1, -1), group.to(second)[:, None].expand(-1, len(second), -1))
    return 2 * torch.acos(nearest_products(first, turned)[0].abs().clamp(max=1))


def anneal(distances: Tensor, weights: Tensor, kernel: SimilarityKernel, starts: int, seed: int) -> tuple[Tensor, Tensor]:
    """Poses for a few images whose distances fit best, by Gibbs sampling at falling temperature over a grid, many starts at once.

    Parameters
    ----------
    distances : (m, m)
        Symmetric distances in radians.
    weights : (m, m)
        Symmetric weights, 0 on the diagonal.
    kernel
        Point group of the particle.
    starts
        Number of independent random starts.
    seed
        Of the random starts and the sampling.

    Returns
    -------
    quaternions (starts, m, 4) and mean squared residuals (starts,), best first
    """
    generator = torch.Generator().manual_seed(seed)
    grid = domain_grid(kernel, _GRID).float()
    table = distances_between(grid, grid, group_quaternions(kernel))
    count, weights = len(distances), weights.float()
    disorder = float(table.var()) * 2
    at = torch.randint(len(grid), (starts, count), generator=generator)
    # sum of w (d - t)^2 but for its constant: distances t and their squares in one array, so that an image's energies are one product over memory
    terms, factors = torch.stack((table, table.square())), torch.stack((-2 * weights * distances.float(), weights))
    rows = terms[:, at.T].contiguous()  # (2, m, starts, g)
    flat = rows.view(2 * count, starts * len(grid))
    for sweep in range(_SWEEPS):
        temperature = disorder * _HOT * (_COLD / _HOT) ** (sweep / (_SWEEPS - 1)) if sweep < _SWEEPS - 3 else 1e-9
        for image in torch.randperm(count, generator=generator).tolist():
            energy = (factors[:, image].reshape(-1) @ flat).view(starts, len(grid))
            scale = temperature * float(weights[image].sum()) / math.sqrt(count)
            noise = -torch.log(-torch.log(torch.rand(energy.shape, generator=generator).clamp(1e-9, 1 - 1e-7)))
            chosen = (energy - scale * noise).argmin(1)  # Gumbel: a sample of exp(-energy / scale)
            at[:, image] = chosen
            rows[:, image] = terms[:, chosen]
    fitted = table[at[:, :, None], at[:, None, :]]
    loss = (weights * (fitted - distances.float()).square()).sum((1, 2)) / weights.sum()
    order = loss.argsort()
    return grid[at[order]].double(), loss[order]


def place(measured: Measured, rows: Tensor, known: Tensor, columns: Tensor, kernel: SimilarityKernel, count: int = 4000) -> Tensor:
    """Poses (r, 4) of the images ``rows`` that fit their distances to landmarks best, from a grid of about ``count``.

    Parameters
    ----------
    measured
        Distances of all images to the landmarks.
    rows : (r,)
        Images to be placed.
    known : (c, 4)
        Orientations of some landmarks, as quaternions.
    columns : (c,)
        Columns of the distances that belong to those landmarks.
    kernel
        Point group of the particle.
    count
        Approximate number of poses of the grid.
    """
    grid = domain_grid(kernel, count)
    table = distances_between(grid, known.double(), group_quaternions(kernel)).to(measured.dtype)
    found = []
    for some in rows.split(max(1, _AT_ONCE // max(len(grid), len(measured.landmarks)))):
        distance, weight = (part[:, columns] for part in measured.block(some))
        energy = weight @ table.square().T - 2 * (weight * distance) @ table.T
        found.append(grid[energy.argmin(1)])
    return torch.cat(found)
