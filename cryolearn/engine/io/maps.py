"""Maps (MRC, CCP4) with their voxel size and place in space."""

from __future__ import annotations

import math
import os
import zlib
from contextlib import ExitStack
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import mrcfile
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.limits import same_pixel_size
from ..exceptions import InputError
from .atomic import new_mrc, reserve, whole_file
from .column_numbers import refuse_pixel_size
from .grey_values import unusable
from .mrc_header import UNSET_VOXEL_ANGST, MrcHeader, is_packed, open_packed, read_header, require_one_map, require_rectangular

_MASK_MARGIN = 0.5  # resampling makes masks overshoot


@dataclass
class Map:
    """Density on a grid.

    Attributes
    ----------
    data : (z, y, x) float32
    pixel_size_angst : float
        Voxel size in Å, the same along all axes.
    origin_angst : (x, y, z)
        Place of voxel [0, 0, 0] in Å.
    """

    data: NDArray[np.float32]
    pixel_size_angst: float
    origin_angst: tuple[float, float, float] = (0.0, 0.0, 0.0)

    @property
    def centre_angst(self) -> NDArray[np.float64]:
        """Place (x, y, z) in Å of the centre voxel, index n // 2 along each axis."""
        middle = np.array([side // 2 for side in self.data.shape[::-1]])
        return np.asarray(self.origin_angst) + middle * self.pixel_size_angst


def read_map(path: str) -> Map:
    """Read a map; axes stored in another order are brought to (z, y, x).

    Its place is the header's ORIGIN when that is not zero, else nstart x voxel size.

    Raises
    ------
    InputError
        when the file is absent, damaged, holds NaN, has no voxel size or different ones along its axes, a cell that is not rectangular, or is a stack
        of maps.
    """
    header = read_header(path)
    require_one_map(header)
    data = read_values(header)
    order = [int(header.raw[name]) for name in ("mapc", "mapr", "maps")]
    if sorted(order) != [1, 2, 3]:
        order = [1, 2, 3]
    # stored axes (section, row, column) hold the cell's axes maps, mapr, mapc; z, y, x are wanted
    stored = order[::-1]
    data = np.ascontiguousarray(data.transpose([stored.index(axis) for axis in (3, 2, 1)]))
    if len(unusable(data[None])):
        raise InputError(f"The map '{path}' holds NaN or infinite values, or some beyond 1e19.")
    voxel = header.voxel_angst
    if min(voxel) <= 0:
        raise InputError(f"The map '{path}' has no voxel size in its header: set it.")
    refuse_pixel_size(f"The map '{path}'", max(voxel))
    if not same_pixel_size(max(voxel), min(voxel)):
        sizes = ", ".join(f"{size:g}" for size in voxel)
        raise InputError(f"The map '{path}' has different voxel sizes along x, y and z ({sizes} Å): resample it.")
    require_rectangular(header)
    return Map(data, float(np.mean(voxel)), _place(header, order, voxel))


def read_mask(path: str, shape: tuple[int, ...], pixel_size_angst: float, what: str = "map") -> NDArray[np.float32]:
    """Read weights from 0 to 1, (z, y, x).

    Parameters
    ----------
    path
        MRC file.
    shape, pixel_size_angst
        Of the map that the mask is for. A mask whose header says 1 Å, as of programs that set none, has the map's.
    what
        That map, in a message.

    Raises
    ------
    InputError
        as :func:`read_map`, when shape or pixel size differ, values are far outside of 0 to 1 (bytes read with another sign, a map of density), or all are 0.
    """
    mask = read_map(path)
    if mask.data.shape != tuple(shape):
        sides = [" x ".join(f"{side}" for side in sizes[::-1]) for sizes in (mask.data.shape, shape)]
        raise InputError(f"The mask '{path}' has {sides[0]} voxels, the {what} {sides[1]}: crop, pad or resample the mask.")
    if not any(same_pixel_size(mask.pixel_size_angst, size) for size in (pixel_size_angst, UNSET_VOXEL_ANGST)):
        raise InputError(f"The mask '{path}' has voxels of {mask.pixel_size_angst:.4g} Å, the {what} of {pixel_size_angst:.4g} Å: resample the mask, or "
                         "correct its header.")
    check_mask(mask.data, path)
    return mask.data


def check_mask(data: NDArray[np.float32], path: str) -> None:
    """Refuse values far outside of 0 to 1, and a mask that is 0 everywhere."""
    low, high = float(data.min()), float(data.max())
    if low < -_MASK_MARGIN or high > 1 + _MASK_MARGIN:
        raise InputError(f"The mask '{path}' has values from {low:.4g} to {high:.4g}: they are needed from 0 to 1.")
    if high <= 0:
        raise InputError(f"The mask '{path}' is empty: all its values are 0. Give one that is 1 where the particle is.")


def read_values(header: MrcHeader) -> NDArray[np.float32]:
    """Values as stored (sections, rows, columns).

    Raises
    ------
    InputError
        when a packed file is truncated or damaged.
    """
    count = math.prod(header.shape)
    if 4 * count > _memory_bytes():
        sides = " x ".join(str(side) for side in header.shape[::-1])
        raise InputError(f"The map '{header.path}' is {sides} voxels, {4 * count >> 30} GB, more than the memory of this machine.")
    if is_packed(header.path):
        try:
            with open_packed(header.path) as handle:
                content = handle.read(header.data_offset + count * header.dtype.itemsize)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"The map '{header.path}' is damaged: {error}.") from error
        if header.section_header or len(content) < header.data_offset + count * header.dtype.itemsize:
            raise InputError(f"The map '{header.path}' is truncated.")
        values = np.frombuffer(content, header.dtype, count, header.data_offset)
    elif header.section_header:
        values = header.mapped()
    else:
        values = np.fromfile(header.path, header.dtype, count, offset=header.data_offset)
        if len(values) < count:
            raise InputError(f"The file '{header.path}' was cut short while it was read: put it back and run again.")
    return values.reshape(header.shape).astype(np.float32)


def _memory_bytes() -> int:
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _place(header: MrcHeader, order: list[int], voxel: tuple[float, float, float]) -> tuple[float, float, float]:
    origin = [float(header.raw["origin"][axis]) for axis in "xyz"]
    if any(origin) and np.isfinite(origin).all():
        return origin[0], origin[1], origin[2]
    # nxstart belongs to the columns, nystart to the rows, nzstart to the sections
    start = {axis: int(header.raw[name]) for axis, name in zip(order, ("nxstart", "nystart", "nzstart"))}
    return start[1] * voxel[0], start[2] * voxel[1], start[3] * voxel[2]


def write_map(path: str, data: ArrayLike, pixel_size_angst: float, origin_angst: ArrayLike = (0.0, 0.0, 0.0), durable: bool = True) -> None:
    """Write a map (z, y, x) as MRC mode 2 with voxel size and ORIGIN set; a reader sees the old file or the whole new one.

    ``durable`` is that of :func:`cryolearn.common.atomic.whole_file`.
    """
    with new_mrc(path, durable) as handle:
        handle.set_data(np.asarray(data, np.float32))
        handle.set_volume()
        handle.voxel_size = pixel_size_angst
        x, y, z = (float(value) for value in np.asarray(origin_angst))
        handle.header.origin.x, handle.header.origin.y, handle.header.origin.z = x, y, z


class MapSeriesWriter:
    """Writes maps one after another into a stack of volumes (MRC2014: space group 401, MZ sections a volume), in flat memory.

    The file has its name when the last map is written; an error before that leaves nothing. ChimeraX reads such a stack as one tall map: it takes the maps
    one by one as a volume series (``open frame_*.mrc vseries true``).

    Parameters
    ----------
    path : str
        File to write.
    count, box : int
        Number of maps and their side in voxels.
    pixel_size_angst : float
        Voxel size in Å.
    origin_angst : (x, y, z)
        Place of voxel [0, 0, 0] of each map in Å.
    """

    def __init__(self, path: str, count: int, box: int, pixel_size_angst: float, origin_angst: ArrayLike = (0.0, 0.0, 0.0)) -> None:
        with ExitStack() as stack:
            part = stack.enter_context(whole_file(path))
            self._handle = mrcfile.new_mmap(part, shape=(count, box, box, box), mrc_mode=2)
            reserve(part)
            self._file = stack.pop_all()
        self._handle.voxel_size = pixel_size_angst
        x, y, z = (float(value) for value in np.asarray(origin_angst))
        self._handle.header.origin.x, self._handle.header.origin.y, self._handle.header.origin.z = x, y, z

    def write(self, number: int, data: ArrayLike) -> None:
        """Write map ``number`` (counted from 0), (z, y, x)."""
        self._handle.data[number] = np.asarray(data, np.float32)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self._handle.update_header_stats()
        self._handle.close()
        self._file.__exit__(kind, error, trace)
