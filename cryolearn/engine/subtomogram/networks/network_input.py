"""Subtomograms as networks see them: standardised, with the measured frequencies as a second channel where wanted, and moved as training wants."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...imaging.missing_wedge import wedge_coverage

__all__ = ["keep_wedge", "move_volumes", "network_input", "standardise", "turn_volumes"]

_SYMMETRIC_DEG = 1.0


def standardise(volumes: Tensor) -> Tensor:
    """(n, z, y, x) with mean 0 and variance 1 each, so that no strength of signal or noise tells classes apart."""
    mean = volumes.mean((1, 2, 3), keepdim=True)
    deviation = (volumes - mean).square().mean((1, 2, 3), keepdim=True).sqrt()
    return (volumes - mean) / torch.where(deviation > 0, deviation, 1.0)


def network_input(volumes: Tensor, tilt_deg: NDArray[np.float64], wedge_channel: bool) -> Tensor:
    """(n, 1 or 2, z, y, x) of (n, z, y, x) subtomograms with first and last tilts (n, 2)."""
    seen = standardise(volumes)[:, None]
    if not wedge_channel:
        return seen
    ranges, group = np.unique(np.round(tilt_deg, 3), axis=0, return_inverse=True)
    masks = torch.stack([_measured(volumes.shape[-1], low, high, volumes.device) for low, high in ranges.tolist()])
    return torch.cat((seen, masks[torch.from_numpy(group.reshape(-1)).to(volumes.device), None]), 1)


def _measured(box: int, low_deg: float, high_deg: float, device: torch.device) -> Tensor:
    """1 at the frequencies of the full grid that were measured, else -1; zero frequency at index box // 2."""
    axis = torch.arange(box, device=device, dtype=torch.float32) - box // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return 2 * wedge_coverage(torch.stack((x, y, z), -1), low_deg, high_deg) - 1


def keep_wedge(tilt_deg: NDArray[np.float64], choice: NDArray[np.int64]) -> NDArray[np.int64]:
    """Which half turn each subtomogram (n,) gets: 0 none, 1 about x, 2 about y, 3 about z.

    A half turn about y keeps any missing wedge, one about x or z only that of a series which is as long on both sides; the others get none, or y's.
    """
    even = np.abs(tilt_deg.sum(1)) < _SYMMETRIC_DEG
    return np.where(even, choice, np.where(choice % 2 == 0, choice, choice - 1))


def turn_volumes(volumes: Tensor, turn: NDArray[np.int64]) -> Tensor:
    """(n, ..., z, y, x) after half turns (n,) about the centre (see :func:`keep_wedge`); no value is interpolated, index n // 2 stays."""
    if not turn.any():
        return volumes
    turned = volumes.clone()
    for number in np.unique(turn[turn > 0]).tolist():
        axes = [axis for axis in (-1, -2, -3) if axis != -number]  # x is the last axis
        at = torch.from_numpy(np.flatnonzero(turn == number)).to(volumes.device)
        flipped = volumes[at].flip(axes)
        turned[at] = flipped if volumes.shape[-1] % 2 else flipped.roll([1, 1], axes)
    return turned


def move_volumes(volumes: Tensor, turn: NDArray[np.int64], shift_px: NDArray[np.int64]) -> Tensor:
    """(n, channels, z, y, x) after half turns (n,), the first channel then moved by (n, 3) x, y, z voxels; it wraps around."""
    moved = turn_volumes(volumes, turn).clone()
    for row, shift in enumerate(shift_px.tolist()):
        if any(shift):
            moved[row, :1] = moved[row, :1].roll(shift, (-1, -2, -3))
    return moved
