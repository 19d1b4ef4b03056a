"""Grids of poses, shifts and small rotations: how many points they have and how far apart, from geometry."""

from __future__ import annotations

import math

import pytest
import torch

from cryolearn.engine.alignment.grids import bcc_ball, pose_grid, rotation_lattice, shift_grid
from cryolearn.engine.imaging.poses import random_rotations
from cryolearn.engine.imaging.symmetry import symmetry_matrices


@pytest.mark.parametrize("symmetry", ["C1", "C4", "D2"])
def test_a_symmetric_particle_needs_fewer_poses_by_the_order_of_its_group(symmetry: str) -> None:
    group = symmetry_matrices(symmetry).float()
    whole, part = (len(pose_grid(15.0, one, torch.Generator().manual_seed(0), torch.device("cpu"))) for one in (None, group))
    assert part == pytest.approx(whole / len(group), rel=0.05)


def test_a_pose_grid_covers_all_rotations_at_its_spacing() -> None:
    """No rotation is further from the grid than a step: sqrt(3) / 2 of it is the covering radius of a cubic grid."""
    grid = pose_grid(15.0, None, torch.Generator().manual_seed(0), torch.device("cpu"))
    trace = torch.einsum("aij,bij->ab", random_rotations(500, torch.Generator().manual_seed(1)), grid).amax(1)
    assert float(torch.rad2deg(torch.acos((trace - 1) / 2)).max()) < 15.0


@pytest.mark.parametrize("dims", [2, 3])
def test_shifts_fill_a_ball(dims: int) -> None:
    shifts = shift_grid(4.0, 1.0, dims)
    inside = sum(1 for point in torch.cartesian_prod(*[torch.arange(-4, 5)] * dims) if int(point.square().sum()) <= 16)
    assert shifts.shape == (inside, dims) and not shifts[0].any()
    assert bool((shifts.norm(dim=1).diff() >= 0).all())
    assert torch.equal(torch.unique(shifts, dim=0), torch.unique(-shifts, dim=0))


def test_the_number_of_shifts_is_bounded() -> None:
    for most in (5, 80, 123):
        shifts = shift_grid(30.0, 1.0, 2, most=most)
        assert 1 < len(shifts) <= most and float(shifts.norm(dim=1).max()) <= 30.001
    assert len(shift_grid(0.5, 1.0)) == 1


def test_a_square_of_shifts_ends_at_the_nearest_step() -> None:
    shifts = shift_grid(12.0, 5.0, corners=True)
    assert len(shifts) == 25 and float(shifts.max()) == 10.0
    assert float(shift_grid(13.0, 5.0, corners=True).max()) == 15.0


def test_a_body_centred_lattice_holds_two_points_a_cell() -> None:
    points = bcc_ball(9.0, 2.0)
    assert len(points) == pytest.approx(2 * 4 / 3 * math.pi * (9.0 / 2.0) ** 3, rel=0.03)
    assert not points[0].any() and float(points.norm(dim=1).max()) <= 9.0 + 1e-5
    apart = torch.cdist(points, points)
    apart.fill_diagonal_(torch.inf)
    assert float(apart.min()) == pytest.approx(math.sqrt(3) / 2 * 2.0, rel=1e-5)
    rest = torch.randn(4000, 3, generator=torch.Generator().manual_seed(0)) * 2
    rest = rest[rest.norm(dim=1) < 9.0 - 2.0]
    assert float(torch.cdist(rest, points).amin(1).max()) <= math.sqrt(5) / 4 * 2.0 + 1e-5  # the lattice's covering radius


def test_small_rotations_reach_the_rim_of_their_ball() -> None:
    turns = torch.rad2deg(rotation_lattice(8.0, 4.0))
    assert float(turns.norm(dim=1).max()) == pytest.approx(8.0, rel=1e-5)  # two steps along a diagonal of the cell
    assert float(turns[1:].norm(dim=1).min()) == pytest.approx(4.0, rel=1e-5)
