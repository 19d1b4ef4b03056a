"""Central slices of many volumes at once, and their adjoint: the tables that all particles leave behind.

A volume of coefficients is kept on a grid that is finer than that of the images by ``OVERSAMPLING``, (z, y, x >= 0) in symmetric order. Slices of G
volumes share their places and trilinear weights, so one gather reads rows of 2 G numbers. The adjoint gathers, for each volume,
``b = sum w S^T C Y / noise`` and ``L = diag sum w S^T C^2 / noise``: all that the likelihood of a volume depends on, whatever the number of particles.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from scipy.sparse import csr_matrix
from torch import Tensor

from ...alignment.fourier_band import FourierBand
from .projection import Gaussians

__all__ = ["OVERSAMPLING", "Corners", "SliceGrid", "VolumeSums", "envelope"]

OVERSAMPLING = 2
_SPARSE_BELOW = 4  # grid points a sample
_MISFIT_BYTES = {"cpu": 1 << 27, "cuda": 1 << 31}
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

    band: FourierBand

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
        plane = self.band.points.T.to(rotation) * OVERSAMPLING
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

    def table(self, volumes: Tensor) -> Tensor:
        """Real parts, then imaginary ones, of (G, z, y, x) volumes as a table (size, 2 G) for :meth:`sample`."""
        parts = volumes.flatten(1).T
        return torch.cat((parts.real, parts.imag), dim=1).contiguous()

    def sample(self, table: Tensor, corners: Corners) -> Tensor:
        """Slices (b, P, channels) of a table (size, channels); of the imaginary parts the sign is still to be taken."""
        found = torch.nn.functional.embedding_bag(corners.index, table, mode="sum", per_sample_weights=corners.weight)
        return found.view(*corners.sign.shape, -1)

    def _waves(self, positions_angst: Tensor, sigma_angst: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Factors along x (G, M, half + 1), y and z (G, M, 2 half + 1) of Gaussians of unit amplitude."""
        length = self.band.length * OVERSAMPLING
        half = torch.arange(self.half + 1, device=positions_angst.device, dtype=positions_angst.dtype)
        spread = torch.outer(sigma_angst**2, half**2) * (-2 * math.pi**2 / length**2)
        phase = positions_angst[..., None] * (half * (-2 * math.pi / length))  # (G, M, 3, k)
        wave = torch.polar(torch.exp(spread.clamp(min=-28))[:, None].expand_as(phase), phase)
        full = torch.cat((wave[:, :, 1:, 1:].flip(-1).conj(), wave[:, :, 1:]), dim=-1)
        return wave[:, :, 0], full[:, :, 0], full[:, :, 1]

    def volumes(self, positions_angst: Tensor, amplitudes: Tensor, sigma_angst: Tensor) -> Tensor:
        """Transforms (G, z, y, x) of G models: positions (G, M, 3), amplitudes (G, M), widths (M,). Differentiable.

        Besides the result it holds 8 bytes x G x M x z y.
        """
        x, y, z = self._waves(positions_angst, sigma_angst)
        planes = (z * amplitudes[..., None])[..., :, None] * y[..., None, :]
        return (planes.flatten(2).transpose(1, 2) @ x).view(len(positions_angst), *self.shape)

    def model_volume(self, model: Gaussians) -> Tensor:
        """Transform (1, z, y, x) of one model, corrected for the fading of the slices' interpolation."""
        faded = model.amplitudes / envelope(model.positions_angst, self.band)
        return self.volumes(model.positions_angst[None], faded[None], model.sigma_angst)

    def misfit(self, positions_angst: Tensor, amplitudes: Tensor, sigma_angst: Tensor, signal: Tensor, power: Tensor) -> tuple[float, Tensor, Tensor]:
        """Misfit ``sum_g sum (L |V|^2 - 2 Re b* V)`` of models against sums ``signal`` b and ``power`` L (G, z, y, x), with its derivatives.

        The derivatives, (G, M, 3) by the positions and (G, M) by the amplitudes, are exact.
        Works on as many models at a time as keep its factors below 128 MiB (2 GiB on a GPU), one at least.
        """
        bytes_each = 24 * amplitudes.shape[1] * self.shape[0] * self.shape[1]
        step = max(1, (_MISFIT_BYTES[signal.device.type]) // bytes_each)
        total, by_place, by_amplitude = 0.0, torch.empty_like(positions_angst), torch.empty_like(amplitudes)
        for start in range(0, len(amplitudes), step):
            part = slice(start, start + step)
            value, by_place[part], by_amplitude[part] = self._misfit(
                positions_angst[part], amplitudes[part], sigma_angst, signal[part].flatten(1, 2), power[part].flatten(1, 2))
            total += value
        return total, by_place, by_amplitude

    def _misfit(self, places: Tensor, amplitudes: Tensor, sigma: Tensor, signal: Tensor, power: Tensor) -> tuple[float, Tensor, Tensor]:
        x, y, z = self._waves(places, sigma)
        planes = (z[..., :, None] * y[..., None, :]).flatten(2)  # (G, M, zy)
        volume = (planes * amplitudes[..., None]).transpose(1, 2) @ x
        direction = power * volume
        value = float((direction.conj() * volume - 2 * signal.conj() * volume).real.double().sum())
        direction = (2 * (direction - signal)).conj()  # the derivative by V, as Re sum direction dV
        unit = 2 * math.pi / (self.band.length * OVERSAMPLING)
        kx = torch.arange(self.half + 1, device=x.device, dtype=x.real.dtype) * unit
        kyz = torch.arange(-self.half, self.half + 1, device=x.device, dtype=x.real.dtype) * unit
        inner = torch.cat((x, x * kx), dim=1) @ direction.transpose(1, 2)  # (G, 2 M, zy)
        count = x.shape[1]
        plain = (inner[:, :count] * planes).view(*x.shape[:2], self.shape[0], self.shape[1])
        along_z = plain.imag.sum(3) @ kyz
        along_y = plain.imag.sum(2) @ kyz
        along_x = (inner[:, count:] * planes).imag.sum(-1)
        by_place = torch.stack((along_x, along_y, along_z), dim=-1) * amplitudes[..., None]
        return value, by_place, plain.real.sum((2, 3))


def envelope(positions_angst: Tensor, band: FourierBand) -> Tensor:
    """Factor by which trilinear interpolation on the fine grid fades density at (..., 3) Å: sinc^2 along each axis."""
    return torch.sinc(positions_angst / (OVERSAMPLING * band.length)).square().prod(-1)


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
        count, samples = self.grid.size, len(rows)
        if self.values.device.type == "cpu" and count < _SPARSE_BELOW * samples:
            # a product with the sparse matrix of the weights: three times as fast as index_add_ where many samples meet, but it makes a second table
            starts = np.arange(0, 8 * samples + 1, 8)
            matrix = csr_matrix((corners.weight.numpy().ravel(), corners.index.numpy().ravel(), starts), shape=(samples, count))
            self.values += torch.from_numpy(matrix.T @ rows.numpy())
            return
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
