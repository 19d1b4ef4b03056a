"""Orientations from distances without a guess: the grid of poses, annealing, and placing images against known ones."""

from __future__ import annotations

import numpy as np
import pytest
import roma
import torch

from cryolearn.engine.imaging.poses import random_rotations
from cryolearn.engine.orientation.frame_alignment import align_o4
from cryolearn.engine.orientation.recovery.annealed_start import anneal, distances_between, domain_grid, place
from cryolearn.engine.orientation.recovery.gauss_newton import Measured, group_quaternions
from cryolearn.engine.orientation.similarity_kernel import SimilarityKernel


def poses_of(count: int, seed: int = 0) -> torch.Tensor:
    return random_rotations(count, torch.Generator().manual_seed(seed), torch.float64)


def all_distances(kernel: SimilarityKernel, poses: torch.Tensor) -> torch.Tensor:
    return torch.stack([kernel.distance_rad(pose, poses) for pose in poses])


def covering(kernel: SimilarityKernel, count: int) -> float:
    """Largest distance of 2,000 random poses to the grid."""
    drawn = roma.rotmat_to_unitquat(poses_of(2000, 9))
    return float(distances_between(drawn, domain_grid(kernel, count), group_quaternions(kernel)).amin(1).max())


@pytest.mark.parametrize("group", ["C1", "C7", "D2", "T", "O", "I"])
def test_the_grid_covers_what_the_group_leaves(group: str) -> None:
    """As many poses as asked for, and none of SO(3) farther from them than the side of the cell of such a grid, (8 pi^2 / (count order))^(1/3)."""
    kernel = SimilarityKernel(group)
    grid = domain_grid(kernel, 600)
    assert 300 < len(grid) < 1200
    assert covering(kernel, 600) < (8 * np.pi**2 / (600 * len(kernel.matrices))) ** (1 / 3)
    # of the copies of each pose the one nearest to the identity: its rotation angle is its distance from there
    angle = 2 * torch.acos(grid[:, 3].abs().clamp(max=1))
    nearest = kernel.distance_rad(torch.eye(3, dtype=torch.float64).expand(len(grid), 3, 3), roma.unitquat_to_rotmat(grid))
    torch.testing.assert_close(angle, nearest, atol=1e-6, rtol=0)


@pytest.mark.parametrize("group", ["C1", "D2"])
def test_distances_modulo_the_group(group: str) -> None:
    """Against the similarity kernel's own distances, which come from matrices."""
    kernel = SimilarityKernel(group)
    poses = poses_of(30)
    quaternions = roma.rotmat_to_unitquat(poses)
    found = distances_between(quaternions, quaternions, group_quaternions(kernel))
    torch.testing.assert_close(found, all_distances(kernel, poses), atol=1e-6, rtol=0)


@pytest.mark.parametrize("group", ["C1", "C7", "I"])
def test_annealing_fits_exact_distances_to_the_grid(group: str) -> None:
    """Images between the points of a grid are off by what the grid lets them: the best start is no farther than its covering radius on average."""
    kernel = SimilarityKernel(group)
    poses = poses_of(24, 1)
    found, loss = anneal(all_distances(kernel, poses), 1 - torch.eye(24), kernel, 4, 0)
    assert found.shape == (4, 24, 4) and bool((loss.diff() >= 0).all())
    assert float(align_o4(poses, roma.unitquat_to_rotmat(found[0]), kernel).errors_rad.mean()) < covering(kernel, 600)
    again, _ = anneal(all_distances(kernel, poses), 1 - torch.eye(24), kernel, 4, 0)
    assert torch.equal(found, again)


def test_images_are_placed_against_known_ones() -> None:
    """With exact distances to landmarks of known orientation, within the covering radius of the grid of 4,000 poses."""
    kernel = SimilarityKernel("C1")
    poses = poses_of(60, 2)
    landmarks = np.arange(20)
    distances = all_distances(kernel, poses)[:, landmarks]
    known = roma.rotmat_to_unitquat(poses[:20])
    found = place(Measured(distances.numpy(), landmarks, None), torch.arange(20, 60), known, torch.arange(20), kernel)
    away = kernel.distance_rad(roma.unitquat_to_rotmat(found), poses[20:])
    assert float(away.max()) < 2 * covering(kernel, 4000)
    assert float(away.mean()) < covering(kernel, 4000)
