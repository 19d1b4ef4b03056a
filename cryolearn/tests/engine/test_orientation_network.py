"""The distance networks: architecture, behaviour under turns and mirrors, read-outs, pairs and calibration, against theory."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn import functional

from cryolearn.engine.imaging.poses import random_rotations, rotation_z
from cryolearn.engine.orientation.distance_network.distance_calibration import Calibration, fit_calibration
from cryolearn.engine.orientation.distance_network.distance_readout import ExactReadout, PaperReadout
from cryolearn.engine.orientation.distance_network.network_exact import RingNetwork, left_representation
from cryolearn.engine.orientation.distance_network.network_paper import PaperNetwork
from cryolearn.engine.orientation.distance_network.network_views import ViewsNetwork
from cryolearn.engine.orientation.distance_network.pair_sampling import DistanceWeights, block_pairs, draw_block_poses, largest_distance
from cryolearn.engine.orientation.distance_network.training_task import distance_losses
from cryolearn.engine.orientation.similarity_kernel import SimilarityKernel

SIZE = 48


def blob_images(count: int = 3) -> torch.Tensor:
    """Random pictures within a disc, so that a quarter turn and a mirror about pixel n // 2 lose nothing."""
    images = torch.zeros(count, SIZE, SIZE)
    images[:, 12:37, 12:37] = torch.rand(count, 25, 25, generator=torch.Generator().manual_seed(2))
    return images


def quarter_turn(images: torch.Tensor) -> torch.Tensor:
    """Pictures turned by 90 degrees about pixel n // 2, from x to y (row and column 0 are empty)."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    turned = torch.zeros_like(images)
    turned[:, 1:, 1:] = images[:, (SIZE - x) % SIZE, y][:, 1:, 1:]  # new (x, y) = (-y, x)
    return turned


def test_the_papers_network_has_its_number_of_weights() -> None:
    network = PaperNetwork()
    assert sum(weight.numel() for weight in network.parameters()) == 4_551_936
    feature, _ = network(torch.randn(2, 128, 128))
    assert feature.shape == (2, 512)
    assert torch.allclose(feature.norm(dim=1), torch.ones(2), atol=1e-5)
    assert network.layers[-2](network.layers[:-2](torch.randn(1, 1, 128, 128))).shape[-2:] == (1, 1)
    assert network(torch.randn(1, 116, 116))[0].shape == (1, 512)  # the paper's own boxes leave nothing when pooling rounds down


@pytest.mark.parametrize("group", ["C1", "C3", "D2", "D7", "T", "O", "I"])
def test_left_rotations_act_linearly_on_features(group: str) -> None:
    kernel = SimilarityKernel(group)
    generator = torch.Generator().manual_seed(1)
    turns, poses = random_rotations(3, generator, torch.float64), random_rotations(10, generator, torch.float64)
    matrices = left_representation(kernel, turns)
    assert torch.allclose(matrices @ matrices.transpose(1, 2), torch.eye(kernel.dimension, dtype=torch.float64).expand_as(matrices), atol=1e-6)
    for turn, matrix in zip(turns, matrices):
        assert torch.allclose(kernel.embed(turn @ poses), kernel.embed(poses) @ matrix.T, atol=1e-6)


@pytest.mark.parametrize("group", ["C1", "D2"])
def test_features_turn_with_the_picture(group: str) -> None:
    """A turn of the picture by 90 degrees and a mirror in y act on the features as on the pose that is seen."""
    kernel = SimilarityKernel(group)
    torch.manual_seed(1)
    network = RingNetwork(kernel, size=SIZE, radius_px=20.0, width=16).eval()
    images = blob_images()
    turn, mirror = rotation_z(torch.tensor(90.0)), torch.diag(torch.tensor([1.0, -1.0, -1.0]))
    with torch.no_grad():
        feature, spread = network(images)
        turned, turned_spread = network(quarter_turn(images))
        mirrored, mirrored_spread = network(images.flip(1).roll(1, 1))
    for found, action in ((turned, turn), (mirrored, mirror)):
        expected = feature @ left_representation(kernel, action).float().T
        assert torch.allclose(found, expected, atol=2e-4)
        assert (feature - expected).abs().max() > 0.05  # the test would see features that stay
    assert torch.allclose(spread, turned_spread, atol=1e-4) and torch.allclose(spread, mirrored_spread, atol=1e-4)


def test_relative_rotations_turn_with_the_pictures() -> None:
    """What 'views' carries along for a pair is ``A_i A_j^T``: a quarter turn of one picture turns one side of it."""
    torch.manual_seed(2)
    network = ViewsNetwork(size=SIZE, radius_px=18.0, width=16).eval()
    images = blob_images(4) - 0.3 * (blob_images(4) > 0)
    turned = torch.cat([quarter_turn(images[:1]), images[1:]])
    with torch.no_grad():
        pairs, moved = (network._pairs(network.encode(part)[None].unflatten(2, (24, 16)))[0] for part in (images, turned))
        assert network(images[None])[0].shape == (1, 4, 4)
    turn = rotation_z(torch.tensor(90.0))
    expected = pairs.clone()
    expected[:, :, 0] = turn @ expected[:, :, 0]
    expected[:, :, :, 0] = expected[:, :, :, 0] @ turn.T
    assert torch.allclose(moved, expected, atol=1e-3) and (moved - pairs).abs().max() > 0.1
    assert torch.allclose(pairs, pairs.transpose(2, 3).transpose(-1, -2), atol=1e-5)


def test_features_do_not_depend_on_where_the_particle_is() -> None:
    torch.manual_seed(1)
    network = RingNetwork(SimilarityKernel(), size=SIZE, radius_px=16.0, width=16).eval()
    line = torch.arange(SIZE) - SIZE // 2.0
    blob = torch.exp(-0.5 * ((line - 3) / 4) ** 2)[:, None] * torch.exp(-0.5 * ((line + 1) / 6) ** 2) + torch.exp(-0.5 * ((line + 4) / 3) ** 2)[:, None] * (
        torch.exp(-0.5 * ((line - 5) / 3) ** 2))
    with torch.no_grad():
        feature = network(torch.stack([blob, blob.roll((2, -3), (0, 1))]))[0]
    assert torch.allclose(feature[0], feature[1], atol=5e-3)


def free_features(count: int, length: int, readout: ExactReadout | PaperReadout, steps: int = 600) -> tuple[float, float]:
    """Best features for given poses, no network between: mean error over all distances alike, and mean read distance of pairs beyond 3 rad."""
    generator = torch.Generator().manual_seed(3)
    kernel = SimilarityKernel()
    poses = random_rotations(count, generator)
    first, second = block_pairs(count)
    true, target = kernel.distance_rad(poses[first], poses[second]), kernel.between(poses[first], poses[second])
    weight = (1 / (1 - torch.cos(true))).clamp(max=20)  # the density of distances on SO(3) is (1 - cos d) / pi
    weight = weight / weight.mean()
    paper = isinstance(readout, PaperReadout)
    free = (torch.rand if paper else torch.randn)(count, length, generator=generator).requires_grad_()
    optimiser = torch.optim.Adam([free], lr=0.05)
    one = torch.ones_like(true)[None]
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = 0.05 * 0.5 * (1 + math.cos(math.pi * step / steps))
        # the paper's features come out of a ReLU
        feature = functional.normalize(free.relu() if paper else free, dim=1, eps=1e-6)
        found = (feature[first] * feature[second]).sum(1)
        loss, error = distance_losses(found[None], one, target[None], true[None], weight[None], readout)
        optimiser.zero_grad()
        loss.sum().backward()
        optimiser.step()
    far = readout.distance_rad(found)[true > 3.0].mean()
    return float(error), float(far.detach())


def test_the_exact_readout_has_no_plateau_and_the_papers_has() -> None:
    """Orientations have features whose read-out is their distance exactly (nine numbers); none exist for ``2 acos <f, f'>``."""
    error, far = free_features(80, 9, ExactReadout(SimilarityKernel()))
    assert error < 0.01 and far > 3.0
    error, far = free_features(80, 32, PaperReadout())
    # docs/orientation.rst, the read-out's plateau: at best 0.185 rad, and pairs farther than 3 rad are read as 2.64 to 2.69
    assert error > 0.1 and far < 2.85


@pytest.mark.parametrize("group", ["C1", "C2", "D2", "O"])
def test_readout_inverts_the_similarity(group: str) -> None:
    kernel = SimilarityKernel(group)
    generator = torch.Generator().manual_seed(5)
    first, second = random_rotations(400, generator), random_rotations(400, generator)
    true, read = kernel.distance_rad(first, second), ExactReadout(kernel).distance_rad(kernel.between(first, second))
    # with a group one similarity belongs to several distances: the mean is read
    assert (read - true).abs().mean() < (2e-3 if group == "C1" else 0.1)
    assert abs(float((read - true).mean())) < 0.05


@pytest.mark.parametrize("group", ["C1", "D2"])
def test_pairs_are_even_over_distances(group: str) -> None:
    """Every second pose has its neighbour at a uniform distance, and the weights make all pairs of a block even."""
    kernel = SimilarityKernel(group)
    largest = largest_distance(kernel)
    assert largest == pytest.approx(math.pi if group == "C1" else 2 * math.pi / 3, abs=0.05)  # D2: a turn by 120 degrees about (1, 1, 1)
    poses = draw_block_poses(40 * 16 * 16, torch.Generator().manual_seed(9), largest)
    neighbours = kernel.distance_rad(poses[::2], poses[1::2])
    if group == "C1":
        counts = torch.histc(neighbours, 8, 0, math.pi)
        assert (counts / counts.mean() - 1).abs().max() < 5 / math.sqrt(float(counts.mean()))  # five standard deviations
    first, second = block_pairs(16)
    blocks = poses.unflatten(0, (-1, 16))
    distance = kernel.distance_rad(blocks[:, first], blocks[:, second]).flatten()
    weight = DistanceWeights(kernel, largest)(distance)
    total = torch.zeros(8).index_add(0, (distance / largest * 8).long().clamp(max=7), weight)
    total = total / total.mean()
    assert float(weight.mean()) == pytest.approx(1, abs=0.05)
    # all but the outermost, where a cap on the weights holds
    assert (total[1:-1] - 1).abs().max() < 0.15 if group == "C1" else (total[1:-2] - 1).abs().max() < 0.15


def test_calibration_undoes_a_distorted_similarity_and_weighs_by_its_precision() -> None:
    rng = np.random.default_rng(0)
    true = rng.uniform(0, math.pi, 60000)
    spread = rng.choice([0.5, 1.5], len(true))
    clean = 0.8 * (1 + 2 * np.cos(true)) / 3 + 0.1
    similarity = clean + 0.05 * np.sqrt(spread) * rng.standard_normal(len(true))
    calibration = Calibration.from_dict(fit_calibration(similarity, spread, true, math.pi).to_dict())
    middle = torch.linspace(0.4, 2.7, 40, dtype=torch.float64)
    curve = 0.8 * (1 + 2 * torch.cos(middle)) / 3 + 0.1
    for value in (0.5, 1.5):
        found, weight = calibration.apply(curve, torch.full_like(curve, value))
        assert (found - middle).abs().max() < 0.05
        # theory: the variance of the distance is the similarity's over the squared slope of the curve
        expected = (0.8 * 2 / 3 * torch.sin(middle)) ** 2 / (0.05**2 * value)
        assert (weight / expected).log().abs().median() < 0.15
    assert bool((calibration.apply(torch.tensor([2.0, -2.0]), torch.ones(2))[0] == torch.tensor([0.0, math.pi])).all())


def test_a_plateau_weighs_nothing() -> None:
    """Where the similarity no longer changes with the distance, as beyond 2.65 rad in the paper's network, distances are worth next to nothing."""
    rng = np.random.default_rng(1)
    true = rng.uniform(0, math.pi, 40000)
    similarity = np.cos(np.minimum(true, 2.4) / 2) + 0.03 * rng.standard_normal(len(true))
    calibration = fit_calibration(similarity, np.ones(len(true)), true, math.pi)
    _, weight = calibration.apply(torch.tensor([math.cos(0.6), math.cos(1.2)]), torch.ones(2))
    assert weight[1] < 0.1 * weight[0]


def test_losses_are_least_where_they_should_be() -> None:
    kernel = SimilarityKernel()
    generator = torch.Generator().manual_seed(0)
    first, second = random_rotations(500, generator), random_rotations(500, generator)
    true, target = kernel.distance_rad(first, second)[None], kernel.between(first, second)[None]
    weight = torch.ones_like(true)
    noisy = target + 0.1 * torch.randn(target.shape, generator=generator)

    def loss(found: torch.Tensor, log_variance: float) -> float:
        return float(distance_losses(found, torch.full_like(target, math.exp(log_variance)), target, true, weight, ExactReadout(kernel))[0])

    assert loss(target, 0.0) < loss(noisy, 0.0)
    # maximum likelihood: the variance is the mean square of the residual in its unit
    unit = (1 - target.square()).clamp_min(0) + 0.05
    best = math.log(float(((noisy - target).square() / unit).mean()))
    assert loss(noisy, best) < loss(noisy, best + 0.3) and loss(noisy, best) < loss(noisy, best - 0.3)
