"""What Gauss-Newton steps on poses share: derivatives of slices by the pose, and the halving of steps that lead nowhere."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable

import torch
from torch import Tensor

from ..imaging.poses import so3_exp
from .fourier_band import FourierBand

__all__ = ["DIFFERENCE_RAD", "difference_rotations", "halve_where_worse", "pose_jacobian", "shift_derivatives"]

DIFFERENCE_RAD = math.radians(1.0)  # of the differences; a Fourier pixel turns by more than 2 degrees up to ring 25
_HALVINGS = 3


def difference_rotations(device: torch.device) -> tuple[Tensor, Tensor]:
    """Rotations (3, 3, 3) by one degree about the image's axes, and back."""
    axes = DIFFERENCE_RAD * torch.eye(3, device=device)
    return so3_exp(axes), so3_exp(-axes)


def shift_derivatives(slices: Tensor, band: FourierBand) -> Tensor:
    """Derivatives (..., d, 2 P) of slices (..., 2 P), real parts and then imaginary ones, by a shift: ``-2 pi i k S / length``."""
    points = len(band)
    swapped = torch.cat((slices[..., points:], -slices[..., :points]), dim=-1)  # -i times the slice
    return swapped[..., None, :] * (band.points.T.repeat(1, 2) * (2 * math.pi / band.length)).to(slices)


def pose_jacobian(here: Tensor, more: Iterable[Tensor], less: Iterable[Tensor], band: FourierBand) -> Tensor:
    """Derivatives (..., 3 + d, 2 P) of slices by the rotation vector in radians, about the image's axes, and by the shift.

    Parameters
    ----------
    here
        (..., 2 P) slices, real parts and then imaginary ones.
    more, less
        Slices at the three rotations of :func:`difference_rotations`, which left-multiply the pose.
    band
        Their frequencies.
    """
    by_rotation = [(ahead - behind) / (2 * DIFFERENCE_RAD) for ahead, behind in zip(more, less, strict=True)]
    return torch.cat((torch.stack(by_rotation, dim=-2), shift_derivatives(here, band)), dim=-2)


def halve_where_worse(move: Tensor, objective: Callable[[Tensor], Tensor], before: Tensor) -> tuple[Tensor, Tensor]:
    """Steps (b, p), halved up to three times where the ``objective`` (b,) would fall below ``before``, and its last values; 0 where it still falls."""
    value = before
    for halving in range(_HALVINGS + 1):
        value = objective(move)
        move = torch.where((value < before)[:, None], 0.0 if halving == _HALVINGS else 0.5, 1.0) * move
    return move, value
