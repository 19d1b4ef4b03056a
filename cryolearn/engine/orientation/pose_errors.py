"""Errors of one set of orientations against another, after what is free has been aligned, and their figures."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...common.figures.orientations import draw_distances, draw_sphere, viewing_directions
from ..figures import new_figure
from .frame_alignment import Alignment, align_o4, align_physical
from .similarity_kernel import SimilarityKernel

__all__ = ["OrientationErrors", "distance_against_distance", "measure_errors", "pair_distances", "random_error_rad", "sphere_plot", "statistics"]

_PAIRS = 200_000

Array = NDArray[np.float64]


@dataclass(frozen=True)
class OrientationErrors:
    """Both alignments of a set to its reference."""

    physical: Alignment
    o4: Alignment

    def of(self, kind: str) -> Alignment:
        """Alignment of one kind: 'physical', or 'o4'."""
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
    """Errors over the whole sphere of viewing directions (third rows of the poses), in an equal-area projection."""
    figure = new_figure(7.2, 4.4)
    draw_sphere(figure, *viewing_directions(rotations), np.degrees(errors_rad), "error (degrees)", title)
    return figure


def distance_against_distance(known_rad: Array, other_rad: Array, known: str = "true distance", other: str = "learned distance") -> Figure:
    """One distance over the other: pairs as dots, their median and middle 80 % in bins, and where both are equal."""
    figure = new_figure(5.8, 5.2)
    draw_distances(figure.subplots(), np.degrees(known_rad), np.degrees(other_rad), known=known, other=other, title="Distances of random pairs")
    return figure
