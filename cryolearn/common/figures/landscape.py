"""Particles over two axes: density and points."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Optional, Sequence, Tuple

import numpy as np

from .palette import COLOURS, MAX_POINTS, class_colour, sample_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["draw_density", "draw_error_bars", "draw_points", "smoothed"]

_FEWEST = 100  # points that have a density
_LARGEST_LEGEND = 20


def draw_density(axes: Any, x: NDArray[np.float64], y: NDArray[np.float64], bins: int = 100) -> None:
    """Smoothed density of (n,) points in grey levels, as quick for a million points as for a thousand; nothing for fewer than 100."""
    if len(x) < _FEWEST:
        return
    limits = _padded_range(x), _padded_range(y)
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=bins, range=limits)
    # Scott's rule, narrower since landscapes have several peaks
    width = [0.6 * len(x) ** (-1 / 6) * bins * values.std() / (high - low) for values, (low, high) in zip((x, y), limits)]
    smooth = smoothed(counts, [max(value, 0.8) for value in width])
    axes.pcolormesh(x_edges, y_edges, smooth.T, cmap="Greys", vmax=1.6 * smooth.max(), rasterized=True, zorder=0)


def draw_points(
    figure: Any, axes: Any, x: NDArray[np.float64], y: NDArray[np.float64], colour: Optional[ArrayLike] = None, label: str = "", *,
    categorical: bool = False, names: Optional[Sequence[str]] = None,
) -> NDArray[np.int64]:
    """Points (n,) coloured by a column; a random part of them when there are many.

    Parameters
    ----------
    colour
        (n,) values, or classes when ``categorical`` (0 is left out, grey).
    label
        Of the colours.
    names
        Of the classes 1, 2 ...

    Returns
    -------
    Rows that were drawn.
    """
    rows = sample_rows(len(x), MAX_POINTS, seed=0)
    style = dict(s=14 if len(x) < 500 else 8 if len(x) < 3000 else 4, linewidths=0, alpha=0.75, rasterized=True)
    if colour is None:
        axes.scatter(x[rows], y[rows], color=COLOURS[0], **style)
    elif categorical:
        _draw_classes(axes, x, y=y, rows=rows, classes=np.asarray(colour).astype(int), label=label, names=names or (), style=style)
    else:
        values = np.asarray(colour, dtype=float)
        low, high = np.nanpercentile(values, (1, 99)) if np.isfinite(values).any() else (0.0, 1.0)
        points = axes.scatter(x[rows], y[rows], c=values[rows], cmap="viridis", vmin=low, vmax=high, **style)
        figure.colorbar(points, ax=axes, label=label, extend="both")
    return rows


def _draw_classes(
    axes: Any, x: NDArray[np.float64], y: NDArray[np.float64], rows: NDArray[np.int64], classes: NDArray[np.int64], label: str,
    names: Sequence[str], style: Any,
) -> None:
    numbers, counts = np.unique(classes, return_counts=True)
    for number, count in zip(numbers.tolist(), counts.tolist()):
        here = rows[classes[rows] == number]
        name = "left out" if number <= 0 else str(names[number - 1]) if number <= len(names) else "%d" % number
        axes.scatter(x[here], y[here], color=class_colour(number), label="%s (%d)" % (name, count), **style)
    if len(numbers) <= _LARGEST_LEGEND:
        axes.legend(title=label, fontsize=8, frameon=False, markerscale=2, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def draw_error_bars(
    axes: Any, x: NDArray[np.float64], y: NDArray[np.float64], x_error: Optional[NDArray[np.float64]] = None,
    y_error: Optional[NDArray[np.float64]] = None, limit: int = 300,
) -> None:
    """Error bars (standard deviations) of a random part of the points (n,)."""
    rows = sample_rows(len(x), limit, seed=1)
    bars = [None if error is None else np.nan_to_num(error[rows], posinf=0) for error in (x_error, y_error)]
    axes.errorbar(x[rows], y[rows], xerr=bars[0], yerr=bars[1], fmt="none", ecolor="0.25", elinewidth=0.7, alpha=0.7)


def smoothed(values: NDArray[np.float64], sigma_px: Sequence[float]) -> NDArray[np.float64]:
    """A grid smoothed by a Gaussian along each axis, mirrored at its borders and cut off at four standard deviations."""
    result = np.asarray(values, dtype=float)
    for axis, sigma in enumerate(sigma_px):
        reach = int(4 * sigma + 0.5)
        kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
        pad: List[Tuple[int, int]] = [(reach, reach) if axis == other else (0, 0) for other in range(result.ndim)]
        padded = np.pad(result, pad, mode="symmetric")
        result = np.apply_along_axis(np.convolve, axis, padded, kernel / kernel.sum(), mode="valid")
    return result


def _padded_range(values: NDArray[np.float64]) -> Tuple[float, float]:
    low, high = float(values.min()), float(values.max())
    pad = 0.05 * (high - low) or 0.5
    return low - pad, high + pad
