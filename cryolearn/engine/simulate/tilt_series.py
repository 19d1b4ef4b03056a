"""Tilt series about y and their direct Fourier inversion: which frequencies the tilts cover, and how noise comes out.

The slice of tilt t holds the frequencies (u cos t, ky, u sin t). They are put into the (kz, kx) planes of a box bilinearly and divided by the sum
of their weights, the coverage; where that is below :data:`FLOOR` nothing was measured. White noise of the images then grows with the distance of the
slices from one another, about as one over the coverage: a ramp.
"""

from __future__ import annotations

import math
import warnings
from functools import cached_property

import torch
from torch import Tensor

from ..imaging.fourier_volume import trilinear_envelope

__all__ = ["FLOOR", "TiltSeries"]

FLOOR = 0.3
_COLUMNS = 512


class TiltSeries:
    """Tilts of one series over a box.

    Parameters
    ----------
    box
        Side of images and reconstruction, even.
    tilts_deg
        (t,).

    Attributes
    ----------
    coverage
        (box, box) over kz and kx, zero frequency at index 0, 0.
    points
        (t * box * (box // 2 + 1), 3) frequencies x, y, z in Fourier pixels of the slices' samples: tilt, u, ky (half), zero frequency first.
    """

    def __init__(self, box: int, tilts_deg: Tensor, device: torch.device) -> None:
        self.box, self.tilts_deg, self.device = box, tilts_deg, device
        angle = torch.deg2rad(tilts_deg.double()).to(device)[:, None]
        u = torch.fft.fftfreq(box, 1 / box, device=device, dtype=torch.float64).round()
        kx, kz = u * torch.cos(angle), u * torch.sin(angle)
        used = (u.abs() < box // 2).expand_as(kx)  # Nyquist has no sign
        rows = torch.arange(kx.numel(), device=device).view_as(kx)
        found: list[tuple[Tensor, Tensor, Tensor]] = []
        for dz in (0, 1):
            for dx in (0, 1):
                z, x = torch.floor(kz + 1e-9) + dz, torch.floor(kx + 1e-9) + dx
                weight = (1 - (kz - z).abs()).clamp(min=0) * (1 - (kx - x).abs()).clamp(min=0)
                keep = used & (weight > 1e-9) & (z.abs() < box // 2) & (x.abs() < box // 2)
                target = (z.long() % box) * box + x.long() % box
                found.append((target[keep], rows[keep], weight[keep]))
        target, source, weight = (torch.cat(parts) for parts in zip(*found))
        size = (box * box, kx.numel())
        matrix = torch.sparse_coo_tensor(torch.stack((target, source)), weight.float(), size, check_invariants=False).coalesce()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Sparse CSR")  # that it is in beta state
            self._insert = matrix.to_sparse_csr() if device.type == "cpu" else matrix
        covered = torch.zeros(box * box, dtype=torch.float64, device=device).index_add_(0, target, weight)
        self.coverage = covered.view(box, box).float()
        self._inverse = torch.where(self.coverage > FLOOR, 1 / self.coverage.clamp(min=FLOOR), 0.0)
        self._fade = trilinear_envelope(box, box, device)[:, :, box // 2]  # over z and x: bilinear interpolation fades both
        self._kx, self._kz = kx.float(), kz.float()

    @property
    def points(self) -> Tensor:
        """(P, 3) frequencies x, y, z of all tilts' half transforms, in Fourier pixels."""
        half = self.box // 2 + 1
        ky = torch.arange(half, device=self.device, dtype=torch.float32)
        shape = (*self._kx.shape, half)
        return torch.stack((self._kx[..., None].expand(shape), ky.expand(shape), self._kz[..., None].expand(shape)), dim=-1).flatten(0, 2)

    def coverage_at_samples(self) -> Tensor:
        """Coverage where the samples of :attr:`points` lie, (t * box * (box // 2 + 1),)."""
        return self._sample_coverage[:, None].expand(-1, self.box // 2 + 1).flatten()

    @cached_property
    def _sample_coverage(self) -> Tensor:
        return (self._insert.transpose(0, 1) @ self.coverage.view(-1, 1)).flatten().clamp(min=FLOOR)

    @cached_property
    def measured(self) -> Tensor:
        """(box, 1, box // 2 + 1) over kz, ky, kx of the half grid of :func:`torch.fft.rfftn`: True where there is something."""
        return (self.coverage > FLOOR)[:, None, : self.box // 2 + 1]

    def noise_power(self, window: int, even: bool = False) -> Tensor:
        """Power of the reconstruction's noise on the half grid, as :attr:`measured`.

        For unit power in the slices, or, when ``even``, for a power of the coverage, which comes out about equal at all measured frequencies.

        Exact for what is left when the middle ``window`` voxels are cut out, which smears some beyond what was measured: each sample of the slices
        is put in, inverted, cut and transformed again.
        """
        box = self.box
        columns = torch.arange(self._kx.numel(), device=self.device).view(self._kx.shape)[:, 1 : box // 2].flatten()
        zero = torch.arange(0, self._kx.numel(), box, device=self.device)
        cut = 1 / self._fade
        low = box // 2 - window // 2
        inside = torch.zeros_like(cut)
        inside[low : low + window, low : low + window] = 1
        cut = torch.fft.ifftshift(cut * inside)
        total = torch.zeros((box, box), device=self.device)
        insert = self._insert.to_sparse_coo().coalesce()
        for rows, both in ((columns, True), (zero, False)):
            for part in rows.split(_COLUMNS):
                picked = insert.index_select(1, part).to_dense().T.reshape(-1, box, box) * self._inverse
                weight = self._sample_coverage[part] if even else torch.ones(len(part), device=self.device)
                found = (torch.fft.fft2(torch.fft.ifft2(picked) * cut).abs().square() * weight[:, None, None]).sum(0)
                # the sample at -u gives the same, mirrored
                total += found + found.flip((0, 1)).roll((1, 1), (0, 1)) if both else found
        return total[:, None, : box // 2 + 1] * ((box / window) ** 2)

    def invert(self, slices: Tensor) -> Tensor:
        """Reconstructions (b, box, box, box) (z, y, x) of slices (b, t, box, box // 2 + 1) (tilt, u, ky), phases relative to the centre."""
        box, count = self.box, len(slices)
        flat = torch.view_as_real(slices.flatten(1, 2).transpose(0, 1).contiguous()).flatten(1)
        summed = torch.view_as_complex((self._insert @ flat).view(box, box, count, box // 2 + 1, 2))
        transform = (summed * self._inverse[..., None, None]).permute(2, 0, 1, 3)  # kz, kx, ky
        volumes = torch.fft.fftshift(torch.fft.irfftn(transform, s=(box,) * 3, dim=(1, 2, 3)), dim=(1, 2, 3))
        return (volumes / self._fade[:, :, None]).permute(0, 1, 3, 2)

    @staticmethod
    def angles(low_deg: float, high_deg: float, step_deg: float) -> Tensor:
        """Tilts from the first to the last one that a step reaches."""
        count = int(math.floor((high_deg - low_deg) / step_deg + 1e-6)) + 1
        return low_deg + step_deg * torch.arange(count, dtype=torch.float64)
