"""What ``orientation-recover`` writes: tables, maps, the summary with its judgement, and figures."""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ....common.figures.bars import draw_quality
from ....common.figures.orientations import draw_sphere, viewing_directions
from ....common.fsc import HALF_MAP_THRESHOLD, TRUTH_THRESHOLD, resolution_at
from ...figures import fsc_curves, map_slices, new_figure, save_figure
from ...imaging.half_set_maps import Reconstruction, write_fsc_csv
from ...io.atomic import write_json
from ...io.maps import write_map
from ...io.star import ParticleTable, write_particles
from ...io.tables import write_table
from ..config import RecoverOrientationsConfig
from ..refinement.undeclared_symmetry import hidden_symmetry
from ..similarity_kernel import SimilarityKernel

if TYPE_CHECKING:
    from ..recover_command import Found

__all__ = ["confidence_histogram", "doubts", "viewing_directions", "write_report"]

_LEAST_MARGIN = 0.15
_LARGEST_RESIDUAL_RAD = 0.5  # a guess has 0.67: distances between random orientations differ from pi / 2 + 2 / pi by that much
_LEAST_CONFIDENCE = 0.5
_LARGEST_MOVE_RAD = math.radians(45)
_LEAST_DETAILS = 4  # resolution elements across the particle
_DIFFERENT_STARTS = 0.02


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


def confidence_histogram(confidence: NDArray[np.float32]) -> Figure:
    """How many images are sure of their orientation."""
    figure = new_figure()
    draw_quality(figure, confidence, "confidence (probability of the neighbourhood of the orientation)", limits=(0.0, 1.0))
    return figure


def views_figure(rotations: NDArray[np.float64]) -> Figure:
    """Number of images over the sphere of viewing directions of poses (n, 3, 3)."""
    figure = new_figure(7.0, 4.2)
    draw_sphere(figure, *viewing_directions(rotations), title=f"Viewing directions of {len(rotations)} particles")
    return figure


def write_report(
    config: RecoverOrientationsConfig, posed: ParticleTable, found: Found, maps: Reconstruction, kernel: SimilarityKernel, diameter_angst: float,
) -> None:
    """Write all results; ``summary.json`` comes last."""
    folder, pixel, box = config.output, posed.pixel_size_angst, posed.box
    rotation = found.rotation.numpy()
    write_table(os.path.join(folder, "orientations.npz"), {
        "id": posed.ids, "rotation": rotation, "shift_angst": found.shift_angst.numpy(), "confidence": found.confidence, "residual_rad": found.residual_rad,
        "half": found.half, "log_likelihood": found.log_likelihood,
    }, {"pixel_size_angst": pixel, "symmetry": kernel.group})
    _write_pairs(folder, posed, found, kernel)
    write_particles(os.path.join(folder, "particles.star"), posed)
    for name, volume in (("map", maps.volume), ("half1", maps.half1), ("half2", maps.half2)):
        write_map(os.path.join(folder, f"{name}.mrc"), volume.numpy(), pixel)
    write_fsc_csv(os.path.join(folder, "fsc.csv"), {"fsc": maps.curve, "fsc_unmasked": maps.curve_unmasked}, box, pixel)
    summary = _summary(config, posed, found, maps, kernel, diameter_angst)
    figures = os.path.join(folder, "figures")
    save_figure(fsc_curves({"half maps": maps.curve.numpy()}, box, pixel, (HALF_MAP_THRESHOLD, TRUTH_THRESHOLD)), os.path.join(figures, "fsc.png"))
    save_figure(map_slices({"map": maps.volume.numpy()}, pixel), os.path.join(figures, "slices.png"))
    save_figure(confidence_histogram(found.confidence), os.path.join(figures, "confidence.png"))
    save_figure(views_figure(rotation), os.path.join(figures, "viewing_directions.png"))
    write_json(os.path.join(folder, "summary.json"), summary)
    for line in (*summary["trust_reasons"], *summary["warnings"]):
        print(f"WARNING: {line}", flush=True)
    resolution = summary["resolution_angst"]
    print(f"{len(posed)} orientations, map at {'no' if resolution is None else f'{resolution:.1f} Å'} resolution, trust: {summary['trust']}", flush=True)


def _write_pairs(folder: str, posed: ParticleTable, found: Found, kernel: SimilarityKernel) -> None:
    """``distances.npz``: learned distances of random pairs beside those of the final orientations."""
    if found.pairs is None:
        return
    first, second = found.pairs["first"], found.pairs["second"]
    distance = kernel.distance_rad(found.rotation[torch.from_numpy(first)], found.rotation[torch.from_numpy(second)])
    write_table(os.path.join(folder, "distances.npz"), {
        "id": found.pairs["id"], "first": posed.ids[first], "second": posed.ids[second], "learned_rad": found.pairs["learned_rad"],
        "recovered_rad": distance.numpy().astype(np.float32), "weight": found.pairs["weight"],
    })


def _summary(
    config: RecoverOrientationsConfig, posed: ParticleTable, found: Found, maps: Reconstruction, kernel: SimilarityKernel, diameter_angst: float,
) -> dict[str, Any]:
    box, pixel = posed.box, posed.pixel_size_angst
    confidence = found.confidence[np.isfinite(found.confidence)]
    summary: dict[str, Any] = {
        "particles": len(posed), "box": box, "pixel_size_angst": pixel, "symmetry": kernel.group, "rounds": config.rounds, "residual_rad": None,
        "gauge_margin": None, **found.facts, "resolution_angst": resolution_at(maps.curve, HALF_MAP_THRESHOLD, box, pixel),
        "median_confidence": float(np.median(confidence)) if len(confidence) else None,
    }
    reasons = doubts(summary, diameter_angst)
    hidden = hidden_symmetry(maps.half1, maps.half2, pixel, diameter_angst, kernel.matrices)
    summary["warnings"] = [] if hidden is None else [
        f"The map looks the same after a turn by {hidden:.0f} degrees: if the particle is symmetric, give its point group."
    ]
    summary["trust"], summary["trust_reasons"] = "doubtful" if reasons else "high", reasons
    return summary
