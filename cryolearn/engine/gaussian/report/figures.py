"""Pictures of the Gaussian method, each from plain arrays; its files are written by :mod:`.report_files`."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ....common.figures import bars, curves
from ....common.figures.palette import COLOURS
from ...figures import landscape, new_figure
from .result_files import map_positions, write_eigen_arrows, write_gaussian_files, write_particles_star

__all__ = [
    "draw_comparison", "draw_eigen_motion", "draw_explained_variance", "draw_flexibility", "draw_free_energy", "draw_half_agreement",
    "draw_landscape", "draw_trajectory", "map_positions", "write_eigen_arrows", "write_gaussian_files", "write_particles_star",
]

Array = NDArray[np.float64]
_MAX_BARS = 400  # points with error bars; more only make a blot
_MAX_POINTS = 8000
_SHORTEST_ARROW = 0.05


def draw_explained_variance(explained: ArrayLike, null: ArrayLike, significant: ArrayLike | None = None) -> Figure:
    """Part of the variance that each of (K,) eigen-motions explains, against the same of shuffled residuals (K,) or (runs, K)."""
    figure = new_figure()
    bars.draw_explained_variance(figure, explained, null, significant)
    return figure


def draw_flexibility(
    positions_angst: ArrayLike, values: ArrayLike, label: str = "flexibility (relative)", title: str = "Flexibility of the Gaussians",
    moves: ArrayLike | None = None,
) -> Figure:
    """Gaussians (M, 3) seen along three axes, coloured by (M,) values; those that may not move are hollow."""
    places, colours = np.asarray(positions_angst, float), np.asarray(values, float)
    free = np.ones(len(places), bool) if moves is None else np.asarray(moves, bool)
    figure, panels = _three_views(places, title)
    high = float(np.percentile(colours[free], 99)) if free.any() else 1.0
    low = min(0.0, float(colours[free].min())) if free.any() else 0.0
    for axes, across, up, depth in panels:
        still = np.flatnonzero(~free)
        axes.scatter(places[still, across], places[still, up], s=_dot_area(places), facecolors="none", edgecolors="0.7", linewidths=0.5)
        order = np.flatnonzero(free)[np.argsort(_nearness(places, depth)[free])]
        drawn = axes.scatter(places[order, across], places[order, up], c=colours[order], s=_dot_area(places), cmap="inferno", vmin=low,
                             vmax=max(high, low + 1e-12), linewidths=0.3, edgecolors="0.4")
    figure.colorbar(drawn, ax=[axes for axes, *_ in panels], label=label, shrink=0.8, extend="max")
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


def draw_trajectory(positions_angst: ArrayLike, latents: ArrayLike | None = None, label: str = "place along the path") -> Figure:
    """Ways (F, M, 3) of the Gaussians through F conformations, seen along three axes; colour is the place along the path."""
    from matplotlib.collections import LineCollection

    frames = np.asarray(positions_angst, float)
    places = np.arange(1, len(frames) + 1, dtype=float) if latents is None else np.asarray(latents, float).reshape(len(frames), -1)[:, 0]
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
    figure.colorbar(lines, ax=[axes for axes, *_ in panels], label=label, shrink=0.8)
    return figure


def draw_free_energy(
    grid: ArrayLike, population: ArrayLike, free_energy: ArrayLike, standard_error: ArrayLike | None = None, label: str = "place along the path c",
    separate: bool = False,
) -> Figure:
    """Population (numbers, or shares that add up to 1) and free energy (G,) in kT along the path, with error bars.

    ``separate`` states are not joined by a line.
    """
    figure = new_figure(6.4, 5.2)
    curves.draw_free_energy(figure, grid, population=population, free_energy=free_energy, standard_error=standard_error, label=label, separate=separate)
    return figure


def draw_landscape(latents: ArrayLike, errors: ArrayLike | None = None, names: list[str] | None = None, weights: ArrayLike | None = None) -> Figure:
    """Particles over their first two coordinates, coloured by error bar; with one coordinate, its error bar is the second axis."""
    values = np.asarray(latents, float)
    values = values.reshape(len(values), -1)
    labels = names or [f"coordinate {number + 1}" for number in range(values.shape[1])]
    deviations = None if errors is None else np.asarray(errors, float).reshape(values.shape)
    if values.shape[1] > 1:
        colour = None if deviations is None else deviations[:, :2].mean(axis=1)
        return landscape(values[:, 0], values[:, 1], labels[0], labels[1], colour, "error bar")
    second = np.zeros(len(values)) if deviations is None else deviations[:, 0]
    kept = np.isfinite(second)
    colour = None if weights is None or np.ptp(np.asarray(weights, float)) < 0.01 else np.asarray(weights, float)[kept]
    return landscape(values[kept, 0], second[kept], labels[0], f"error bar of {labels[0]}", colour, "weight", title="Coordinates and their error bars")


def draw_comparison(
    first: ArrayLike, second: ArrayLike, first_error: ArrayLike | None = None, second_error: ArrayLike | None = None,
    labels: tuple[str, str] = ("truth", "found"), title: str = "Coordinate of each particle", colour: ArrayLike | None = None,
) -> Figure:
    """One coordinate (n,) against another with error bars (on a random part of the points), and the rank correlation of the two."""
    x, y = np.asarray(first, float).reshape(-1), np.asarray(second, float).reshape(-1)
    kept = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
    random = np.random.default_rng(0)
    drawn = np.sort(random.choice(kept, min(len(kept), _MAX_POINTS), replace=False))
    barred = np.sort(random.choice(kept, min(len(kept), _MAX_BARS), replace=False))
    figure = new_figure(6.0, 5.4)
    axes = figure.subplots()

    def bars(errors: ArrayLike | None) -> Array | None:
        return None if errors is None else np.nan_to_num(np.asarray(errors, float).reshape(-1)[barred], posinf=0)

    if first_error is not None or second_error is not None:
        axes.errorbar(x[barred], y[barred], xerr=bars(first_error), yerr=bars(second_error), fmt="none", ecolor="0.75", elinewidth=0.6, zorder=1)
    size = 14 if len(drawn) < 500 else 7 if len(drawn) < 3000 else 3
    tint: dict[str, Any] = dict(color=COLOURS[0]) if colour is None else dict(c=np.asarray(colour, float)[drawn], cmap="viridis")
    points = axes.scatter(x[drawn], y[drawn], s=size, linewidths=0, alpha=0.7, zorder=2, rasterized=True, **tint)
    if colour is not None:
        figure.colorbar(points, ax=axes)
    if len(kept):
        ends = [min(x[kept].min(), y[kept].min()), max(x[kept].max(), y[kept].max())]
        axes.plot(ends, ends, color="black", linewidth=1, linestyle="--", zorder=3)
    rank = _rank_correlation(x[kept], y[kept])
    axes.set(xlabel=labels[0], ylabel=labels[1], title=f"{title} ({len(kept)} particles)\nrank correlation {rank:.3f}")
    axes.grid(alpha=0.3)
    return figure


def draw_half_agreement(
    first: ArrayLike, second: ArrayLike, first_error: ArrayLike | None = None, second_error: ArrayLike | None = None,
) -> Figure:
    """Coordinates (n,) of the same particles by the models that each half set made alone."""
    return draw_comparison(first, second, first_error, second_error, ("coordinate by the model of half set 1", "coordinate by the model of half set 2"),
                           "Agreement of the half sets")


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
