"""From eigen-motions to a trajectory: several starts at a coarse resolution, the likeliest of them refined from resolution to resolution."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...io.records import Stage
from ..model.fourier_particles import GaussianImages
from .trajectory_em import CurveFit, evaluate_curve, fit_curve
from .trajectory_model import Curve, thinned

__all__ = ["first_posterior", "search_curve", "start_directions"]

_COARSENING = 2.0  # starts are compared at a resolution this much coarser, where the landscape of likelihood is smooth
_SEARCH_HEAT = (16.0, 8.0, 4.0, 2.0)
_SEARCH_ROUNDS = 6
_REFINE_HEAT = (2.0, 1.4)
_FIRST_SPREAD = 0.5
_MOST_STARTS = 2  # eigen-motions that are combined


def start_directions(projection: NDArray[np.float32], significant: NDArray[np.bool_], closed: bool = False) -> list[NDArray[np.float64]]:
    """First guesses (n,) of every particle's place, in [-1, 1].

    A long motion is a bent line in the plane of its first eigen-motions, so besides these their sums and differences are tried; for a
    closed path the angle in the plane of two.
    """
    count = max(1, min(_MOST_STARTS, int(np.argmin(np.append(significant, False))), projection.shape[1]))
    axes = projection.astype(np.float64)
    if closed and axes.shape[1] > 1:
        pairs = [(0, 1)] + ([(0, 2), (1, 2)] if count > 2 else [])
        return [np.arctan2(axes[:, second], axes[:, first]) / np.pi for first, second in pairs]
    guesses = [axes[:, number] for number in range(count)]
    for first in range(count):
        for second in range(first):
            guesses += [axes[:, second] + axes[:, first], axes[:, second] - axes[:, first]]
    return [2 * np.argsort(np.argsort(guess)) / max(1, len(guess) - 1) - 1 for guess in guesses]


def first_posterior(curve: Curve, guess: NDArray[np.float64]) -> Tensor:
    """Broad weights (n, G) around guessed places."""
    place = torch.as_tensor(guess, dtype=torch.float32, device=curve.grid.device)[:, None]
    away = place - curve.grid
    if curve.basis == "periodic":
        away = (away + 1) % 2 - 1
    return torch.softmax(-away.square() / (2 * _FIRST_SPREAD**2), 1)


def search_curve(images: GaussianImages, curve: Curve, starts: Sequence[Tensor], rounds: int, *, record: Stage | None = None, weak: bool = False) -> CurveFit:
    """The likeliest trajectory from several first posteriors.

    A motion that eigen-motions show is long or clear, and what has to be found is its way: starts are annealed at a coarse resolution. A motion that
    they do not tell from noise (``weak``) is lost by that: heat and coarse resolution both hide the little that the images say. It is short beside the
    resolution, so no way has to be found, and starts are taken as they are, at the full resolution.

    Parameters
    ----------
    images
        Particles at full resolution.
    curve
        Motionless trajectory.
    starts
        First posteriors (n, G). Each is run at half of the places (and twice the resolution's length, annealed), and the likeliest goes on.
    rounds
        Of the last expectation-maximisation.
    record
        Keeps the state after each round, to go on after a kill.
    weak
        The eigen-motions are not told from noise: no start is annealed, and all run at full resolution.
    """
    coarse = images if weak else images.coarser(_COARSENING * images.band.length / images.band.radius)
    few, kept = thinned(curve)
    fits = []
    for number, start in enumerate(starts, 1):
        first = start[:, kept] / start[:, kept].sum(1, keepdim=True)
        what = f"Trajectory, start {number} of {len(starts)}"
        fits.append(fit_curve(coarse, few, first, _SEARCH_ROUNDS, temperatures=() if weak else _SEARCH_HEAT, what=what))
    best = max(fits, key=lambda fit: fit.history[-1])
    whole = replace(best.curve, grid=curve.grid, phi=curve.phi, population=curve.population)
    posterior = evaluate_curve(coarse, whole).posterior
    return fit_curve(images, whole, posterior, rounds, temperatures=() if weak else _REFINE_HEAT, record=record)
