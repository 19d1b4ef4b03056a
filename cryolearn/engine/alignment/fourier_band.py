"""The Fourier coefficients that an alignment compares: those of images or volumes up to a radius, one of each Friedel pair."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor

from ..imaging.fourier import frequency_grid

__all__ = ["FourierBand"]

_ROUNDING = 1e-3  # squared radii are integers; less than this is rounding


@dataclass(frozen=True, kw_only=True)
class FourierBand:
    """Frequencies of a square or cubic box, ordered by radius, so that a narrower band is the first part of a wider one.

    Of each Friedel pair the frequency is kept whose first coordinate other than 0 is positive, in the order x, y, z.

    Attributes
    ----------
    box : side of the box in pixels
    length : side of the box in the unit of shifts: Å, or pixels
    lowest, radius : first and last ring
    points : (P, d) x, y(, z) in Fourier pixels, float32
    ring : (P,) nearest integer radius, int64
    """

    box: int
    length: float
    lowest: int
    radius: int
    points: Tensor
    ring: Tensor

    @classmethod
    def up_to(
        cls, box: int, radius_px: float, dims: int = 2, *, length: float | None = None, lowest: int = 1, device: torch.device | str | None = None,
    ) -> FourierBand:
        """Band of all frequencies from ring ``lowest`` up to ``radius_px`` Fourier pixels, which is kept below Nyquist.

        Parameters
        ----------
        box, dims
            Side in pixels and number of axes of the images or volumes.
        radius_px
            Largest radius; half an integer takes in whole rings.
        length
            Side of the box in the unit of shifts; pixels without it.
        lowest
            First ring; 0 takes in the origin.
        device
            Where the band is kept.
        """
        axes = [(axis * box).round() for axis in frequency_grid(box, dims)]
        points = torch.stack([axis.flatten() for axis in torch.broadcast_tensors(*reversed(axes))], dim=-1)
        squared = points.square().sum(-1)
        leading = torch.zeros_like(squared)
        for axis in points.unbind(-1):
            leading = torch.where(leading == 0, axis, leading)
        ring = squared.double().sqrt().round().long()
        keep = ((leading > 0) | (squared == 0)) & (points[:, 0] * 2 < box) & (ring >= lowest)
        keep &= squared <= min(radius_px, box / 2 - 0.5) ** 2 + _ROUNDING
        index = torch.nonzero(keep).flatten()
        index = index[squared[index].argsort(stable=True)]
        radius = int(ring[index].max()) if len(index) else 0
        return cls(box=box, length=float(box if length is None else length), lowest=lowest, radius=radius,
                   points=points[index].to(device), ring=ring[index].to(device))

    def __len__(self) -> int:
        return len(self.ring)

    @property
    def pixel_size(self) -> float:
        """Side of a pixel in the unit of ``length``."""
        return self.length / self.box

    @property
    def dims(self) -> int:
        """Number of axes."""
        return self.points.shape[1]

    @property
    def kx(self) -> Tensor:
        """(P,) frequencies along x."""
        return self.points[:, 0]

    @property
    def ky(self) -> Tensor:
        """(P,) frequencies along y."""
        return self.points[:, 1]

    @property
    def rings(self) -> int:
        """Number of rings."""
        return self.radius - self.lowest + 1

    @property
    def radius_px(self) -> float:
        """Radius of the outermost frequency."""
        return float(self.points[-1].double().norm())

    @cached_property
    def index(self) -> Tensor:
        """(P,) indices into a flattened half transform (box, box // 2 + 1) or (box, box, box // 2 + 1)."""
        return self._flat(self.points)

    @cached_property
    def _waves(self) -> Tensor:
        """(P, d) phases in rad of a shift by one unit."""
        return self.points * (-2 * math.pi / self.length)

    @cached_property
    def mates(self) -> tuple[Tensor, Tensor]:
        """Which frequencies have their Friedel mate on the half transform too (on the plane x = 0), and the mates' indices there."""
        own = torch.nonzero((self.points[:, 0] == 0) & (self.ring > 0)).flatten()
        return own, self._flat(-self.points[own])

    def _flat(self, points: Tensor) -> Tensor:
        whole = points.long()
        flat = torch.zeros_like(whole[:, 0])
        for axis in reversed(range(1, self.dims)):
            flat = flat * self.box + whole[:, axis] % self.box
        return flat * (self.box // 2 + 1) + whole[:, 0]

    @property
    def grid_index(self) -> Tensor:
        """(P,) indices into the flattened grid (2 radius + 1, radius + 1) of ky = -radius ... radius, kx = 0 ... radius; of images."""
        return (self.ky.long() + self.radius) * (self.radius + 1) + self.kx.long()

    def on_grid(self, values: Tensor) -> Tensor:
        """Values (b, P) on that grid, (b, 2 radius + 1, radius + 1), 0 elsewhere."""
        grid = values.new_zeros((len(values), (2 * self.radius + 1) * (self.radius + 1)))
        grid[:, self.grid_index] = values
        return grid.view(len(values), 2 * self.radius + 1, self.radius + 1)

    def gather(self, transform: Tensor) -> Tensor:
        """Samples (..., P) of half transforms (..., box, box // 2 + 1) or (..., box, box, box // 2 + 1)."""
        return transform.flatten(-self.dims)[..., self.index]

    def within(self, radius_px: float) -> FourierBand:
        """The part of the band up to a radius, one frequency at least; half an integer takes in whole rings."""
        count = max(1, int((self.points.square().sum(1) <= radius_px**2 + _ROUNDING).sum()))
        if count == len(self):
            return self
        ring = self.ring[:count]
        return replace(self, points=self.points[:count], ring=ring, radius=int(ring.max()))

    def phase(self, shift: Tensor, factor: Tensor | None = None) -> Tensor:
        """Factors (..., P), exp(-2 pi i k s / length), that move images or volumes by shifts s (..., d) when they multiply the transform.

        They are multiplied by a real ``factor`` (..., P) where one is given.
        """
        angle = shift @ (self._waves if shift.dtype == self.points.dtype else self.points.to(shift) * (-2 * math.pi / self.length)).mT
        return torch.polar(torch.ones_like(angle) if factor is None else factor, angle)

    def phase_at(self, points: Tensor, shift: Tensor) -> Tensor:
        """The same, (b, P), at other frequencies (b, P, d) for shifts (b, d)."""
        angle = (shift[:, None] @ points.to(shift).mT)[:, 0] * (-2 * math.pi / self.length)
        return torch.polar(torch.ones_like(angle), angle)

    def ring_sum(self, values: Tensor) -> Tensor:
        """Sums (..., rings) of real values (..., P) over each ring."""
        return values.new_zeros((*values.shape[:-1], self.rings)).index_add_(-1, self.ring - self.lowest, values)

    def ring_mean(self, values: Tensor) -> Tensor:
        """Means (..., rings) of real values (..., P) over each ring."""
        return self.ring_sum(values) / self.ring_sum(torch.ones_like(values[(0,) * (values.ndim - 1)])).clamp(min=1)

    def per_point(self, curve: Tensor) -> Tensor:
        """Values (..., P) of a curve (..., rings)."""
        return curve[..., self.ring - self.lowest]
