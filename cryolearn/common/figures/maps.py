"""Slices of maps, and a gallery of averages with their surfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Optional, Sequence, Tuple

import numpy as np

from .surface import SIDE_VIEW, draw_surface, finish_axes

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["draw_gallery", "draw_slices"]


def draw_slices(
    row: Sequence[Any], volume: ArrayLike, pixel_size_angst: float, fractions: Sequence[float] = (0.5, 0.5, 0.5), *, numbered: bool = False,
    small: bool = False,
) -> None:
    """Slices xy, xz and yz of a map on three axes, with one grey scale.

    Parameters
    ----------
    volume
        (z, y, x).
    fractions
        Heights along z, y and x, parts of the box.
    numbered
        Whether the slices' numbers stand above them.
    """
    data = np.asarray(volume)
    z, y, x = (min(int(part * side), side - 1) for part, side in zip(fractions, data.shape))
    planes = (("xy", data[z], z), ("xz", data[:, y], y), ("yz", data[:, :, x], x))
    low, high = np.percentile(np.concatenate([plane.ravel() for _, plane, _ in planes]), (0.5, 99.8))
    for axes, (name, plane, number) in zip(row, planes):
        extent = (0, plane.shape[1] * pixel_size_angst, 0, plane.shape[0] * pixel_size_angst)
        axes.imshow(plane, cmap="gray", vmin=low, vmax=high, origin="lower", extent=extent)
        axes.set(xlabel="%s (Å)" % name[0], ylabel="%s (Å)" % name[1], title="%s slice %d" % (name, number) if numbered else "")
        axes.tick_params(labelsize=6 if small else 7)
        if small:
            axes.xaxis.label.set_size(7)
            axes.yaxis.label.set_size(7)


def draw_gallery(
    figure: Any, entries: Sequence[Tuple[str, ArrayLike, float, Optional[Tuple[NDArray[np.float64], NDArray[np.float64]]]]],
    colours: Optional[Sequence[str]] = None,
) -> None:
    """Averages, a row each: central slices xy, xz and yz, and the isosurface.

    Parameters
    ----------
    entries
        (label, volume (z, y, x), pixel size in Å, mesh of :func:`.surface.surface_mesh` about the box's centre).
    colours
        Of the surfaces.
    """
    grid = figure.subplots(max(len(entries), 1), 4, squeeze=False)
    for number, (row, (label, volume, pixel_size_angst, mesh)) in enumerate(zip(grid, entries)):
        draw_slices(row[:3], volume, pixel_size_angst, small=True)
        row[0].set_title(label, fontsize=9, loc="left")
        if mesh is None:
            row[3].text(0.5, 0.5, "nothing is that dense", ha="center", va="center", fontsize=8, transform=row[3].transAxes)
            row[3].set_axis_off()
            continue
        draw_surface(row[3], mesh, SIDE_VIEW, **({"colour": colours[number % len(colours)]} if colours else {}))
        finish_axes(row[3], np.zeros(3), 0.5 * max(np.shape(volume)) * pixel_size_angst, SIDE_VIEW)
