"""Recovery from distances: exact ones modulo what is free, noisy ones at the Cramer-Rao floor, junk left aside."""

import numpy as np
import pytest
import torch

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.poses import random_rotations
from cryolearn.engine.orientation.frame_alignment import align_o4
from cryolearn.engine.orientation.recovery.gauss_newton import FLOOR
from cryolearn.engine.orientation.recovery.recover_from_distances import recover
from cryolearn.engine.orientation.similarity_kernel import SimilarityKernel


def made(count: int, group: str, noise: float, seed: int = 0) -> tuple[torch.Tensor, np.ndarray, SimilarityKernel]:
    """Uniform orientations and their distances with normal errors, the same in both directions."""
    kernel = SimilarityKernel(group)
    poses = random_rotations(count, torch.Generator().manual_seed(seed), torch.float64)
    distances = torch.stack([kernel.distance_rad(pose, poses) for pose in poses]).numpy()
    errors = np.triu(np.random.default_rng(seed).normal(scale=noise, size=(count, count)), 1) if noise else 0.0
    return poses, distances + errors + np.transpose(errors), kernel


@pytest.mark.parametrize("group", ["C1", "C2", "C7", "D2", "D7", "T", "O", "I"])
def test_exact_distances(group: str) -> None:
    poses, distances, kernel = made(100, group, 0.0)
    found = recover(distances, np.arange(100), None, kernel, 8, 1)
    assert found.rotations.shape == (100, 3, 3) and found.rotations.dtype == np.float64
    limit = 1e-5
    assert np.sqrt(found.loss) < limit
    assert align_o4(poses, found.rotations, kernel).errors_rad.mean() < limit
    assert len(found.fits) == 8 and (np.diff(found.fits) >= 0).all()


@pytest.mark.parametrize("noise", [0.1, 0.4, 0.8])
def test_errors_reach_the_floor(noise: float) -> None:
    count = 300
    poses, distances, kernel = made(count, "C1", noise)
    found = recover(distances, np.arange(count), None, kernel, 10, 1)
    floor = FLOOR * noise / np.sqrt(count)
    error = align_o4(poses, found.rotations).errors_rad.mean()
    spread = 0.42 / np.sqrt(count)  # of the mean of Maxwell-distributed errors, relative
    assert floor * (1 - 4 * spread) < error < floor * (1.05 + 3 * spread)
    assert found.loss == pytest.approx(noise**2, rel=0.05)
    assert found.residual_rad.mean() == pytest.approx(noise, rel=0.05)


def test_landmarks_alone() -> None:
    noise, count, landmarks = 0.2, 1000, np.random.default_rng(1).permutation(1000)[:200]
    kernel = SimilarityKernel("C1")
    poses = random_rotations(count, torch.Generator().manual_seed(0), torch.float64)
    distances = kernel.distance_rad(poses[:, None], poses[landmarks][None]).numpy() + np.random.default_rng(0).normal(scale=noise, size=(count, 200))
    found = recover(distances.astype(np.float32), landmarks, None, kernel, 10, 1)
    errors = align_o4(poses, found.rotations).errors_rad
    others = np.setdiff1d(np.arange(count), landmarks)
    assert errors[others].mean() < 1.05 * FLOOR * noise / np.sqrt(200)
    # a landmark has a distance to every image, from both sides to the other landmarks
    assert errors[landmarks].mean() < 0.7 * errors[others].mean()


def test_weights_count() -> None:
    poses, distances, kernel = made(200, "C1", 0.1)
    bad = np.triu(np.random.default_rng(3).random((200, 200)) < 0.4, 1)
    bad |= bad.T
    spoilt = np.where(bad, np.random.default_rng(4).uniform(0, np.pi, (200, 200)), distances)
    found = recover(spoilt, np.arange(200), np.where(bad, 0.0, 1.0), kernel, 10, 1)
    assert align_o4(poses, found.rotations).errors_rad.mean() < 1.15 * FLOOR * 0.1 / np.sqrt(0.6 * 200)
    spoilt[bad] = np.nan  # not known at all
    again = recover(spoilt, np.arange(200), None, kernel, 10, 1)
    assert again.loss == pytest.approx(found.loss, rel=1e-3)


def test_junk_images_do_not_spoil_the_rest() -> None:
    count, noise = 300, 0.15
    poses, distances, kernel = made(count, "C1", noise)
    junk = np.arange(30)
    rng = np.random.default_rng(5)
    distances[junk] = rng.uniform(0, np.pi, (len(junk), count))
    distances[:, junk] = distances[junk].T
    distances[np.ix_(junk, junk)] = rng.uniform(0, np.pi, (len(junk), len(junk)))
    found = recover(distances, np.arange(count), None, kernel, 10, 1)
    good = np.arange(len(junk), count)
    assert align_o4(poses[good], found.rotations[good]).errors_rad.mean() < 1.1 * FLOOR * noise / np.sqrt(len(good))
    assert found.residual_rad[junk].min() > 2 * found.residual_rad[good].max()  # they are known by their residuals


def test_the_same_seed_gives_the_same_result() -> None:
    _, distances, kernel = made(60, "D2", 0.1)
    first, second = (recover(distances, np.arange(60), None, kernel, 5, 3) for _ in range(2))
    assert np.array_equal(first.rotations, second.rotations)


def test_too_few_images_are_refused() -> None:
    with pytest.raises(InputError, match="at least 8"):
        recover(np.zeros((5, 5)), np.arange(5), None, SimilarityKernel("C1"), 5, 1)
    with pytest.raises(ValueError, match="landmarks"):
        recover(np.zeros((50, 20)), np.arange(30), None, SimilarityKernel("C1"), 5, 1)
