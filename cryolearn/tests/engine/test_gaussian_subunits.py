"""Symmetry expansion, subunits' own conformations, and the correlation between them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import cast

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.gaussian import heterogeneity_command as heterogeneity
from cryolearn.engine.gaussian.config import GaussianHeterogeneityConfig
from cryolearn.engine.gaussian.conformation_estimates import latents_on_grid
from cryolearn.engine.gaussian.linear.eigen_motions import find_eigen_motions
from cryolearn.engine.gaussian.linear.gradients import GradientSource
from cryolearn.engine.gaussian.model.fourier_particles import GaussianImages, band_between
from cryolearn.engine.gaussian.model.gain_and_noise import calibrate
from cryolearn.engine.gaussian.model.projection import Gaussians, project
from cryolearn.engine.gaussian.model.slices import SliceGrid
from cryolearn.engine.gaussian.model.state_likelihood import state_likelihood
from cryolearn.engine.gaussian.subunits.subunit_correlation import (
    SubunitInformation,
    draw_subunit_correlation,
    information_of_errors,
    ring_distance,
    subunit_correlation,
    subunit_information,
)
from cryolearn.engine.gaussian.subunits.subunit_particles import _WithoutOthers, expand, fit_subunits, search_subunits
from cryolearn.engine.gaussian.trajectory.multi_start import first_posterior, start_directions
from cryolearn.engine.gaussian.trajectory.trajectory_em import CurveFit
from cryolearn.engine.gaussian.trajectory.trajectory_model import curve_volumes, make_curve
from cryolearn.engine.imaging.gaussians import render_gaussians_2d, render_gaussians_3d
from cryolearn.engine.imaging.poses import matrix_to_euler, random_rotations
from cryolearn.engine.imaging.symmetry import symmetry_matrices
from cryolearn.engine.io.maps import write_map
from cryolearn.engine.io.stacks import write_stack
from cryolearn.engine.io.star import ParticleTable, read_particles, write_particles
from cryolearn.engine.io.tables import read_table

STILL = np.array([[52.0, 0, -8], [46, 6, -14], [58, -6, -14], [50, -5, 2]])
ARM = np.array([[55.0, 3, 18], [58, -2, 27], [52, 2, 34], [57, 0, 42]])
HINGE = np.array([54.0, 0, 8])
MATRICES = symmetry_matrices("C7")
DISTANCE = np.minimum(np.arange(7), 7 - np.arange(7))


def subunit(angle_deg: np.ndarray) -> np.ndarray:
    """Positions (..., 8, 3) of the first subunit with its arm turned about the tangent."""
    arm, angle = ARM - HINGE, np.deg2rad(angle_deg)[..., None]
    x, y, z = arm.T
    moved = np.stack([np.cos(angle) * x + np.sin(angle) * z, np.broadcast_to(y, (*np.shape(angle_deg), 4)), np.cos(angle) * z - np.sin(angle) * x], -1)
    return np.concatenate([np.broadcast_to(STILL, (*np.shape(angle_deg), 4, 3)), moved + HINGE], -2)


def ring(angle_deg: np.ndarray) -> torch.Tensor:
    """Positions (n, 56, 3) of rings with angles (n, 7)."""
    placed = np.einsum("sij,nsmj->nsmi", MATRICES.numpy(), subunit(angle_deg))
    return torch.from_numpy(placed.reshape(len(angle_deg), -1, 3)).float()


def ring_images(angle_deg: np.ndarray, noise: float, seed: int = 5) -> GaussianImages:
    """Images of rings; ``noise`` is the ratio of the noise's power to the signal's within the band."""
    made = torch.Generator().manual_seed(seed)
    band = band_between(40, 6.0, 24.0, 240.0)
    rotation = random_rotations(len(angle_deg), made)
    model = Gaussians(ring(angle_deg), torch.ones(len(angle_deg), 56), torch.full((56,), 6.0))
    clean = project(model, rotation, band).values.flatten(1)[:, band.grid_index]
    power = float(clean.abs().square().mean()) * noise
    data = clean + torch.view_as_complex(torch.randn(*clean.shape, 2, generator=made)) * (power / 2) ** 0.5
    shift = (torch.rand(len(clean), 2, generator=made) - 0.5) * 20
    ones = torch.ones(band.rings)
    images = GaussianImages(
        band=band, transforms=(data * band.phase(shift)).numpy(), rotation=rotation, shift_angst=shift, ctf=None, phase_flipped=False,
        device=torch.device("cpu"), gain=ones, noise_power=ones * max(power, 1e-6))
    return images


def consensus() -> Gaussians:
    return Gaussians(ring(np.zeros((1, 7)))[0], torch.ones(56), torch.full((56,), 6.0))


def correlated(count: int, correlation: float, seed: int) -> np.ndarray:
    """(count, 7) normal values whose neighbours correlate."""
    values, vectors = np.linalg.eigh(np.stack([np.roll(correlation**DISTANCE, turn) for turn in range(7)]))
    return np.random.default_rng(seed).standard_normal((count, 7)) @ (vectors * np.sqrt(values)).T


def lags(values: np.ndarray) -> np.ndarray:
    centred = values - values.mean()
    return np.array([(centred * np.roll(centred, lag, 1)).mean() for lag in (1, 2, 3)]) / (centred**2).mean()


def test_expansion_shares_coefficients() -> None:
    images = ring_images(np.zeros((6, 7)), 0.1)
    many = expand(images, MATRICES)
    assert len(many) == 42
    assert cast(object, many.transforms.source) is images.transforms  # type: ignore[attr-defined]
    part = many.subset(np.array([40, 3]))
    assert part.transforms.source is images.transforms and np.array_equal(part.transforms[:2], images.transforms[[5, 0]])  # type: ignore[attr-defined]
    torch.testing.assert_close(part.rotation[0], images.rotation[5] @ MATRICES[5].float())
    coarse = many.coarser(60.0)
    assert np.array_equal(coarse.transforms[np.arange(7)], np.repeat(images.coarser(60.0).transforms[:1], 7, axis=0))


def test_symmetric_particles_fit_alike_from_all_subunits() -> None:
    """V(S x) = V(x): all rows of an image have one likelihood, to the accuracy of the slices."""
    images = ring_images(np.zeros((5, 7)), 0.5)
    many, model, grid = expand(images, MATRICES), consensus(), SliceGrid(images.band)
    found = state_likelihood(many, grid.model_volume(model), grid)[0].view(5, 7)
    assert float((found - found.mean(1, keepdim=True)).abs().max()) < 0.02 * float(found.mean())


def test_other_subunits_are_taken_away() -> None:
    """With the true states what is left of a noiseless image is one subunit's motion upon the mean."""
    angles = np.random.default_rng(1).choice([-15.0, 0.0, 15.0], (4, 7))
    images = ring_images(angles, 0.0)
    many, model = expand(images, MATRICES), consensus()
    moves = torch.arange(56) < 8
    curve = make_curve(model, vary="conformation", path="states", states=3, degree=1, anchors=0, moves=moves, seed=1)
    steps = torch.from_numpy(subunit(np.array([-15.0, 0, 15])) - subunit(np.zeros(3))).float()
    curve.bend[:] = torch.zeros_like(curve.bend)
    curve.bend[:, :8] = steps[:, : curve.bend.shape[1]]
    state = torch.from_numpy((angles.reshape(-1) / 15 + 1).astype(int))
    posterior = torch.nn.functional.one_hot(state, 3).float()
    neutral = torch.tensor([0.0, 1.0, 0.0])  # the mean of this test is the state at 0
    others = _WithoutOthers(many, curve_volumes(curve, SliceGrid(images.band)), posterior - neutral, 7)
    rows = np.array([0, 9, 10, 27])
    left = torch.from_numpy(others[rows])
    for row, found in zip(rows, left, strict=True):
        alone = np.zeros((1, 7))
        alone[0, row % 7] = angles.reshape(-1)[row]
        wanted = Gaussians(ring(alone)[0], model.amplitudes, model.sigma_angst)
        clean = project(wanted, images.rotation[row // 7][None], images.band).values.flatten(1)[0, images.band.grid_index]
        here = clean * images.band.phase(images.shift_angst[row // 7])
        whole = torch.from_numpy(images.transforms[row // 7])
        assert float((found - here).norm()) < 0.05 * float((whole - here).norm())


@pytest.mark.parametrize("truth", [0.6, 0.0, -0.3])
def test_correlation_is_corrected_for_error_bars(truth: float) -> None:
    """Posterior means of a normal latent with noise of the same variance hold half of it: the correlation is halved and must come back."""
    angles = correlated(3000, truth, 3)
    noisy = angles + np.random.default_rng(4).standard_normal(angles.shape)
    known = information_of_errors(noisy / 2, np.full(angles.shape, 0.5**0.5))
    found = subunit_correlation(known, noisy / 2, ring_distance(MATRICES, (50.0, 0, 10)))
    assert found.pairs.tolist() == [7, 7, 7] and (np.diff(found.distance_angst) > 0).all()
    # with J = 1, of each normal mode of the ring with the variance l its image tells l / (l + 1): the mean of l^2 / (l + 1), half for unrelated subunits
    modes = np.linalg.eigvalsh(np.stack([np.roll(truth**DISTANCE, turn) for turn in range(7)]))
    assert abs(found.reliability - (modes**2 / (modes + 1)).mean()) < 0.02
    assert np.allclose(found.raw, lags(noisy))
    assert (np.abs(found.correlation - lags(angles)) < 4 * found.error + 1e-3).all()
    # unrelated subunits are below the null in 95 % of the sets: twice that is four standard errors
    assert (np.abs(found.correlation[0]) > 2 * found.null[0]) == (truth != 0)


@pytest.mark.parametrize("truth", [0.5, 0.0])
def test_errors_of_neighbours_that_go_together_are_no_correlation(truth: float) -> None:
    """Images whose neighbouring subunits overlap give them errors in common; the likelihood of all subunits at once knows."""
    draw, angles = np.random.default_rng(8), correlated(2000, truth, 3)
    overlap = np.stack([np.roll(np.array([1, 0.45, 0, 0, 0, 0, 0.45]), turn) for turn in range(7)])
    precision = overlap * draw.uniform(0.3, 2, (2000, 1, 1))
    slope = (precision @ angles[..., None])[..., 0] + (np.linalg.cholesky(precision) @ draw.standard_normal((2000, 7, 1)))[..., 0]
    alone = slope / (np.einsum("nss->ns", precision) + 1)  # each subunit as if the others stood still
    found = subunit_correlation(SubunitInformation(slope, precision, np.ones(2000)), alone, ring_distance(MATRICES, (50.0, 0, 10)))
    assert (np.abs(found.correlation - lags(angles)) < 4 * found.error + 1e-3).all()
    assert (found.error < 0.1).all()
    assert found.raw[0] - lags(angles)[0] > 4 * found.error[0], "the overlap of this test does not show"


def test_ring_of_hinges(tmp_path: Path) -> None:
    """Correlation between subunits within 0.1: over 150 rings a correlation has a standard error of 1 / sqrt(150) = 0.08, and errors of places add to it."""
    angles = 13 * correlated(150, 0.6, 7)
    images = calibrate(ring_images(angles, 0.7), consensus())
    many, moves = expand(images, MATRICES), torch.arange(56) < 8
    eigen = find_eigen_motions(GradientSource(many, consensus(), score="likelihood", moves=moves), 2)
    curve = make_curve(consensus(), vary="conformation", path="open", states=7, degree=2, anchors=0, moves=moves, seed=1)
    starts = [first_posterior(curve, guess) for guess in start_directions(eigen.projection, np.array([True, False]))]
    first = search_subunits(many, curve, starts, 3)
    second = fit_subunits(many, first, 7, passes=1)

    def place(fit: CurveFit) -> tuple[np.ndarray, np.ndarray]:
        weight = fit.posterior.double().numpy()
        mean, error = latents_on_grid(weight / weight.sum(1, keepdims=True), fit.curve.grid.double().numpy(), "polynomial")
        return mean.reshape(-1, 7), error.reshape(-1, 7)

    before, after = (abs(spearmanr(place(fit)[0].ravel(), angles.ravel()).statistic) for fit in (first, second))
    assert after > before - 0.01, "the second pass lost accuracy"
    found = subunit_correlation(subunit_information(many, second, 7), place(second)[0], ring_distance(MATRICES, (55.0, 0, 15)))
    assert np.abs(found.correlation - lags(angles)).max() < 0.1
    assert found.correlation[0] > found.null[0]
    assert abs(found.raw[0]) < abs(found.correlation[0])
    draw_subunit_correlation(found).savefig(tmp_path / "subunits.png")


def test_command_gives_a_latent_a_subunit(tmp_path: Path) -> None:
    angles = 13 * correlated(60, 0.6, 7)
    images = ring_images(angles, 0.0)
    band, box, pixel = images.band, images.band.box, images.band.pixel_size
    seen = (ring(angles) @ images.rotation.transpose(1, 2))[..., :2]
    clean = render_gaussians_2d(seen, torch.ones(60, 56), 6.0, box, pixel)
    write_stack(str(tmp_path / "particles.mrcs"), (clean / clean.std() + torch.randn(clean.shape, generator=torch.Generator().manual_seed(1))).numpy(), pixel)
    table = ParticleTable(
        ids=np.arange(1, 61) * 2, image_file=[str(tmp_path / "particles.mrcs")], file_index=np.zeros(60, np.int64), image_index=np.arange(60),
        pixel_size_angst=pixel, box=box, angles_deg=matrix_to_euler(images.rotation.double()).numpy(), origin_angst=np.zeros((60, 2)), ctf=None,
        random_subset=1 + np.arange(60) % 2)
    write_particles(str(tmp_path / "particles.star"), table)
    swept = [render_gaussians_3d(torch.from_numpy(subunit(np.array(angle))[4:]).float(), torch.ones(4), 6.0, box, pixel) for angle in (-15, 0, 15)]
    write_map(str(tmp_path / "focus.mrc"), (sum(swept) > 0.1 * float(swept[1].max())).float().numpy(), pixel)  # type: ignore[union-attr]
    write_map(str(tmp_path / "map.mrc"), render_gaussians_3d(consensus().positions_angst, torch.ones(56), 6.0, box, pixel).numpy(), pixel)
    config = GaussianHeterogeneityConfig(
        particles=str(tmp_path / "particles.star"), volume=str(tmp_path / "map.mrc"), output=str(tmp_path / "out"), symmetry="C7", ignore_ctf=True,
        resolutions_angst=[band.length / band.radius], number=60, states=5, degree=2, rounds=2, components=2, maps=0, halves=False, threads=1)
    with pytest.raises(InputError, match="focus"):
        heterogeneity.run(config)
    heterogeneity.run(replace(config, focus=str(tmp_path / "focus.mrc")))
    columns, meta = read_table(str(tmp_path / "out" / "conformations.npz"))
    assert np.array_equal(columns["id"], table.ids) and columns["amplitudes"].shape == (60, 7) and len(meta["latent_names"]) == 7
    expanded, _ = read_table(str(tmp_path / "out" / "expanded.npz"))
    assert np.array_equal(expanded["particle"], np.repeat(table.ids, 7)) and np.array_equal(expanded["subunit"][:7], np.arange(1, 8))
    assert np.allclose(expanded["amplitudes"].reshape(60, 7), columns["amplitudes"])
    torch.testing.assert_close(torch.from_numpy(expanded["rotation"][8]).float(), images.rotation[1] @ MATRICES[1].float(), atol=1e-4, rtol=0)
    assert len(read_particles(str(tmp_path / "out" / "particles.star"))) == 60
    assert len(read_particles(str(tmp_path / "out" / "expanded.star"))) == 420
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["particles"] == 60 and summary["subunits"] == 7 and -1.5 < summary["neighbour_correlation"] < 1.5
    assert (tmp_path / "out" / "subunits.csv").exists() and (tmp_path / "out" / "figures" / "subunits.png").exists()
    assert abs(spearmanr(columns["amplitudes"].ravel(), angles.ravel()).statistic) > 0.8
