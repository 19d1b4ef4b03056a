"""Fourier shell and ring correlation; ``common/fsc.py`` reads the resolution from them.

Shells are the nearest integer radii, as in RELION and Xmipp, so that curves can be compared number by number;
torch-fourier-shell-correlation shares each point between its two neighbouring shells and is no faster.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .fourier import hermitian_weight, shell_sum

__all__ = ["correlation_curve", "frc", "fsc", "ssnr_from_fsc"]

_SLAB = {"cpu": 1 << 20, "cuda": 1 << 24}  # voxels that are transformed at a time


def correlation_curve(first: Tensor, second: Tensor, box: int, dims: int) -> Tensor:
    """Correlation (..., box // 2 + 1) of two half transforms over the shells of nearest integer radius."""
    cross = shell_sum((first * second.conj()).real, box, dims)
    norm = shell_sum(first.abs() ** 2, box, dims) * shell_sum(second.abs() ** 2, box, dims)
    return torch.where(norm > 0, cross / norm.clamp(min=torch.finfo(norm.dtype).tiny).sqrt(), torch.zeros_like(cross))


def _correlate(first: Tensor, second: Tensor, mask: Tensor | None, dims: int) -> Tensor:
    if first.shape[-dims:] != second.shape[-dims:]:
        raise ValueError(f"Shapes differ: {tuple(first.shape)} and {tuple(second.shape)}.")
    if len(set(first.shape[-dims:])) != 1:
        raise ValueError(f"A box with equal sides is needed, but the shape is {tuple(first.shape)}.")
    if first.ndim == second.ndim == dims == 3 and (mask is None or mask.ndim == 3):
        curve = _curve_of_maps(first, second, mask)
    else:
        axes = tuple(range(-dims, 0))
        if mask is not None:
            first, second = first * mask, second * mask
        transforms = [torch.fft.rfftn(item.double(), dim=axes) for item in (first, second)]
        curve = correlation_curve(transforms[0], transforms[1], first.shape[-1], dims)
    curve[..., 0] = 1
    return curve.to(first.dtype)


def _curve_of_maps(first: Tensor, second: Tensor, mask: Tensor | None) -> Tensor:
    """:func:`correlation_curve` of two maps (n, n, n), a slab at a time: memory is that of both half transforms in double precision."""
    box, device = first.shape[-1], first.device
    slabs = torch.arange(box, device=device).split(max(1, _SLAB.get(device.type, 1 << 20) // box**2))
    slabs = [slice(int(part[0]), int(part[-1]) + 1) for part in slabs]
    transforms = []
    for volume in (first, second):
        transform = torch.empty((box, box, box // 2 + 1), dtype=torch.complex128, device=device)
        for part in slabs:
            transform[part] = torch.fft.rfft2((volume[part] if mask is None else volume[part] * mask[part]).double())
        for part in slabs:
            transform[:, part] = torch.fft.fft(transform[:, part], dim=0)
        transforms.append(transform)
    sums = torch.zeros((3, box // 2 + 2), dtype=torch.float64, device=device)  # of products, of both powers; what is beyond comes last
    full = torch.fft.fftfreq(box, 1 / box, device=device, dtype=torch.float64)
    half = torch.arange(box // 2 + 1, device=device, dtype=torch.float64)
    weight = hermitian_weight(box, device, torch.float64)
    for part in slabs:
        shell = (full[part, None, None] ** 2 + full[:, None] ** 2 + half**2).sqrt().round().long().clamp(max=box // 2 + 1).flatten()
        one, two = (transform[part] for transform in transforms)
        for total, values in zip(sums, (one.real * two.real + one.imag * two.imag, one.abs() ** 2, two.abs() ** 2)):
            total.index_add_(0, shell, (values * weight).flatten())
    cross, norm = sums[0], sums[1] * sums[2]
    return torch.where(norm > 0, cross / norm.clamp(min=torch.finfo(norm.dtype).tiny).sqrt(), torch.zeros_like(cross))[:-1]


def fsc(map1: Tensor, map2: Tensor, mask: Tensor | None = None) -> Tensor:
    """Fourier shell correlation of (..., n, n, n) maps, both multiplied by ``mask`` first.

    Returns (..., n // 2 + 1); index is the shell, index 0 is 1 by definition.

    References
    ----------
    Harauz & van Heel, Optik 73 (1986) 146.
    """
    return _correlate(map1, map2, mask, 3)


def frc(image1: Tensor, image2: Tensor, mask: Tensor | None = None) -> Tensor:
    """Fourier ring correlation of (..., n, n) images; (..., n // 2 + 1)."""
    return _correlate(image1, image2, mask, 2)


def ssnr_from_fsc(curve: Tensor, half_maps: bool = True) -> Tensor:
    """Spectral signal-to-noise ratio of a map from the FSC of its two halves: 2 FSC / (1 - FSC).

    With ``half_maps=False`` that of one of the halves, FSC / (1 - FSC). Values are kept within 0 and 1e4.
    """
    safe = curve.clamp(0, 1 - 1e-4)
    return (2 if half_maps else 1) * safe / (1 - safe)
