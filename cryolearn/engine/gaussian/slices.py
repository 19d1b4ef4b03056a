"""Central slices of many volumes at once, and their adjoint: the tables that all particles leave behind.

A volume of coefficients is kept on a grid that is finer than that of the images by ``OVERSAMPLING``, (z, y, x >= 0) in symmetric order. Slices of G
volumes share their places and trilinear weights, so one gather reads rows of 2 G numbers. The adjoint gathers, for each volume,
``b = sum w S^T C Y / noise`` and ``L = diag sum w S^T C^2 / noise``: all that the likelihood of a volume depends on, whatever the number of particles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .particles import Band

__all__ = ["OVERSAMPLING", "Corners", "SliceGrid", "VolumeSums", "envelope"]

OVERSAMPLING = 2
_VALUES_AT_A_TIME = {"cpu": 1 << 24, "cuda": 1 << 28}  # slice values of all volumes held together, 4 bytes each


@dataclass
class Corners:
    """The eight grid points around each sample: ``index`` (b P, 8) int32, ``weight`` (b P, 8), and ``sign`` (b, P): -1 where the Friedel mate is read."""

    index: Tensor
    weight: Tensor
    sign: Tensor


@dataclass(frozen=True)
class SliceGrid:
    """The fine grid of a band: frequencies -half ... half on z and y, 0 ... half on x, in units of 1 / (OVERSAMPLING x box length)."""

    band: Band

    @property
    def half(self) -> int:
        """Largest frequency of an axis."""
        return OVERSAMPLING * (self.band.radius + 1) + 1

    @property
    def shape(self) -> tuple[int, int, int]:
        """Points along z, y, x."""
        return 2 * self.half + 1, 2 * self.half + 1, self.half + 1

    @property
    def size(self) -> int:
        """Number of points."""
        return math.prod(self.shape)

    def images_at_a_time(self, volumes: int, device: torch.device) -> int:
        """Images whose slices of all volumes stay within the memory bound (64 MiB of slices on the CPU, 1 GiB on a GPU)."""
        return max(1, _VALUES_AT_A_TIME[device.type] // (2 * volumes * len(self.band)))

    def corners(self, rotation: Tensor) -> Corners:
        """Where the central slices of (b, 3, 3) poses lie: image frequency (kx, ky) is that of the volume at ``A^T (kx, ky, 0)``."""
        plane = torch.stack((self.band.kx, self.band.ky)).to(rotation) * OVERSAMPLING
        place = rotation[:, :2].transpose(1, 2) @ plane  # (b, 3, P)
        sign = torch.where(place[:, 0] < 0, -1.0, 1.0)
        place = place * sign[:, None]
        base = place.floor()
        fraction = place - base
        x, y, z = base.to(torch.int32).unbind(1)
        _, rows, columns = self.shape
        first = ((z + self.half) * rows + (y + self.half)) * columns + x
        steps = torch.tensor([(dz * rows + dy) * columns + dx for dz in (0, 1) for dy in (0, 1) for dx in (0, 1)], dtype=torch.int32, device=rotation.device)
        low, high = 1 - fraction, fraction
        pair = [torch.stack((low[:, axis], high[:, axis]), dim=-1) for axis in range(3)]
        weight = (pair[2][..., :, None, None] * pair[1][..., None, :, None] * pair[0][..., None, None, :]).flatten(-3)
        return Corners((first[..., None] + steps).view(-1, 8), weight.view(-1, 8), sign)

    def sample(self, table: Tensor, corners: Corners) -> Tensor:
        """Slices (b, P, channels) of a table (size, channels); of the imaginary parts the sign is still to be taken."""
        found = torch.nn.functional.embedding_bag(corners.index, table, mode="sum", per_sample_weights=corners.weight)
        return found.view(*corners.sign.shape, -1)

    def volumes(self, positions_angst: Tensor, amplitudes: Tensor, sigma_angst: Tensor) -> Tensor:
        """Transforms (G, z, y, x) of G models: positions (G, M, 3), amplitudes (G, M), widths (M,). Differentiable.

        Volume by volume the memory is 8 bytes x M x z y; the whole is 8 bytes x G x z y x.
        """
        length = self.band.length_angst * OVERSAMPLING
        half = torch.arange(self.half + 1, device=positions_angst.device, dtype=positions_angst.dtype)
        spread = torch.outer(sigma_angst**2, half**2) * (-2 * math.pi**2 / length**2)
        fade = torch.exp(spread.clamp(min=-28))
        phase = positions_angst[..., None] * (half * (-2 * math.pi / length))  # (G, M, 3, k)
        wave = torch.polar(fade[:, None].expand_as(phase), phase)
        x = wave[:, :, 0]
        full = torch.cat((wave[:, :, 1:, 1:].flip(-1).conj(), wave[:, :, 1:]), dim=-1)
        y, z = full.unbind(2)
        planes = (z * amplitudes[..., None])[..., :, None] * y[..., None, :]  # (G, M, z, y)
        found = planes.flatten(2).transpose(1, 2) @ x
        return found.view(len(positions_angst), *self.shape)


def envelope(positions_angst: Tensor, band: Band) -> Tensor:
    """Factor by which trilinear interpolation on the fine grid fades density at (..., 3) Å: sinc^2 along each axis."""
    return torch.sinc(positions_angst / (OVERSAMPLING * band.length_angst)).square().prod(-1)


class VolumeSums:
    """Accumulators ``b`` (size, 2 V) and ``L`` (size, W) of weighted images.

    Parameters
    ----------
    numerators, denominators : numbers V and W of weighted sums of ``C Y / noise`` and of ``C^2 / noise``
    """

    def __init__(self, grid: SliceGrid, numerators: int, denominators: int, device: torch.device) -> None:
        self.grid, self.numerators, self.denominators = grid, numerators, denominators
        self.values = torch.zeros(grid.size, 2 * numerators + denominators, device=device)

    def add(self, corners: Corners, signal: Tensor, power: Tensor, weight: Tensor, power_weight: Tensor | None = None) -> None:
        """Add images: ``signal`` (b, P) complex ``C Y / noise``, ``power`` (b, P) ``C^2 / noise``, weights (b, V) and (b, W).

        Without ``power_weight`` it is ``weight``.
        """
        second = weight if power_weight is None else power_weight
        rows = torch.cat((
            signal.real[..., None] * weight[:, None], (signal.imag * corners.sign)[..., None] * weight[:, None], power[..., None] * second[:, None],
        ), dim=-1).flatten(0, 1)
        for corner in range(8):
            self.values.index_add_(0, corners.index[:, corner].contiguous(), rows * corners.weight[:, corner, None])

    @property
    def signal(self) -> Tensor:
        """(V, z, y, x) complex."""
        count = self.numerators
        parts = self.values[:, : 2 * count].T.reshape(2, count, *self.grid.shape)
        return torch.complex(parts[0].contiguous(), parts[1].contiguous())

    @property
    def power(self) -> Tensor:
        """(W, z, y, x)."""
        return self.values[:, 2 * self.numerators :].T.reshape(self.denominators, *self.grid.shape)
