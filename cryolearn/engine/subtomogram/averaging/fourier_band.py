"""The frequencies that an alignment looks at, and what subtomograms hold there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...imaging.fourier import rfftn_centred
from ...imaging.missing_wedge import frequency_points, wedge_coverage

__all__ = ["Band", "Particles", "in_band", "particles_of", "tilt_groups"]

_WHOLE = 1e-3  # squared radii are whole numbers; less than this is rounding


@dataclass
class Band:
    """Frequencies of a box from the first shell to a radius, one of each Friedel pair, ordered by radius, so that a narrower band is a prefix.

    Attributes
    ----------
    box : side in voxels
    points : (P, 3) x, y, z in Fourier pixels
    index : (P,) place in the flattened half transform `(box, box, box // 2 + 1)`
    shell : (P,) nearest whole radius
    """

    box: int
    points: Tensor
    index: Tensor
    shell: Tensor

    @classmethod
    def up_to(cls, box: int, radius_px: float, device: torch.device | str | None = None) -> Band:
        """Band of all shells up to ``radius_px``, which is kept below Nyquist."""
        points = frequency_points(box).flatten(0, 2)
        x, y, z = points.unbind(-1)
        squared = (points * points).sum(-1)
        one_of_pair = (x > 0) | ((y > 0) | ((y == 0) & (z > 0)))
        keep = (squared > 0) & (squared <= min(radius_px, box / 2 - 0.5) ** 2 + _WHOLE) & one_of_pair & (x * 2 < box)
        index = torch.nonzero(keep).flatten()
        index = index[squared[index].argsort(stable=True)]
        points = points[index]
        return cls(box, points.to(device), index.to(device), points.norm(dim=1).round().long().to(device))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def radius_px(self) -> float:
        """Radius of the outermost frequency."""
        return float(self.points[-1].double().norm())

    def within(self, radius_px: float) -> Band:
        """The part of the band up to a radius."""
        count = max(1, int((self.points.square().sum(1) <= radius_px**2 + _WHOLE).sum()))
        return Band(self.box, self.points[:count], self.index[:count], self.shell[:count])

    def waves(self, shift_px: Tensor) -> Tensor:
        """`(..., P)` factors that move what lies at ``shift_px`` (..., 3; x, y, z) to the centre when they multiply the transform."""
        return self.waves_at(self.points, shift_px)

    def waves_at(self, points: Tensor, shift_px: Tensor) -> Tensor:
        """The same at other frequencies (..., P, 3)."""
        return torch.exp(2j * math.pi / self.box * (shift_px.to(points) @ points.mT))


@dataclass
class Particles:
    """What a batch of subtomograms holds in a band.

    Attributes
    ----------
    band : their frequencies
    data : (n, P) complex, phases relative to the centre of the box
    coverage : (g, P) coverage of the tilt range of each group
    group : (n,) tilt range of each subtomogram
    """

    band: Band
    data: Tensor
    coverage: Tensor
    group: Tensor

    def __len__(self) -> int:
        return len(self.data)

    def within(self, radius_px: float) -> Particles:
        """The same in a narrower band."""
        band = self.band.within(radius_px)
        return Particles(band, self.data[:, : len(band)], self.coverage[:, : len(band)], self.group)

    def rows(self, rows: Tensor) -> Particles:
        """Some of the subtomograms."""
        return Particles(self.band, self.data[rows], self.coverage, self.group[rows])


def particles_of(volumes: Tensor, tilt_deg: Tensor, band: Band, edge_px: float) -> Particles:
    """The band of `(n, box, box, box)` subtomograms whose first and last tilt are ``tilt_deg`` (n, 2)."""
    return Particles(band, in_band(volumes, band), *tilt_groups(tilt_deg, band, edge_px))


def in_band(volumes: Tensor, band: Band) -> Tensor:
    """Transform (n, P) of `(n, box, box, box)` volumes at the frequencies of a band, phases relative to the centre."""
    return rfftn_centred(volumes, 3).flatten(1)[:, band.index]


def tilt_groups(tilt_deg: Tensor, band: Band, edge_px: float) -> tuple[Tensor, Tensor]:
    """Coverage (g, P) of the different tilt ranges in (n, 2), and which of them (n,) each subtomogram has."""
    ranges, group = torch.unique(tilt_deg.to(band.points), dim=0, return_inverse=True)
    return wedge_coverage(band.points, ranges[:, :1], ranges[:, 1:], edge_px), group
