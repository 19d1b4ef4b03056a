"""The result of ``orientation-recover``, and the criteria by which it is judged reliable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ...common.fsc import HALF_MAP_THRESHOLD, resolution_at
from ..imaging.half_set_maps import Reconstruction
from ..io.star import ParticleTable
from ..io.summary import RecoverySummary
from ..io.tables import Columns
from .refinement.undeclared_symmetry import hidden_symmetry
from .similarity_kernel import SimilarityKernel

__all__ = ["RecoveryResult", "distances_fail", "doubts", "summarise"]

_LEAST_MARGIN = 0.15
_LARGEST_RESIDUAL_RAD = 0.5  # a guess has 0.67: distances between random orientations differ from pi / 2 + 2 / pi by that much
_LEAST_CONFIDENCE = 0.5
_LARGEST_MOVE_RAD = math.radians(45)
_LEAST_DETAILS = 4  # resolution elements across the particle
_DIFFERENT_STARTS = 0.02


@dataclass(kw_only=True)
class RecoveryResult:
    """Final poses of all images, rows as in the particle table.

    Attributes
    ----------
    rotation, shift_angst : (n, 3, 3), (n, 2)
    confidence, residual_rad, log_likelihood : (n,); residuals are NaN after a random start
    half : (n,) 1 or 2
    pairs : columns ``first``, ``second`` (rows), ``learned_rad``, ``weight`` of random pairs; none after a random start
    facts : numbers for the summary
    """

    rotation: Tensor
    shift_angst: Tensor
    confidence: NDArray[np.float32]
    residual_rad: NDArray[np.float32]
    log_likelihood: NDArray[np.float32]
    half: NDArray[np.int64]
    pairs: Columns | None
    facts: dict[str, Any]


def doubts(summary: dict[str, Any], diameter_angst: float) -> list[str]:
    """Reasons, each a sentence, not to trust a result."""
    reasons = []
    resolution = summary.get("resolution_angst")
    by_distances = summary.get("start_used") != "random"
    residual, margin, moved = (summary.get(name) if by_distances else None for name in ("residual_rad", "gauge_margin", "matching_moved_rad"))
    if residual is not None and residual > _LARGEST_RESIDUAL_RAD:
        reasons.append(f"The recovered orientations do not fit the learned distances: they differ by {residual:.2f} rad (root mean square).")
    if margin is not None and margin < _LEAST_MARGIN:
        reasons.append(f"The images hardly tell the detector-side rotation: the next best agrees with the common lines but {100 * margin:.0f} % less.")
    if resolution is None:
        reasons.append("The half maps do not agree at any resolution.")
    elif resolution > diameter_angst / _LEAST_DETAILS:
        reasons.append(f"The half maps agree only to {resolution:.0f} Å, which is coarse for a particle of {diameter_angst:.0f} Å.")
    confidence = summary.get("median_confidence")
    if confidence is not None and confidence < _LEAST_CONFIDENCE:
        reasons.append(f"Half of the images could as well be in another orientation (median confidence {confidence:.2f}).")
    if moved is not None and moved > _LARGEST_MOVE_RAD:
        reasons.append(f"Matching turned half of the images by more than {math.degrees(moved):.0f} degrees from where the distances had put them.")
    starts = summary.get("start_evidence")
    if starts is not None and (len(starts) < 2 or starts[0] - starts[1] > _DIFFERENT_STARTS * abs(starts[0])):
        reasons.append("No two random starts came to the same likelihood: start more often.")
    return reasons


def distances_fail(facts: dict[str, Any]) -> bool:
    """Whether the orientations that the distances gave are as good as guessed: they do not fit them, or matching left most of them."""
    return facts.get("residual_rad", 0.0) > _LARGEST_RESIDUAL_RAD or facts.get("matching_moved_rad", 0.0) > _LARGEST_MOVE_RAD


def summarise(
    result: RecoveryResult, posed: ParticleTable, maps: Reconstruction, kernel: SimilarityKernel, diameter_angst: float, rounds: int,
) -> dict[str, Any]:
    """The numbers of ``summary.json`` and the judgement on them."""
    box, pixel = posed.box, posed.pixel_size_angst
    confidence = result.confidence[np.isfinite(result.confidence)]
    shared = RecoverySummary(
        particles=len(posed), box=box, pixel_size_angst=pixel, symmetry=kernel.group, rounds=rounds, residual_rad=None, gauge_margin=None,
        resolution_angst=resolution_at(maps.curve, HALF_MAP_THRESHOLD, box, pixel),
        median_confidence=float(np.median(confidence)) if len(confidence) else None,
    )
    summary = {**shared, **result.facts}
    reasons = doubts(summary, diameter_angst)
    hidden = hidden_symmetry(maps.half1, maps.half2, pixel, diameter_angst, kernel.matrices)
    summary["warnings"] = [] if hidden is None else [
        f"The map looks the same after a turn by {hidden:.0f} degrees: if the particle is symmetric, give its point group."
    ]
    summary["trust"], summary["trust_reasons"] = "doubtful" if reasons else "high", reasons
    return summary
