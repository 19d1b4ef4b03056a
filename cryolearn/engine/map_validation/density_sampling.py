"""Density at points in space: trilinear on the map's own grid, or on a grid that Fourier interpolation made finer."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft
from scipy.ndimage import map_coordinates

from ..io.maps import Map

__all__ = ["FINE_VOXEL_ANGST", "finer_factor", "inside_map", "sample_finer", "trilinear"]

FINE_VOXEL_ANGST = 0.5  # coarser grids bend the peaks of a ring that is 1 to 2 Å wide
_COLUMNS = 1 << 16  # columns of the map transformed at a time


def _indices(volume: Map, points: ArrayLike, factor: int = 1) -> NDArray[np.float64]:
    """Places (3, n) z, y, x in voxels of a grid that is ``factor`` times finer, of points (..., 3) x, y, z in Å."""
    flat = np.asarray(points, np.float64).reshape(-1, 3)
    return ((flat - np.asarray(volume.origin_angst)) * (factor / volume.pixel_size_angst)).T[::-1]


def inside_map(volume: Map, points: ArrayLike) -> NDArray[np.bool_]:
    """Which points (..., 3) x, y, z in Å have all eight voxels around them; (...,)."""
    at = _indices(volume, points)
    inside = np.ones(at.shape[1], bool)
    for place, side in zip(at, volume.data.shape):
        inside &= (place >= 0) & (place <= side - 1)
    return inside.reshape(np.shape(points)[:-1])


def trilinear(volume: Map, points: ArrayLike, outside: float = 0.0) -> NDArray[np.float64]:
    """Density (...,) at points (..., 3) x, y, z in Å; ``outside`` where a voxel around the point is missing."""
    values = map_coordinates(volume.data, _indices(volume, points), output=np.float64, order=1, mode="nearest").reshape(np.shape(points)[:-1])
    return np.where(inside_map(volume, points), values, outside)


def finer_factor(pixel_size_angst: float, fine_angst: float = FINE_VOXEL_ANGST) -> int:
    """Smallest whole number by which a voxel is divided to be no larger than ``fine_angst``."""
    return max(1, math.ceil(pixel_size_angst / fine_angst - 1e-3))


def sample_finer(volume: Map, points: ArrayLike, factor: int, outside: float = 0.0) -> NDArray[np.float64]:
    """Density at points as :func:`trilinear` of the map whose transform is padded with zeros to a ``factor`` times finer grid.

    The fine grid never exists as a whole: the map is made finer along z, and plane by plane along y and x, so that memory is
    ``factor`` maps and not ``factor ** 3``.

    Parameters
    ----------
    volume
        The map; it is taken as periodic, as Fourier interpolation does, so density cut by the border rings near it.
    points
        (..., 3) x, y, z in Å.
    factor
        How many times finer the grid is.
    outside
        Value at points that miss one of the eight voxels of the map's own grid.

    Returns
    -------
    (...,) float64
    """
    if factor == 1:
        return trilinear(volume, points, outside)
    inside = inside_map(volume, points).ravel()
    values = np.full(len(inside), outside, np.float64)
    z, y, x = _indices(volume, points, factor)[:, inside]
    columns = _finer_along_z(volume.data, factor)
    floor = np.minimum(np.floor(z).astype(int), len(columns) - 2)
    order = np.argsort(floor, kind="stable")
    starts = np.searchsorted(floor[order], np.arange(len(columns) + 1))
    found = np.zeros(len(z))
    planes: dict[int, NDArray[np.float32]] = {}
    for level in np.unique(floor):
        rows = order[starts[level] : starts[level + 1]]
        planes = {at: planes[at] if at in planes else _finer_plane(columns[at], factor) for at in (level, level + 1)}
        fraction = z[rows] - level
        for at, weight in ((level, 1 - fraction), (level + 1, fraction)):
            found[rows] += weight * map_coordinates(planes[at], (y[rows], x[rows]), output=np.float64, order=1, mode="nearest")
    values[inside] = found
    return values.reshape(np.shape(points)[:-1])


def _finer_along_z(data: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    depth = data.shape[0]
    flat = data.reshape(depth, -1)
    finer = np.empty((depth * factor, flat.shape[1]), np.float32)
    for start in range(0, flat.shape[1], _COLUMNS):
        part = slice(start, start + _COLUMNS)
        finer[:, part] = _finer(flat[:, part], factor, 0)
    return finer.reshape(depth * factor, *data.shape[1:])


def _finer_plane(plane: NDArray[np.float32], factor: int) -> NDArray[np.float32]:
    return _finer(_finer(plane, factor, 0), factor, 1)


def _finer(values: NDArray[np.float32], factor: int, axis: int) -> NDArray[np.float32]:
    """Fourier interpolation along one axis."""
    count = values.shape[axis]
    transform = fft.rfft(values, axis=axis)
    if count % 2 == 0:  # the term at Nyquist stands for both signs; on the finer grid each sign has its own
        last = [slice(None)] * values.ndim
        last[axis] = slice(-1, None)
        transform[tuple(last)] /= 2
    return np.asarray(fft.irfft(transform, n=count * factor, axis=axis) * factor, np.float32)
