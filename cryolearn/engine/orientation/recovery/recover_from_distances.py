"""Orientations of all images from distances between them: the best of many annealed starts on a few images, the rest placed against those, all polished.

For independent errors s of the distances the result reaches the Cramer-Rao floor, a mean error of ``2.76 s / sqrt(L)`` for images with L distances.
Distances leave more free than images do: a rotation on either side and, without symmetry, transposition (module ``alignment``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...exceptions import InputError
from ...imaging.poses import quaternion_to_matrix
from ..similarity_kernel import SimilarityKernel
from .annealed_start import anneal, place
from .gauss_newton import Fit, Measured, polish

__all__ = ["Recovered", "recover"]

_FEWEST = 8
_SEED_IMAGES = 96  # that annealing poses
_CORE = 1000  # landmarks that are solved before all others
_KEPT = 4  # starts that are polished
_LOST = 1.5  # times the median image's residual: the image is placed anew
_EXACT_RAD = 1e-3  # residuals below are none
_SEED_ITERATIONS, _CORE_ITERATIONS, _LAST_ITERATIONS = 40, 40, 60
_PLACED_FROM = 500  # landmarks


@dataclass
class Recovered:
    """Orientations that fit distances.

    Attributes
    ----------
    rotations : (P, 3, 3) float64
    residual_rad : (P,) root of the weighted mean squared residual of each image's distances; partners whose own do not fit hardly count
    loss : weighted mean squared residual of all distances, rad^2 (L_OR of Banjac et al. 2021)
    fits : (restarts,) the same of each annealed start over the images that it poses, best first; several alike say that the best is no accident
    """

    rotations: NDArray[np.float64]
    residual_rad: NDArray[np.float64]
    loss: float
    fits: NDArray[np.float64]


def recover(
    distances_rad: Any, landmarks: Any, weights: Any, kernel: SimilarityKernel, restarts: int, seed: int, report: Callable[[str], None] | None = None
) -> Recovered:
    """Find orientations whose distances are the given ones.

    Time: twenty to a hundred passes over the (P, L) distances, of some 20 operations a pair and group element, and ``restarts`` annealings
    of under a second each.
    Memory beside the distances: under 1 GB, and 500 bytes an image.

    Parameters
    ----------
    distances_rad : (P, L)
        Array or memory map of distances in radians; values that are not finite are not known.
    landmarks : (L,)
        Rows of the images that the columns belong to; L = P and 0 ... P - 1 are all pairs.
    weights : (P, L)
        Inverse variances up to a factor, as array or memory map; None trusts all alike.
    kernel
        Point group of the particle.
    restarts
        Annealed starts.
    seed
        Of the order of landmarks and of the annealing.
    report
        Takes a line of text per stage.

    Raises
    ------
    InputError
        when there are too few images or landmarks.
    """
    measured = Measured(distances_rad, np.asarray(landmarks), weights)
    columns = len(measured.landmarks)
    if min(columns, measured.images) < _FEWEST:
        raise InputError(f"There are distances to {columns} of {measured.images} images, but orientations need at least {_FEWEST}.")
    if tuple(distances_rad.shape) != (measured.images, columns):
        raise ValueError(f"distances have the shape {tuple(distances_rad.shape)} for {columns} landmarks.")
    tell = report or (lambda text: None)
    order = torch.randperm(columns, generator=torch.Generator().manual_seed(seed))
    some, core = order[:_SEED_IMAGES], order[:_CORE]
    block = _square(measured, core)
    poses, fits = _seed_poses(block, len(some), kernel, restarts, seed)
    tell(f"annealed {restarts} starts over {len(some)} images: mean squared residual {float(fits[0]):.4f} rad^2, {_alike(fits)} starts alike")
    if len(core) > len(some):
        rest = torch.arange(len(some), len(core))
        poses = torch.cat((poses, place(block, rest, poses, torch.arange(len(some)), kernel)))
        poses, fit = _solve(poses, block, kernel, _CORE_ITERATIONS)
        tell(f"fitted {len(core)} landmarks: mean squared residual {fit.loss:.4f} rad^2")
    if measured.images > len(core):
        whole = torch.zeros(measured.images, 4, dtype=torch.float64)
        known = measured.landmarks[core]
        whole[known] = poses
        others = torch.ones(measured.images, dtype=torch.bool)
        others[known] = False
        rest = others.nonzero()[:, 0]
        whole[rest] = place(measured, rest, poses[:_PLACED_FROM], core[:_PLACED_FROM], kernel)
    else:
        whole = torch.empty_like(poses)
        whole[measured.landmarks[core]] = poses
    whole, fit = _solve(whole, measured, kernel, _LAST_ITERATIONS)
    tell(f"fitted {measured.images} images: mean squared residual {fit.loss:.4f} rad^2")
    return Recovered(quaternion_to_matrix(whole).numpy(), fit.trusted_residual_rad.numpy(), fit.loss, fits.double().numpy())


def _square(measured: Measured, chosen: Tensor) -> Measured:
    """All pairs of some landmarks, the same in both directions."""
    distance, weight = (part[:, chosen].double() for part in measured.block(measured.landmarks[chosen]))
    both = weight + weight.T
    distance = torch.where(both > 0, (weight * distance + (weight * distance).T) / both.clamp_min(1e-300), torch.zeros_like(distance))
    return Measured(distance.numpy(), np.arange(len(chosen)), both.numpy())


def _seed_poses(block: Measured, count: int, kernel: SimilarityKernel, restarts: int, seed: int) -> tuple[Tensor, Tensor]:
    """Quaternions (count, 4) of the first images of a block, and the mean squared residuals of all starts."""
    inner = Measured(block.distances[:count, :count], np.arange(count), block.weights[:count, :count])
    distance, weight = inner.block(slice(0, count))
    starts, fits = anneal(distance, weight, kernel, restarts, seed)
    solved = [polish(start, inner, kernel, _SEED_ITERATIONS) for start in starts[:_KEPT]]
    return min(solved, key=lambda item: item[1].loss)[0], fits


def _solve(poses: Tensor, measured: Measured, kernel: SimilarityKernel, iterations: int) -> tuple[Tensor, Fit]:
    """Polish, place what fits badly anew, polish."""
    poses, fit = polish(poses, measured, kernel, iterations)
    lost = fit.trusted_residual_rad > _LOST * fit.trusted_residual_rad.median() + _EXACT_RAD
    columns = (~lost[measured.landmarks]).nonzero()[:, 0][:_PLACED_FROM]
    if not bool(lost.any()) or len(columns) < _FEWEST:
        return poses, fit
    again = poses.clone()
    again[lost] = place(measured, lost.nonzero()[:, 0], poses[measured.landmarks[columns]], columns, kernel)
    other = polish(again, measured, kernel, iterations)
    return other if other[1].loss < fit.loss else (poses, fit)


def _alike(fits: Tensor) -> int:
    """Starts that fit as well as the best, up to the grid's coarseness."""
    return int((fits < 1.15 * fits[0]).sum())
