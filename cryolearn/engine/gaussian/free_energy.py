"""Free energy along a path from the likelihoods of the particles at its places.

A latent is any parameter of the path; Å along the path are not, so what is reported is the density of particles for each Å, ``exp(h)``. Where a particle
stands is known only as far as its likelihood goes: ``h`` is the function under which all likelihoods together are greatest, and its error bars are those of
the curvature there (Laplace's approximation), which grow where places cannot be told apart. Before the data, ``h`` is a Gaussian process that changes by 1, 2
or 4 kT, whichever the data's evidence prefers (MacKay, Neural Comput. 4 (1992) 415), over an eighth of the path: what particles do not show is not
taken to be flat.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy.stats import chi2

__all__ = ["FreeEnergy", "free_energy", "inflated", "way_along"]

Array = NDArray[np.float64]
_AMPLITUDES_KT = (1.0, 2.0, 4.0)
_REACH = 0.12  # of the path
_NUGGET = 1e-4
_ROUNDS = 100
_SETTLED = 1e-6


@dataclass(frozen=True, kw_only=True)
class FreeEnergy:
    """Free energy along a path.

    Attributes
    ----------
    population : (G,) part of the particles at each place
    energy_kt : (G,) in kT, of particles for each Å, above its least
    covariance : (G, G) of the deviations from the mean over the particles
    """

    population: Array
    energy_kt: Array
    covariance: Array

    @property
    def error_kt(self) -> Array:
        """(G,) standard errors of the deviations from the mean over the particles."""
        return np.asarray(np.sqrt(np.diag(self.covariance).clip(0)))

    @property
    def flat(self) -> float:
        """Probability of deviations at least as large where all places are alike (an upper bound: what the prior holds back is not counted)."""
        away = self.energy_kt - self.population @ self.energy_kt
        return float(chi2.sf(away @ np.linalg.pinv(self.covariance, rcond=1e-6, hermitian=True) @ away, len(away) - 1))


def way_along(places: Array, basis: str) -> Array:
    """(G,) distance travelled to each of places (G, M, 3), as root mean square over the Gaussians, Å; of separate states their number."""
    if basis == "states":
        return np.arange(len(places), dtype=float)
    steps = np.sqrt(np.square(np.diff(places, axis=0)).sum(2).mean(1))
    return np.concatenate([[0.0], np.cumsum(steps)])


def free_energy(log_likelihood: Array, weight: Array, way_angst: Array, basis: str) -> FreeEnergy:
    """Free energy from log-likelihoods (n, G) of particles at the places of a path.

    Parameters
    ----------
    log_likelihood
        Of each particle at each place, relative to anything.
    weight
        (n,) probability that the image is a particle.
    way_angst
        (G,) distance travelled to each place (:func:`way_along`).
    basis
        'polynomial' (open), 'periodic' or 'states', which have no order, and of which each counts as much as any other.
    """
    likelihood = np.exp(log_likelihood - log_likelihood.max(1, keepdims=True))
    length = _lengths(way_angst, basis)
    middle = np.cumsum(length) - length / 2
    fits = [_fit(likelihood, weight, length, np.linalg.inv(_prior(middle, basis, amplitude))) for amplitude in _AMPLITUDES_KT]
    share = np.exp(np.array([fit[2] for fit in fits]) - max(fit[2] for fit in fits))
    share /= share.sum()
    h = np.asarray(sum(part * fit[0] for part, fit in zip(share, fits)))
    population = length * np.exp(h)
    population /= population.sum()
    about = np.eye(len(h)) - population  # takes the mean over the particles away
    covariance = sum(part * (about @ fit[1] @ about.T + np.outer(about @ (fit[0] - h), about @ (fit[0] - h))) for part, fit in zip(share, fits))
    return FreeEnergy(population=population, energy_kt=h.max() - h, covariance=np.asarray(covariance))


def inflated(found: FreeEnergy, way_angst: Array, halves: Sequence[tuple[FreeEnergy, Array]]) -> FreeEnergy:
    """Error bars enlarged by as much as those of two half sets, each along the path that it found alone, are too small for their difference (Birge's ratio).

    Parameters
    ----------
    found, way_angst
        Of all particles.
    halves
        Of each half set, which ran its path the same way.
    """
    if not all(way[-1] > 0 for way in (way_angst, *(way for _, way in halves))):
        return found
    energies = [np.interp(way_angst / way_angst[-1], way / way[-1], half.energy_kt) for half, way in halves]
    errors = [np.interp(way_angst / way_angst[-1], way / way[-1], half.error_kt) for half, way in halves]
    difference = energies[0] - energies[1]
    difference = difference - found.population @ difference
    expected = found.population @ (errors[0] ** 2 + errors[1] ** 2)
    return replace(found, covariance=found.covariance * max(1.0, float(found.population @ difference**2 / max(expected, 1e-12))))


def _lengths(way_angst: Array, basis: str) -> Array:
    """(G,) part of the path that each place stands for."""
    count = len(way_angst)
    if basis == "states" or not way_angst[-1] > 0:
        return np.full(count, 1 / count)
    steps = np.diff(way_angst)
    closing = steps.mean() if basis == "periodic" else 0.0
    length = (np.append(steps, closing) + np.append(closing, steps)) / 2
    length = np.clip(length, 1e-3 * length.mean(), None)
    return np.asarray(length / length.sum())


def _prior(middle: Array, basis: str, amplitude_kt: float) -> Array:
    """(G, G) covariance of h before the data, at places on a path of length 1."""
    apart = np.abs(middle[:, None] - middle)
    if basis == "states":
        apart = np.where(apart > 0, np.inf, 0.0)
    elif basis == "periodic":
        apart = np.sin(np.pi * apart) / np.pi
    return np.asarray(amplitude_kt**2 * (np.exp(-(apart**2) / (2 * _REACH**2)) + _NUGGET * np.eye(len(middle))))


def _fit(likelihood: Array, weight: Array, length: Array, precision: Array) -> tuple[Array, Array, float]:
    """Density h (G,) of the greatest likelihood and prior, its covariance (G, G) and the logarithm of the evidence for the prior.

    Newton's method with the empirical Fisher information; a step that makes things worse is halved.
    """
    h = np.zeros(len(length))
    objective, gradient, information = _state(h, likelihood, weight, length)
    for _ in range(_ROUNDS):
        step, part = np.linalg.solve(information + precision, gradient - precision @ h), 1.0
        while part > 1e-4:
            trial = h + part * step
            found = _state(trial, likelihood, weight, length)
            reached = found[0] - float(trial @ precision @ trial) / 2
            if reached >= objective:
                break
            part /= 2
        else:
            break
        gained, objective, h = reached - objective, reached, trial
        _, gradient, information = found
        if gained < _SETTLED:
            break
    evidence = objective + 0.5 * np.linalg.slogdet(precision)[1] - 0.5 * np.linalg.slogdet(information + precision)[1]
    return h - np.log((length * np.exp(h)).sum()), np.linalg.inv(information + precision), float(evidence)


def _state(h: Array, likelihood: Array, weight: Array, length: Array) -> tuple[float, Array, Array]:
    """Log-likelihood of all particles, its gradient (G,) and information (G, G)."""
    prior = length * np.exp(h - h.max())
    prior /= prior.sum()
    joint = likelihood * prior
    total = joint.sum(1, keepdims=True).clip(1e-300)
    away = joint / total - prior
    weighted = away * weight[:, None]
    return float(weight @ np.log(total[:, 0])), weighted.sum(0), away.T @ weighted
