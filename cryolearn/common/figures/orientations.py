"""Orientations: the sphere of viewing directions, and distances between orientations."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, List, Optional, Tuple

import numpy as np

from .landscape import draw_density
from .palette import COLOURS, sample_rows

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["distance_curve", "draw_distances", "draw_sphere", "sphere_cells", "viewing_directions"]

_FEWEST_IN_CELLS = 600  # from so many images on cells of the sphere are drawn, before that each image
_IN_A_CELL = 8  # images that a cell of the sphere holds, about
_LARGEST_GRID = 24  # cells from pole to pole
_BINS = 24
_FEWEST_IN_A_BIN = 5
_MOST_PAIRS = 3000


def viewing_directions(rotations: ArrayLike) -> Tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Longitude and latitude (radians) of the directions from which the particle is seen, the third rows of poses (n, 3, 3)."""
    view = np.asarray(rotations, dtype=float)[:, 2]
    return np.arctan2(view[:, 1], view[:, 0]), np.arcsin(np.clip(view[:, 2], -1, 1))


def draw_sphere(
    figure: Any, longitude: NDArray[np.float64], latitude: NDArray[np.float64], values: Optional[NDArray[np.float64]] = None,
    label: str = "images in a cell", title: str = "",
) -> None:
    """Viewing directions over the whole sphere in an equal-area projection.

    Parameters
    ----------
    longitude, latitude
        (n,) radians.
    values
        (n,) that colour them: their mean in each cell, or each point's own when there are few. None counts the images of each cell.
    """
    from matplotlib.ticker import FuncFormatter

    axes = figure.add_subplot(projection="mollweide")
    if values is None or len(longitude) >= _FEWEST_IN_CELLS:
        mesh = _draw_cells(axes, longitude, latitude, values)
        label = label if values is None else label + ", mean of a cell"
    else:
        mesh = axes.scatter(longitude, latitude, c=values, s=18, linewidths=0, cmap="viridis", vmin=values.min(), vmax=np.percentile(values, 95))
    figure.colorbar(mesh, ax=axes, orientation="horizontal", shrink=0.7, pad=0.06, label=label, extend="max" if values is not None else "neither")
    axes.set_facecolor("0.93")
    axes.grid(color="0.6", alpha=0.5, linewidth=0.6)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: ""))  # the poles' distance says enough; these would lie over the cells
    axes.set_yticks(np.radians(range(-60, 61, 30)))
    axes.tick_params(labelsize=8)
    axes.set_title(title, pad=14)


def _draw_cells(axes: Any, longitude: NDArray[np.float64], latitude: NDArray[np.float64], values: Optional[NDArray[np.float64]]) -> Any:
    """Cells of about equal area: the mean of ``values``, or images in each; cells without images stay grey."""
    rings, shown = sphere_cells(longitude, latitude, values)
    known = np.concatenate([ring.compressed() for ring in shown])
    low, top = known.min() if values is not None else 0, np.percentile(known, 98)
    mesh = None
    for (south, north), ring in zip(rings, shown):
        edges, heights = np.linspace(-np.pi, np.pi, len(ring) + 1), np.linspace(south, north, 9)  # so that the sides of cells follow the sphere
        mesh = axes.pcolormesh(edges, heights, np.ma.stack([ring] * 8), cmap="viridis", vmin=low, vmax=max(top, low + 1e-9), rasterized=True)
    return mesh


def sphere_cells(
    longitude: NDArray[np.float64], latitude: NDArray[np.float64], values: Optional[NDArray[np.float64]] = None,
) -> Tuple[List[Tuple[float, float]], List[Any]]:
    """Rings of cells over the sphere, fewer cells towards the poles.

    Returns
    -------
    rings
        (south, north) of each, radians.
    shown
        For each ring a masked array: the mean of ``values`` in its cells, or their numbers of images; cells without images are masked.
    """
    count = int(np.clip(np.sqrt(len(longitude) / (2.5 * _IN_A_CELL)), 6, _LARGEST_GRID))
    edges = np.linspace(-np.pi / 2, np.pi / 2, count + 1)
    ring = np.clip(np.digitize(latitude, edges) - 1, 0, count - 1)
    shown = []
    for number in range(count):
        cells = max(3, int(round(2 * count * np.cos(edges[number : number + 2].mean()))))
        at = np.minimum(((longitude[ring == number] + np.pi) / (2 * np.pi) * cells).astype(int), cells - 1)
        images = np.bincount(at, minlength=cells)
        found = images if values is None else np.bincount(at, values[ring == number], cells) / np.maximum(images, 1)
        shown.append(np.ma.masked_where(images == 0, found))
    return list(zip(edges[:-1].tolist(), edges[1:].tolist())), shown


def draw_distances(
    axes: Any, known_deg: NDArray[np.float64], other_deg: NDArray[np.float64], weights: Optional[NDArray[np.float64]] = None, *,
    known: str = "true distance", other: str = "learned distance", title: str = "Learned distances of unseen images",
) -> None:
    """One distance of pairs (n,) over another, in degrees, with the median and the middle 80 % in bins, and where both are equal.

    A curve that becomes flat before the largest distance is a plateau. ``weights`` of the pairs count in the mean absolute error.
    """
    top = float(max(known_deg.max(), other_deg.max()))
    draw_density(axes, known_deg, other_deg, 80)
    rows = sample_rows(len(known_deg), _MOST_PAIRS)
    axes.scatter(known_deg[rows], other_deg[rows], s=4, linewidths=0, alpha=0.25, color=COLOURS[0], zorder=1, rasterized=True)
    centres, low, middle, high = distance_curve(known_deg, other_deg)
    axes.fill_between(centres, low, high, color=COLOURS[1], alpha=0.25, linewidth=0, label="80 % of the pairs", zorder=2)
    axes.plot(centres, middle, color=COLOURS[4], linewidth=2, label="median", zorder=3)
    axes.plot([0, top], [0, top], color="0.2", linestyle="--", linewidth=1, label="equal", zorder=3)
    error = np.average(np.abs(known_deg - other_deg), weights=weights)
    axes.set(xlabel="%s (degrees)" % known, ylabel="%s (degrees)" % other, xlim=(0, top), ylim=(0, top),
             title="%s\nmean absolute error %.1f° (%.3f rad)" % (title, error, np.radians(error)))
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="upper left", fontsize=8)


def distance_curve(known: NDArray[np.float64], other: NDArray[np.float64], bins: int = _BINS) -> Tuple[NDArray[np.float64], ...]:
    """Centres of bins of one distance that hold pairs, and the 10th, 50th and 90th percentile of the other there: four arrays."""
    edges = np.linspace(known.min(), known.max() + 1e-9, bins + 1)
    where = np.clip(np.digitize(known, edges) - 1, 0, bins - 1)
    used = [number for number in range(bins) if (where == number).sum() >= _FEWEST_IN_A_BIN]
    centres = 0.5 * (edges[:-1] + edges[1:])[used]
    return (centres, *(np.array([np.percentile(other[where == number], part) for number in used]) for part in (10, 50, 90)))
