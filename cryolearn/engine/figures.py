"""Pictures that every run writes beside its tables, without a screen.

Functions return a :class:`matplotlib.figure.Figure`; :func:`save_figure` writes it. Figures are made without pyplot, so
that nothing is shared between them, no backend is chosen and none has to be closed.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator
from numpy.typing import ArrayLike, NDArray

from .io.atomic import whole_file

__all__ = [
    "bar_chart",
    "draw_surface",
    "error_histogram",
    "fsc_curves",
    "image_gallery",
    "landscape",
    "learning_curves",
    "line_plot",
    "map_slices",
    "mode_table",
    "new_figure",
    "save_figure",
]

MAX_POINTS = 8000  # points drawn over the density; more only make a blot
CLASS_COLOURS = (
    "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#7f7f7f", "#8c6d31", "#6a3d9a", "#b2df8a",
)  # the first six are Okabe & Ito's, told apart by colour-blind readers too


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


def learning_curves(
    columns: Mapping[str, ArrayLike], x: str = "epoch", title: str = "Learning curves", log: bool = True
) -> Figure:
    """Losses over epochs from the columns of ``learning.csv``.

    Columns whose name holds ``rate`` are drawn in a panel of their own, ``*error*`` columns in another.
    Values that are absent are NaN and leave a gap.
    """
    abscissa = np.asarray(columns[x], dtype=float)
    panels: dict[str, list[str]] = {"Loss": [], "Error": [], "Learning rate": []}
    for name in columns:
        if name in (x, "epoch", "step", "time_s", "seconds"):
            continue
        panels["Learning rate" if "rate" in name else "Error" if "error" in name else "Loss"].append(name)
    used = {label: names for label, names in panels.items() if names}
    figure = new_figure(6.4, 1.2 + 2.4 * max(len(used), 1))
    for index, (label, names) in enumerate(used.items()):
        axes = figure.add_subplot(len(used), 1, index + 1)
        smallest, largest = np.inf, -np.inf
        for name in names:
            values = np.asarray(columns[name], dtype=float)
            shown = np.isfinite(values)
            smallest = min(smallest, float(values[shown].min(initial=np.inf)))
            largest = max(largest, float(values[shown].max(initial=-np.inf)))
            axes.plot(abscissa[shown], values[shown], label=name.replace("_", " "), marker="." if len(values) < 40 else "")
        if log and 0 < 10 * smallest < largest:
            axes.set_yscale("log")
        axes.set_ylabel(label)
        axes.grid(alpha=0.3, which="both")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        if len(names) > 1 or label == "Error":
            axes.legend(frameon=False, fontsize=8)
        if index == len(used) - 1:
            axes.set_xlabel(x.replace("_", " "))
    figure.suptitle(title)
    return figure


def fsc_curves(
    curves: Mapping[str, ArrayLike], box: int, pixel_size_angst: float, thresholds: Sequence[float] = (0.143,),
    resolutions: Mapping[str, float | None] | None = None, title: str = "Fourier shell correlation",
) -> Figure:
    """FSC curves with threshold lines and each curve's resolution in the legend.

    Parameters
    ----------
    curves: mapping of label to ``(n_shells,)`` values, index 0 being shell 0, which is not drawn.
    resolutions: Å at the first threshold, by label; read from the curves when not given. None is shown as "none".
    """
    if resolutions is None:
        from .imaging.fsc import resolution_at

        resolutions = {
            label: resolution_at(np.asarray(curve, dtype=float).tolist(), thresholds[0], box, pixel_size_angst) for label, curve in curves.items()
        }
    figure = new_figure()
    axes = figure.subplots()
    for index, (label, curve) in enumerate(curves.items()):
        values = np.asarray(curve, dtype=float)
        frequency = np.arange(len(values)) / (box * pixel_size_angst)
        found = resolutions.get(label)
        text = f"{label}: {found:.2f} Å" if found is not None else f"{label}: none"
        axes.plot(frequency[1:], values[1:], label=text, color=CLASS_COLOURS[index % len(CLASS_COLOURS)])
    for threshold in thresholds:
        axes.axhline(threshold, color="0.4", linestyle="--", linewidth=1)
        axes.annotate(f"{threshold:g}", (1.0, threshold), xycoords=("axes fraction", "data"), xytext=(-3, 3),
                      textcoords="offset points", ha="right", va="bottom", fontsize=8, color="0.3")
    axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
    axes.set(xlim=(0, 0.5 / pixel_size_angst), xlabel="Resolution (Å)", ylabel="FSC", title=title)
    axes.set_ylim(min(-0.1, axes.get_ylim()[0]), 1.05)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda f, _: f"{1 / f:.1f}" if f > 1e-9 else "∞"))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8, title=f"Resolution at {thresholds[0]:g}" if thresholds else None)
    return figure


def landscape(
    x: ArrayLike, y: ArrayLike, x_label: str = "axis 1", y_label: str = "axis 2", colour: ArrayLike | None = None,
    colour_label: str = "", categorical: bool = False, centres: ArrayLike | None = None, path: ArrayLike | None = None,
    title: str = "Conformational landscape", seed: int = 0,
) -> Figure:
    """Density of particles over two axes, points (a random part of them) above it.

    Parameters
    ----------
    x, y: ``(n,)`` coordinates; a million take about a second.
    colour: ``(n,)`` column that colours the points; classes when ``categorical`` (0 = left out, grey).
    centres: ``(c, 2)`` places numbered from 1.
    path: ``(m, 2)`` line drawn above all, with its frames as dots.
    """
    horizontal, vertical = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    figure = new_figure(7.0, 5.4)
    axes = figure.subplots()
    _draw_density(axes, horizontal, vertical)
    count = len(horizontal)
    rows = np.arange(count)
    if count > MAX_POINTS:
        rows = np.sort(np.random.default_rng(seed).choice(count, MAX_POINTS, replace=False))
    size = 14 if count < 500 else 8 if count < 3000 else 4
    style: dict[str, Any] = dict(s=size, linewidths=0, alpha=0.75, rasterized=True)
    if colour is None:
        axes.scatter(horizontal[rows], vertical[rows], color="#0072b2", **style)
    elif categorical:
        classes = np.asarray(colour).astype(int)
        for number in np.unique(classes):
            here = rows[classes[rows] == number]
            name = f"{number} ({np.count_nonzero(classes == number)})" if number else f"left out ({np.count_nonzero(classes == 0)})"
            tint = CLASS_COLOURS[(number - 1) % len(CLASS_COLOURS)] if number > 0 else "0.6"
            axes.scatter(horizontal[here], vertical[here], color=tint, label=name, **style)
        if len(np.unique(classes)) <= 20:
            axes.legend(title=colour_label or "class (particles)", fontsize=8, frameon=False, markerscale=2,
                        loc="upper left", bbox_to_anchor=(1.0, 1.0))
    else:
        values = np.asarray(colour, dtype=float)
        low, high = np.nanpercentile(values, (1, 99)) if np.isfinite(values).any() else (0.0, 1.0)
        points = axes.scatter(horizontal[rows], vertical[rows], c=values[rows], cmap="viridis", vmin=low, vmax=high, **style)
        figure.colorbar(points, ax=axes, label=colour_label, extend="both")
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


def _draw_density(axes: Any, x: NDArray[np.float64], y: NDArray[np.float64], bins: int = 100) -> None:
    """Smoothed density in grey levels behind the points."""
    from scipy.ndimage import gaussian_filter

    if len(x) < 100:  # too few for a density
        return
    limits = _padded_range(x), _padded_range(y)
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=bins, range=limits)
    # Scott's rule, narrower since landscapes have several peaks
    width = [0.6 * len(x) ** (-1 / 6) * bins * values.std() / (high - low) for values, (low, high) in zip((x, y), limits)]
    smooth = gaussian_filter(counts, np.maximum(width, 0.8))
    axes.pcolormesh(x_edges, y_edges, smooth.T, cmap="Greys", vmax=1.6 * smooth.max(), rasterized=True, zorder=0)


def _padded_range(values: NDArray[np.float64]) -> tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    pad = 0.05 * (high - low) or 0.5
    return low - pad, high + pad


def error_histogram(
    errors: Mapping[str, ArrayLike], unit: str = "", title: str = "Errors", percentile: float = 99.0
) -> Figure:
    """Histograms of errors, one panel each, with mean, median and 95th percentile; the tail is gathered in the last bin."""
    columns = min(4, max(len(errors), 1))
    rows = max(1, -(-len(errors) // columns))
    figure = new_figure(3.1 * columns + 0.6, 2.8 * rows + 0.4)
    for index, (label, values) in enumerate(errors.items()):
        data = np.asarray(values, dtype=float)
        data = data[np.isfinite(data)]
        axes = figure.add_subplot(rows, columns, index + 1)
        axes.set(xlabel=f"{label} ({unit})" if unit else label)
        if index % columns == 0:
            axes.set_ylabel("particles")
        if not len(data):
            continue
        end = max(float(np.percentile(data, percentile)), 1e-12)
        axes.hist(np.minimum(data, end), bins=int(np.clip(2 * np.sqrt(len(data)), 10, 60)), color="#56b4e9")
        marks = (("mean", data.mean(), "-"), ("median", np.median(data), "--"), ("95 %", np.percentile(data, 95), ":"))
        for name, value, line in marks:
            axes.axvline(min(float(value), end), color="black", linestyle=line, linewidth=1, label=f"{name} {value:.3g}")
        axes.legend(frameon=False, fontsize=7)
    figure.suptitle(title)
    return figure


def image_gallery(images: ArrayLike, labels: Sequence[str] | None = None, columns: int = 8, title: str = "") -> Figure:
    """Images ``(n, y, x)``, each in its own grey scale."""
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
    """Central slices of maps ``(z, y, x)``, a row each, with one grey scale a map and a scale in Å."""
    figure = new_figure(7.2, 2.5 * max(len(maps), 1) + 0.4)
    grid = figure.subplots(max(len(maps), 1), 3, squeeze=False)
    for row, (label, data) in zip(grid, maps.items()):
        volume = np.asarray(data)
        nz, ny, nx = volume.shape
        slices = (("xy", volume[nz // 2], nx, ny), ("xz", volume[:, ny // 2], nx, nz), ("yz", volume[:, :, nx // 2], ny, nz))
        low, high = np.percentile(np.concatenate([plane.ravel() for _, plane, _, _ in slices]), (0.5, 99.8))
        for axes, (name, plane, width, height) in zip(row, slices):
            extent = (0, width * pixel_size_angst, 0, height * pixel_size_angst)
            axes.imshow(plane, cmap="gray", vmin=low, vmax=high, origin="lower", extent=extent)
            axes.set(xlabel=f"{name[0]} (Å)", ylabel=f"{name[1]} (Å)")
            axes.tick_params(labelsize=7)
        row[1].set_title(label, fontsize=9)
    figure.suptitle(title)
    return figure


def mode_table(
    mode_numbers: ArrayLike, collectivity: ArrayLike, score: ArrayLike | None = None, selected: ArrayLike | None = None,
    title: str = "Normal modes",
) -> Figure:
    """Collectivity of each mode as bars, the selected ones in blue, with the score as dots when given (low is good)."""
    numbers = np.asarray(mode_numbers, dtype=int)
    chosen = np.ones(len(numbers), bool) if selected is None else np.asarray(selected, bool)
    figure = new_figure(max(5.0, 0.28 * len(numbers) + 2.0), 3.8)
    axes = figure.subplots()
    axes.bar(numbers, np.asarray(collectivity, float), color=np.where(chosen, "#0072b2", "#bbbbbb"))
    axes.set(xlabel="mode", ylabel="collectivity (0 local, 1 global)", ylim=(0, 1), title=title)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if score is not None:
        right = axes.twinx()
        right.plot(numbers, np.asarray(score, float), "o", color="#d55e00", markersize=4)
        right.set_ylabel("score (low: collective and slow)", color="#d55e00")
        right.set_ylim(0, None)
    return figure


def bar_chart(names: Sequence[str], values: ArrayLike, y_label: str, title: str = "", x_label: str = "") -> Figure:
    """One bar a name, with its value above it."""
    heights = np.asarray(values, float)
    figure = new_figure(max(4.0, 0.5 * len(names) + 1.5), 3.6)
    axes = figure.subplots()
    bars = axes.bar(range(len(names)), heights, color=[CLASS_COLOURS[i % len(CLASS_COLOURS)] for i in range(len(names))])
    axes.bar_label(bars, labels=[f"{value:g}" for value in heights], fontsize=7)
    axes.set_xticks(range(len(names)), names, rotation=0 if len(names) < 12 else 90, fontsize=8)
    axes.set(xlabel=x_label, ylabel=y_label, title=title)
    axes.margins(y=0.12)
    return figure


def draw_surface(axes: Any, volume: ArrayLike, level: float, colour: str = "#6baed6", largest: int = 72) -> None:
    """Shaded isosurface of a map (z, y, x) on three-dimensional axes; larger maps are averaged over blocks of voxels first.

    Nothing is drawn when the level lies outside the map's range.
    """
    from matplotlib.colors import to_rgb
    from mpl_toolkits.mplot3d.art3d import Poly3DCollection
    from skimage.measure import block_reduce, marching_cubes

    axes.set_axis_off()
    data = np.asarray(volume, np.float32)
    step = max(1, -(-max(data.shape) // largest))
    if step > 1:
        data = block_reduce(data, (step, step, step), np.mean)
    if not data.min() < level < data.max():
        return
    vertices, faces, _, _ = marching_cubes(data, level)
    points = vertices[:, ::-1]  # x, y, z
    corners = points[faces]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)
    light = np.array([0.4, -0.6, 0.7])
    shade = 0.35 + 0.65 * np.abs(normals @ (light / np.linalg.norm(light)))
    axes.add_collection3d(Poly3DCollection(corners, facecolors=shade[:, None] * np.array(to_rgb(colour)), linewidths=0))
    middle, reach = points.mean(0), max(0.55 * float(np.ptp(points, axis=0).max()), 1.0)
    axes.set(xlim=(middle[0] - reach, middle[0] + reach), ylim=(middle[1] - reach, middle[1] + reach), zlim=(middle[2] - reach, middle[2] + reach))
    axes.set_box_aspect((1, 1, 1), zoom=1.5)
    axes.view_init(20, -60)
