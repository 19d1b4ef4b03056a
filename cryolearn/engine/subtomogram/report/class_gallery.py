"""Picture of class averages: central slices along x, y and z, and an isosurface, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ...figures import CLASS_COLOURS, draw_surface, new_figure

__all__ = ["GalleryRow", "class_gallery", "surface_level"]

_SIGMAS = 3.0  # of a map's values about zero: where its surface is drawn


@dataclass
class GalleryRow:
    """A map (z, y, x) and what is written beside it."""

    label: str
    volume: NDArray[np.float32]


def surface_level(volume: NDArray[np.float32]) -> float:
    """Level of the isosurface: three standard deviations of the whole map, or half its maximum when that is less."""
    return float(min(_SIGMAS * volume.std() + volume.mean(), 0.5 * volume.max()))


def class_gallery(rows: Sequence[GalleryRow], pixel_size_angst: float, title: str = "Class averages") -> Figure:
    """Central slices through x, y, z (one grey scale a map) and the isosurface of each map."""
    figure = new_figure(8.6, 2.25 * max(len(rows), 1) + 0.5)
    for number, row in enumerate(rows):
        volume = np.asarray(row.volume, float)
        nz, ny, nx = volume.shape
        slices = (("xy", volume[nz // 2]), ("xz", volume[:, ny // 2]), ("yz", volume[:, :, nx // 2]))
        low, high = np.percentile(np.concatenate([plane.ravel() for _, plane in slices]), (0.5, 99.8))
        for column, (name, plane) in enumerate(slices):
            axes = figure.add_subplot(len(rows), 4, 4 * number + column + 1)
            extent = (0, plane.shape[1] * pixel_size_angst / 10, 0, plane.shape[0] * pixel_size_angst / 10)
            axes.imshow(plane, cmap="gray", vmin=low, vmax=high, origin="lower", extent=extent)
            axes.set(xlabel=f"{name[0]} (nm)", ylabel=f"{name[1]} (nm)")
            axes.tick_params(labelsize=6)
            axes.xaxis.label.set_size(7)
            axes.yaxis.label.set_size(7)
            if column == 0:
                axes.set_title(row.label, fontsize=8, loc="left")
        axes = figure.add_subplot(len(rows), 4, 4 * number + 4, projection="3d")
        draw_surface(axes, row.volume, surface_level(row.volume), CLASS_COLOURS[number % len(CLASS_COLOURS)])
    figure.suptitle(title)
    return figure
