"""Similarity of orientations: equal to theory, invariant under the group, positive definite, told exactly by its features."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.poses import random_rotations, so3_exp
from cryolearn.engine.orientation.similarity_kernel import SimilarityKernel

GROUPS = ["C1", "C2", "C7", "D2", "D7", "T", "O", "I"]


def _poses(count: int, seed: int = 0) -> torch.Tensor:
    return random_rotations(count, torch.Generator().manual_seed(seed), torch.float64)


@pytest.mark.parametrize("group", GROUPS)
def test_similarity_of_copies_is_one_and_that_of_others_is_less(group: str) -> None:
    kernel, poses = SimilarityKernel(group), _poses(50)
    copies = poses[:, None] @ kernel.matrices
    assert torch.allclose(kernel.between(poses[:, None], copies), torch.ones(1, dtype=torch.float64))
    assert float(kernel.distance_rad(poses[:, None], copies).max()) < 1e-7
    others = kernel.between(poses[:1], _poses(20000, 1))
    distance = kernel.distance_rad(poses[:1], _poses(20000, 1))
    assert float(others[distance > 0.3 * distance.max()].max()) < 0.99


@pytest.mark.parametrize("group", GROUPS)
def test_distance_is_the_smallest_angle_over_the_group(group: str) -> None:
    kernel, first, second = SimilarityKernel(group), _poses(40), _poses(40, 1)
    cosine = ((first.mT[:, None] @ second[:, None] @ kernel.matrices).diagonal(dim1=-2, dim2=-1).sum(-1) - 1) / 2
    assert torch.allclose(kernel.distance_rad(first, second), torch.acos(cosine.clamp(-1, 1)).amin(1), atol=1e-7)


def test_small_distances_are_exact() -> None:
    pose = _poses(1)[0]
    for angle in (1e-9, 1e-6, 1e-3):
        turned = so3_exp(torch.tensor([0.0, angle, 0.0], dtype=torch.float64)) @ pose
        assert float(SimilarityKernel("C1").distance_rad(pose, turned)) == pytest.approx(angle, rel=1e-5)


def test_similarity_without_symmetry_and_with_d2() -> None:
    first, second = _poses(30), _poses(30, 1)
    plain = SimilarityKernel("C1")
    assert torch.allclose(plain.between(first, second), (1 + 2 * torch.cos(plain.distance_rad(first, second))) / 3)
    trace = SimilarityKernel("D2").traces(first, second)
    fourth = ((1 + trace) / 4).square().sum(-1)  # w^4 + x^4 + y^4 + z^4, whose mean over SO(3) is 1 / 2
    assert torch.allclose(SimilarityKernel("D2").between(first, second), (fourth - 0.5) / 0.5)


@pytest.mark.parametrize("group", GROUPS)
def test_features_tell_the_similarity_exactly(group: str) -> None:
    kernel, poses = SimilarityKernel(group), _poses(40)
    features = kernel.embed(poses)
    assert features.shape == (40, kernel.dimension)
    similarity = kernel.between(poses[:, None], poses[None])
    assert torch.allclose(features @ features.T, similarity, atol=1e-6)
    assert float(torch.linalg.eigvalsh(similarity).min()) > -1e-9
    single = kernel.embed(poses.float())
    assert single.dtype == torch.float32 and torch.allclose(single.double(), features, atol=1e-3)


def test_the_papers_similarity_is_not_positive_definite() -> None:
    poses = _poses(300)
    half = SimilarityKernel("C1").distance_rad(poses[:, None], poses[None]) / 2
    assert float(torch.linalg.eigvalsh(torch.cos(half)).min()) < -1  # |<q, q'>|


@settings(max_examples=25, deadline=None)
@given(st.sampled_from(GROUPS), st.integers(0, 10**6))
def test_distances_leave_one_turn_free_and_obey_the_triangle(group: str, seed: int) -> None:
    kernel, (a, b, c, turn) = SimilarityKernel(group), _poses(4, seed)
    one = float(kernel.distance_rad(a, b))
    assert float(kernel.distance_rad(turn @ a, turn @ b)) == pytest.approx(one, abs=1e-7)
    assert float(kernel.distance_rad(b, a)) == pytest.approx(one, abs=1e-7)
    assert one <= float(kernel.distance_rad(a, c) + kernel.distance_rad(c, b)) + 1e-9
    assert one <= math.pi + 1e-9


def test_similarity_has_gradients() -> None:
    pose = _poses(1)[0].requires_grad_()
    SimilarityKernel("D2").between(pose, _poses(2)[1]).backward()
    assert pose.grad is not None and bool(torch.isfinite(pose.grad).all())


def test_unknown_group_is_refused() -> None:
    with pytest.raises(InputError, match="X3"):
        SimilarityKernel("X3")
