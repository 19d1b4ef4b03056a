"""What ``orientation-recover`` writes: tables, maps, the summary and figures."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ....common.figures.bars import draw_quality
from ....common.figures.orientations import draw_sphere, viewing_directions
from ....common.fsc import HALF_MAP_THRESHOLD, TRUTH_THRESHOLD
from ...figures import fsc_curves, map_slices, new_figure, save_figure
from ...imaging.half_set_maps import Reconstruction, write_fsc_csv
from ...io.maps import write_map
from ...io.star import ParticleTable, write_particles
from ...io.summary import write_summary
from ...io.tables import write_table
from ..recovery_result import RecoveryResult
from ..similarity_kernel import SimilarityKernel

__all__ = ["confidence_histogram", "viewing_directions", "write_report"]


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
    folder: str, posed: ParticleTable, found: RecoveryResult, maps: Reconstruction, kernel: SimilarityKernel, summary: dict[str, Any],
) -> None:
    """Write all results; ``summary.json`` comes last."""
    pixel, box = posed.pixel_size_angst, posed.box
    rotation = found.rotation.numpy()
    columns = {
        "id": posed.ids, "rotation": rotation, "shift_angst": found.shift_angst.numpy(), "confidence": found.confidence, "residual_rad": found.residual_rad,
        "half": found.half, "log_likelihood": found.log_likelihood,
    }
    if not np.isfinite(found.residual_rad).any():  # no distances were asked for
        del columns["residual_rad"]
    write_table(os.path.join(folder, "orientations.npz"), columns, {"pixel_size_angst": pixel, "symmetry": kernel.group})
    _write_pairs(folder, posed, found, kernel)
    write_particles(os.path.join(folder, "particles.star"), posed)
    for name, volume in (("map", maps.volume), ("half1", maps.half1), ("half2", maps.half2)):
        write_map(os.path.join(folder, f"{name}.mrc"), volume.numpy(), pixel)
    write_fsc_csv(os.path.join(folder, "fsc.csv"), {"fsc": maps.curve, "fsc_unmasked": maps.curve_unmasked}, box, pixel)
    figures = os.path.join(folder, "figures")
    save_figure(fsc_curves({"half maps": maps.curve.numpy()}, box, pixel, (HALF_MAP_THRESHOLD, TRUTH_THRESHOLD)), os.path.join(figures, "fsc.png"))
    save_figure(map_slices({"map": maps.volume.numpy()}, pixel), os.path.join(figures, "slices.png"))
    save_figure(confidence_histogram(found.confidence), os.path.join(figures, "confidence.png"))
    save_figure(views_figure(rotation), os.path.join(figures, "viewing_directions.png"))
    write_summary(folder, summary, warnings=posed.warnings)
    for line in (*summary["trust_reasons"], *summary["warnings"]):
        print(f"WARNING: {line}", flush=True)
    resolution = summary["resolution_angst"]
    print(f"{len(posed)} orientations, map at {'no' if resolution is None else f'{resolution:.1f} Å'} resolution, trust: {summary['trust']}", flush=True)


def _write_pairs(folder: str, posed: ParticleTable, found: RecoveryResult, kernel: SimilarityKernel) -> None:
    """``distances.npz``: learned distances of random pairs beside those of the final orientations."""
    if found.pairs is None:
        return
    first, second = found.pairs["first"], found.pairs["second"]
    distance = kernel.distance_rad(found.rotation[torch.from_numpy(first)], found.rotation[torch.from_numpy(second)])
    write_table(os.path.join(folder, "distances.npz"), {
        "id": found.pairs["id"], "first": posed.ids[first], "second": posed.ids[second], "learned_rad": found.pairs["learned_rad"],
        "recovered_rad": distance.numpy().astype(np.float32), "weight": found.pairs["weight"],
    })
