"""Projections of a map by Fourier slices.

Own code where torch-fourier-slice exists, because it is faster: 64 projections of 128 pixels, padding 2, 2 CPU cores: 0.07 s once the
volume is set up (0.30 s with the set-up) against 0.85 s. That package samples the whole padded slice and crops it in real space;
here only the image's own frequencies are sampled, as RELION does. The price is the ghosts of trilinear interpolation: 0.2 % of the
image for an object that fills a fifth of the box, 0.8 % for a third (0.1 and 0.4 % there); more padding makes both smaller.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .ctf import Ctf, ctf_2d
from .fourier import irfft2_centred, phase_shift
from .fourier_volume import slice_channels
from .interpolate import sample_slices

__all__ = ["VolumeProjector"]


class VolumeProjector:
    """Projects a map along any directions: ``P(x, y) = sum over z of V``, in voxels, as RELION does.

    Parameters
    ----------
    volume
        (box, box, box) (z, y, x); gradients flow to it.
    padding
        Side of the Fourier volume over the box.
    """

    def __init__(self, volume: Tensor, padding: float = 2.0) -> None:
        if volume.ndim != 3 or len(set(volume.shape)) != 1:
            raise ValueError(f"A map with equal sides is needed, but the shape is {tuple(volume.shape)}.")
        self.box = int(volume.shape[-1])
        self._channels, self.side = slice_channels(volume, padding)
        ky = torch.fft.fftfreq(self.box, 1 / self.box, device=volume.device, dtype=volume.dtype).round()
        kx = torch.arange(self.box // 2 + 1, device=volume.device, dtype=volume.dtype)
        grid = torch.stack(torch.broadcast_tensors(kx[None, :], ky[:, None]), dim=-1)
        self._plane = grid * (self.side / self.box)
        self._inside = (grid * grid).sum(-1) * 4 < self.box**2

    def project(self, rotations: Tensor) -> Tensor:
        """Centred half transforms (b, box, box // 2 + 1) of the projections for poses (b, 3, 3); 0 from Nyquist on."""
        values = sample_slices(self._channels, self._plane[self._inside], rotations[:, :2].to(self._plane.dtype))
        result = torch.zeros(
            (len(rotations), *self._inside.shape), dtype=torch.promote_types(values.dtype, torch.complex64), device=values.device
        )
        result[:, self._inside] = torch.complex(values[0], values[1])
        return result

    def project_real(
        self, rotations: Tensor, shift_px: Tensor | None = None, ctf: Ctf | None = None, pixel_size_angst: float | None = None,
        phase_flipped: bool = False,
    ) -> Tensor:
        """Images (b, box, box), moved by (b, 2) x, y pixels and seen through the CTF when these are given."""
        transforms = self.project(rotations)
        if shift_px is not None:
            transforms = transforms * phase_shift(shift_px, self.box)
        if ctf is not None:
            if pixel_size_angst is None:
                raise ValueError("pixel_size_angst is needed with a CTF.")
            transforms = transforms * ctf_2d(ctf, self.box, pixel_size_angst, phase_flipped)
        return irfft2_centred(transforms, self.box)
