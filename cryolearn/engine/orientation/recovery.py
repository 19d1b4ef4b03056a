"""Orientations of all images from the distances between them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from .kernel import SimilarityKernel
from .polish import Polished, polish
from .spectral import place_images, random_start, spectral_start

__all__ = ["Recovered", "recover"]

_POLISH_STEPS = 200
_CHANCES = 3
_ELSEWHERE_RAD = 0.3


@dataclass
class Recovered:
    """Attributes
    ----------
    rotations : (P, 3, 3) float64; a rotation of either side and (without symmetry) transposition remain free
    residual_rad : (P,) root mean square of each image's residuals
    loss : weighted mean of the squared residuals, L_OR
    fits : (restarts,) misfit of each start
    """

    rotations: Tensor
    residual_rad: Tensor
    loss: float
    fits: Tensor


def recover(
    distances_rad: Tensor, landmarks: Tensor, weights: Tensor | None = None, kernel: SimilarityKernel | None = None, restarts: int = 25, seed: int = 1,
    report: Callable[[str], None] | None = None,
) -> Recovered:
    """Recover orientations from noisy distances.

    The landmarks are solved first, then every other image is placed against them, then all are polished together: time and memory grow with P L.
    At normal errors s of all pairs of P images the mean error comes near the Cramér-Rao floor ``2.76 s / sqrt(P)``.

    Parameters
    ----------
    distances_rad
        (P, L) of all images to the landmarks.
    landmarks
        (L,) their rows; all rows for the whole matrix.
    weights
        (P, L), inverse variances for instance; all alike without them.
    restarts
        Starts of which the one that fits best is kept.
    report
        Is told of each stage.
    """
    kernel = kernel or SimilarityKernel()
    tell = report or (lambda text: None)
    among = (distances_rad[landmarks] + distances_rad[landmarks].T) / 2
    all_marks = torch.arange(len(landmarks), device=among.device)
    among_weights = None if weights is None else (weights[landmarks] + weights[landmarks].T) / 2
    if len(kernel.matrices) == 1:
        start, fits = spectral_start(among, restarts, seed)
    else:
        start, fits = random_start(among, kernel, restarts, seed)
    found = _second_chance(polish(among, all_marks, start, kernel, among_weights, _POLISH_STEPS), among, kernel, among_weights)
    tell(f"landmarks solved, residual {found.loss ** 0.5:.4f} rad")
    if len(distances_rad) > len(landmarks):
        everyone = place_images(distances_rad, found.rotations, kernel, weights)
        everyone[landmarks] = found.rotations
        found = polish(distances_rad, landmarks, everyone, kernel, weights, _POLISH_STEPS)
        tell(f"all images placed, residual {found.loss ** 0.5:.4f} rad")
    return Recovered(found.rotations, found.residual_rad, found.loss, fits)


def _second_chance(found: Polished, distances_rad: Tensor, kernel: SimilarityKernel, weights: Tensor | None) -> Polished:
    """Place the landmarks anew against all others as they are now: images that sit in a minimum of their own come out of it."""
    marks = torch.arange(len(distances_rad), device=distances_rad.device)
    for _ in range(_CHANCES):
        placed = place_images(distances_rad, found.rotations, kernel, weights)
        elsewhere = kernel.distance_rad(placed, found.rotations) > _ELSEWHERE_RAD
        if not bool(elsewhere.any()):
            break
        moved = torch.where(elsewhere[:, None, None], placed, found.rotations)
        other = polish(distances_rad, marks, moved, kernel, weights, _POLISH_STEPS)
        if other.loss >= found.loss:
            break
        found = other
    return found
