"""Poses searched together with the place along a trajectory."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr
from torch import Tensor

from cryolearn.engine.gaussian import heterogeneity_command as heterogeneity
from cryolearn.engine.gaussian.config import GaussianHeterogeneityConfig
from cryolearn.engine.gaussian.linear.eigen_motions import find_eigen_motions
from cryolearn.engine.gaussian.linear.gradients import GradientSource
from cryolearn.engine.gaussian.model.fourier_particles import GaussianImages, band_between
from cryolearn.engine.gaussian.model.gain_and_noise import calibrate
from cryolearn.engine.gaussian.model.projection import Gaussians, project
from cryolearn.engine.gaussian.model.slices import SliceGrid, envelope
from cryolearn.engine.gaussian.poses import pose_alternation, pose_search
from cryolearn.engine.gaussian.poses.pose_alternation import RefinedPoses, first_poses, recalibrate, refine_round
from cryolearn.engine.gaussian.poses.pose_search import PosePrior, PoseRange, ball, refine_poses
from cryolearn.engine.gaussian.poses.state_slices import Slicer
from cryolearn.engine.gaussian.trajectory.multi_start import first_posterior, search_curve, start_directions
from cryolearn.engine.gaussian.trajectory.trajectory_em import CurveFit
from cryolearn.engine.gaussian.trajectory.trajectory_model import Curve, make_curve
from cryolearn.engine.imaging.poses import angle_between_deg, euler_to_matrix, matrix_to_euler, random_rotations, so3_exp
from cryolearn.engine.io.records import Stage
from cryolearn.engine.io.star import read_particles, write_particles
from cryolearn.engine.io.tables import read_table

from .gaussian_cases import hinge, write_case

ANGLES = torch.tensor([-24.0, -12, 0, 12, 24])
SIGMA = 7.0


def model_of(positions: Tensor) -> Gaussians:
    return Gaussians(positions, torch.ones(positions.shape[:-1]), torch.full((positions.shape[-2],), SIGMA))


@cache
def images_of(count: int, noise: float, seed: int = 1) -> tuple[GaussianImages, np.ndarray]:
    """Images of the hinged arm in five states, and the state of each; ``noise`` over signal within the band, in power."""
    made = torch.Generator().manual_seed(seed)
    band, state = band_between(32, 6.0, 24.0, 190.0), torch.randint(5, (count,), generator=made)
    rotation = random_rotations(count, made)
    clean = project(model_of(hinge(ANGLES[state])), rotation, band).values.flatten(1)[:, band.grid_index]
    power = float(clean.abs().square().mean()) * noise
    data = clean + torch.view_as_complex(torch.randn(*clean.shape, 2, generator=made)) * (power / 2) ** 0.5
    shift = (torch.rand(count, 2, generator=made) - 0.5) * 20
    ones = torch.ones(band.rings)
    images = GaussianImages(
        band=band, transforms=(data * band.phase(shift)).numpy(), rotation=rotation, shift_angst=shift, ctf=None, phase_flipped=False,
        device=torch.device("cpu"), gain=ones, noise_power=ones * power)
    return images, state.numpy()


def volumes_of(grid: SliceGrid, angles: Tensor = ANGLES) -> Tensor:
    places = hinge(angles)
    return grid.volumes(places, 1 / envelope(places, grid.band), torch.full((places.shape[1],), SIGMA))


def disturbed(images: GaussianImages, degrees: float, angst: float, seed: int = 9) -> GaussianImages:
    """The images with normal errors of the rotation vector and the shift, total root mean squares as given."""
    made = torch.Generator().manual_seed(seed)
    turn = torch.randn(len(images), 3, generator=made) * np.radians(degrees) / 3**0.5
    move = torch.randn(len(images), 2, generator=made) * angst / 2**0.5
    return replace(images, rotation=so3_exp(turn) @ images.rotation, shift_angst=images.shift_angst + move)


def errors(found: object, truth: GaussianImages) -> tuple[Tensor, Tensor]:
    return angle_between_deg(found.rotation, truth.rotation), (found.shift_angst - truth.shift_angst).norm(dim=1)  # type: ignore[attr-defined]


EVEN = torch.full((5,), 0.2)
WIDE = PoseRange(deg=12, angst=12)


def test_slope_is_the_derivative() -> None:
    images, _ = images_of(6, 0.3)
    slicer, batch = Slicer(images, volumes_of(SliceGrid(images.band)), SliceGrid(images.band)), next(images.batches())
    still, step = torch.zeros(6, 2), 0.3
    found = slicer.quadratic(batch, batch.rotation, still)
    for axis in range(5):
        change = torch.zeros(5)
        change[axis] = step
        up, down = (slicer.value(batch, so3_exp(torch.deg2rad(sign * change[:3])) @ batch.rotation, still + sign * change[3:]) for sign in (1, -1))
        numeric = (up - down) / (2 * step)
        # the slopes by rotation are differences over two degrees
        assert float((numeric - found.slope[..., axis]).abs().max()) < 0.05 * float(found.slope[..., axis].abs().max())
    assert bool((torch.linalg.eigvalsh(found.curvature) > -1e-3).all())


def test_shift_is_integrated() -> None:
    """At low noise the integral's mean shift is where the value is largest."""
    images, state = images_of(6, 0.01)
    slicer, batch = Slicer(images, volumes_of(SliceGrid(images.band)), SliceGrid(images.band)), next(images.batches())
    off = torch.tensor([0.8, -0.5]).expand(6, 2)
    _, step, variance = slicer.integrated(batch, batch.rotation, off, off, torch.tensor([1e-4, 1e-4]))
    own = torch.arange(6), torch.from_numpy(state)
    assert float((off + step[own]).abs().max()) < 4 * float(variance[own].sqrt().max()) + 0.05


def test_ball_is_even() -> None:
    points, spacing = ball(6.0, 2.5)
    assert float(points.norm(dim=1).max()) <= 6.0 + 1e-6 and float(points.norm(dim=1).min()) == 0
    assert abs(len(points) * spacing**3 / (4 / 3 * np.pi * 6.0**3) - 1) < 0.25
    assert abs(float(points.square().mean()) / (6.0**2 / 5) - 1) < 0.15  # each axis of a full ball
    assert len(ball(6.0, 0.1)[0]) < 400 and len(ball(6.0, 50.0)[0]) >= 15


@pytest.mark.parametrize("noise", [0.02, 1.0])
def test_errors_are_as_small_as_they_are_said_to_be(noise: float) -> None:
    """Posterior standard deviations are the errors' when model, noise and prior are right; at low noise the lattice gives way to Newton steps."""
    images, _ = images_of(150, noise)
    start = disturbed(images, 4.0, 4.0)
    grid = SliceGrid(images.band)
    found = refine_poses(start, volumes_of(grid), grid, EVEN, PosePrior(4 / 3**0.5, 4 / 2**0.5), WIDE, estimate_prior=False)
    before = errors(start, images)
    for error, sigma, start_error in zip(errors(found, images), (found.sigma[:, :3], found.sigma[:, 3:]), before, strict=True):
        assert 0.8 < float(error.square().mean().sqrt() / sigma.square().sum(1).mean().sqrt()) < 1.2
        assert float(error.square().mean()) < float(start_error.square().mean())
    torch.testing.assert_close(found.turn_deg, angle_between_deg(found.rotation, start.rotation))


def test_right_poses_stay() -> None:
    """The prior's width is found from the images: small when the poses were right."""
    images, _ = images_of(150, 0.1)
    grid, prior = SliceGrid(images.band), PosePrior(3.0, 3.0)
    for _ in range(6):
        found = refine_poses(images, volumes_of(grid), grid, EVEN, prior, WIDE)
        prior = found.prior
    loose = refine_poses(images, volumes_of(grid), grid, EVEN, PosePrior(3.0, 3.0), WIDE, estimate_prior=False)
    assert prior.deg < 1.0 and prior.angst < 0.5
    assert float(found.turn_deg.median()) < 0.6 * float(loose.turn_deg.median())


def test_images_do_not_depend_on_their_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    images, _ = images_of(40, 0.5)
    start, grid = disturbed(images, 4.0, 4.0), SliceGrid(images.band)

    def refine(part: GaussianImages) -> object:
        return refine_poses(part, volumes_of(grid), grid, EVEN, PosePrior(2.3, 2.8), PoseRange(deg=6, angst=8), estimate_prior=False)

    whole = refine(start)
    assert torch.equal(whole.rotation, refine(start).rotation)  # type: ignore[attr-defined]
    monkeypatch.setitem(pose_search.VALUES_AT_A_TIME, "cpu", 12 * 5 * len(images.band) * 7)
    pieces = refine(start)
    torch.testing.assert_close(pieces.rotation, whole.rotation, rtol=0, atol=1e-4)  # type: ignore[attr-defined]
    torch.testing.assert_close(pieces.evidence, whole.evidence, rtol=1e-4, atol=1e-2)  # type: ignore[attr-defined]


def test_states_take_the_motion_out_of_the_noise() -> None:
    """Given the right states, gain is 1 and noise what was put in; against the still model the motion counts as noise."""
    images, state = images_of(300, 0.05)
    grid = SliceGrid(images.band)
    posterior = torch.nn.functional.one_hot(torch.from_numpy(state), 5).float()
    found = recalibrate(images, volumes_of(grid), grid, posterior)
    assert torch.allclose(found.gain, torch.ones_like(found.gain), atol=0.03)
    ratio = found.noise_power / images.noise_power  # the lowest ring has four points an image, and the slices' error where the signal is strongest
    assert abs(float(ratio.mean()) - 1) < 0.05 and float((ratio - 1).abs().max()) < 0.15
    still = calibrate(images, model_of(hinge(torch.zeros(1))[0]))
    assert float(still.noise_power.mean()) > 1.1 * float(found.noise_power.mean())


def test_common_motion_is_taken_out() -> None:
    """A turn and a move of all particles, and ones in step with their place, leave the changes."""
    made = torch.Generator().manual_seed(2)
    rotation = random_rotations(200, made)
    factors = torch.cat((torch.ones(200, 1), torch.randn(200, 1, generator=made)), 1)
    turn, move = torch.tensor([[0.02, 0.01, -0.02], [0.01, 0.0, 0.02]]), torch.tensor([[1.0, -2.0, 0.5], [0.5, 0.5, 1.0]])
    moved = rotation @ so3_exp(factors @ turn), (rotation[:, :2] @ (factors @ move)[..., None])[..., 0]
    back = pose_alternation._without_common(moved, (rotation, torch.zeros(200, 2)), factors)
    assert float(angle_between_deg(back[0], rotation).max()) < 0.05
    assert float(back[1].abs().max()) < 1e-3


@cache
def first_fit(count: int, noise: float) -> tuple[GaussianImages, Curve, Tensor, np.ndarray]:
    images, state = images_of(count, noise)
    start = disturbed(images, 4.0, 4.0)
    model = model_of(hinge(torch.zeros(1))[0])
    curve = make_curve(model, vary="conformation", path="open", states=5, degree=2, anchors=10, moves=torch.ones(90, dtype=torch.bool), seed=1)
    guess = np.argsort(np.argsort(state + np.random.default_rng(1).normal(size=count))) / (count - 1) * 2 - 1
    return start, curve, first_posterior(curve, guess), state


def test_half_sets_do_not_know_each_other() -> None:
    start, curve, posterior, _ = first_fit(60, 0.5)
    half = 1 + np.arange(60) % 2
    model, fit = model_of(hinge(torch.zeros(1))[0]), CurveFit(curve, torch.empty(0), posterior, torch.empty(0))

    def refined(images: GaussianImages) -> Tensor:
        limits = PoseRange(deg=6, angst=6)
        poses = RefinedPoses(images=images, limits=limits, prior=limits.prior(), sigma=torch.empty(60, 5))
        return refine_round(poses, model, fit, half).images.rotation

    first = refined(start)
    changed = np.array(start.transforms)
    changed[half == 2] = changed[half == 2][::-1]
    second = refined(replace(start, transforms=changed))
    same = torch.from_numpy(half == 1)
    assert torch.equal(first[same], second[same])
    assert not torch.equal(first[~same], second[~same])


def test_alternation_mends_poses_and_places(tmp_path: Path) -> None:
    """From poses wrong by 4 degrees and 4 Å: errors near those that the true states and noise leave, and places in better order than such poses allow.

    The arm's mean distance from its hinge is 21 Å, so 4 Å are 10.8 degrees of it; beside states of deviation 17 degrees, ``17 / sqrt(17^2 + 10.8^2) = .84``.
    """
    images, state = images_of(300, 0.1)
    grid = SliceGrid(images.band)
    start, model = disturbed(images, 4.0, 4.0), model_of(hinge(torch.zeros(1))[0])
    half, record = 1 + np.arange(300) % 2, Stage(tmp_path / "poses.npz")

    def search(some: GaussianImages) -> CurveFit:
        eigen = find_eigen_motions(GradientSource(some, model, score="likelihood"), 2)
        curve = make_curve(model, vary="conformation", path="open", states=7, degree=2, anchors=12, moves=torch.ones(90, dtype=torch.bool), seed=1)
        starts = [first_posterior(curve, guess) for guess in start_directions(eigen.projection, eigen.significant)]
        return search_curve(some, curve, starts, 4)

    found = first_poses(start, model, PoseRange(deg=6, angst=6), record=record)
    for _ in range(2):
        found = refine_round(found, model, search(found.images), half, record)
    best = refine_poses(start, volumes_of(grid), grid, EVEN, PosePrior(4 / 3**0.5, 4 / 2**0.5), WIDE, estimate_prior=False)
    for reached, possible, before in zip(errors(found.images, images), errors(best, images), errors(start, images), strict=True):
        gain, most = (float(before.square().mean() - error.square().mean()) for error in (reached, possible))
        assert gain > 0.7 * most
    fit = search(found.images)
    place = (fit.posterior @ fit.curve.grid).numpy()
    assert abs(spearmanr(place, state).statistic) > 0.85
    again = first_poses(start, model, PoseRange(deg=6, angst=6), record=record)
    assert torch.equal(again.images.rotation, found.images.rotation) and again.history == found.history and len(again.history) == 2


def test_command_refines_poses(tmp_path: Path) -> None:
    """The command leaves refined poses in the STAR file, and says by how much it changed them."""
    truth = write_case(tmp_path, 120, noise=0.2)
    table = read_particles(str(tmp_path / "particles.star"))
    made = torch.Generator().manual_seed(1)
    wrong = so3_exp(torch.randn(120, 3, generator=made) * np.radians(4) / 3**0.5) @ torch.from_numpy(truth["rotation"])
    shift = truth["shift"] + torch.randn(120, 2, generator=made).numpy() * 4 / 2**0.5
    write_particles(str(tmp_path / "particles.star"), table.with_poses(matrix_to_euler(wrong.double()).numpy(), -shift))
    output = tmp_path / "out"
    heterogeneity.run(GaussianHeterogeneityConfig(
        particles=str(tmp_path / "particles.star"), volume=str(tmp_path / "map.mrc"), output=str(output), resolutions_angst=[26.0], number=30, states=5,
        rounds=2, maps=0, halves=False, threads=1, refine_poses=1))
    found = read_particles(str(output / "particles.star"))
    error, start = (np.linalg.norm(-origin - truth["shift"], axis=1) for origin in (found.origin_angst, -shift))
    assert np.median(error) < 0.6 * np.median(start)
    columns, _ = read_table(str(output / "conformations.npz"))
    torch.testing.assert_close(euler_to_matrix(torch.from_numpy(found.angles_deg)).float(), torch.from_numpy(columns["rotation"]).float(), atol=1e-4, rtol=0)
    poses, _ = read_table(str(output / "poses.npz"))
    changed = angle_between_deg(torch.from_numpy(columns["rotation"]).float(), wrong)
    assert np.allclose(poses["turn_deg"], changed, atol=0.02) and poses["turn_deg"].max() <= 12.01
    assert json.loads((output / "summary.json").read_text())["pose_rounds"] == 1
