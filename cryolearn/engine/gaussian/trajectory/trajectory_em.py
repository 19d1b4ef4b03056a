"""A curved trajectory of the Gaussians, found by expectation-maximisation over the positions of the particles along it.

E-step: the likelihood of each image at every position of a grid over the latent, by slices of the states' volumes. M-step: the model is fitted to the sums
``b_g``, ``L_g`` that the images leave in Fourier space (``model/slices.py``), so its cost does not depend on the number of images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from ...exceptions import EXTREMES, require_finite
from ...io.records import Columns, Stage
from ...progress import Progress
from ..model.anchored_motion import outlier_fraction
from ..model.fourier_particles import GaussianImages
from ..model.m_step_parameters import FreeParameters
from ..model.slices import SliceGrid, VolumeSums, envelope
from ..model.state_likelihood import state_batches, state_likelihood
from .trajectory_model import Curve, curve_volumes

__all__ = ["CurveFit", "evaluate_curve", "fit_curve"]

_BEND_STEP_ANGST = 5.0
_POPULATION_FLOOR = 0.1  # part of the prior over states that stays even, so that no state dies
_OPTIMISER_STEPS = 6
_SETTLED = 0.02  # log-likelihood an image gains in a round


@dataclass
class CurveFit:
    """A fitted trajectory, with what it says of each particle.

    Attributes
    ----------
    curve : the trajectory
    likelihood : (n, G) log-likelihood of each image at each place, relative to nothing (no population)
    posterior : (n, G); rows add up to the probability that the image is a particle at all
    expected : (n,) what the likelihood would be without noise at the best place: it says how surprising the likelihood is
    history : mean log-likelihood (marginal) of each round
    """

    curve: Curve
    likelihood: Tensor
    posterior: Tensor
    expected: Tensor
    history: list[float] = field(default_factory=list)


def fit_curve(images: GaussianImages, curve: Curve, start: Tensor, rounds: int, *, temperatures: Sequence[float] = (),
              what: str = "Trajectory", record: Stage | None = None) -> CurveFit:
    """Expectation-maximisation from a first posterior.

    Parameters
    ----------
    images
        Coefficients, poses and noise of the particles.
    curve
        Trajectory to start from.
    start
        (n, G) first weights of the images over the grid.
    rounds
        E- and M-steps; fewer when the log-likelihood settles.
    temperatures
        Of the first rounds: the log-likelihoods are divided by them, so that images do not settle before the path has formed
        (deterministic annealing, Ueda & Nakano 1998). The other rounds are at 1.
    what
        Name in the progress lines.
    record
        Keeps the state after each round; when it is there already, work goes on from it.
    """
    grid = SliceGrid(images.band)
    done, posterior = 0, start
    history: list[float] = []
    if record is not None and (found := record.read()):
        done, curve, posterior, history, temperatures = _load(*found, curve)
    progress = Progress(what, rounds, "rounds", done)
    sums = VolumeSums(grid, len(curve.grid), len(curve.grid), images.device)
    _gather(images, grid, sums, posterior)
    likelihood = expected = torch.empty(0)
    for number in range(done, rounds):
        if _has_settled(history, len(temperatures)):
            break
        curve = _maximise(curve, sums)
        last = number == rounds - 1
        sums = VolumeSums(grid, len(curve.grid), len(curve.grid), images.device)
        posterior = torch.empty_like(posterior)
        likelihood, expected = torch.empty_like(posterior), torch.empty_like(posterior)
        prior = curve.log_prior
        heat = temperatures[number] if number < len(temperatures) else 1.0
        for batch in state_batches(images, curve_volumes(curve, grid), grid):
            likelihood[batch.rows], expected[batch.rows] = batch.likelihood, batch.expected
            posterior[batch.rows] = _posterior(batch.likelihood / heat, prior)[:, :-1]
            if not last:
                sums.add(batch.corners, batch.signal, batch.power, posterior[batch.rows])
        history.append(require_finite(_evidence(likelihood, prior), f"The log-likelihood of round {number + 1}", EXTREMES))
        curve = _populate(curve, posterior)
        if record is not None:
            _save(record, number + 1, curve, posterior, history, temperatures)
        progress.step(note=f"log-likelihood {history[-1]:.4f}")
    if not len(likelihood):  # the record was that of the end
        likelihood, expected = state_likelihood(images, curve_volumes(curve, grid), grid)
    return CurveFit(curve, likelihood, posterior, _at_best(expected, likelihood), history)


def _has_settled(history: list[float], heated: int) -> bool:
    """Whether the last round changed so little that no posterior would notice; rounds after a change of temperature do not count."""
    return len(history) > heated + 1 and history[-1] - history[-2] < _SETTLED


def evaluate_curve(images: GaussianImages, curve: Curve) -> CurveFit:
    """Where images lie on a trajectory that is not changed."""
    grid = SliceGrid(images.band)
    likelihood, expected = state_likelihood(images, curve_volumes(curve, grid), grid)
    posterior = _posterior(likelihood, curve.log_prior)[:, :-1]
    return CurveFit(curve, likelihood, posterior, _at_best(expected, likelihood), [_evidence(likelihood, curve.log_prior)])


def _evidence(likelihood: Tensor, log_prior: Tensor) -> float:
    """Mean log-likelihood of the images with the place, and whether there is a particle, integrated out."""
    return float(torch.logsumexp(torch.nn.functional.pad(likelihood, (0, 1)) + log_prior, 1).double().mean())


def _at_best(expected: Tensor, likelihood: Tensor) -> Tensor:
    return expected.gather(1, likelihood.argmax(1, keepdim=True))[:, 0]


def _posterior(values: Tensor, log_prior: Tensor) -> Tensor:
    """(b, G + 1) weights of the places and, last, of an empty image, whose log-likelihood is 0."""
    return torch.softmax(torch.nn.functional.pad(values, (0, 1)) + log_prior, dim=1)


def _populate(curve: Curve, posterior: Tensor) -> Curve:
    total = posterior.double().sum(0)
    even = _POPULATION_FLOOR / len(curve.grid)
    particles = float(total.sum()) / len(posterior)
    return replace(curve, population=(1 - _POPULATION_FLOOR) * (total / total.sum()).float() + even, junk=outlier_fraction(particles))


def _save(record: Stage, done: int, curve: Curve, posterior: Tensor, history: list[float], temperatures: Sequence[float]) -> None:
    arrays = {"base": curve.base.positions_angst, "amplitudes": curve.base.amplitudes, "bend": curve.bend, "change": curve.change,
              "population": curve.population, "posterior": posterior}
    record.write({name: value.cpu().numpy() for name, value in arrays.items()},
                 {"done": done, "junk": curve.junk, "history": history, "temperatures": list(temperatures)})


def _load(arrays: Columns, values: dict[str, Any], curve: Curve) -> tuple[int, Curve, Tensor, list[float], list[float]]:
    tensor = {name: torch.as_tensor(array, device=curve.grid.device) for name, array in arrays.items()}
    base = replace(curve.base, positions_angst=tensor["base"], amplitudes=tensor["amplitudes"])
    path_then = replace(curve, base=base, bend=tensor["bend"], change=tensor["change"], population=tensor["population"], junk=values["junk"])
    return values["done"], path_then, tensor["posterior"], values["history"], values["temperatures"]


def _gather(images: GaussianImages, grid: SliceGrid, sums: VolumeSums, weight: Tensor) -> None:
    noise = images.band.per_point(images.noise_power)
    for batch in images.batches(chunk=grid.images_at_a_time(weight.shape[1], images.device)):
        sums.add(grid.corners(batch.rotation), *batch.filtered(noise), weight[batch.rows])


def _maximise(curve: Curve, sums: VolumeSums) -> Curve:
    """Fit the trajectory to the sums by L-BFGS; the objective is the expected log-likelihood and the priors.

    Gaussians outside the focus are taken off the data once: the cost is that of the focus.
    """
    grid, signal, power = sums.grid, sums.signal, sums.power
    still = curve.still
    if still is not None:
        faded = still.amplitudes * envelope(still.positions_angst, grid.band)
        signal -= power * grid.volumes(still.positions_angst[None], faded[None], still.sigma_angst)
    moving = _fit_to_sums(curve.moving, grid, signal, power)
    return moving if still is None else curve.with_moving(moving)


def _fit_to_sums(curve: Curve, grid: SliceGrid, signal: Tensor, power: Tensor) -> Curve:
    fade = envelope(curve.base.positions_angst, grid.band)
    free = FreeParameters(curve, _BEND_STEP_ANGST)

    def objective() -> float:
        base, penalty = free.base(), free.penalty()
        places, amplitudes = curve.states_at(base.positions_angst, base.amplitudes, free.bend(), free.change())
        with torch.no_grad():
            value, by_place, by_amplitude = grid.misfit(places.detach(), amplitudes.detach() * fade, base.sigma_angst, signal, power)
        torch.autograd.backward([penalty, places, amplitudes], [None, by_place, by_amplitude * fade])
        return float(penalty.detach()) + value

    base, bend, change = free.minimise(objective, _OPTIMISER_STEPS)
    return replace(curve, base=base, bend=bend, change=change)
