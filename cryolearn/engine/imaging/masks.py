"""Masks in two and three dimensions: sphere, soft edges, from a map."""

from __future__ import annotations

import math

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from ..exceptions import InputError

__all__ = ["fall_off", "mask_from_map", "otsu_threshold", "soft_edge", "sphere_mask"]


def sphere_mask(
    box: int, radius_px: float, soft_px: float = 0.0, dims: int = 3, device: torch.device | str | None = None
) -> Tensor:
    """1 within ``radius_px`` of the centre ``box // 2``, 0 beyond ``radius_px + soft_px``, a raised cosine in between.

    Returns ``dims`` axes of side ``box``, float32.
    """
    axis = torch.arange(box, dtype=torch.float32, device=device) - box // 2
    squared = torch.zeros((), device=device)
    for number in range(dims):
        squared = squared + (axis * axis).reshape([-1 if number == other else 1 for other in range(dims)])
    return fall_off(torch.sqrt(squared) - radius_px, soft_px)


def fall_off(distance_px: Tensor, soft_px: float) -> Tensor:
    """1 where the distance to the hard edge is not positive, falling to 0 over ``soft_px``."""
    if soft_px <= 0:
        return (distance_px <= 0).float()
    return (1 + torch.cos(math.pi * (distance_px / soft_px).clamp(0, 1))) / 2


def soft_edge(mask: Tensor, soft_px: float) -> Tensor:
    """Add a raised-cosine edge of ``soft_px`` pixels outside a binary mask of any number of dims (computed on the CPU)."""
    hard = mask.detach().cpu().numpy() > 0.5
    if not hard.any():
        return torch.zeros_like(mask, dtype=torch.float32)
    distance = torch.from_numpy(ndimage.distance_transform_edt(~hard).astype(np.float32))
    return fall_off(distance, soft_px).to(mask.device)


def otsu_threshold(values: Tensor, bins: int = 256) -> float:
    """Threshold that parts the values' histogram into two classes of largest separation (Otsu 1979)."""
    counts, edges = np.histogram(values.detach().cpu().numpy().ravel(), bins=bins)
    middle = (edges[:-1] + edges[1:]) / 2
    below = np.cumsum(counts)
    above = counts.sum() - below
    sums = np.cumsum(counts * middle)
    with np.errstate(divide="ignore", invalid="ignore"):
        gap = sums / below - (sums[-1] - sums) / above
    return float(edges[int(np.nanargmax(np.where(above > 0, below * above * gap**2, np.nan))) + 1])


def mask_from_map(
    volume: Tensor, threshold: float | None = None, dilate_px: float = 3.0, soft_px: float = 5.0, largest_only: bool = False
) -> Tensor:
    """Soft mask of a map: threshold (Otsu's without one), grow by ``dilate_px``, soft edge of ``soft_px``.

    Raises
    ------
    ValueError
        when no voxel is above the threshold.
    """
    level = otsu_threshold(volume) if threshold is None else threshold
    hard = volume.detach().cpu().numpy() > level
    if not hard.any():
        raise InputError(f"No voxel of the map is above the threshold {level:g}: look for damaged voxels, or give a threshold or a mask.")
    if largest_only:
        labels, _ = ndimage.label(hard)
        hard = labels == (np.argmax(np.bincount(labels.ravel())[1:]) + 1)
    distance = torch.from_numpy(ndimage.distance_transform_edt(~hard).astype(np.float32))
    return fall_off(distance - dilate_px, soft_px).to(volume.device)
