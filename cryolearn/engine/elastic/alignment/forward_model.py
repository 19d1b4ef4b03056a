"""Forward model of elastic alignment: deformed, rotated Gaussians to whitened Fourier samples, with the Jacobian.

An isotropic Gaussian is separable, so a projection is one matrix product of its x and y factors. The factors are
sampled on a small window around the particle, a matrix DFT takes that window straight to the frequencies in use,
and derivatives become products with ``-2 pi i k``: no large FFT, no interpolation, no autograd.
"""

from __future__ import annotations

import math

import torch

from ...alignment.fourier_band import FourierBand
from ..modes.deformable_reference import ElasticReference

RIGID = 5  # parameters before the amplitudes: three rotations, two shifts


def band_to(box: int, pixel_size_angst: float, resolution_angst: float, device: torch.device | str = "cpu") -> FourierBand:
    """Band of a box to ``resolution_angst`` (never beyond one pixel short of Nyquist), without the origin (the images' offset)."""
    radius = min(box // 2 - 1, int(box * pixel_size_angst / resolution_angst))
    return FourierBand.up_to(box, radius, length=box * pixel_size_angst, device=device)


class ForwardModel:
    """Projections of an elastic reference and their derivatives, as Fourier samples on a band.

    Parameters
    ----------
    reference : Gaussians and modes
    band : frequencies to compute
    amplitude_range : amplitudes that the window around the particle must hold
    """

    def __init__(self, reference: ElasticReference, band: FourierBand, amplitude_range: float) -> None:
        self.reference, self.band = reference, band
        device = reference.coordinates.device
        dtype = reference.coordinates.dtype
        finest = band.length / band.radius
        # 0.8 of the window's Nyquist frequency is used, and Gaussians are broadened to 1.4 samples and sharpened again in
        # Fourier space: alias / signal at frequency k is exp(-2 pi^2 1.4^2 (1 - 2 k step)), 0.04 % at the band's edge
        step = 0.4 * finest
        sigma2 = reference.sigma_angst.square()
        extra = max(0.0, (1.4 * step) ** 2 - float(sigma2.min()))
        self._sigma2 = sigma2 + extra
        half = reference.radius_angst(amplitude_range) + 4 * math.sqrt(float(self._sigma2.max()))
        half = min(half, band.length / 2)
        count = int(math.ceil(half / step))
        self._grid = step * torch.arange(-count, count + 1, device=device, dtype=dtype)
        self._amplitude = reference.weights / (2 * math.pi * self._sigma2) * step**2
        index = torch.arange(-band.radius, band.radius + 1, device=device)
        phase = -2 * math.pi / band.length * index[:, None] * self._grid[None]
        self._dft_y = torch.polar(torch.ones_like(phase), phase)
        positive = phase[band.radius :]
        self._dft_x = torch.cat([positive.cos(), positive.sin()]).T.contiguous()  # (W, 2 (r + 1))
        self._flat = band.grid_index
        frequencies = band.points.to(dtype) / band.length  # 1/Å
        self._sharpen = torch.exp(2 * math.pi**2 * extra * frequencies.square().sum(1))
        # derivatives of a moving Gaussian's transform
        self._dx, self._dy = torch.complex(torch.zeros_like(frequencies), -2 * math.pi * frequencies).unbind(1)

    @property
    def bytes_per_problem(self) -> int:
        """Memory of one projection with Jacobian: the separable factors and the samples."""
        n, window = len(self._amplitude), len(self._grid)
        images = 4 + 2 * len(self.reference.modes)
        return 4 * n * window * (images + 4) + 8 * images * len(self.band) * 3

    def _factors(self, rotation: torch.Tensor, amplitudes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        moved = self.reference.positions(amplitudes) @ rotation.transpose(1, 2)
        distance = self._grid - moved[..., :2].transpose(1, 2)[..., None]  # (B, 2, N, W)
        # tails end at exp(-30): products of smaller ones are denormal numbers, which slow a CPU down tenfold
        factors = distance.square_().mul_((-0.5 / self._sigma2)[:, None]).clamp_(min=-30.0).exp_()
        return moved, factors[:, 0], factors[:, 1] * self._amplitude[:, None]

    def _to_band(self, windows: torch.Tensor) -> torch.Tensor:
        """Window images (B, W, M, W) to samples (B, M, n)."""
        batch, window, count, _ = windows.shape
        columns = self.band.radius + 1
        split = windows @ self._dft_x
        half = torch.complex(split[..., :columns].contiguous(), split[..., columns:].contiguous())
        full = self._dft_y @ half.reshape(batch, window, count * columns)
        full = full.reshape(batch, -1, count, columns).transpose(1, 2).reshape(batch, count, -1)
        return full[..., self._flat] * self._sharpen

    def project(self, rotation: torch.Tensor, amplitudes: torch.Tensor) -> torch.Tensor:
        """Samples (B, n) of unshifted projections for rotations (B, 3, 3) and amplitudes (B, K)."""
        _, gx, gy = self._factors(rotation, amplitudes)
        return self._to_band((gy.transpose(1, 2) @ gx)[:, :, None])[:, 0]

    def project_with_jacobian(self, rotation: torch.Tensor, amplitudes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples and their derivatives.

        Returns
        -------
        projection : (B, n)
        jacobian : (B, 5 + K, n) by the rotation vector of a left-multiplied ``exp(omega) R`` (radians), by the
            shift (Å) and by the amplitudes; the shift's phase is not yet applied to either
        """
        moved, gx, gy = self._factors(rotation, amplitudes)
        batch, n, window = gx.shape
        count = len(self.reference.modes)
        turned = self.reference.modes.reshape(count * n, 3) @ rotation[:, :2].transpose(1, 2)  # (B, K N, 2)
        turned = turned.reshape(batch, count, n, 2)
        moments = torch.cat([
            torch.ones_like(moved[..., :1]), moved,
            turned[..., 0].transpose(1, 2), turned[..., 1].transpose(1, 2),
        ], dim=2)  # (B, N, 4 + 2 K): 1, x, y, z, then the modes' x and y displacements
        right = (moments[..., None] * gx[:, :, None]).reshape(batch, n, -1)
        windows = (gy.transpose(1, 2) @ right).reshape(batch, window, -1, window)
        one, x, y, z, *displaced = self._to_band(windows).unbind(1)
        dx, dy = self._dx, self._dy
        columns = [-dy * z, dx * z, dy * x - dx * y, dx * one, dy * one]
        columns += [dx * displaced[k] + dy * displaced[count + k] for k in range(count)]
        return one, torch.stack(columns, 1)
