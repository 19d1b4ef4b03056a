"""Impose a point group on the sums of a reconstruction."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from .fourier_sphere import FourierSphere

__all__ = ["symmetrise_sums"]


def symmetrise_sums(sphere: FourierSphere, sums: Sequence[Tensor], added: Sequence[Tensor], matrices: Tensor) -> None:
    """Add to some sums what they are at the places that the elements of a point group, the identity left out, take each point to.

    Parameters
    ----------
    sphere
        Where the sums' points lie.
    sums
        Flat arrays (real or complex), whole at x = 0.
    added
        Arrays of the same shapes that are added to.
    matrices
        (n, 3, 3) rotations, the identity first.
    """
    turns = matrices[1:].to(sphere.device, torch.float32)
    for part, x, y, z in sphere.pieces():
        points = torch.stack((x, y, z))
        inside = torch.nonzero(points.square().sum(0) < (sphere.side / 2) ** 2).flatten()
        points = points[:, inside]
        for turn in turns:
            turned = turn @ points  # S k
            for values, total in zip(sums, added):
                total[part].index_add_(0, inside, sphere.sample(values, *turned))
