"""Figures of the Gaussian method, each from plain arrays."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ....common.figures import bars, curves
from ....common.figures.palette import COLOURS, sample_rows
from ...figures import PointColours, landscape, new_figure

__all__ = [
    "draw_eigen_motion", "draw_explained_variance", "draw_flexibility", "draw_free_energy", "draw_half_agreement", "draw_landscape", "draw_trajectory",
]

Array = NDArray[np.float64]
_MAX_POINTS = 8000
_SHORTEST_ARROW = 0.05


def draw_explained_variance(explained: ArrayLike, null: ArrayLike, significant: ArrayLike | None = None) -> Figure:
    """Part of the variance that each of (K,) eigen-motions explains, against the same of shuffled residuals (K,) or (runs, K)."""
    figure = new_figure()
    bars.draw_explained_variance(figure, explained, null, significant)
    return figure


def draw_flexibility(positions_angst: ArrayLike, values: ArrayLike, moves: ArrayLike | None = None) -> Figure:
    """Gaussians (M, 3) seen along three axes, coloured by (M,) values; those that may not move are hollow."""
    places, colours = np.asarray(positions_angst, float), np.asarray(values, float)
    free = np.ones(len(places), bool) if moves is None else np.asarray(moves, bool)
    figure, panels = _three_views(places, "Flexibility of the Gaussians")
    high = float(np.percentile(colours[free], 99)) if free.any() else 1.0
    low = min(0.0, float(colours[free].min())) if free.any() else 0.0
    for axes, across, up, depth in panels:
        still = np.flatnonzero(~free)
        axes.scatter(places[still, across], places[still, up], s=_dot_area(places), facecolors="none", edgecolors="0.7", linewidths=0.5)
        order = np.flatnonzero(free)[np.argsort(_nearness(places, depth)[free])]
        drawn = axes.scatter(places[order, across], places[order, up], c=colours[order], s=_dot_area(places), cmap="inferno", vmin=low,
                             vmax=max(high, low + 1e-12), linewidths=0.3, edgecolors="0.4")
    figure.colorbar(drawn, ax=[axes for axes, *_ in panels], label="flexibility (relative)", shrink=0.8, extend="max")
    return figure


def draw_eigen_motion(
    positions_angst: ArrayLike, vector: ArrayLike, std_angst: float = 1.0, number: int = 1, explained: float | None = None,
) -> Figure:
    """Arrows (M, 3) of an eigen-motion on the Gaussians seen along three axes; amplitudes (M,) or (M, 1) are shown as colours instead.

    Arrows show one standard deviation of the particles, all longer by one factor where they would be too small to see (the title tells).
    """
    places, steps = np.asarray(positions_angst, float), np.asarray(vector, float) * std_angst
    text = f"Eigen-motion {number}" + ("" if explained is None else f" ({100 * explained:.1f} % of the variance)")
    if steps.ndim == 1 or steps.shape[1] == 1:
        return _signed_amplitudes(places, steps.reshape(-1), f"{text}: change of amplitudes")
    length = np.linalg.norm(steps, axis=1)
    longest = max(float(length.max(initial=0.0)), 1e-12)
    factor = max(1.0, 0.12 * float(np.ptp(places, axis=0).max(initial=0.0)) / longest)
    factor = 1.0 if factor < 1.5 else float(f"{factor:.2g}")
    drawn_as = "" if factor == 1.0 else f", drawn {factor:g} times as long"
    ends = places + factor * steps
    figure, panels = _three_views(np.concatenate([places, ends]), f"{text}: one standard deviation, {longest:.1f} Å at most{drawn_as}")
    shown = np.flatnonzero(length > _SHORTEST_ARROW * longest)
    for axes, across, up, depth in panels:
        axes.scatter(places[:, across], places[:, up], s=_dot_area(places) / 2, color="0.85", linewidths=0)
        order = shown[np.argsort(_nearness(places, depth)[shown])]
        arrows = axes.quiver(
            places[order, across], places[order, up], factor * steps[order, across], factor * steps[order, up], length[order], cmap="viridis",
            clim=(0, longest), angles="xy", scale_units="xy", scale=1, width=0.006, headwidth=4, headlength=5, headaxislength=4.5,
        )
    figure.colorbar(arrows, ax=[axes for axes, *_ in panels], label="displacement (Å)", shrink=0.8)
    return figure


def draw_trajectory(positions_angst: ArrayLike, latents: ArrayLike) -> Figure:
    """Ways (F, M, 3) of the Gaussians through F conformations, seen along three axes; colour is the place along the path."""
    from matplotlib.collections import LineCollection

    frames = np.asarray(positions_angst, float)
    places = np.asarray(latents, float)
    figure, panels = _three_views(frames.reshape(-1, 3), "Trajectory of the Gaussians")
    middle = frames[len(frames) // 2]
    far = np.linalg.norm(np.diff(frames, axis=0), axis=2).sum(axis=0)
    moved = frames[:, far > _SHORTEST_ARROW * max(float(far.max()), 1e-12)]
    for axes, across, up, _ in panels:
        axes.scatter(middle[:, across], middle[:, up], s=_dot_area(middle) / 2, color="0.85", linewidths=0)
        way = moved[:, :, [across, up]]
        segments = np.stack([way[:-1], way[1:]], axis=2).reshape(-1, 2, 2)
        lines = LineCollection(list(segments), cmap="coolwarm", array=np.repeat((places[:-1] + places[1:]) / 2, moved.shape[1]), linewidths=1.8)
        lines.set_clim(float(places.min()), float(places.max()))
        axes.add_collection(lines)
        for end, colour in ((way[0], "#3b4cc0"), (way[-1], "#b40426")):
            axes.scatter(end[:, 0], end[:, 1], s=5, color=colour, linewidths=0, zorder=3)
    figure.colorbar(lines, ax=[axes for axes, *_ in panels], label="place along the path", shrink=0.8)
    return figure


def draw_free_energy(
    grid: ArrayLike, population: ArrayLike, free_energy: ArrayLike, standard_error: ArrayLike | None = None, separate: bool = False,
) -> Figure:
    """Population (numbers, or shares that add up to 1) and free energy (G,) in kT along the path, with error bars.

    ``separate`` states are not joined by a line.
    """
    figure = new_figure(6.4, 5.2)
    curves.draw_free_energy(figure, grid, population=population, free_energy=free_energy, standard_error=standard_error, label="place along the path c",
                            separate=separate)
    return figure


def draw_landscape(latents: ArrayLike, errors: ArrayLike, names: list[str], weights: ArrayLike | None = None) -> Figure:
    """Particles over their first two coordinates, coloured by error bar; with one coordinate, its error bar is the second axis."""
    values = np.asarray(latents, float)
    values = values.reshape(len(values), -1)
    deviations = np.asarray(errors, float).reshape(values.shape)
    if values.shape[1] > 1:
        return landscape(values[:, 0], values[:, 1], names[0], names[1], PointColours(deviations[:, :2].mean(axis=1), "error bar"))
    kept = np.isfinite(deviations[:, 0])
    colours = None if weights is None else PointColours(np.asarray(weights, float)[kept], "weight")
    return landscape(values[kept, 0], deviations[kept, 0], names[0], f"error bar of {names[0]}", colours, title="Coordinates and their error bars")


def draw_half_agreement(first: ArrayLike, second: ArrayLike) -> Figure:
    """Coordinates (n,) of the same particles by the models that each half set made alone, with their rank correlation."""
    x, y = np.asarray(first, float).reshape(-1), np.asarray(second, float).reshape(-1)
    kept = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    drawn = kept[sample_rows(len(kept), _MAX_POINTS)]
    figure = new_figure(6.0, 5.4)
    axes = figure.subplots()
    size = 14 if len(drawn) < 500 else 7 if len(drawn) < 3000 else 3
    axes.scatter(x[drawn], y[drawn], s=size, linewidths=0, alpha=0.7, zorder=2, rasterized=True, color=COLOURS[0])
    if len(kept):
        ends = [min(x[kept].min(), y[kept].min()), max(x[kept].max(), y[kept].max())]
        axes.plot(ends, ends, color="black", linewidth=1, linestyle="--", zorder=3)
    axes.set(xlabel="coordinate by the model of half set 1", ylabel="coordinate by the model of half set 2",
             title=f"Agreement of the half sets ({len(kept)} particles)\nrank correlation {_rank_correlation(x[kept], y[kept]):.3f}")
    axes.grid(alpha=0.3)
    return figure


def _rank_correlation(x: Array, y: Array) -> float:
    from scipy.stats import spearmanr

    return float(spearmanr(x, y).statistic) if len(x) > 2 and np.ptp(x) > 0 and np.ptp(y) > 0 else float("nan")


def _signed_amplitudes(places: Array, values: Array, title: str) -> Figure:
    figure, panels = _three_views(places, title)
    limit = max(float(np.abs(values).max(initial=0.0)), 1e-12)
    for axes, across, up, depth in panels:
        order = np.argsort(_nearness(places, depth))
        drawn = axes.scatter(places[order, across], places[order, up], c=values[order], s=_dot_area(places), cmap="coolwarm", vmin=-limit, vmax=limit,
                             linewidths=0.3, edgecolors="0.5")
    figure.colorbar(drawn, ax=[axes for axes, *_ in panels], label="relative change, one standard deviation", shrink=0.8)
    return figure


def _dot_area(places: Array) -> float:
    """Area of a dot in points^2, so that dots of a compact body of that many Gaussians about touch in a panel."""
    return float(np.clip(9000 / max(len(places), 1) ** (2 / 3), 4, 120))


def _three_views(places: Array, title: str) -> tuple[Figure, list[tuple[Any, int, int, int]]]:
    """A figure with three panels of equal scale: axes, and which coordinates go across, up and towards the viewer."""
    figure = new_figure(11.0, 4.0)
    grid = figure.subplots(1, 3)
    low, high = places.min(axis=0), places.max(axis=0)
    middle, span = (low + high) / 2, 0.56 * max(float((high - low).max()), 1.0) * np.array([-1, 1])
    panels = []
    for axes, (across, up, depth) in zip(grid, ((0, 1, 2), (0, 2, 1), (1, 2, 0))):
        axes.set(xlabel=f"{'xyz'[across]} (Å)", ylabel=f"{'xyz'[up]} (Å)", aspect="equal", title=f"along {'xyz'[depth]}")
        axes.title.set_fontsize(9)
        axes.set(xlim=middle[across] + span, ylim=middle[up] + span)
        panels.append((axes, across, up, depth))
    figure.suptitle(title)
    return figure, panels


def _nearness(places: Array, axis: int) -> Array:
    """How near to the viewer: with x to the right and z up, y points away from it."""
    return -places[:, axis] if axis == 1 else places[:, axis]
