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
        self._fall = (-0.5 / self._sigma2)[:, None]
        self._amplitude = (reference.weights / (2 * math.pi * self._sigma2) * step**2)[:, None]
        index = torch.arange(-band.radius, band.radius + 1, device=device)
        phase = -2 * math.pi / band.length * index[:, None] * self._grid[None]
        sharpen = torch.exp(2 * math.pi**2 * extra * (index / band.length).square()).to(dtype)[:, None]  # along one axis
        self._dft_y = torch.polar(sharpen.expand_as(phase).contiguous(), phase)
        to_x = torch.polar(sharpen.expand_as(phase).contiguous(), phase)[band.radius :]
        self._dft_x = torch.view_as_real(to_x.T.contiguous()).flatten(1)  # (W, 2 (r + 1)), real and imaginary parts in turn
        frequencies = band.points.to(dtype) / band.length  # 1/Å
        # derivatives of a moving Gaussian's transform
        self._dx, self._dy = torch.complex(torch.zeros_like(frequencies), -2 * math.pi * frequencies).unbind(1)
        self._along_xy = torch.stack([self._dx, self._dy])
        self._about_xy = torch.stack([-self._dy, self._dx])  # times z
        # what moves with the particle: places, places times amplitude, and the modes times amplitude
        modes, places = reference.modes, reference.coordinates
        self._moving = torch.cat([places[None], (places * self._amplitude)[None], modes * self._amplitude]).flatten()
        along = torch.stack([modes, modes * self._amplitude], 1)
        self._by_modes = torch.cat([along, along.new_zeros(len(modes), len(modes), *places.shape)], 1).flatten(1)
        self._samples = {images: self._sample_index(images) for images in (1, 4 + 2 * len(modes))}

    def _sample_index(self, images: int) -> torch.Tensor:
        """(M, n) where the band's samples of M images stand in a flattened array (2 r + 1, M, r + 1)."""
        columns = self.band.radius + 1
        row, column = self.band.grid_index // columns, self.band.grid_index % columns
        return (row * images + torch.arange(images, device=row.device)[:, None]) * columns + column

    @property
    def bytes_per_problem(self) -> int:
        """Memory of one projection with Jacobian: the separable factors and the samples."""
        n, window = len(self._amplitude), len(self._grid)
        images = 4 + 2 * len(self.reference.modes)
        return 4 * n * window * (images + 4) + 8 * images * len(self.band) * 3

    @property
    def bytes_per_projection(self) -> int:
        """Memory of one projection without Jacobian."""
        window = len(self._grid)
        return 4 * len(self._amplitude) * window * 4 + 4 * window * (window + 4 * self.band.radius) + 8 * len(self.band) * 4

    def _factors(self, places: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Factors (B, N, W) of the Gaussians along x and y for their places (B, N, 3)."""
        distance = self._grid - places[..., :2].transpose(1, 2)[..., None]  # (B, 2, N, W)
        # tails end at exp(-30): products of smaller ones are denormal numbers, which slow a CPU down tenfold
        factors = distance.square_().mul_(self._fall).clamp_(min=-30.0).exp_()
        return factors[:, 0], factors[:, 1]

    def _to_band(self, windows: torch.Tensor) -> torch.Tensor:
        """Window images (B, W, M, W) to samples (B, M, n)."""
        batch, window, count, _ = windows.shape
        columns = self.band.radius + 1
        half = torch.view_as_complex((windows @ self._dft_x).view(batch, window, count * columns, 2))
        return (self._dft_y @ half).flatten(1)[:, self._samples[count]]

    def project(self, rotation: torch.Tensor, amplitudes: torch.Tensor) -> torch.Tensor:
        """Samples (B, n) of unshifted projections for rotations (B, 3, 3) and amplitudes (B, K)."""
        gx, gy = self._factors(self.reference.positions(amplitudes) @ rotation.transpose(1, 2))
        return self._to_band(((gy * self._amplitude).transpose(1, 2) @ gx)[:, :, None])[:, 0]

    def project_with_jacobian(self, rotation: torch.Tensor, amplitudes: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Samples and their derivatives.

        Returns
        -------
        projection : (B, n)
        jacobian : (B, 5 + K, n) by the rotation vector of a left-multiplied ``exp(omega) R`` (radians), by the
            shift (Å) and by the amplitudes; the shift's phase is not yet applied to either
        """
        rows = self.rows(rotation, amplitudes)
        return rows[:, 0], rows[:, 1:]

    def rows(self, rotation: torch.Tensor, amplitudes: torch.Tensor) -> torch.Tensor:
        """The same in one array (B, 6 + K, n), the projection first."""
        batch, (count, n, _) = len(rotation), self.reference.modes.shape
        moving = torch.addmm(self._moving, amplitudes, self._by_modes).view(batch, -1, 3) @ rotation.transpose(1, 2)
        places, weighted, turned = moving.view(batch, 2 + count, n, 3).split([1, 1, count], dim=1)
        gx, gy = self._factors(places[:, 0])
        # (B, N, 4 + 2 K), all times the amplitude: 1, x, y, z, then the modes' x and y displacements
        moments = torch.cat([self._amplitude.expand(batch, n, 1), weighted[:, 0], turned[..., 0].transpose(1, 2), turned[..., 1].transpose(1, 2)], dim=2)
        right = (moments[..., None] * gx[:, :, None]).flatten(2)
        samples = self._to_band((gy.transpose(1, 2) @ right).view(batch, len(self._grid), -1, len(self._grid)))
        one, x, y, z = samples[:, :4].split(1, dim=1)
        rows = torch.empty(batch, 6 + count, samples.shape[2], dtype=samples.dtype, device=samples.device)
        rows[:, :1] = one
        torch.mul(z, self._about_xy, out=rows[:, 1:3])
        torch.mul(x, self._dy, out=rows[:, 3:4]).addcmul_(y, self._dx, value=-1)
        torch.mul(one, self._along_xy, out=rows[:, 4:6])
        torch.mul(samples[:, 4 : 4 + count], self._dx, out=rows[:, 6:]).addcmul_(samples[:, 4 + count :], self._dy)
        return rows
