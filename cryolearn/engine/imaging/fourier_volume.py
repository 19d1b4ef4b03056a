"""The padded half Fourier volume that slices are taken from; :mod:`.fourier_sphere` is what they are put into.

Layout (P + 1, P + 1, P // 2 + 1) (z, y, x) for an even padded side P: frequencies -P/2 ... P/2 on z and y and 0 ... P/2 on x,
in symmetric order, so that trilinear neighbours never wrap and the Friedel mate of a point of the plane x = 0 is the flipped one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .gaussians import pixel_coordinates

__all__ = ["from_real", "padded_side", "slice_channels", "slice_points", "squared_radius", "trilinear_envelope", "trilinear_fading"]


def padded_side(box: int, padding: float) -> int:
    """Even side of the padded volume: the nearest to ``padding * box``, never smaller than the box."""
    side = 2 * round(padding * box / 2)
    return side if side >= box else side + 2


def trilinear_fading(box: int, side: int, device: torch.device | str | None = None) -> Tensor:
    """(box,) factor by which linear interpolation in Fourier space fades a map along an axis: sinc^2."""
    return torch.sinc(pixel_coordinates(box, 1.0, device) / side) ** 2


def trilinear_envelope(box: int, side: int, device: torch.device | str | None = None) -> Tensor:
    """(box, box, box) factor by which trilinear interpolation in Fourier space fades a map: sinc^2 along each axis."""
    axis = trilinear_fading(box, side, device)
    return axis[:, None, None] * axis[None, :, None] * axis[None, None, :]


def from_real(volume: Tensor, side: int) -> Tensor:
    """Transforms of (..., box, box, box) maps, zero-padded to ``side``, phases relative to their centre, in symmetric order."""
    box = volume.shape[-1]
    low = side // 2 - box // 2
    high = side - box - low
    axes = (-3, -2, -1)
    padded = torch.nn.functional.pad(volume, (low, high) * 3)
    transform = torch.fft.rfftn(torch.fft.ifftshift(padded, dim=axes), dim=axes)
    transform = torch.fft.fftshift(transform, dim=axes[:2])
    transform = torch.cat((transform, transform[..., :1, :, :]), dim=-3)
    return torch.cat((transform, transform[..., :1, :]), dim=-2)


def slice_channels(volume: Tensor, padding: float) -> tuple[Tensor, int]:
    """Real and imaginary parts (..., 2, ...) of the padded transforms of (..., box, box, box) maps, for trilinear samples, and the padded side."""
    box = volume.shape[-1]
    side = padded_side(box, padding)
    transform = from_real(volume / trilinear_envelope(box, side, volume.device).to(volume.dtype), side)
    return torch.stack((transform.real, transform.imag), dim=-4), side


def squared_radius(side: int, device: torch.device | str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Squares of the frequencies along z, y, x, broadcastable over the layout; their sum is the squared radius."""
    full = torch.arange(side + 1, device=device, dtype=torch.float32) - side // 2
    half = torch.arange(side // 2 + 1, device=device, dtype=torch.float32)
    return (full**2)[:, None, None], (full**2)[None, :, None], (half**2)[None, None, :]


def slice_points(box: int, device: torch.device | str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Half-transform points of an image of side ``box`` that carry independent information below Nyquist.

    Returns
    -------
    index, kx, ky
        (m,) flat index into (box, box // 2 + 1) (int64) and the frequencies in Fourier pixels (float32), for radius < box / 2,
        without the redundant half of the column kx = 0.
    """
    ky = torch.fft.fftfreq(box, 1 / box, device=device).round()[:, None].expand(box, box // 2 + 1)
    kx = torch.arange(box // 2 + 1, device=device, dtype=torch.float32)[None].expand(box, box // 2 + 1)
    keep = ((kx**2 + ky**2) * 4 < box * box) & ~((kx == 0) & (ky < 0))
    index = torch.nonzero(keep.flatten()).flatten()
    return index, kx.flatten()[index], ky.flatten()[index]
