"""What ``orientation-recover`` writes: tables, maps, the summary and figures."""

from __future__ import annotations

import json
import math
import os
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...figures import fsc_curves, map_slices, new_figure, save_figure
from ...imaging.half_set_maps import HALF_MAP_THRESHOLD, Reconstruction, write_fsc_csv
from ...io.maps import write_map
from ...io.star import ParticleTable, write_particles
from ...io.tables import write_table
from ..recovery_result import RecoveryResult
from ..similarity_kernel import SimilarityKernel

__all__ = ["confidence_histogram", "viewing_directions", "write_report"]


def confidence_histogram(confidence: NDArray[np.float32]) -> Figure:
    """How many images are sure of their orientation."""
    figure = new_figure()
    axes = figure.subplots()
    values = confidence[np.isfinite(confidence)]
    axes.hist(values, bins=np.linspace(0, 1, 41), color="#56b4e9")
    if len(values):
        axes.axvline(float(np.median(values)), color="black", linestyle="--", linewidth=1, label=f"median {np.median(values):.2f}")
        axes.legend(frameon=False)
    axes.set(xlabel="confidence (probability of the neighbourhood of the orientation)", ylabel="particles", title="Confidence of the orientations", xlim=(0, 1))
    return figure


def viewing_directions(rotations: NDArray[np.float64]) -> Figure:
    """Density of the viewing directions of poses (n, 3, 3) in equal-area cells of the sphere (Mollweide)."""
    view = rotations[:, 2]
    longitude, height = np.arctan2(view[:, 1], view[:, 0]), view[:, 2].clip(-1, 1)
    bands = int(np.clip(math.sqrt(len(view) / 8), 6, 36))
    edges = [np.linspace(-math.pi, math.pi, 2 * bands + 1), np.linspace(-1, 1, bands + 1)]  # equal steps of the sine of the latitude
    counts, _, _ = np.histogram2d(longitude, height, bins=(2 * bands, bands), range=((-math.pi, math.pi), (-1.0, 1.0)))
    figure = new_figure(7.0, 4.2)
    axes = figure.add_subplot(projection="mollweide")
    drawn = axes.pcolormesh(edges[0], np.arcsin(edges[1]), counts.T / max(counts.mean(), 1e-9), cmap="viridis", vmin=0, rasterized=True)
    axes.grid(alpha=0.3)
    axes.set_xticklabels([])
    figure.colorbar(drawn, ax=axes, label="particles (1: even)", shrink=0.8)
    figure.suptitle(f"Viewing directions of {len(view)} particles")
    return figure


def write_report(
    folder: str, posed: ParticleTable, found: RecoveryResult, maps: Reconstruction, kernel: SimilarityKernel, summary: dict[str, Any],
) -> None:
    """Write all results; ``summary.json`` comes last."""
    pixel, box = posed.pixel_size_angst, posed.box
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
    figures = os.path.join(folder, "figures")
    save_figure(fsc_curves({"half maps": maps.curve.numpy()}, box, pixel, (HALF_MAP_THRESHOLD, 0.5)), os.path.join(figures, "fsc.png"))
    save_figure(map_slices({"map": maps.volume.numpy()}, pixel), os.path.join(figures, "slices.png"))
    save_figure(confidence_histogram(found.confidence), os.path.join(figures, "confidence.png"))
    save_figure(viewing_directions(rotation), os.path.join(figures, "viewing_directions.png"))
    with open(os.path.join(folder, "summary.json"), "w", encoding="utf-8") as handle:
        json.dump(summary, handle, indent=2)
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
