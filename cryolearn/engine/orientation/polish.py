"""Orientations that fit given distances best: a descent on the rotations themselves, from a start nearby."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..imaging.poses import matrix_to_quaternion, quaternion_to_matrix
from .kernel import SimilarityKernel

__all__ = ["Polished", "polish"]

_NUMBERS_AT_A_TIME = 1 << 22  # pairs in memory: about 10 arrays of 8 bytes each
_SETTLED = 1e-7  # relative change of the loss
_SMALLEST_STEP = 1e-3
_HUBER = 2.5  # in robust standard deviations of the residuals: a hundredth of the efficiency for normal noise, and junk does not pull
_TINY = 1e-9


@dataclass
class Polished:
    """Attributes
    ----------
    rotations : (P, 3, 3) float64
    loss : weighted mean of the squared residuals, L_OR of Banjac et al. 2021 (Huber's beyond 2.5 standard deviations)
    residual_rad : (P,) root of the weighted mean squared residual of each image
    """

    rotations: Tensor
    loss: float
    residual_rad: Tensor


def polish(distances_rad: Tensor, landmarks: Tensor, rotations: Tensor, kernel: SimilarityKernel, weights: Tensor | None = None, steps: int = 100) -> Polished:
    """Minimise ``sum w_pl rho(d_pl - d(A_p, A_l))`` over all rotations at once.

    A Gauss-Newton step of each image against all others at rest: a residual r pulls along the axis of ``A_p^T A_l``, and as the axes of many pairs point
    everywhere, the curvature is a third of the summed weights. Sums over pairs are matrix products of quaternions; memory is bounded by blocks of rows.

    Parameters
    ----------
    distances_rad
        (P, L) of all images to the landmarks.
    landmarks
        (L,) rows of the landmarks.
    rotations
        (P, 3, 3) to start from.
    weights
        (P, L); all 1 without them. The pair of an image with itself never counts.
    """
    points = _quaternions(rotations)
    copies = _quaternions(kernel.matrices.to(rotations.device))
    scale = math.inf
    loss, pull, residual, spread = _pull(distances_rad, landmarks, points, copies, weights, scale)
    scale = _HUBER * spread
    loss, pull, residual, spread = _pull(distances_rad, landmarks, points, copies, weights, scale)
    step = 1.0
    for _ in range(steps):
        trial = _moved(points, step * pull)
        new, new_pull, new_residual, new_spread = _pull(distances_rad, landmarks, trial, copies, weights, scale)
        if new > loss:
            step /= 2
            if step < _SMALLEST_STEP:
                break
            continue
        gain = loss - new
        points, loss, pull, residual, spread = trial, new, new_pull, new_residual, new_spread
        if gain < _SETTLED * max(loss, 1e-12):
            break
        step = min(1.0, step * 1.5)
    return Polished(quaternion_to_matrix(points[:, [1, 2, 3, 0]]), loss, residual)


def _quaternions(rotations: Tensor) -> Tensor:
    """(n, 4) w, x, y, z in double precision."""
    return matrix_to_quaternion(rotations.double())[:, [3, 0, 1, 2]]


def _product(first: Tensor, second: Tensor) -> Tensor:
    """Products (..., 4) of quaternions w, x, y, z."""
    w, v = first[..., :1], first[..., 1:]
    s, u = second[..., :1], second[..., 1:]
    return torch.cat((w * s - (v * u).sum(-1, keepdim=True), w * u + s * v + torch.linalg.cross(v, u, dim=-1)), dim=-1)


def _moved(points: Tensor, rotvec: Tensor) -> Tensor:
    """``A exp(rotvec)`` for quaternions (n, 4) and rotation vectors (n, 3)."""
    angle = rotvec.norm(dim=1, keepdim=True).clamp(max=0.5, min=_TINY)  # a long step on a curved surface is no step of Gauss and Newton
    axis = torch.nn.functional.normalize(rotvec, dim=1)
    moved = _product(points, torch.cat((torch.cos(angle / 2), torch.sin(angle / 2) * axis), dim=1))
    return torch.nn.functional.normalize(moved, dim=1)


def _pull(distances: Tensor, landmarks: Tensor, points: Tensor, copies: Tensor, weights: Tensor | None, scale: float) -> tuple[float, Tensor, Tensor, float]:
    """Loss, Gauss-Newton steps (P, 3), residuals (P,) and the robust standard deviation of the residuals (by a sample)."""
    count, marks = distances.shape
    places = points[landmarks]
    rows = max(1, _NUMBERS_AT_A_TIME // (marks * max(1, len(copies) // 4)))
    force, curvature = torch.zeros(count, 3, dtype=points.dtype, device=points.device), torch.zeros(count, dtype=points.dtype, device=points.device)
    residual = torch.empty(count, dtype=points.dtype, device=points.device)
    total = mass = 0.0
    sample: list[Tensor] = []
    for start in range(0, count, rows):
        some = slice(start, min(start + rows, count))
        mine = points[some]
        nearest, cosine = _nearest_copies(mine, places, copies)
        size = cosine.abs().clamp(max=1)
        error = distances[some].to(points.dtype) - 2 * torch.acos(size)
        weight = torch.ones_like(error) if weights is None else weights[some].to(points.dtype)
        weight = weight * (torch.arange(start, start + len(mine), device=points.device)[:, None] != landmarks)
        sample.append(error[:: max(1, len(error) // 64)].flatten())
        shrink = (scale / error.abs().clamp(min=_TINY)).clamp(max=1) if math.isfinite(scale) else torch.ones_like(error)
        squares = weight * error.square() * (2 * shrink - shrink.square())
        total, mass = total + float(squares.sum()), mass + float(weight.sum())
        residual[some] = (squares.sum(1) / weight.sum(1).clamp(min=_TINY)).sqrt()
        weight = weight * shrink
        # the axis of A_p^T A_l is the vector part of conj(q_p) q_l over its length; a residual above 0 pushes the pair apart
        length = torch.sqrt((1 - size.square()).clamp(min=_TINY))
        along = -weight * error * torch.where(cosine < 0, -1.0, 1.0) / length
        curve = weight.sum(1)
        curvature[some] += curve
        curvature.index_add_(0, landmarks, weight.sum(0))
        for number, copy in enumerate(copies):  # one product a copy: pairs take their nearest one
            part = along if len(copies) == 1 else along * (nearest == number)
            theirs = _product(places, copy.expand_as(places))
            force[some] += _axes(mine, part @ theirs)
            back = _product(mine, (copy * copy.new_tensor([1.0, -1, -1, -1])).expand_as(mine))
            force.index_add_(0, landmarks, _axes(places, part.T @ back))
    spread = 1.4826 * float(torch.cat(sample).abs().median())
    return total / max(mass, _TINY), force * 3 / (2 * curvature.clamp(min=_TINY)[:, None]) * 2, residual, max(spread, 1e-6)


def _axes(own: Tensor, others: Tensor) -> Tensor:
    """Vector part (n, 3) of ``conj(own) others`` for summed quaternions (n, 4)."""
    w, v = own[:, :1], own[:, 1:]
    return w * others[:, 1:] - others[:, :1] * v - torch.linalg.cross(v, others[:, 1:], dim=1)


def _nearest_copies(mine: Tensor, places: Tensor, copies: Tensor) -> tuple[Tensor, Tensor]:
    """Which symmetric copy of each landmark (p, L) is nearest, and the inner product with it."""
    best, nearest = mine @ places.T, torch.zeros(len(mine), len(places), dtype=torch.long, device=mine.device)
    for number, copy in enumerate(copies[1:], start=1):
        inner = mine @ _product(places, copy.expand_as(places)).T
        closer = inner.abs() > best.abs()
        best, nearest = torch.where(closer, inner, best), torch.where(closer, number, nearest)
    return nearest, best
