"""Grids that searches run over: poses, shifts, and small rotations about a pose."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..imaging.poses import random_rotations, rotation_grid

__all__ = ["bcc_ball", "pose_grid", "rotation_lattice", "shift_grid"]

_ROUNDING = 1e-6  # relative: points on the rim belong to a ball
_WIDEN = 1.1  # of a step, where a grid would have too many points


def pose_grid(step_deg: float, group: Tensor | None, generator: torch.Generator, device: torch.device) -> Tensor:
    """Poses that cover SO(3), one of each set of symmetry-equivalent ones.

    The grid is rotated as a whole at random, so that no view is favoured. Of equivalent poses A S the one with the smallest rotation angle is
    kept (the group's Voronoi cell).

    Parameters
    ----------
    step_deg
        Angular spacing in degrees.
    group
        (g, 3, 3) rotations of the particle's point group; None is C1.
    generator
        Source of the random rotation.
    device
        Where the poses are put.

    Returns
    -------
    Tensor
        (R, 3, 3).
    """
    grid = rotation_grid(step_deg, device=device) @ random_rotations(1, generator, device=device)[0]
    if group is None or len(group) == 1:
        return grid
    traces = torch.einsum("rij,gji->rg", grid, group.to(grid))
    return grid[traces[:, 0] >= traces.amax(1) - 1e-5]


def shift_grid(
    reach: float, step: float, dims: int = 2, *, most: int | None = None, corners: bool = False, device: torch.device | str | None = None,
) -> Tensor:
    """Shifts on a square or cubic grid within a disc or ball, in the unit of its arguments.

    Parameters
    ----------
    reach
        Largest shift.
    step
        Spacing; it is widened until there are at most ``most`` shifts.
    dims
        2 for images, 3 for volumes.
    most
        Largest number of shifts; None is no bound.
    corners
        Keep the whole square or cube, and let it end at the multiple of ``step`` that is nearest to ``reach``.
    device
        Where the shifts are put.

    Returns
    -------
    Tensor
        (S, dims) x, y(, z); within a disc or ball sorted by length, no shift first.
    """
    while True:
        count = max(0, math.ceil(reach / step - 0.5)) if corners else int(reach / step + _ROUNDING)
        line = torch.arange(-count, count + 1, device=device) * float(step)
        points = torch.cartesian_prod(*[line] * dims).reshape(-1, dims)
        if not corners:
            points = points[points.norm(dim=1) <= reach + 1e-3]
            points = points[points.norm(dim=1).argsort(stable=True)]
        if most is None or len(points) <= most:
            return points
        step *= _WIDEN


def bcc_ball(reach: float, side: float) -> Tensor:
    """Points (L, 3) of a body-centred cubic lattice with cells of ``side`` within ``reach`` of the origin, sorted by distance, the origin first.

    Among lattices it covers space with the fewest points at a given largest distance to the nearest one. The cell holds two points; nearest
    neighbours are sqrt(3) / 2 of its side apart.

    References
    ----------
    Conway & Sloane, Sphere Packings, Lattices and Groups (1999), chapter 2.
    """
    count = math.ceil(reach / side)
    line = torch.arange(-count, count + 1, dtype=torch.float64)
    cube = torch.cartesian_prod(line, line, line)
    points = torch.cat((cube, cube + 0.5)) * side
    length = points.norm(dim=1)
    order = length.argsort(stable=True)
    return points[order][length[order] <= reach * (1 + _ROUNDING)].float()


def rotation_lattice(reach_deg: float, step_deg: float, device: torch.device | str | None = None) -> Tensor:
    """Rotation vectors (L, 3) in radians of small rotations on a body-centred cubic lattice, none first.

    Parameters
    ----------
    reach_deg
        Largest rotation angle.
    step_deg
        Distance of nearest neighbours.
    device
        Where the vectors are put.
    """
    return torch.deg2rad(bcc_ball(reach_deg, step_deg * 2 / math.sqrt(3))).to(device)
