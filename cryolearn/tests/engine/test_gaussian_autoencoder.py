"""The autoencoder: exact derivatives, export, a posterior checked by quadrature, and the comparison with the curve."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.config import RunConfig
from cryolearn.engine.gaussian import heterogeneity_command as heterogeneity
from cryolearn.engine.gaussian.autoencoder.autoencoder_estimates import judge_rows, marginal_likelihood
from cryolearn.engine.gaussian.autoencoder.latent_posterior import decoder_posterior
from cryolearn.engine.gaussian.autoencoder.network import Autoencoder, projected, projection_tangents
from cryolearn.engine.gaussian.autoencoder.training import AutoencoderFit, AutoencoderSettings, HeldOutComparison, fit_autoencoder
from cryolearn.engine.gaussian.config import GaussianHeterogeneityConfig
from cryolearn.engine.gaussian.linear.eigen_motions import find_eigen_motions
from cryolearn.engine.gaussian.linear.gradients import GradientSource
from cryolearn.engine.gaussian.linear.linear_motions import start_motions
from cryolearn.engine.gaussian.linear.probabilistic_pca import fit_linear
from cryolearn.engine.gaussian.model.fourier_particles import band_between
from cryolearn.engine.gaussian.model.projection import Gaussians, project
from cryolearn.engine.gaussian.trajectory.multi_start import first_posterior, start_directions
from cryolearn.engine.gaussian.trajectory.trajectory_em import fit_curve
from cryolearn.engine.gaussian.trajectory.trajectory_model import make_curve
from cryolearn.engine.imaging.poses import random_rotations
from cryolearn.engine.io.motions import read_motion, write_motion
from cryolearn.engine.io.tables import read_table

from .gaussian_cases import write_case
from .test_gaussian_linear import hinged, imaged, predicted, scene, uniform

COUNT = 560


def network_of(model: Gaussians, latents: int, seed: int = 1) -> Autoencoder:
    torch.manual_seed(seed)
    spread = make_curve(model, vary="both", path="open", states=3, degree=1, anchors=12, moves=torch.ones(len(model), dtype=torch.bool), seed=1).spread
    return Autoencoder(model, spread, 5, latents, hidden=12, factors=6, places=True, amplitudes=True)


def test_projection_has_the_derivatives_of_its_values() -> None:
    """Reverse derivatives against finite differences in double precision, forward ones against them too."""
    generator = torch.Generator().manual_seed(3)
    band = band_between(32, 5.0, 30.0, 150.0)
    rotation = random_rotations(2, generator).double()
    places = (20 * torch.randn(2, 7, 3, generator=generator)).double().requires_grad_()
    amplitudes = (1 + torch.rand(2, 7, generator=generator)).double().requires_grad_()
    sigma = torch.full((7,), 9.0, dtype=torch.float64)

    def parts(positions: torch.Tensor, weights: torch.Tensor) -> torch.Tensor:
        return torch.view_as_real(projected(positions, weights, sigma, rotation, band))

    assert torch.autograd.gradcheck(parts, (places, amplitudes), atol=1e-6, rtol=1e-5)
    field, change = torch.randn(2, 3, 7, 3, generator=generator).double(), torch.randn(2, 3, 7, generator=generator).double()
    with torch.no_grad():
        values, tangents = projection_tangents(Gaussians(places, amplitudes, sigma), rotation, band, field, change)
        torch.testing.assert_close(values, project(Gaussians(places, amplitudes, sigma), rotation, band).values.flatten(1)[:, band.grid_index])
        step = 1e-5
        for latent in range(3):
            ends = [projected(places + sign * step * field[:, latent], amplitudes + sign * step * change[:, latent], sigma, rotation, band) for sign in (1, -1)]
            torch.testing.assert_close(tangents[:, latent], (ends[0] - ends[1]) / (2 * step), rtol=1e-6, atol=1e-6)


def test_decoder_knows_its_own_slope() -> None:
    model, _, _ = scene()
    network = network_of(model, 2)
    latent = torch.randn(4, 2, generator=torch.Generator().manual_seed(2))
    _, slope = network.factors(latent)
    wanted = torch.func.vmap(torch.func.jacfwd(lambda z: network.factors(z[None])[0][0]))(latent)
    torch.testing.assert_close(slope, wanted.transpose(1, 2), rtol=1e-4, atol=1e-6)


def test_written_decoder_gives_the_same_conformations(tmp_path: Path) -> None:
    model, _, _ = scene()
    network = network_of(model, 3)
    with torch.no_grad():
        network.place += 0.3
        network.amplitude -= 0.2
    path = str(tmp_path / "motion.npz")
    write_motion(path, network.motion(5.0, {"box": 48}))
    motion = read_motion(path)
    assert motion.basis == "network" and motion.latent_dim == 3
    latent = torch.randn(6, 3, generator=torch.Generator().manual_seed(4))
    positions, weights = motion.conformation(latent.numpy())
    with torch.no_grad():
        here = network.conformation(latent).model
    np.testing.assert_allclose(positions, here.positions_angst.numpy(), atol=1e-3)
    np.testing.assert_allclose(weights, here.amplitudes.numpy() * 25, rtol=1e-4, atol=1e-3)


def test_posterior_of_a_decoder_is_that_of_quadrature() -> None:
    """One latent, where integrals can be done on a grid: evidence, mean and deviation."""
    model, arm, _ = scene()
    images = imaged(model, hinged(model, arm, uniform(30, 10.0, 2), 1), 1.0)
    network = network_of(model, 1)
    with torch.no_grad():
        network.bend *= 3
        found = decoder_posterior(images, network, torch.zeros(30, 5), 0.02)
        nodes = torch.linspace(-6, 6, 481)
        weight = 1 / images.band.per_point(images.noise_power)
        batch = next(images.batches(np.arange(30), 30))
        joint = []
        for node in nodes:
            values = batch.transfer * network.project(node.expand(30, 1), batch.rotation, images.band)
            joint.append((2 * (values.conj() * batch.data).real - values.abs().square()) @ weight - node**2 / 2)
        table = torch.stack(joint, 1).double()
    evidence = torch.logsumexp(table, 1) + np.log(12 / 480) - np.log(2 * np.pi) / 2
    share = torch.softmax(table, 1)
    mean = share @ nodes.double()
    deviation = (share @ nodes.double().square() - mean.square()).sqrt()
    single = (found.mean[:, 0] - mean).abs() < 0.3 * deviation  # all but images whose posterior has a second peak
    assert single.double().mean() > 0.85
    assert (found.evidence - evidence).abs()[single].median() < 0.05
    assert float((found.evidence - evidence).mean()) < 0.05  # never overstated on average
    ratio = found.covariance[single, 0, 0].sqrt() / deviation[single]
    assert 0.8 < float(ratio.median()) < 1.25


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[AutoencoderFit, torch.Tensor, torch.Tensor, Path]:
    """Two arms that turn independently: no single path passes through all conformations."""
    model, first, second = scene()
    one, two = uniform(COUNT, 30.0, 1), uniform(COUNT, 30.0, 2)
    images = imaged(model, hinged(model, first, one, 1) + hinged(model, second, two, 0), 2.0)
    everything = torch.ones(len(model), dtype=torch.bool)
    training, held_out = judge_rows(COUNT)
    part = images.subset(training)
    eigen = find_eigen_motions(GradientSource(part, model, score="likelihood"), 2, metric=False)
    curve = make_curve(model, vary="conformation", path="open", states=9, degree=3, anchors=24, moves=everything, seed=1)
    guess = start_directions(eigen.projection, eigen.significant)[0]
    trajectory = fit_curve(part, curve, first_posterior(curve, guess), 5, temperatures=(4.0, 2.0))
    lines = fit_linear(part, start_motions(model, eigen.vectors.view(2, -1, 3), moves=everything, anchors=24), 4, places=9)
    folder = tmp_path_factory.mktemp("network")
    known = marginal_likelihood(images.subset(held_out), trajectory)
    fit = fit_autoencoder(
        images, model, curve.spread, AutoencoderSettings(latents=2, epochs=4), moves=everything, start=lines,
        comparison=HeldOutComparison(training=training, held_out=held_out, curve_likelihood=known),
        config=RunConfig(output=str(folder), use_gpu=False, threads=1))
    return fit, one, two, folder


def test_network_is_kept_where_one_path_is_not_enough(compared: tuple[AutoencoderFit, torch.Tensor, torch.Tensor, Path]) -> None:
    fit, one, two, folder = compared
    assert fit.accepted and fit.held_out_gain > 2 * fit.standard_error
    _, held_out = judge_rows(COUNT)
    for angle in (one, two):
        assert predicted(fit.posterior.mean[held_out].float(), angle[held_out]) > 0.95
    assert (folder / "learning.csv").exists()
    assert fit.history[-1]["val_loss"] < fit.history[0]["val_loss"]


def test_network_is_not_kept_when_the_curve_says_more(compared: tuple[AutoencoderFit, torch.Tensor, torch.Tensor, Path], tmp_path: Path) -> None:
    """Training for no gain: one epoch from rest against a judge that knows the truth's likelihood."""
    model, first, _ = scene()
    images = imaged(model, hinged(model, first, uniform(120, 20.0, 1), 1), 1.0)
    everything = torch.ones(len(model), dtype=torch.bool)
    training, held_out = judge_rows(120)
    spread = make_curve(model, vary="conformation", path="open", states=3, degree=1, anchors=12, moves=everything, seed=1).spread
    fit = fit_autoencoder(
        images, model, spread, AutoencoderSettings(latents=1, epochs=1), moves=everything,
        comparison=HeldOutComparison(training=training, held_out=held_out, curve_likelihood=np.full(60, 1e4)),
        config=RunConfig(output=str(tmp_path), use_gpu=False, threads=1))
    assert not fit.accepted and fit.held_out_gain < 0
    assert torch.isfinite(fit.posterior.mean).all()


@pytest.mark.parametrize("method", ["linear", "autoencoder"])
def test_command(method: str, tmp_path: Path) -> None:
    """The files agree with each other whichever model is kept, and the hinge's angle is in the latents."""
    truth = write_case(tmp_path, 240, noise=2.0)
    output = tmp_path / "out"
    heterogeneity.run(GaussianHeterogeneityConfig(
        particles=str(tmp_path / "particles.star"), volume=str(tmp_path / "map.mrc"), output=str(output), resolutions_angst=[24.0], states=7, rounds=3,
        components=1, maps=0, halves=False, threads=1, method=method, use_gpu=False))
    columns, meta = read_table(str(output / "conformations.npz"))
    motion, summary = read_motion(str(output / "motion.npz")), json.loads((output / "summary.json").read_text())
    if method == "autoencoder":
        assert meta["basis"] == ("network" if summary["autoencoder_accepted"] else "polynomial")
        assert summary["autoencoder_accepted"] == (summary["autoencoder_held_out_gain"] > 2 * summary["autoencoder_held_out_gain_error"])
        assert (output / "learning.csv").exists()
    else:
        assert meta["basis"] == "linear"
    assert motion.basis == meta["basis"]
    assert motion.conformation(columns["amplitudes"])[0].shape == (240, len(motion), 3)
    assert columns["gain"].mean() > 0
    assert predicted(torch.from_numpy(columns["amplitudes"]), torch.from_numpy(truth["angle"])) > 0.9
