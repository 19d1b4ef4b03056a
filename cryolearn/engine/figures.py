"""Pictures that every run writes beside its tables, without a screen.

Functions return a :class:`matplotlib.figure.Figure`; :func:`save_figure` writes it. Figures are made without pyplot, so
that nothing is shared between them, no backend is chosen and none has to be closed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ..common.figures.bars import draw_collectivity, draw_errors
from ..common.figures.curves import draw_fsc, draw_learning, learning_panels
from ..common.figures.landscape import draw_density, draw_points
from ..common.figures.maps import draw_slices
from ..common.figures.palette import COLOURS
from ..common.figures.surface import surface_mesh
from ..common.fsc import HALF_MAP_THRESHOLD, resolution_at
from .io.atomic import whole_file

__all__ = [
    "PointColours",
    "bar_chart",
    "error_histogram",
    "fsc_curves",
    "image_gallery",
    "landscape",
    "learning_curves",
    "line_plot",
    "map_slices",
    "map_surface",
    "mode_table",
    "new_figure",
    "save_figure",
]


def new_figure(width: float = 6.4, height: float = 4.6) -> Figure:
    """An empty figure, in inches, whose parts never overlap."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def save_figure(figure: Figure, path: str, dpi: int = 130) -> str:
    """Write a figure as PNG, whole or not at all, making the folder when absent; returns ``path``."""
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with whole_file(path) as part:
        figure.savefig(part, dpi=dpi, format="png")
    return path


def line_plot(
    x: ArrayLike, lines: Mapping[str, ArrayLike], x_label: str, y_label: str, title: str = "", marker: str = "",
    highlight: float | None = None,
) -> Figure:
    """Lines over one axis; ``highlight`` marks an abscissa by a dashed line."""
    figure = new_figure()
    axes = figure.subplots()
    for label, values in lines.items():
        axes.plot(np.asarray(x), np.asarray(values), marker=marker, label=label)
    if highlight is not None:
        axes.axvline(highlight, color="0.4", linestyle="--", linewidth=1)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.grid(alpha=0.3)
    if len(lines) > 1:
        axes.legend(frameon=False)
    return figure


def learning_curves(columns: Mapping[str, ArrayLike], x: str = "epoch", title: str = "Learning curves") -> Figure:
    """Losses over epochs from the columns of ``learning.csv``.

    Columns whose name holds ``rate`` are drawn in a panel of their own, ``*error*`` columns in another.
    Values that are absent are NaN and leave a gap.
    """
    figure = new_figure(6.4, 1.2 + 2.4 * max(len(learning_panels(columns, x)), 1))
    draw_learning(figure, columns, title, x)
    return figure


def fsc_curves(
    curves: Mapping[str, ArrayLike], box: int, pixel_size_angst: float, thresholds: Sequence[float] = (HALF_MAP_THRESHOLD,),
    title: str = "Fourier shell correlation",
) -> Figure:
    """FSC curves with threshold lines and each curve's resolution in the legend.

    Parameters
    ----------
    curves
        Mapping of label to (n_shells,) FSC; index 0 is shell 0, which is not drawn.
    box
        Side of the maps in voxels.
    pixel_size_angst
        Voxel size in Å.
    thresholds
        FSC values that are drawn as lines; the first one gives the resolutions in the legend.
    title
        Title of the figure.
    """
    drawn = []
    for label, curve in curves.items():
        values = np.asarray(curve, dtype=float)
        frequency = np.arange(len(values)) / (box * pixel_size_angst)
        drawn.append((label, frequency[1:].tolist(), values[1:].tolist(), resolution_at(values, thresholds[0], box, pixel_size_angst)))
    figure = new_figure()
    draw_fsc(figure, drawn, thresholds, title)
    return figure


@dataclass(frozen=True)
class PointColours:
    """A column (n,) that colours the points of a landscape; classes when ``categorical`` (0 = left out, grey). None draws all alike."""

    values: ArrayLike | None
    label: str
    categorical: bool = False


def landscape(
    x: ArrayLike, y: ArrayLike, x_label: str = "axis 1", y_label: str = "axis 2", colours: PointColours | None = None, *,
    centres: ArrayLike | None = None, path: ArrayLike | None = None, title: str = "Conformational landscape",
) -> Figure:
    """Density of particles over two axes, points (a random part of them) above it.

    Parameters
    ----------
    x, y : (n,)
        Coordinates; a million take about a second.
    x_label, y_label
        Labels of the axes.
    colours
        Column that colours the points; None draws all alike.
    centres : (c, 2)
        Positions that are marked and numbered from 1.
    path : (m, 2)
        Line drawn above all, with its frames as dots.
    title
        Title of the figure.
    """
    horizontal, vertical = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    figure = new_figure(7.0, 5.4)
    axes = figure.subplots()
    draw_density(axes, horizontal, vertical)
    count = len(horizontal)
    shown = PointColours(None, "") if colours is None else colours
    rows = draw_points(figure, axes, horizontal, vertical, shown.values, shown.label, categorical=shown.categorical)
    if path is not None:
        line = np.asarray(path, dtype=float)
        axes.plot(line[:, 0], line[:, 1], "-o", color="black", markersize=4, linewidth=1.5, markerfacecolor="white", label="path")
    if centres is not None:
        for number, (u, v) in enumerate(np.asarray(centres, dtype=float), start=1):
            axes.text(u, v, str(number), ha="center", va="center", fontsize=9, fontweight="bold",
                      bbox=dict(boxstyle="circle,pad=0.25", facecolor="white", edgecolor="black", linewidth=0.8))
    drawn = f", {len(rows)} drawn" if len(rows) < count else ""
    axes.set(xlabel=x_label, ylabel=y_label, title=f"{title} ({count} particles{drawn})")
    return figure


def error_histogram(errors: Mapping[str, ArrayLike], unit: str = "", title: str = "Errors") -> Figure:
    """Histograms of errors, one panel each, with mean, median and 95th percentile."""
    columns = min(4, max(len(errors), 1))
    rows = max(1, -(-len(errors) // columns))
    figure = new_figure(3.1 * columns + 0.6, 2.8 * rows + 0.4)
    for index, (label, values) in enumerate(errors.items()):
        draw_errors(figure.add_subplot(rows, columns, index + 1), values, label, unit, small=True)
    figure.suptitle(title)
    return figure


def image_gallery(images: ArrayLike, labels: Sequence[str] | None = None, columns: int = 8, title: str = "") -> Figure:
    """Images (n, y, x), each in its own grey scale."""
    stack = np.asarray(images, dtype=float)
    columns = min(columns, max(len(stack), 1))
    rows = -(-len(stack) // columns)
    figure = new_figure(1.25 * columns, 1.25 * max(rows, 1) + 0.4 + (0.15 * rows if labels else 0))
    for index, image in enumerate(stack):
        axes = figure.add_subplot(rows, columns, index + 1)
        low, high = np.percentile(image, (0.5, 99.5))
        axes.imshow(image, cmap="gray", vmin=low, vmax=high, origin="lower")
        axes.set_axis_off()
        if labels:
            axes.set_title(labels[index], fontsize=7)
    figure.suptitle(title)
    return figure


def map_slices(maps: Mapping[str, ArrayLike], pixel_size_angst: float, title: str = "Central slices") -> Figure:
    """Central slices of maps (z, y, x), a row each, with one grey scale a map and a scale in Å."""
    figure = new_figure(7.2, 2.5 * max(len(maps), 1) + 0.4)
    grid = figure.subplots(max(len(maps), 1), 3, squeeze=False)
    for row, (label, data) in zip(grid, maps.items()):
        draw_slices(row, data, pixel_size_angst)
        row[1].set_title(label, fontsize=9)
    figure.suptitle(title)
    return figure


def mode_table(
    mode_numbers: ArrayLike, collectivity: ArrayLike, score: ArrayLike | None = None, selected: ArrayLike | None = None,
    title: str = "Normal modes",
) -> Figure:
    """Collectivity of each mode as bars, the selected ones in blue, with the score as dots when given (low is good)."""
    figure = new_figure(max(5.0, 0.28 * np.size(mode_numbers) + 2.0), 3.8)
    draw_collectivity(figure, mode_numbers, collectivity, score, selected, title)
    return figure


def bar_chart(names: Sequence[str], values: ArrayLike, y_label: str, title: str = "", x_label: str = "") -> Figure:
    """One bar a name, with its value above it."""
    heights = np.asarray(values, float)
    figure = new_figure(max(4.0, 0.5 * len(names) + 1.5), 3.6)
    axes = figure.subplots()
    bars = axes.bar(range(len(names)), heights, color=[COLOURS[i % len(COLOURS)] for i in range(len(names))])
    axes.bar_label(bars, labels=[f"{value:g}" for value in heights], fontsize=7)
    axes.set_xticks(range(len(names)), names, rotation=0 if len(names) < 12 else 90, fontsize=8)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.margins(y=0.12)
    return figure


def map_surface(volume: ArrayLike, pixel_size_angst: float, level: float) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Mesh of a map's isosurface, see :func:`cryolearn.common.figures.surface.surface_mesh`."""
    from scipy.ndimage import zoom
    from skimage.measure import marching_cubes

    return surface_mesh(volume, pixel_size_angst, level, marching_cubes, zoom)
