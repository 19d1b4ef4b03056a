"""Those points of the padded half Fourier volume that images can reach, row after row: half of what the whole volume takes.

Frequencies are those of :mod:`.fourier_volume`: -P/2 ... P/2 on z and y and 0 ... P/2 on x. Of each row along x only the points are kept that trilinear
insertion of samples below the images' Nyquist frequency touches, and those of its shell.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import lru_cache

import torch
from torch import Tensor

__all__ = ["FourierSphere", "fourier_sphere", "sphere_points"]

_POINTS_AT_ONCE = {"cpu": 1 << 18, "cuda": 1 << 24}
_SLAB = {"cpu": 1 << 20, "cuda": 1 << 25}  # points of the padded volume that are transformed at a time
_ROUNDING = 0.01  # Fourier pixels by which a turned sample may come to lie further out


def sphere_points(side: int, box: int) -> int:
    """About how many points are kept, without making the tables: those of half a ball and its rim."""
    return min((side + 1) ** 2 * (side // 2 + 1), round(2 / 3 * math.pi * (side / 2 + max(0.5 * side / box, 1.1)) ** 3))


@lru_cache(maxsize=4)
def fourier_sphere(side: int, box: int, device: torch.device) -> FourierSphere:
    """The points for a padded side and a box; their tables are kept for the next one who asks."""
    return FourierSphere(side, box, device)


class FourierSphere:
    """Places of the points in flat arrays (``size``,).

    Parameters
    ----------
    side : even side P of the padded volume
    box : side of the images; samples lie below its Nyquist frequency, radius P / 2
    device : where the tables live
    """

    def __init__(self, side: int, box: int, device: torch.device) -> None:
        self.side, self.box, self.device = side, box, device
        centre = side // 2
        full = torch.arange(side + 1, device=device, dtype=torch.float64) - centre

        def along_x(axis: Tensor, radius: float) -> Tensor:
            square = radius**2 - axis[:, None] ** 2 - axis**2
            return torch.where(square >= 0, square.clamp(min=0).sqrt().floor() + 1, 0.0)

        touched = along_x((full.abs() - 1).clamp(min=0), side / 2 + _ROUNDING)
        touched = torch.where(touched > 0, touched + 1, touched)  # the upper neighbour of the last one
        length = torch.maximum(touched, along_x(full, side / 2 + side / box / 2)).clamp(max=centre + 1).long().flatten()
        end = length.cumsum(0)
        self.size = int(end[-1])
        index_type = torch.int32 if self.size < 2**31 else torch.int64
        self.start = (end - length).to(index_type)  # ((P + 1)^2,) place of x = 0 of each row
        rows = torch.nonzero(length).flatten()
        self._first, self._length = self.start[rows], length[rows].to(index_type)
        self._z, self._y = (torch.div(rows, side + 1, rounding_mode="floor") - centre).float(), (rows % (side + 1) - centre).float()
        self._ends = end[rows].cpu()

    def rows(self, z: Tensor, y: Tensor) -> Tensor:
        """Numbers of the rows at whole frequencies z and y, for :attr:`start`."""
        return (z + self.side // 2) * (self.side + 1) + (y + self.side // 2)

    def pieces(self) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
        """Consecutive parts of the flat arrays, with the frequencies x, y and z of their points."""
        step, first, done = _POINTS_AT_ONCE.get(self.device.type, 1 << 20), 0, 0
        while first < len(self._ends):
            last = max(first + 1, int(torch.searchsorted(self._ends, done + step, right=True)))
            here = slice(first, last)
            stop = int(self._ends[last - 1])
            row = torch.repeat_interleave(torch.arange(first, last, device=self.device), self._length[here], output_size=stop - done)
            x = torch.arange(done, stop, device=self.device, dtype=self._first.dtype) - self._first[row]
            yield slice(done, stop), x.float(), self._y[row], self._z[row]
            first, done = last, stop

    def plane(self, values: Tensor) -> Tensor:
        """Values at x = 0, in an order whose reverse is that of the Friedel mates."""
        return values[self._first]

    def set_plane(self, values: Tensor, plane: Tensor) -> None:
        """Put values at x = 0 back, in the order of :meth:`plane`."""
        values[self._first] = plane

    def sample(self, values: Tensor, x: Tensor, y: Tensor, z: Tensor) -> Tensor:
        """Trilinear samples (n,) of a flat array (real or complex) at frequencies within the sphere; the conjugate of the mate is taken where x < 0."""
        negative = x < 0
        x, y, z = (torch.where(negative, -axis, axis) for axis in (x, y, z))
        lower = [axis.floor() for axis in (x, y, z)]
        fx, fy, fz = (axis - low for axis, low in zip((x, y, z), lower))
        x0, y0, z0 = (low.to(self.start.dtype) for low in lower)
        row = self.rows(z0, y0)
        total = torch.zeros(len(x), dtype=values.dtype, device=values.device)
        for dz, wz in ((0, 1 - fz), (1, fz)):
            for dy, wy in ((0, 1 - fy), (1, fy)):
                corner = self.start.index_select(0, row + (dz * (self.side + 1) + dy)) + x0
                for dx, wx in ((0, 1 - fx), (1, fx)):
                    total += values.index_select(0, corner + dx) * (wz * wy * wx)
        return torch.where(negative, total.conj(), total) if values.is_complex() else total

    def to_map(self, values: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
        """Inverse transform, cropped to the central (box, box, box).

        The axes are transformed one after the other and cropped at once, a slab at a time: memory is that of (box, box, P / 2 + 1) complex numbers and the
        map.

        Parameters
        ----------
        values
            Gives complex values (r, c) from their places (r, c) in flat arrays and the squares (r, c) of their frequencies; the plane x = 0 is whole.
        """
        side, box, centre = self.side, self.box, self.side // 2
        keep = (torch.arange(box, device=self.device) - box // 2) % side
        spectrum = torch.zeros((centre + 1, box, box), dtype=torch.complex64, device=self.device)
        step = max(1, _SLAB.get(self.device.type, 1 << 20) // side**2)
        near = (self._z < centre) & (self._y < centre)  # the Nyquist planes of the far side are left out
        for x0 in range(0, centre + 1, step):
            x = torch.arange(x0, min(x0 + step, centre + 1), device=self.device, dtype=self._first.dtype)
            rows = torch.nonzero((self._length > x0) & near).flatten()
            if not len(rows):
                break
            first, length, z, y = (axis[rows, None] for axis in (self._first, self._length, self._z, self._y))
            inside = x < length
            found = values(torch.where(inside, first + x, first), z * z + y * y + x.float() ** 2)
            slab = torch.zeros((len(x), side * side), dtype=torch.complex64, device=self.device)
            slab[:, ((z % side) * side + (y % side)).long().flatten()] = torch.where(inside, found, 0).T
            lines = torch.fft.ifft(slab.view(len(x), side, side)).index_select(2, keep)  # along y
            spectrum[x0 : x0 + len(x)] = torch.fft.ifft(lines, dim=1).index_select(1, keep)
        volume = torch.empty((box, box, box), device=self.device)
        for part in torch.arange(box, device=self.device).split(max(1, step * side // box)):
            here = slice(int(part[0]), int(part[-1]) + 1)
            volume[here] = torch.fft.irfft(spectrum[:, here], n=side, dim=0).index_select(0, keep).permute(1, 2, 0)
        return volume
