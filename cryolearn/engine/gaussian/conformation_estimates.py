"""What every way of finding conformations gives, whichever it is."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..io.motions import MotionModel
from .linear.linear_motions import LatentPosterior
from .summary import SummaryNotes
from .trajectory.trajectory_em import CurveFit

__all__ = ["Found", "found_off_grid", "found_on_curve", "found_on_posterior", "latents_on_grid", "without_motion"]

Array = NDArray[np.float64]


@dataclass(kw_only=True)
class Found:
    """Conformations of all particles.

    Attributes
    ----------
    motion : how latents move the Gaussians
    latents, errors : (n, K), with standard deviations
    weight : (n,) probability that the image is a particle
    log_likelihood, gain : (n,) over an empty image, and over the model that does not move
    surprise : (n,) how many standard deviations the likelihood lies from what the model expects of itself
    at_end : (n,) bool, at the end of the range
    grid : (G, K) places with ``state_weight`` and ``state_likelihood`` (n, G); without a grid (0, K)
    notes : more for the summary
    """

    motion: MotionModel
    latents: Array
    errors: Array
    weight: Array
    log_likelihood: Array
    gain: Array
    surprise: Array
    at_end: NDArray[np.bool_]
    grid: Array
    state_weight: NDArray[np.float32]
    state_likelihood: NDArray[np.float32]
    notes: SummaryNotes = field(default_factory=lambda: SummaryNotes())

    def of_particles(self, first: NDArray[np.int64]) -> Found:
        """One row a particle where images of a particle share their rows: that of its ``first`` image."""
        names = ("latents", "errors", "weight", "log_likelihood", "gain", "surprise", "at_end", "state_weight", "state_likelihood")
        return replace(self, **{name: getattr(self, name)[first] for name in names})


def latents_on_grid(posterior: Array, grid: Array, basis: str) -> tuple[Array, Array]:
    """Mean and standard deviation (n,) of latents with posteriors (n, G) over a grid (G,).

    Of a closed path both are circular; of separate states the likeliest is taken, and the error is the chance that it is another. A posterior that
    sits on one place of the grid still leaves the distance to the next: a twelfth of its square is added to the variance.
    """
    if basis == "states":
        return grid[posterior.argmax(1)], 1 - posterior.max(1)
    within = (grid[1] - grid[0]) ** 2 / 12
    if basis == "periodic":
        turn = posterior @ np.exp(1j * np.pi * grid)
        length = np.clip(np.abs(turn), 1e-12, 1)
        # never more than the deviation 1 / sqrt(3) of a uniform latent
        return np.angle(turn) / np.pi, np.minimum(np.sqrt(-2 * np.log(length) / np.pi**2 + within), 1 / np.sqrt(3))
    mean = posterior @ grid
    return mean, np.sqrt(np.clip(posterior @ grid**2 - mean**2, 0, None) + within)


def found_off_grid(motion: MotionModel, latents: Array, errors: Array, log_likelihood: Array) -> Found:
    """Conformations by a method without a grid, which says nothing of weight, gain, surprise and ends."""
    count, size = latents.shape
    return Found(
        motion=motion,
        latents=latents,
        errors=errors,
        weight=np.ones(count),
        log_likelihood=log_likelihood,
        gain=np.zeros(count),
        surprise=np.zeros(count),
        at_end=np.zeros(count, bool),
        grid=np.zeros((0, size)),
        state_weight=np.zeros((count, 0), np.float32),
        state_likelihood=np.zeros((count, 0), np.float32),
    )


def found_on_posterior(posterior: LatentPosterior, motion: MotionModel, rigid: Array, notes: SummaryNotes) -> Found:
    """Conformations from normal posteriors of the latents; ``rigid`` (n,) is the log-likelihood of the model that does not move."""
    likelihood, expected, evidence, weight, mean, sigma = (values.cpu().numpy() for values in (
        posterior.log_likelihood, posterior.expected, posterior.evidence, posterior.weight, posterior.mean, posterior.sigma))
    return replace(
        found_off_grid(motion, mean, sigma, likelihood), weight=weight, gain=evidence - rigid, surprise=_surprise(likelihood, expected), notes=notes)


def _surprise(likelihood: Array, expected: Array) -> Array:
    """Standard deviations (n,) between log-likelihoods and what the model expects of itself."""
    return (likelihood - expected) / (2 * np.sqrt(expected.clip(1e-6)))


def found_on_curve(fit: CurveFit, rigid: Array, pixel_size_angst: float, meta: dict[str, Any]) -> Found:
    """Conformations from a fitted trajectory; ``rigid`` (n,) is the log-likelihood of the model that does not move."""
    curve = fit.curve
    posterior = fit.posterior.double().cpu().numpy()
    weight = posterior.sum(1)
    likelihood = fit.likelihood.double().cpu().numpy()
    # an image without a particle has no posterior to speak of: its place is what its likelihood says
    prior = likelihood + np.log(curve.population.double().cpu().numpy())
    given = np.exp(prior - prior.max(1, keepdims=True))
    given /= given.sum(1, keepdims=True)
    grid = curve.grid.double().cpu().numpy()
    latent, error = latents_on_grid(given, grid, curve.basis)
    best = likelihood.max(1)
    expected = fit.expected.double().cpu().numpy()
    ends = given[:, 0] + given[:, -1] > 0.5 if curve.basis == "polynomial" else np.zeros(len(given), bool)
    marginal = prior.max(1) + np.log(np.exp(prior - prior.max(1, keepdims=True)).sum(1))
    return Found(
        motion=curve.written(curve.basis, pixel_size_angst, meta),
        latents=latent[:, None],
        errors=error[:, None],
        weight=weight,
        log_likelihood=best,
        gain=marginal - rigid,
        surprise=_surprise(best, expected),
        at_end=ends,
        grid=grid[:, None],
        state_weight=posterior.astype(np.float32),
        state_likelihood=(likelihood - best[:, None]).astype(np.float32),
        notes={"junk_percent": 100 * curve.junk},
    )


def without_motion(found: Found) -> Found:
    """The same particles where there is no motion: nobody has a place, as far as the error bars go, and there is no path."""
    motion = replace(found.motion, displacement=np.zeros_like(found.motion.displacement), weight_change=np.zeros_like(found.motion.weight_change))
    count, size = found.latents.shape
    broad = np.full((count, size), 1.0 if found.motion.basis in ("linear", "network") else 1 / np.sqrt(3))
    return replace(
        found_off_grid(motion, np.zeros((count, size)), broad, found.log_likelihood), weight=found.weight, surprise=found.surprise, notes=found.notes)
