"""Projections of a Gaussian model in Fourier space and their exact gradients.

Isotropic Gaussians are separable, so the coefficients of a projection are one matrix product,
``F(ky, kx) = sum_j a_j Ey_j(ky) Ex_j(kx)``: no grid of the model, no interpolation, no aliasing. The adjoint of the same product gives the
derivatives by positions and amplitudes. Memory: M (3 r + 2) 8 bytes an image for M Gaussians up to ring r.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...alignment.fourier_band import FourierBand

__all__ = ["Gaussians", "Projection", "project"]

_EXPONENT_LIMIT = 1.4  # exp(-2 pi^2 1.4) is 1e-12: smaller numbers become denormal and slow everything


@dataclass
class Gaussians:
    """The model on the device.

    Attributes
    ----------
    positions_angst : (M, 3) or (b, M, 3), Å from the centre of the box
    amplitudes : (M,) or (b, M), integrals divided by the pixel's area, so that sums of images come out
    sigma_angst : (M,)
    """

    positions_angst: Tensor
    amplitudes: Tensor
    sigma_angst: Tensor

    def __len__(self) -> int:
        return self.amplitudes.shape[-1]

    def part(self, chosen: Tensor) -> Gaussians:
        """Some of the Gaussians, by a mask (M,); amplitudes must be those of one model."""
        return Gaussians(self.positions_angst[chosen], self.amplitudes[chosen], self.sigma_angst[chosen])

    def moved(self, displacement: Tensor) -> Gaussians:
        """The model with ``displacement`` added to its positions."""
        return replace(self, positions_angst=self.positions_angst + displacement)


@dataclass
class Projection:
    """Coefficients ``values`` (b, 2 r + 1, r + 1) of projections and the factors (b, M, 2 r + 1) and (b, M, r + 1) they are made of."""

    values: Tensor
    along_y: Tensor
    along_x: Tensor
    model: Gaussians
    band: FourierBand

    def gradients(self, direction: Tensor) -> tuple[Tensor, Tensor]:
        """Derivatives of a score S with ``dS = Re sum conj(direction) dF``.

        Parameters
        ----------
        direction
            (b, 2 r + 1, r + 1) complex, on the same grid.

        Returns
        -------
        By the positions in the image (b, M, 2), per Å, and by the amplitudes (b, M).
        """
        radius, unit = self.band.radius, 2 * math.pi / self.band.length
        kx = torch.arange(radius + 1, device=direction.device, dtype=self.along_x.real.dtype) * unit
        ky = torch.arange(-radius, radius + 1, device=direction.device, dtype=self.along_x.real.dtype) * unit
        conjugate, count = direction.conj(), len(self.model)
        inner = torch.cat([self.along_x, self.along_x * kx], dim=1) @ conjugate.transpose(1, 2)  # (b, 2M, ky)
        plain = inner[:, :count] * self.along_y
        by_amplitude = plain.real.sum(-1)
        # d exp(-i k q) / dq = -i k exp(-i k q), and Re(-i z) = Im z
        by_x = (inner[:, count:] * self.along_y).imag.sum(-1)
        by_y = plain.imag @ ky
        return torch.stack((by_x, by_y), dim=-1) * self.model.amplitudes[..., None], by_amplitude


def project(model: Gaussians, rotation: Tensor, band: FourierBand) -> Projection:
    """Projections of the model turned by (b, 3, 3), centred, on the grid ky = -r ... r, kx = 0 ... r.

    Points of the grid outside the band's rings are computed too; :attr:`FourierBand.grid_index` picks the band's.
    """
    flat = rotation[:, :2].transpose(1, 2)
    places = model.positions_angst @ flat  # (b, M, 2)
    k = torch.arange(band.radius + 1, device=places.device, dtype=places.dtype)
    envelope = torch.exp((-2 * math.pi**2 / band.length**2) * torch.outer(model.sigma_angst**2, k**2).clamp(max=_EXPONENT_LIMIT * band.length**2))
    along_x = _powers(places[..., 0] / band.length, band.radius) * envelope
    half_y = _powers(places[..., 1] / band.length, band.radius) * envelope
    along_y = torch.cat((half_y[..., 1:].flip(-1).conj(), half_y), dim=-1)
    weighted = along_y * model.amplitudes[..., None]
    return Projection(weighted.transpose(1, 2) @ along_x, along_y, along_x, model, band)


def _powers(turns: Tensor, largest: int) -> Tensor:
    """``exp(-2 pi i k turns)`` for k = 0 ... largest, by doubling: one complex product a value in place of a sine and a cosine."""
    first = torch.polar(torch.ones_like(turns), -2 * math.pi * turns)[..., None]
    powers = torch.cat((torch.ones_like(first), first), dim=-1)
    while powers.shape[-1] <= largest:
        powers = torch.cat((powers, powers * (powers[..., -1:] * first)), dim=-1)
    return powers[..., : largest + 1]
