"""Impose a point group on the Fourier volume of a reconstruction."""

from __future__ import annotations

import torch
from torch import Tensor

from .interpolate import sample_half_volume

__all__ = ["symmetrise_transform"]


def symmetrise_transform(numerator: Tensor, denominator: Tensor, matrices: Tensor) -> tuple[Tensor, Tensor]:
    """Sums over a point group of a numerator (complex) and a denominator (real), both in the symmetric layout.

    Parameters
    ----------
    numerator, denominator
        (2 m + 1, 2 m + 1, m + 1) sums on a half grid.
    matrices
        (n, 3, 3) rotations, the identity first.
    """
    side = numerator.shape[0] - 1
    channels = torch.stack((numerator.real, numerator.imag, denominator))
    result = channels.clone()
    full = torch.arange(side + 1, device=numerator.device, dtype=torch.float32) - side // 2
    half = torch.arange(side // 2 + 1, device=numerator.device, dtype=torch.float32)
    y, x = torch.meshgrid(full, half, indexing="ij")
    for matrix in matrices[1:].to(numerator.device, torch.float32):
        for row in range(side + 1):
            flat = torch.stack((x, y, full[row].expand_as(x)), dim=-1)  # (side + 1, side // 2 + 1, 3)
            inside = (flat * flat).sum(-1) < (side / 2) ** 2
            points = flat[inside] @ matrix.T  # S k
            result[:, row][:, inside] += sample_half_volume(channels, points)
    return torch.complex(result[0], result[1]), result[2]
