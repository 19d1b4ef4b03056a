"""What two half sets, each of which found its trajectory alone, say of it: whether they agree, and whether there is a motion at all.

Wrong poses look like motions: particles that are turned or off their centres are explained better by Gaussians that move along. So each half's trajectory is
held against its own rigid-body part, which wrong poses would make as well, by the likelihood of the other half's particles. A deformation that
is none explains them worse, since it was fitted to the noise of its own half; that of a molecule that moves explains them better.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .conformation_estimates import latents_on_grid
from .free_energy import FreeEnergy, free_energy, way_along
from .model.fourier_particles import GaussianImages
from .model.projection import Gaussians
from .model.slices import SliceGrid
from .model.state_likelihood import state_likelihood
from .trajectory.trajectory_em import CurveFit, evaluate_curve
from .trajectory.trajectory_model import Curve

__all__ = ["HeldOut", "Mean", "judge_halves", "rigid_part"]

Array = NDArray[np.float64]
_SIGNIFICANT = 3.0


@dataclass(frozen=True, kw_only=True)
class Mean:
    """Mean over the particles, and its standard error."""

    value: float
    error: float

    @property
    def positive(self) -> bool:
        """Above 0 by three standard errors."""
        return self.value > _SIGNIFICANT * self.error

    @classmethod
    def of(cls, values: Array, particle: NDArray[np.int64]) -> Mean:
        """Of values (n,) of images, several of which may show one particle (n,)."""
        each = np.bincount(particle, values) / np.bincount(particle).clip(1)
        each = each[np.unique(particle)]
        return cls(value=float(each.mean()), error=float(each.std() / np.sqrt(len(each))))


@dataclass(frozen=True, kw_only=True)
class HeldOut:
    """Two half sets' trajectories, judged.

    Attributes
    ----------
    latents : (n, 2) of all images, by the trajectory that each half set found alone
    deformation : gain in log-likelihood of the trajectory over its rigid-body part, on particles it was not fitted to
    rigid : the same of the rigid-body part over the model that does not move
    landscapes : free energy of each half set along its own path, and the way along it
    """

    latents: Array
    deformation: Mean
    rigid: Mean
    landscapes: list[tuple[FreeEnergy, Array]]


def judge_halves(fits: Sequence[CurveFit], images: GaussianImages, half: NDArray[np.int64], particle: NDArray[np.int64]) -> HeldOut:
    """Judge the trajectories of half sets.

    Parameters
    ----------
    fits
        Of each half set alone.
    images
        All images.
    half, particle
        (n,) 1 or 2; and which particle, counted from 0, an image shows.
    """
    grid = SliceGrid(images.band)
    gains, pair, landscapes = np.zeros((2, len(half))), [], []
    single = np.arange(len(half)) if images.particle is None else np.unique(images.particle, return_index=True)[1]  # tilts say the same
    for number, fit in enumerate(fits, 1):
        curve = fit.curve
        own, others = single[half[single] == number], np.flatnonzero(half != number)
        everyone = evaluate_curve(images, curve)
        likelihood = everyone.likelihood.double().cpu().numpy()
        posterior = np.exp(likelihood - likelihood.max(1, keepdims=True)) * curve.population.double().cpu().numpy()
        pair.append(latents_on_grid(posterior / posterior.sum(1, keepdims=True), curve.grid.double().cpu().numpy(), curve.basis)[0])
        way = way_along(curve.states()[0].double().cpu().numpy(), curve.basis)
        landscapes.append((free_energy(likelihood[own], everyone.posterior.sum(1).double().cpu().numpy()[own], way, curve.basis), way))
        rigid, still = (_evidence(images.subset(others), grid, _with_states(curve, grid, places), curve.log_prior) for places in _alternatives(curve))
        moving = torch.logsumexp(torch.nn.functional.pad(everyone.likelihood, (0, 1)) + curve.log_prior, 1).double().cpu().numpy()[others]
        gains[0, others], gains[1, others] = moving - rigid, rigid - still
    return HeldOut(latents=np.stack(pair, axis=1), deformation=Mean.of(gains[0], particle), rigid=Mean.of(gains[1], particle), landscapes=landscapes)


def rigid_part(places: Tensor, base: Tensor, weight: Tensor) -> Tensor:
    """Gaussians turned and shifted as a whole to where they lie best on each of several places (Kabsch, Acta Cryst. A32 (1976) 922).

    Parameters
    ----------
    places
        (G, M, 3).
    base
        (M, 3) of the rigid body.
    weight
        (M,) of the Gaussians.

    Returns
    -------
    (G, M, 3)
    """
    share = weight / weight.sum()
    centre, centres = share @ base, torch.einsum("m,gmk->gk", share, places)
    about, seen = base - centre, places - centres[:, None]
    u, _, vt = torch.linalg.svd(torch.einsum("m,gmi,mj->gij", share, seen, about))
    u[:, :, 2] *= torch.linalg.det(u @ vt)[:, None]  # no mirror images
    return about @ (u @ vt).mT + centres[:, None]


def _alternatives(curve: Curve) -> tuple[Tensor, Tensor]:
    """Places (G, M, 3) of the trajectory's rigid-body part, and (1, M, 3) of the model that does not move."""
    places = curve.states()[0]
    mean = torch.einsum("g,gmk->mk", curve.population, places)
    moves = curve.spread.abs().sum(1) > 0
    return rigid_part(places, mean, curve.base.amplitudes * moves), mean[None]


def _with_states(curve: Curve, grid: SliceGrid, places: Tensor) -> Tensor:
    """Volumes (G, z, y, x) of the trajectory's Gaussians at other places, with their mean amplitudes."""
    amplitudes = curve.population @ curve.states()[1]
    return torch.cat([grid.model_volume(Gaussians(state, amplitudes, curve.base.sigma_angst)) for state in places])


def _evidence(images: GaussianImages, grid: SliceGrid, volumes: Tensor, log_prior: Tensor) -> Array:
    """(n,) log-likelihood with the place (if there are several), and whether there is a particle, integrated out."""
    if len(volumes) == 1:
        log_prior = torch.stack((log_prior[:-1].logsumexp(0), log_prior[-1]))
    likelihood = state_likelihood(images, volumes, grid)[0]
    return np.asarray(torch.logsumexp(torch.nn.functional.pad(likelihood, (0, 1)) + log_prior, 1).double().cpu().numpy())
