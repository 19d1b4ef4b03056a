"""Trilinear samples of a half Fourier volume at points anywhere within its sphere."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["sample_half_volume", "sample_slices"]


def sample_half_volume(channels: Tensor, points: Tensor) -> Tensor:
    """Values at frequencies, the Friedel mate being taken where x < 0.

    Parameters
    ----------
    channels
        (c, P + 1, P + 1, P // 2 + 1) in the layout of :mod:`fourier_volume`: real part, imaginary part and, when c is 3, a
        real symmetric quantity; or (b, c, ...) of several volumes.
    points
        (..., 3) x, y, z in Fourier pixels of the padded volume; (b, ..., 3) for several volumes.

    Returns
    -------
    Tensor
        (c, ...), or (b, c, ...) of several volumes; differentiable with respect to both.
    """
    several = channels if channels.ndim == 5 else channels[None]
    side = several.shape[2] - 1
    negative = points[..., :1] < 0
    mate = torch.where(negative, -points, points)
    half = side / 2
    # grid_sample's coordinates: -1 ... 1 from the first to the last sample of an axis
    grid = torch.stack((mate[..., 0] * (2 / half) - 1, mate[..., 1] / half, mate[..., 2] / half), dim=-1)
    sampled = torch.nn.functional.grid_sample(
        several, grid.reshape(len(several), 1, 1, -1, 3), mode="bilinear", padding_mode="zeros", align_corners=True
    )
    if channels.ndim == 5:
        sampled = sampled.reshape(*channels.shape[:2], *points.shape[1:-1])
    else:
        sampled = sampled.reshape(channels.shape[0], *points.shape[:-1])
    sign = torch.ones_like(sampled)
    (sign[:, 1] if channels.ndim == 5 else sign[1])[...] = torch.where(negative[..., 0], -1.0, 1.0)
    return sampled * sign


def sample_slices(channels: Tensor, points: Tensor, rotations: Tensor, scale: float = 1.0) -> Tensor:
    """Values (c, b, m) of one volume at the frequencies of images or volumes that are seen at poses: ``A^T k``, as rows.

    Parameters
    ----------
    channels
        (c, P + 1, P + 1, P // 2 + 1); see :func:`sample_half_volume`.
    points
        (m, d) x, y(, z).
    rotations
        (b, d, 3): the first d rows of the poses.
    scale
        Fourier pixels of the padded volume in a unit of ``points``.
    """
    return sample_half_volume(channels, points @ rotations * scale)
