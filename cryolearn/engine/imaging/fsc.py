"""Fourier shell and ring correlation; ``common/fsc.py`` reads the resolution from them.

Shells are the nearest integer radii, as in RELION and Xmipp, so that curves can be compared number by number;
torch-fourier-shell-correlation shares each point between its two neighbouring shells and is no faster.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .fourier import shell_sum

__all__ = ["correlation_curve", "frc", "fsc", "ssnr_from_fsc"]


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
    axes = tuple(range(-dims, 0))
    if mask is not None:
        first, second = first * mask, second * mask
    transforms = [torch.fft.rfftn(item.double(), dim=axes) for item in (first, second)]
    curve = correlation_curve(transforms[0], transforms[1], first.shape[-1], dims)
    curve[..., 0] = 1
    return curve.to(first.dtype)


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
