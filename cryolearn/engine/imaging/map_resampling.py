"""Maps on other grids: Fourier resampling axis by axis, so that memory is that of the two maps, whatever their sides and voxels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ...common.limits import PIXEL_SIZE_TOLERANCE, same_pixel_size

__all__ = ["GridPlan", "plan_grid", "resample_cubic", "resample_sides"]

Array = NDArray[np.float32]
_PATIENCE = 256  # paddings tried
_COLUMNS = 1 << 16


@dataclass(frozen=True)
class GridPlan:
    """How a map goes to the network's grid and back: padded before and after along z, y, x, then resampled to ``sides``."""

    shape: tuple[int, int, int]
    before: tuple[int, int, int]
    padded: tuple[int, int, int]
    sides: tuple[int, int, int]
    voxel_angst: tuple[float, float, float]

    def forward(self, data: Array, level: float) -> Array:
        """Map (z, y, x) on the network's grid; what is padded is at ``level``."""
        padded = np.full(self.padded, level, np.float32)
        padded[self._inner] = data
        return resample_sides(padded, self.sides)

    def back(self, data: Array) -> Array:
        """Map on its own grid."""
        return np.ascontiguousarray(resample_sides(data, self.padded)[self._inner])

    @property
    def _inner(self) -> tuple[slice, ...]:
        return tuple(slice(first, first + side) for first, side in zip(self.before, self.shape))


def plan_grid(shape: Sequence[int], voxel_angst: Sequence[float], wanted_angst: float, pad_angst: float = 8.0) -> GridPlan:
    """Paddings that make the voxel size of the resampled map the wanted one to 0.2 % along each axis, with sides that are multiples of 4.

    Parameters
    ----------
    shape, voxel_angst
        Sides in voxels and voxel sizes in Å of the map, along z, y, x.
    wanted_angst
        Voxel size in Å of the resampled map.
    pad_angst
        Least padding in Å, in all, along an axis, so that the ends of Fourier interpolation do not meet.
    """
    padded, sides, voxels, before = [], [], [], []
    for side, voxel in zip(shape, voxel_angst):
        best = (np.inf, 0, 0)
        least = side + int(np.ceil(pad_angst / voxel))
        for total in range(least, least + _PATIENCE):
            count = max(8, 4 * round(total * voxel / wanted_angst / 4))
            off = abs(total * voxel / count / wanted_angst - 1)
            if off < best[0]:
                best = (off, total, count)
            if off < PIXEL_SIZE_TOLERANCE:
                break
        _, total, count = best
        padded.append(total)
        sides.append(count)
        voxels.append(total * voxel / count)
        before.append((total - side) // 2)
    return GridPlan(_three(shape), _three(before), _three(padded), _three(sides), (voxels[0], voxels[1], voxels[2]))


def _three(values: Sequence[int]) -> tuple[int, int, int]:
    z, y, x = values
    return int(z), int(y), int(x)


def resample_sides(data: Array, sides: Sequence[int]) -> Array:
    """Resample (z, y, x) to other sides over the same field of view; densities are kept."""
    for axis, side in enumerate(sides):
        if data.shape[axis] != side:
            data = _resample_axis(data, side, axis)
    return data


def _resample_axis(data: Array, side: int, axis: int) -> Array:
    moved = np.moveaxis(data, axis, -1)
    lead, count = moved.shape[:-1], moved.shape[-1]
    flat = moved.reshape(-1, count)
    result = np.empty((len(flat), side), np.float32)
    kept = min(count, side)
    for start in range(0, len(flat), _COLUMNS):
        part = fft.rfft(np.ascontiguousarray(flat[start : start + _COLUMNS]), axis=1)
        new = np.zeros((len(part), side // 2 + 1), part.dtype)
        new[:, : kept // 2 + 1] = part[:, : kept // 2 + 1]
        if kept % 2 == 0 and count != side:
            # the Nyquist term of the smaller grid stands for both signs; on the larger one each sign has its own
            new[:, kept // 2] *= 0.5 if side > count else 2.0
            if side < count:
                new[:, kept // 2] = new[:, kept // 2].real
        result[start : start + _COLUMNS] = fft.irfft(new, n=side, axis=1) * (side / count)
    return np.ascontiguousarray(np.moveaxis(result.reshape(*lead, side), -1, axis))


def resample_cubic(data: Array, voxel_angst: float, wanted_angst: float) -> Array:
    """A map at (nearly) the wanted voxel size, padded at its end."""
    if same_pixel_size(voxel_angst, wanted_angst):
        return data
    plan = plan_grid(data.shape, (voxel_angst,) * 3, wanted_angst)
    return plan.forward(data, float(np.median(data)))
