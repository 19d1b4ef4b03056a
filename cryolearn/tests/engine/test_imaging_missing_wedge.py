"""The missing wedge: which frequencies a tilt series measures."""

import math

import pytest
import torch

from cryolearn.engine.imaging.missing_wedge import frequency_points, rotated_wedge_mask, wedge_coverage, wedge_mask
from cryolearn.engine.imaging.poses import euler_to_matrix, random_rotations

BOX = 24


def test_frequencies_are_those_of_rfftn():
    """The wave at a grid point has its whole transform there."""
    x, y, z = frequency_points(BOX)[5, BOX - 3, 7].tolist()
    assert (x, y, z) == (7, -3, 5)
    at = torch.arange(BOX, dtype=torch.float64)
    wave = torch.cos(2 * math.pi / BOX * (x * at + y * at[:, None] + z * at[:, None, None]))
    transform = torch.fft.rfftn(wave).abs()
    assert transform[5, BOX - 3, 7] == pytest.approx(BOX**3 / 2)
    assert transform.sum() == pytest.approx(BOX**3 / 2, rel=1e-9)


@pytest.mark.parametrize("low, high", [(-60, 60), (-40, 40), (-60, 30), (10, 70), (-90, 90)])
def test_share_of_measured_directions(low, high):
    """The slices of the tilts turn about y, so the covered share of frequencies is the tilt range over 180 degrees."""
    points = torch.randn(400_000, 3, generator=torch.Generator().manual_seed(1))
    share = float(wedge_coverage(points, low, high).mean())
    assert share == pytest.approx((high - low) / 180, abs=4 * 0.5 / math.sqrt(400_000))


@pytest.mark.parametrize("tilt", [-60.0, -17.0, 0.0, 45.0, 60.0])
def test_slice_of_each_tilt_is_measured_and_the_next_is_not(tilt):
    """The image at tilt t has its x axis along (cos t, 0, sin t) of the specimen."""
    angle = math.radians(tilt)
    u, v = torch.meshgrid(torch.linspace(-9, 9, 7), torch.linspace(-9, 9, 7), indexing="ij")
    points = torch.stack((u * math.cos(angle), v, u * math.sin(angle)), -1)
    assert bool((wedge_coverage(points, -60, 60) == 1).all())
    assert bool((wedge_coverage(points, tilt - 5, tilt + 5) == 1).all())
    missed = wedge_coverage(points[u.abs() > 1], tilt + 1, 90)
    assert bool((missed == 0).all())


@pytest.mark.parametrize("tilt, axis", [(0.0, 0), (90.0, 2)])
def test_projection_at_a_tilt_needs_only_its_slice(tilt, axis):
    """A volume that keeps what a degree about a tilt measures keeps its projection at that tilt, and loses the one at right angles."""
    volume = torch.randn(BOX - 1, BOX - 1, BOX - 1, generator=torch.Generator().manual_seed(2))
    kept = torch.fft.rfftn(volume) * wedge_mask(BOX - 1, max(tilt - 1, -90), min(tilt + 1, 90))
    kept = torch.fft.irfftn(kept, s=volume.shape)
    assert torch.allclose(kept.sum(axis), volume.sum(axis), atol=1e-3)
    assert not torch.allclose(kept.sum(2 - axis), volume.sum(2 - axis), atol=1.0)


def test_friedel_mates_are_measured_together():
    points = torch.randn(5000, 3, generator=torch.Generator().manual_seed(3)) * 8
    for edge in (0.0, 1.5):
        assert torch.allclose(wedge_coverage(points, -50, 63, edge), wedge_coverage(-points, -50, 63, edge))


def test_zero_frequency_is_measured():
    assert wedge_mask(BOX, 20, 60)[0, 0, 0] == 1
    assert wedge_mask(BOX, 20, 60, 1.0)[0, 0, 0] == 1


def test_soft_edge_lies_beyond_the_last_tilt():
    """Half the edge's width beyond the last slice the coverage is one half (raised cosine); inside it is untouched."""
    angle, edge, radius = math.radians(60), 2.0, 10.0
    beyond = torch.tensor([0.0, 0.5, 1.0, 2.0, 3.0])
    points = torch.stack((radius * math.cos(angle) - beyond * math.sin(angle), torch.zeros(5), radius * math.sin(angle) + beyond * math.cos(angle)), -1)
    expected = (1 + torch.cos(math.pi * (beyond / edge).clamp(max=1))) / 2
    assert torch.allclose(wedge_coverage(points, -60, 60, edge), expected, atol=1e-5)
    sharp, soft = wedge_mask(BOX, -60, 60), wedge_mask(BOX, -60, 60, edge)
    assert bool((soft >= sharp).all()) and bool((soft > sharp).any())


def test_rotated_mask_follows_the_particle():
    """A quarter turn about the beam makes the tilt axis x; turning about the tilt axis shifts the tilt range."""
    quarter = euler_to_matrix(torch.tensor([[90.0, 0.0, 0.0]]))
    mask = rotated_wedge_mask(BOX, -60, 60, quarter)[0]
    kx, _, kz = frequency_points(BOX).unbind(-1)
    expected = wedge_coverage(frequency_points(BOX)[..., [1, 0, 2]], -60, 60)
    assert torch.equal(mask, expected)
    about_y = euler_to_matrix(torch.tensor([[0.0, 20.0, 0.0]], dtype=torch.float64))
    tilted = rotated_wedge_mask(BOX, -40, 40, about_y)[0]
    found = [wedge_mask(BOX, -40 + turn, 40 + turn) for turn in (20, -20)]
    agreement = [float((tilted == other).double().mean()) for other in found]
    assert max(agreement) > 0.99 > 0.9 > min(agreement)


def test_rotated_masks_of_a_batch():
    rotations = random_rotations(3, torch.Generator().manual_seed(4))
    low, high = torch.tensor([-60.0, -50.0, -40.0]), torch.tensor([60.0, 40.0, 60.0])
    masks = rotated_wedge_mask(BOX, low, high, rotations, 1.0)
    for one in range(3):
        assert torch.allclose(masks[one], rotated_wedge_mask(BOX, float(low[one]), float(high[one]), rotations[one : one + 1], 1.0)[0], atol=1e-5)
    identity = rotated_wedge_mask(BOX, low, high, torch.eye(3).expand(3, 3, 3))
    assert torch.equal(identity, wedge_mask(BOX, low, high))


@pytest.mark.parametrize("low, high", [(-91, 60), (-60, 95), (30, 30), (40, -40), (math.nan, 60)])
def test_impossible_tilt_range_is_refused(low, high):
    with pytest.raises(ValueError, match="tilt range"):
        wedge_mask(BOX, low, high)
