"""Several linear motions: derivative volumes, the exact posterior, recovery of independent motions, error bars."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from cryolearn.engine.gaussian.linear.eigen_motions import find_eigen_motions
from cryolearn.engine.gaussian.linear.gradients import GradientSource
from cryolearn.engine.gaussian.linear.linear_motions import LinearMotions, lattice, start_motions
from cryolearn.engine.gaussian.linear.probabilistic_pca import expectation, fit_linear, linear_latents
from cryolearn.engine.gaussian.model.fourier_particles import GaussianImages, band_between
from cryolearn.engine.gaussian.model.projection import Gaussians, project
from cryolearn.engine.gaussian.model.slices import SliceGrid, envelope
from cryolearn.engine.gaussian.model.state_likelihood import state_likelihood
from cryolearn.engine.gaussian.model.volume_jacobian import tangent_misfit, tangent_volumes
from cryolearn.engine.imaging.poses import random_rotations, so3_exp
from cryolearn.engine.io.star import CtfTable

BOX, PIXEL, RESOLUTION = 48, 5.0, 30.0
COUNT = 1200


def scene(seed: int = 1) -> tuple[Gaussians, torch.Tensor, torch.Tensor]:
    """A body of blobs with two arms; which blobs are of arm 1 and of arm 2."""
    generator = torch.Generator().manual_seed(seed)

    def ball(count: int, radius: float, stretch: tuple[float, float, float], centre: tuple[float, float, float]) -> torch.Tensor:
        direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=1)
        reach = torch.rand(count, 1, generator=generator) ** (1 / 3) * radius
        return direction * reach * torch.tensor(stretch) + torch.tensor(centre)

    places = torch.cat((ball(60, 30, (1, 1, 1), (0, 0, 0)), ball(24, 14, (2, 1, 1), (52, 0, 0)), ball(24, 14, (1, 1, 2), (0, 0, 52))))
    arm = torch.arange(len(places))
    return Gaussians(places, torch.full((len(places),), 40.0), torch.full((len(places),), 9.0)), (arm >= 60) & (arm < 84), arm >= 84


def hinged(model: Gaussians, arm: torch.Tensor, angle_deg: torch.Tensor, axis: int) -> torch.Tensor:
    """Displacements (n, M, 3) of an arm that turns about a line beside the body."""
    vector = torch.zeros(len(angle_deg), 3)
    vector[:, axis] = angle_deg * math.pi / 180
    hinge = model.positions_angst[arm].mean(0) * 0.5
    away = model.positions_angst[arm] - hinge
    moved = torch.zeros(len(angle_deg), len(model), 3)
    moved[:, arm] = away @ so3_exp(vector).transpose(1, 2) - away
    return moved


def imaged(model: Gaussians, moved: torch.Tensor, snr: float, factor: torch.Tensor | None = None, seed: int = 3) -> GaussianImages:
    """Particles of conformations (n, M, 3), with CTF; noise by its ratio to the signal over the band."""
    generator = torch.Generator().manual_seed(seed)
    band, count = band_between(BOX, PIXEL, RESOLUTION, 200.0), len(moved)
    rotation = random_rotations(count, generator).float()
    amplitudes = model.amplitudes.expand(count, -1) if factor is None else model.amplitudes * factor
    conformations = Gaussians(model.positions_angst + moved, amplitudes, model.sigma_angst)
    clean = project(conformations, rotation, band).values.flatten(1)[:, band.grid_index]
    defocus = np.random.default_rng(seed).uniform(15_000, 25_000, count)
    full = np.ones(count)
    ctf = CtfTable(defocus, defocus, 0 * full, 0 * full, 300 * full, 2.7 * full, 0.1 * full)
    images = GaussianImages(
        band=band, transforms=np.empty((count, len(band)), np.complex64), rotation=rotation, shift_angst=torch.zeros(count, 2), ctf=ctf, phase_flipped=False,
        device=torch.device("cpu"), gain=torch.ones(band.rings), noise_power=torch.ones(band.rings))
    signal = clean * images.transfer(np.arange(count))
    power = float(signal.abs().square().mean()) / snr
    noise = torch.view_as_complex(torch.randn(*signal.shape, 2, generator=generator)) * math.sqrt(power / 2)
    images.transforms[:] = (signal + noise).numpy()
    images.noise_power = torch.full((band.rings,), power)
    return images


def uniform(count: int, half: float, seed: int) -> torch.Tensor:
    return (torch.rand(count, generator=torch.Generator().manual_seed(seed)) * 2 - 1) * half


def predicted(latent: torch.Tensor, angle: torch.Tensor) -> float:
    """Correlation of the true angle with the best linear prediction from the latents."""
    columns = torch.cat((torch.ones(len(latent), 1), latent), dim=1).double()
    fitted = columns @ torch.linalg.lstsq(columns, angle.double()[:, None]).solution
    return float(torch.corrcoef(torch.stack((fitted[:, 0], angle)))[0, 1])


def motions_of(model: Gaussians, vectors: torch.Tensor, change: torch.Tensor) -> LinearMotions:
    return LinearMotions(base=model, spread=torch.eye(len(model)), bend=vectors, change=change, moves_places=True, moves_amplitudes=True)


def test_derivative_volumes_match_finite_differences() -> None:
    model, first, second = scene()
    grid = SliceGrid(band_between(BOX, PIXEL, RESOLUTION, 200.0))
    generator = torch.Generator().manual_seed(5)
    places, amplitudes, sigma = model.positions_angst.double(), model.amplitudes.double(), model.sigma_angst.double()
    field = torch.randn(2, len(model), 3, generator=generator, dtype=torch.float64)
    change = torch.randn(2, len(model), generator=generator, dtype=torch.float64)
    found = tangent_volumes(grid, places, amplitudes, sigma, field, change)
    step = 1e-4
    torch.testing.assert_close(found[0], grid.volumes(places[None], amplitudes[None], sigma)[0])
    for latent in range(2):
        ends = [grid.volumes((places + sign * step * field[latent])[None], (amplitudes + sign * step * change[latent])[None], sigma)[0] for sign in (1, -1)]
        difference = (ends[0] - ends[1]) / (2 * step)
        assert float((found[1 + latent] - difference).norm() / difference.norm()) < 1e-6


@pytest.mark.parametrize("vary", ["conformation", "composition", "both"])
def test_gradients_of_the_misfit_are_exact(vary: str) -> None:
    """Against automatic differentiation of the same sums, in double precision."""
    grid = SliceGrid(band_between(24, 5.0, 30.0, 120.0))
    generator = torch.Generator().manual_seed(6)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    places, amplitudes, sigma = 15 * draw(9, 3), 1 + draw(9).abs(), torch.full((9,), 9.0, dtype=torch.float64)
    field = draw(2, 9, 3) if vary != "composition" else None
    change = draw(2, 9) if vary != "conformation" else None
    signal, power = torch.complex(draw(3, *grid.shape), draw(3, *grid.shape)), draw(6, *grid.shape)
    leaves = [item.clone().requires_grad_() if item is not None else None for item in (places, amplitudes, field, change)]
    volumes = tangent_volumes(grid, leaves[0], leaves[1], sigma, leaves[2], leaves[3])  # type: ignore[arg-type]
    wanted = -2 * (signal.conj() * volumes).real.sum()
    for number, (left, right) in enumerate(torch.triu_indices(3, 3).T.tolist()):
        wanted = wanted + (1 + (left != right)) * (power[number] * (volumes[left].conj() * volumes[right]).real).sum()
    wanted.backward()
    value, *gradients = tangent_misfit(grid, places, amplitudes, sigma, field, change, signal, power)
    assert value == pytest.approx(float(wanted.detach()), rel=1e-10)
    for leaf, gradient in zip(leaves, gradients, strict=True):
        assert (leaf is None) == (gradient is None)
        if leaf is not None and gradient is not None and leaf.grad is not None:
            torch.testing.assert_close(gradient, leaf.grad, rtol=1e-8, atol=1e-8 * float(leaf.grad.abs().max()))


def test_posterior_is_that_of_brute_force() -> None:
    """One latent, one place: the likelihood of ``V + z D`` integrated over a fine grid of z."""
    model, arm, _ = scene()
    moved = hinged(model, arm, uniform(40, 10.0, 2), 1)
    images = imaged(model, moved, 0.5)
    field = hinged(model, arm, torch.tensor([6.0]), 1)
    motions = replace(motions_of(model, field, torch.zeros(1, len(model))), moves_amplitudes=False)
    grid = SliceGrid(images.band)
    centres, widths, prior = lattice(torch.zeros(1), 1)
    found, _ = expectation(images, motions, grid, centres, widths, prior, gather=False)
    whole = tangent_volumes(grid, model.positions_angst, model.amplitudes / envelope(model.positions_angst, images.band), model.sigma_angst, field, None)
    nodes = torch.linspace(-6, 6, 401)
    likelihood = state_likelihood(images, whole[0] + nodes[:, None, None, None] * whole[1], grid)[0].double()
    joint = likelihood - nodes.double().square() / 2 - math.log(2 * math.pi) / 2 + math.log(12 / 400)
    weight = torch.softmax(joint, 1)
    mean = weight @ nodes.double()
    variance = weight @ nodes.double().square() - mean.square()
    torch.testing.assert_close(found.mean[:, 0], mean, atol=2e-3, rtol=0)
    torch.testing.assert_close(found.covariance[:, 0, 0], variance, rtol=0.02, atol=1e-5)
    torch.testing.assert_close(found.evidence, torch.logsumexp(joint, 1), rtol=1e-4, atol=0.02)


@pytest.mark.parametrize("phases", [(0.1,), (1.0,), (3.0,), (6.0, 1.0, 0.1)])
def test_lattice_makes_up_a_normal_prior(phases: tuple[float, ...]) -> None:
    centres, widths, prior = lattice(torch.tensor(phases), 60)
    weight = prior.exp()
    assert float(weight.sum()) == pytest.approx(1)
    torch.testing.assert_close(weight @ centres, torch.zeros(len(phases), dtype=torch.float64), atol=1e-9, rtol=0)
    variance = weight @ centres.square() + widths.square()
    assert (variance - 1).abs().max() < 0.03
    first = centres[:, 0].unique()
    z = torch.linspace(-2, 2, 41, dtype=torch.float64)
    marginal = torch.stack([weight[centres[:, 0] == node].sum() for node in first])
    density = (marginal * torch.exp(-(z[:, None] - first).square() / (2 * widths[0] ** 2)) / (widths[0] * math.sqrt(2 * math.pi))).sum(1)
    normal = torch.exp(-z.square() / 2) / math.sqrt(2 * math.pi)
    assert float((density - normal).abs().max()) < 0.1 * float(normal.max())


def test_two_independent_motions_are_told_apart() -> None:
    """Two arms that turn independently by at most 12 degrees: the two latents hold both angles as well as latents of the true motions do."""
    model, first, second = scene()
    one, two = uniform(COUNT, 12.0, 1), uniform(COUNT, 12.0, 2)
    images = imaged(model, hinged(model, first, one, 1) + hinged(model, second, two, 0), 1.0)
    eigen = find_eigen_motions(GradientSource(images, model, score="likelihood"), 2, metric=False)
    everything = torch.ones(len(model), dtype=torch.bool)
    fit = fit_linear(images, start_motions(model, eigen.vectors.view(2, -1, 3), moves=everything, anchors=24), 8, places=9)
    latent = fit.posterior.mean.double()
    deviation = torch.tensor([12 / math.sqrt(3)])  # of a uniform angle
    true = torch.cat((hinged(model, first, deviation, 1), hinged(model, second, deviation, 0)))
    best = linear_latents(images, motions_of(model, true, torch.zeros(2, len(model))), 9)
    for angle in (one, two):
        found, possible = predicted(latent, angle), predicted(best.posterior.mean, angle)
        assert found > 0.97 * possible
        assert possible > 0.8
    assert fit.history[-1] > fit.history[0]
    assert abs(float(torch.corrcoef(latent.T)[0, 1])) < 0.2
    # error bars: residuals of the latents about what the true angles predict of them
    truth = torch.stack([torch.ones(COUNT), one, two, one * two, one**2, two**2, one**3, two**3], dim=1).double()
    residual = latent - truth @ torch.linalg.lstsq(truth, latent).solution
    inside = (residual.abs() < fit.posterior.sigma).double().mean()
    assert 0.6 < float(inside) < 0.76
    # the motion stays where the arms are
    moved = fit.motions.displacement().norm(dim=2)
    assert float(moved[:, first | second].mean()) > 3 * float(moved[:, ~(first | second)].mean())
    # what is reported of other particles is what the model says of them
    part = images.subset(np.arange(0, COUNT, 7))
    again = linear_latents(part, fit.motions, 9)
    torch.testing.assert_close(again.posterior.mean, fit.posterior.mean[::7], atol=1e-4, rtol=0)


def test_large_motion_is_not_underestimated() -> None:
    """±40 degrees: a lattice of places holds what one place cannot, and the evidence says so."""
    model, arm, _ = scene()
    angle = uniform(COUNT, 40.0, 4)
    images = imaged(model, hinged(model, arm, angle, 1), 1.0)
    everything = torch.ones(len(model), dtype=torch.bool)
    start = start_motions(model, hinged(model, arm, torch.tensor([10.0]), 1), moves=everything, anchors=24)
    fits = [fit_linear(images, start, 6, places=places) for places in (1, 15)]
    line = hinged(model, arm, torch.tensor([40 / math.sqrt(3)]), 1)
    known = linear_latents(images, motions_of(model, line, torch.zeros(1, len(model))), 15)
    correlation = [predicted(fit.posterior.mean, angle) for fit in fits]
    assert correlation[1] > max(correlation[0], 0.99 * predicted(known.posterior.mean, angle))
    assert float(fits[1].posterior.evidence.mean()) > float(fits[0].posterior.evidence.mean()) + 1
    ends = fits[1].motions.displacement()[0, arm].norm(dim=1).max()
    truth = hinged(model, arm, torch.tensor([-40.0, 40.0]), 1)[:, arm]
    assert float(ends) == pytest.approx(float((truth[1] - truth[0]).norm(dim=1).max() / math.sqrt(12)), rel=0.2)  # uniform: width / sqrt(12)


def test_composition_alone() -> None:
    """An arm that is there in half of the particles is found by its amplitudes."""
    model, arm, _ = scene()
    there = torch.rand(COUNT, generator=torch.Generator().manual_seed(8)) < 0.5
    factor = torch.where(arm & ~there[:, None], 0.0, 1.0)
    images = imaged(model, torch.zeros(COUNT, len(model), 3), 0.5, factor)
    half = Gaussians(model.positions_angst, torch.where(arm, 0.5, 1.0) * model.amplitudes, model.sigma_angst)
    eigen = find_eigen_motions(GradientSource(images, half, kind="amplitude", score="likelihood"), 1)
    everything = torch.ones(len(model), dtype=torch.bool)
    start = start_motions(half, None, moves=everything, changes=eigen.vectors, anchors=24, vary="composition")
    fit = fit_linear(images, start, 5)
    latent = fit.posterior.mean[:, 0]
    above = (latent[there][:, None] > latent[~there]).float().mean()
    assert max(float(above), 1 - float(above)) > 0.98
    assert not fit.motions.displacement().any()


def test_what_varies_needs_directions() -> None:
    model, _, _ = scene()
    with pytest.raises(ValueError, match="directions"):
        start_motions(model, None, moves=torch.ones(len(model), dtype=torch.bool))
