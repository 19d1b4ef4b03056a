"""References: slices of a map at any pose, with the coverage that the map was averaged from."""

from __future__ import annotations

import torch
from torch import Tensor

from ..imaging.fourier_volume import slice_channels
from ..imaging.interpolate import sample_half_volume, sample_slices
from ..imaging.missing_wedge import frequency_points
from .fourier_band import FourierBand

__all__ = ["Reference", "rotated_coverage", "symmetric_layout"]

_PADDING = 2.0
_COMPLETE = 0.999  # coverage that is as good as complete
_POINTS = {"cpu": 1 << 20, "cuda": 1 << 25}  # samples held at a time


class Reference:
    """One map in the particle's frame, as the transforms that images and subtomograms at given poses would have.

    Parameters
    ----------
    volume
        (n, n, n), filtered and masked as it is to be matched; its box is as long as the images', whatever its number of voxels.
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

    def slices(self, band: FourierBand, rotations: Tensor, length: float = 1.0) -> Tensor:
        """Real and imaginary parts (2, ..., P) of the transform seen at poses (..., 3, 3): ``S(k) = R(A^T k)``.

        Parameters
        ----------
        band
            Frequencies of the images.
        rotations
            (..., 3, 3) poses.
        length
            Side of the map's box over that of the images, where they differ.
        """
        return self._sampled(self._channels, band, rotations, self.side / self.box * length)

    def coverage_at(self, band: FourierBand, rotations: Tensor) -> Tensor | None:
        """Coverage (..., P) of the map at poses (..., 3, 3); None is complete."""
        return None if self._coverage is None else self._sampled(self._coverage, band, rotations, 1.0)[0]

    def _sampled(self, channels: Tensor, band: FourierBand, rotations: Tensor, scale: float) -> Tensor:
        flat = rotations.reshape(-1, 3, 3).to(band.points)[:, : band.dims]  # A^T (kx, ky, 0), as rows
        step = max(1, _POINTS.get(flat.device.type, 1 << 20) // len(band))
        parts = [sample_slices(channels, band.points, some, scale) for some in flat.split(step)]
        return torch.cat(parts, dim=1).view(2, *rotations.shape[:-2], len(band))


def symmetric_layout(half_grid: Tensor) -> Tensor:
    """Real half grid (n, n, n // 2 + 1) of an even box as (n + 1, n + 1, n // 2 + 1), frequencies -n/2 ... n/2 along z and y."""
    shifted = torch.fft.fftshift(half_grid, dim=(0, 1))
    shifted = torch.cat((shifted, shifted[:1]), dim=0)
    return torch.cat((shifted, shifted[:, :1]), dim=1)


def rotated_coverage(coverage: Tensor, rotation: Tensor) -> Tensor:
    """Half grid (n, n, n // 2 + 1) of a coverage as seen from the frame in which its map has the pose (3, 3): frequency q is known where A q was."""
    if float(coverage.min()) >= _COMPLETE:
        return coverage
    layout = symmetric_layout(coverage)
    points = frequency_points(int(coverage.shape[0]), coverage.device) @ rotation.to(coverage).mT
    return sample_half_volume(torch.stack((layout, torch.zeros_like(layout))), points)[0]
