"""Zernike polynomials of wave aberrations, with RELION's order of their coefficients.

Coefficient i of the even ones has ``n = 2 floor(sqrt(i))`` and ``m = -n, -n + 2, ... n``, that of the odd ones ``n = 1, 3, ...`` likewise. The radius is the
frequency in 1/Å; negative m go with ``sin(|m| angle)``, others with ``cos(m angle)``, and the angle is counted from x towards y.
"""

from __future__ import annotations

from math import factorial, isqrt

import torch
from torch import Tensor

__all__ = ["aberration_phase", "zernike", "zernike_index"]


def zernike_index(place: int, odd: bool) -> tuple[int, int]:
    """Degree n and order m of the coefficient at ``place`` of the odd or the even ones."""
    row = (isqrt(1 + 4 * place) - 1) // 2 if odd else isqrt(place)
    degree = 2 * row + int(odd)
    return degree, 2 * (place - row * (row + int(odd))) - degree


def zernike(degree: int, order: int, x: Tensor, y: Tensor) -> Tensor:
    """Zernike polynomial of degree n and order m at points x, y."""
    size, r2 = abs(order), x * x + y * y
    radial = torch.zeros_like(r2)
    for k in range((degree - size) // 2 + 1):
        factor = (-1) ** k * factorial(degree - k) / (factorial(k) * factorial((degree + size) // 2 - k) * factorial((degree - size) // 2 - k))
        radial = radial + factor * r2 ** ((degree - size) // 2 - k)
    power = torch.complex(x, y) ** size  # r^|m| (cos |m| angle + i sin |m| angle)
    return radial * (power.imag if order < 0 else power.real)


def aberration_phase(coefficients: Tensor, kx: Tensor, ky: Tensor, odd: bool, axes: int | None = None) -> Tensor:
    """Phase in rad of Zernike terms.

    Parameters
    ----------
    coefficients
        (b, k) of the odd or the even polynomials.
    kx, ky
        Frequencies in 1/Å.
    odd
        Which of the two they are.
    axes
        Of the frequencies, when these differ between images (b, ...); all of them are the same otherwise.

    Returns
    -------
    Tensor
        (b, ...) of the shape of the frequencies.
    """
    kx, ky = torch.broadcast_tensors(kx, ky)
    axes = kx.ndim if axes is None else axes
    total = torch.zeros(len(coefficients), *kx.shape[kx.ndim - axes :], dtype=kx.dtype, device=kx.device)
    for place in torch.nonzero((coefficients != 0).any(0)).flatten().tolist():
        column = coefficients[:, place].to(kx).reshape(-1, *(1 for _ in range(axes)))
        total = total + column * zernike(*zernike_index(place, odd), kx, ky)
    return total
