"""Maps with voxels of any shape, and results written on the very grid they came on: axis order, start, ORIGIN and cell as in the input's header."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common.limits import same_pixel_size
from ..exceptions import InputError
from .atomic import new_mrc
from .column_numbers import refuse_pixel_size
from .grey_values import unusable
from .maps import read_values
from .mrc_header import MrcHeader, read_header, require_one_map, require_rectangular

__all__ = ["MapGrid", "read_map_grid", "same_grid", "write_on_grid"]

_LABEL = 80
_COPIED = ("nxstart", "nystart", "nzstart", "mx", "my", "mz", "cella", "cellb", "mapc", "mapr", "maps", "ispg", "origin")


@dataclass(frozen=True)
class MapGrid:
    """A map and the grid it is on.

    Attributes
    ----------
    data : (z, y, x) float32
    voxel_angst : along z, y, x
    header : of the file
    """

    data: NDArray[np.float32]
    voxel_angst: tuple[float, float, float]
    header: MrcHeader

    @property
    def axes(self) -> tuple[int, int, int]:
        """Axes of the stored array (sections, rows, columns) that are z, y and x."""
        return _axes(self.header)


def _axes(header: MrcHeader) -> tuple[int, int, int]:
    order = [int(header.raw[name]) for name in ("maps", "mapr", "mapc")]
    if sorted(order) != [1, 2, 3]:
        order = [3, 2, 1]
    return order.index(3), order.index(2), order.index(1)


def read_map_grid(path: str) -> MapGrid:
    """Read a map with its voxel sizes along each axis.

    Raises
    ------
    InputError
        when the file is absent, damaged, holds NaN, has no voxel size, a cell that is not rectangular, or is a stack of maps.
    """
    header = read_header(path)
    require_one_map(header)
    axes = _axes(header)
    data = np.ascontiguousarray(read_values(header).transpose(axes))
    if len(unusable(data[None])):
        raise InputError(f"The map '{path}' holds NaN or infinite values, or some beyond 1e19.")
    x, y, z = header.voxel_angst
    if min(x, y, z) <= 0:
        raise InputError(f"The map '{path}' has no voxel size in its header: set it.")
    refuse_pixel_size(f"The map '{path}'", max(x, y, z))
    require_rectangular(header)
    return MapGrid(data, (z, y, x), header)


def same_grid(first: MapGrid, second: MapGrid) -> bool:
    """Whether two maps have the same sides and voxel sizes."""
    return first.data.shape == second.data.shape and all(map(same_pixel_size, first.voxel_angst, second.voxel_angst))


def write_on_grid(path: str, data: NDArray[np.float32], grid: MapGrid, labels: Sequence[str] = ()) -> None:
    """Write (z, y, x) values as MRC mode 2 with the header of ``grid``; a reader sees the old file or the whole new one.

    Parameters
    ----------
    path
        File to write.
    data
        (z, y, x) values.
    grid
        Voxel size, origin and axes of the header.
    labels
        Lines of at most 80 letters (ASCII) that say what was done; they come after those of mrcfile.
    """
    stored = np.ascontiguousarray(data.astype(np.float32, copy=False).transpose(np.argsort(grid.axes)))
    with new_mrc(path) as handle:
        handle.set_data(stored)
        handle.set_volume()
        for name in _COPIED:
            handle.header[name] = grid.header.raw[name]
        for label in labels:
            handle.add_label(label[:_LABEL])
