"""Alignment of orientations: what is free is taken off for every group, what is not stays, and no random start finds better."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryolearn.engine.imaging.poses import matrix_to_quaternion, random_rotations, so3_exp
from cryolearn.engine.orientation.frame_alignment import Alignment, align_o4, align_physical
from cryolearn.engine.orientation.similarity_kernel import SimilarityKernel
from cryolearn.engine.orientation.symmetry_normaliser import frame_freedom

GROUPS = ["C1", "C2", "C7", "D2", "D7", "T", "O", "I"]
HAND = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))


def _poses(count: int, seed: int = 0) -> torch.Tensor:
    return random_rotations(count, torch.Generator().manual_seed(seed), torch.float64)


def _jitter(count: int, spread_rad: float, seed: int) -> torch.Tensor:
    """Turns by normally distributed vectors: angles of mean 1.596 times the spread (Maxwell)."""
    return so3_exp(spread_rad * torch.randn(count, 3, generator=torch.Generator().manual_seed(seed), dtype=torch.float64))


def _copies(kernel: SimilarityKernel, count: int, seed: int) -> torch.Tensor:
    return kernel.matrices[torch.randint(len(kernel.matrices), (count,), generator=torch.Generator().manual_seed(seed))]


def _agrees(found: Alignment, reference: torch.Tensor, other: torch.Tensor, kernel: SimilarityKernel) -> None:
    """What an alignment says of itself is so."""
    moved = torch.as_tensor(found.apply(other))
    assert kernel.distance_rad(reference, moved).numpy() == pytest.approx(np.asarray(found.errors_rad), abs=1e-9)
    for turn in (found.left, found.right):
        assert torch.allclose(turn @ turn.T, torch.eye(3, dtype=torch.float64), atol=1e-9) and float(torch.det(turn)) == pytest.approx(1)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.booleans(), st.integers(3, 60))
def test_o4_is_taken_off_exactly(seed: int, transposed: bool, count: int) -> None:
    reference, (left, right), kernel = _poses(count, seed), _poses(2, seed + 1), SimilarityKernel()
    other = left @ reference @ right
    found = align_o4(reference, other.mT if transposed else other)
    assert found.errors_rad.max() < 1e-6
    _agrees(found, reference, other.mT if transposed else other, kernel)


@pytest.mark.parametrize("mirrored", [False, True])
@pytest.mark.parametrize("group", GROUPS)
def test_frame_and_hand_are_taken_off_for_every_group(group: str, mirrored: bool) -> None:
    """Symmetric particles: their frame turns only as the group's axes allow, and each image may be any of its copies."""
    kernel, reference = SimilarityKernel(group), _poses(60, 3)
    other = reference @ _copies(kernel, 60, 4) @ frame_freedom(kernel).nearest(_poses(1, 5))[0]
    other = HAND @ other @ HAND if mirrored else other
    found = align_physical(reference, other, kernel)
    assert found.errors_rad.max() < 1e-6
    _agrees(found, reference, other, kernel)
    assert torch.equal(found.left, torch.eye(3, dtype=torch.float64)) and not found.transposed


@pytest.mark.parametrize("group", GROUPS)
def test_what_distances_leave_free_is_taken_off_for_every_group(group: str) -> None:
    kernel, reference = SimilarityKernel(group), _poses(60, 6)
    left, wanted = _poses(2, 7)
    other = left @ reference @ _copies(kernel, 60, 8) @ frame_freedom(kernel).nearest(wanted[None])[0]
    # distances stay the same, so this is indeed free
    pairs = torch.arange(60).roll(1)
    assert torch.allclose(kernel.distance_rad(other, other[pairs]), kernel.distance_rad(reference, reference[pairs]), atol=1e-7)
    found = align_o4(reference, other, kernel)
    assert found.errors_rad.max() < 1e-6
    _agrees(found, reference, other, kernel)


def test_a_turn_on_the_detectors_side_is_a_physical_error() -> None:
    """A' = A B: no frame of the particle makes up for B on the view's side; O(4) does."""
    reference = _poses(200, 9)
    turned = so3_exp(torch.tensor([1.0, 0.4, -0.3], dtype=torch.float64)) @ reference
    assert align_o4(reference, turned).errors_rad.max() < 1e-6
    assert align_physical(reference, turned).errors_rad.mean() > 0.5


@pytest.mark.parametrize("spread_rad", [0.05, 0.3])
@pytest.mark.parametrize("group", ["C1", "C7", "D2", "O"])
def test_mean_error_is_no_larger_than_at_the_true_alignment(group: str, spread_rad: float) -> None:
    kernel, reference = SimilarityKernel(group), _poses(150, 10)
    left, wanted = _poses(2, 11)
    noisy = _jitter(150, spread_rad, 12) @ reference
    other = left @ noisy @ frame_freedom(kernel).nearest(wanted[None])[0]
    truth = float(kernel.distance_rad(reference, noisy).mean())
    found = float(align_o4(reference, other, kernel).errors_rad.mean())
    # six free numbers are fitted to 450
    assert 0.95 * truth < found <= truth + 1e-9
    physical = float(align_physical(reference, left.T @ other, kernel).errors_rad.mean())
    assert found - 1e-6 <= physical <= truth + 1e-9


def test_outliers_move_the_alignment_little() -> None:
    """The mean error, not the mean square, is made small: a quarter of random images leaves the rest where they belong."""
    reference = _poses(400, 13)
    other = _jitter(400, 0.01, 14) @ reference @ _poses(1, 15)[0]
    other[:100] = _poses(100, 16)
    for align in (align_o4, align_physical):
        assert np.mean(align(reference, other).errors_rad[100:]) == pytest.approx(1.596 * 0.01, rel=0.1)


def _descended(reference: torch.Tensor, other: torch.Tensor, starts: int, seed: int) -> float:
    """The paper's alignment: the mean error descended from random turns of both sides on random batches, with and without transposition; best of all."""
    generator = torch.Generator().manual_seed(seed)
    best = math.inf
    for poses in (other, other.mT):
        products = torch.einsum("na,nb->nab", matrix_to_quaternion(reference), matrix_to_quaternion(poses)).flatten(1)
        sides = torch.randn(starts, 2, 4, generator=generator, dtype=torch.float64).requires_grad_()
        optimiser = torch.optim.Adam([sides], lr=0.1)
        schedule = torch.optim.lr_scheduler.ExponentialLR(optimiser, 1e-4 ** (1 / 400))
        for step in range(400):
            batch = torch.randint(len(products), (128,), generator=generator) if step < 200 else slice(None)
            errors = _mean_errors(sides, products[batch])
            best = min(best, float(errors.detach().min())) if step >= 200 else best
            optimiser.zero_grad()
            errors.sum().backward()
            optimiser.step()
            schedule.step()
    return best


def _mean_errors(sides: torch.Tensor, products: torch.Tensor) -> torch.Tensor:
    """Mean of ``2 acos |<q, l q' r>|`` for (k, 2, 4) turns; ``l q' r`` is a matrix (4, 4) of l and r times q'."""
    x, y, z, w = torch.nn.functional.normalize(sides, dim=-1).unbind(-1)
    left = torch.stack((w, -z, y, x, z, w, -x, y, -y, x, w, z, -x, -y, -z, w), -1)[:, 0].unflatten(-1, (4, 4))
    right = torch.stack((w, z, -y, x, -z, w, x, y, y, -x, w, z, -x, -y, -z, w), -1)[:, 1].unflatten(-1, (4, 4))
    return 2 * torch.acos(((left @ right).flatten(1) @ products.T).abs().clamp(max=1 - 1e-14)).mean(1)


@pytest.mark.parametrize("spread_rad", [0.1, 0.6])
def test_no_random_start_finds_a_better_alignment(spread_rad: float) -> None:
    reference = _poses(250, 17)
    left, right = _poses(2, 18)
    other = (left @ _jitter(250, spread_rad, 19) @ reference @ right).mT
    found = float(align_o4(reference, other).errors_rad.mean())
    best = _descended(reference, other, 50, 20)  # 50 starts for either bit
    assert best - 1e-2 < found < best + 1e-4


def test_partners_are_needed() -> None:
    with pytest.raises(ValueError, match="each needs its partner"):
        align_o4(_poses(4), _poses(5))
