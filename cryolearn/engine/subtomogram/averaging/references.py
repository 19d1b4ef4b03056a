"""Maps with the coverage they were averaged from, seen at any pose."""

from __future__ import annotations

import torch
from torch import Tensor

from ...imaging.fourier_volume import slice_channels
from ...imaging.interpolate import sample_half_volume
from ...imaging.missing_wedge import frequency_points
from .fourier_band import Band

__all__ = ["Reference", "symmetric_layout", "turned_coverage"]

_PADDING = 2.0
_COMPLETE = 0.999  # coverage that is as good as complete
_POINTS = {"cpu": 1 << 20, "cuda": 1 << 25}  # samples held at a time


class Reference:
    """One map and its coverage, both in the particle's frame.

    Parameters
    ----------
    volume
        (n, n, n), filtered and masked as it is to be matched.
    coverage
        (n, n, n // 2 + 1) half grid, 0 where the average knows nothing and 1 where it does; None is complete.
    """

    def __init__(self, volume: Tensor, coverage: Tensor | None = None) -> None:
        self.box = int(volume.shape[-1])
        self._channels, self.side = slice_channels(volume, _PADDING)
        self._coverage = None
        if coverage is not None:
            layout = symmetric_layout(coverage)
            radius = torch.arange(self.box + 1, device=volume.device) - self.box // 2
            half = radius[self.box // 2 :]
            ball = (radius.square()[:, None, None] + radius.square()[:, None] + half.square()) * 4 < self.box**2
            if float(layout[ball].min()) < _COMPLETE:
                self._coverage = torch.stack((layout, torch.zeros_like(layout)))

    @property
    def complete(self) -> bool:
        """Every frequency below Nyquist is covered."""
        return self._coverage is None

    def seen(self, rotations: Tensor, band: Band) -> tuple[Tensor, Tensor | None]:
        """Transform (R, P) of the map turned by poses (R, 3, 3), ``R(A^T k)``, and its coverage there (None: complete)."""
        points = band.points @ rotations.to(band.points)  # A^T k as rows
        step = max(1, _POINTS.get(points.device.type, 1 << 20) // len(band))
        parts = [sample_half_volume(self._channels, some * (self.side / self.box)) for some in points.split(step)]
        values = torch.cat(parts, dim=1)
        known = None
        if self._coverage is not None:
            known = torch.cat([sample_half_volume(self._coverage, some)[0] for some in points.split(step)])
        return torch.complex(values[0], values[1]), known


def symmetric_layout(half_grid: Tensor) -> Tensor:
    """Real half grid (n, n, n // 2 + 1) of an even box as (n + 1, n + 1, n // 2 + 1), frequencies -n/2 ... n/2 along z and y."""
    shifted = torch.fft.fftshift(half_grid, dim=(0, 1))
    shifted = torch.cat((shifted, shifted[:1]), dim=0)
    return torch.cat((shifted, shifted[:, :1]), dim=1)


def turned_coverage(coverage: Tensor, rotation: Tensor) -> Tensor:
    """Half grid (n, n, n // 2 + 1) of a coverage as seen from the frame in which its map has the pose (3, 3): frequency q is known where A q was."""
    if float(coverage.min()) >= _COMPLETE:
        return coverage
    layout = symmetric_layout(coverage)
    points = frequency_points(int(coverage.shape[0]), coverage.device) @ rotation.to(coverage).mT
    return sample_half_volume(torch.stack((layout, torch.zeros_like(layout))), points)[0]
