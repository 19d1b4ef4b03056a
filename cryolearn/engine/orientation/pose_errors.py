"""Errors of one set of orientations against another, after what is free has been aligned, and their figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ..figures import new_figure
from .frame_alignment import Alignment, align_o4, align_physical
from .similarity_kernel import SimilarityKernel

__all__ = ["OrientationErrors", "distance_against_distance", "measure_errors", "pair_distances", "random_error_rad", "sphere_plot", "statistics"]

_CELLS = 12  # rings of the sphere
_SHOWN = 4000
_PAIRS = 200_000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OrientationErrors:
    """Both alignments of a set to its reference."""

    physical: Alignment
    o4: Alignment

    def of(self, kind: str) -> Alignment:
        return self.physical if kind == "physical" else self.o4


def measure_errors(reference: Array, other: Array, kernel: SimilarityKernel) -> OrientationErrors:
    """Errors of orientations ``other`` (P, 3, 3) against ``reference`` (P, 3, 3)."""
    return OrientationErrors(align_physical(reference, other, kernel), align_o4(reference, other, kernel))


def statistics(errors_rad: Array) -> dict[str, float]:
    """Mean, median and 95th percentile in radians."""
    return {"mean_rad": float(errors_rad.mean()), "median_rad": float(np.median(errors_rad)), "p95_rad": float(np.percentile(errors_rad, 95))}


def random_error_rad(kernel: SimilarityKernel, count: int = 20_000) -> float:
    """Mean error of a guess: pi / 2 + 2 / pi without symmetry, smaller the larger the group."""
    from ..imaging.poses import random_rotations

    poses = random_rotations(count, torch.Generator().manual_seed(0), torch.float64)
    return float(kernel.distance_rad(torch.eye(3, dtype=torch.float64), poses).mean())


def pair_distances(reference: Array, other: Array, kernel: SimilarityKernel, seed: int) -> tuple[Array, Array]:
    """Distances in radians of random pairs of images in both sets: what no alignment can change."""
    first, second = np.random.default_rng(seed).integers(len(reference), size=(2, _PAIRS))
    first, second = first[first != second], second[first != second]
    found = [kernel.distance_rad(*(torch.as_tensor(poses[rows], dtype=torch.float64) for rows in (first, second))).numpy() for poses in (reference, other)]
    return found[0], found[1]


def sphere_plot(rotations: Array, errors_rad: Array, title: str = "Mean error over the viewing directions") -> Figure:
    """Mean error in cells of about equal area over the whole sphere of viewing directions (third rows of the poses), in an equal-area projection."""
    direction = np.asarray(rotations)[:, 2]
    longitude, latitude = np.arctan2(direction[:, 1], direction[:, 0]), np.arcsin(np.clip(direction[:, 2], -1, 1))
    degrees = np.degrees(errors_rad)
    figure = new_figure(7.2, 4.4)
    axes = figure.add_subplot(projection="mollweide")
    top = float(np.percentile(degrees, 98)) or 1.0
    edges = np.linspace(-np.pi / 2, np.pi / 2, _CELLS + 1)
    ring = np.clip(np.digitize(latitude, edges) - 1, 0, _CELLS - 1)
    mesh = None
    for number in range(_CELLS):
        cells = max(3, round(2 * _CELLS * np.cos(edges[number:number + 2].mean())))
        at = np.minimum(((longitude[ring == number] + np.pi) / (2 * np.pi) * cells).astype(int), cells - 1)
        images = np.bincount(at, minlength=cells)
        mean = np.bincount(at, degrees[ring == number], cells) / np.maximum(images, 1)
        shown = np.ma.masked_where(images == 0, mean)
        heights = np.linspace(edges[number], edges[number + 1], 7)
        mesh = axes.pcolormesh(np.linspace(-np.pi, np.pi, cells + 1), heights, np.ma.stack([shown] * 6), cmap="viridis", vmin=0, vmax=top, rasterized=True)
    assert mesh is not None
    figure.colorbar(mesh, ax=axes, orientation="horizontal", shrink=0.7, label="mean error (degrees)", extend="max")
    axes.set_facecolor("0.93")
    axes.grid(color="0.6", alpha=0.5, linewidth=0.6)
    axes.set_xticklabels([])
    axes.set_title(title, pad=14)
    return figure


def distance_against_distance(known_rad: Array, other_rad: Array, known: str = "true distance", other: str = "learned distance", bins: int = 24) -> Figure:
    """One distance over the other: pairs as dots, their median and middle 80 % in bins, and where both are equal."""
    figure = new_figure(5.4, 5.0)
    axes = figure.subplots()
    rows = np.random.default_rng(0).permutation(len(known_rad))[:_SHOWN]
    axes.plot(known_rad[rows], other_rad[rows], ".", markersize=2, color="#bbbbbb", rasterized=True)
    top = float(max(known_rad.max(), other_rad.max()))
    edges = np.linspace(0, float(known_rad.max()), bins + 1)
    at = np.clip(np.digitize(known_rad, edges) - 1, 0, bins - 1)
    used = [number for number in range(bins) if (at == number).sum() >= 5]
    parts = np.array([np.percentile(other_rad[at == number], (10, 50, 90)) for number in used]).reshape(-1, 3)
    middle = ((edges[:-1] + edges[1:]) / 2)[used]
    axes.fill_between(middle, parts[:, 0], parts[:, 2], color="#0072b2", alpha=0.3, label="80 % of the pairs")
    axes.plot(middle, parts[:, 1], color="#0072b2", label="median")
    axes.plot([0, top], [0, top], "k--", linewidth=1, label="equal")
    error = float(np.abs(known_rad - other_rad).mean())
    axes.set(xlabel=f"{known} (rad)", ylabel=f"{other} (rad)", xlim=(0, top), ylim=(0, top), title=f"mean absolute difference {error:.3f} rad")
    axes.legend(frameon=False, fontsize=8)
    return figure
