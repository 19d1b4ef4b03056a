"""Picture of class averages: central slices along x, y and z, and an isosurface, a row each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from ....common.figures.maps import draw_gallery
from ....common.figures.palette import COLOURS
from ....common.figures.surface import default_level
from ...figures import map_surface, new_figure

__all__ = ["GalleryRow", "class_gallery"]


@dataclass
class GalleryRow:
    """A map (z, y, x) and what is written beside it."""

    label: str
    volume: NDArray[np.float32]


def class_gallery(rows: Sequence[GalleryRow], pixel_size_angst: float, title: str = "Class averages") -> Figure:
    """Central slices through x, y, z (one grey scale a map) and the isosurface of each map."""
    figure = new_figure(8.6, 2.25 * max(len(rows), 1) + 0.5)
    entries = [(row.label, row.volume, pixel_size_angst, map_surface(row.volume, pixel_size_angst, default_level(row.volume))) for row in rows]
    draw_gallery(figure, entries, COLOURS)
    figure.suptitle(title)
    return figure
