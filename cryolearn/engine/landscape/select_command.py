"""The command ``select-landscape``: particles inside a polygon drawn on two axes of a landscape."""

from __future__ import annotations

import os

import numpy as np
from matplotlib.path import Path
from numpy.typing import ArrayLike, NDArray

from ...common.axis_labels import axis_label
from .. import figures
from ..config import digest_config
from ..exceptions import InputError
from ..io.tables import read_table, write_table
from .config import SelectLandscapeConfig
from .summary import SelectSummary, write_summary
from .vectors import axis_values

__all__ = ["inside_polygon", "run"]


def inside_polygon(x: ArrayLike, y: ArrayLike, corners: ArrayLike) -> NDArray[np.bool_]:
    """Which points (n,) lie inside the closed polygon of corners (m, 2) (even-odd rule of a simple outline)."""
    points = np.column_stack([np.asarray(x, float), np.asarray(y, float)])
    return np.asarray(Path(np.asarray(corners, float)).contains_points(points))


def run(config: SelectLandscapeConfig) -> None:
    """Write the ids inside the polygon with their coordinates.

    Raises
    ------
    InputError
        when the polygon has fewer than three corners, an axis does not exist or no particle is inside.
    """
    if len(config.polygon) < 6 or len(config.polygon) % 2:
        raise InputError(f"The polygon has {len(config.polygon)} numbers: give x and y of at least three corners.")
    columns, meta = read_table(config.table)
    x, y = (axis_values(columns, axis, config.table) for axis in (config.x_axis, config.y_axis))
    corners = np.asarray(config.polygon, float).reshape(-1, 2)
    inside = np.flatnonzero(inside_polygon(x, y, corners))
    if not len(inside):
        raise InputError(f"No particle of '{config.table}' lies inside the polygon: draw it around some of the points.")
    os.makedirs(config.output, exist_ok=True)
    write_table(os.path.join(config.output, "selection.npz"), {
        "id": np.asarray(columns["id"], dtype=np.int64)[inside], "coordinates": np.column_stack([x, y])[inside],
    }, {"x_axis": config.x_axis, "y_axis": config.y_axis, "polygon": corners.tolist(), "digest": digest_config(config)})
    chosen = figures.PointColours(np.isin(np.arange(len(x)), inside), "class (1: selected)", categorical=True)
    labels = axis_label(config.x_axis, meta), axis_label(config.y_axis, meta)
    figure = figures.landscape(x, y, *labels, chosen, path=np.concatenate([corners, corners[:1]]), title="Selection")
    figures.save_figure(figure, os.path.join(config.output, "figures", "selection.png"))
    summary: SelectSummary = {"particles": len(x), "selected": len(inside)}
    write_summary(config.output, summary)
    print(f"{len(inside)} of {len(x)} particles are inside the polygon", flush=True)
