"""From eigen-motions to several linear motions and every particle's latents."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...io.motions import MotionModel
from ..config import GaussianHeterogeneityConfig
from ..conformation_estimates import Found
from .eigen_motions import find_eigen_motions
from .gradients import GradientSource
from .linear_motions import LinearMotions
from .probabilistic_pca import LinearFit, fit_linear

__all__ = ["found_on_lines", "linear_of", "motion_of_lines"]

_COARSENING = 2.0  # the first rounds see waves this much longer, beside which motions are small
_COARSE_ROUNDS = 6


def linear_of(source: GradientSource, config: GaussianHeterogeneityConfig) -> LinearFit:
    """Linear motions of the source's images, from ``config.components`` eigen-motions of their gradients.

    Eigen-motions of the gradients as they are and in the Fisher metric are both tried at half the resolution; the likelier goes on.
    """
    images, model = source.images, source.model
    moves = torch.ones(len(model), dtype=torch.bool, device=images.device) if source.moves is None else source.moves
    coarse = images.coarser(_COARSENING * images.band.length / images.band.radius)
    first: LinearFit | None = None
    for metric in (False, True):
        eigen = find_eigen_motions(source, config.components, 0, config.seed, metric)
        vectors = eigen.vectors.view(len(eigen.vectors), len(model), -1)
        places, changes = (None, vectors[..., 0]) if config.vary == "composition" else (vectors, None)
        found = fit_linear(coarse, model, places, _COARSE_ROUNDS, moves=moves, changes=changes, anchors=config.anchors, vary=config.vary, seed=config.seed,
                           what="Linear motions, coarse")
        if first is None or found.history[-1] > first.history[-1]:
            first = found
    assert first is not None
    return fit_linear(images, model, None, config.rounds, moves=moves, start=first.motions)


def motion_of_lines(motions: LinearMotions, pixel_size_angst: float, meta: dict[str, Any]) -> MotionModel:
    """The motions in the form that is written; latents count in standard deviations."""
    def array(values: Tensor) -> NDArray[np.float64]:
        return np.asarray(values.detach().cpu().numpy(), np.float64)

    base = motions.base
    return MotionModel(
        positions_angst=array(base.positions_angst),
        weights=array(base.amplitudes) * pixel_size_angst**2,
        sigma_angst=array(base.sigma_angst),
        displacement=array(motions.displacement()),
        weight_change=array(motions.weight_change()),
        basis="linear",
        layers=[],
        meta=meta,
    )


def found_on_lines(fit: LinearFit, rigid: NDArray[np.float64], pixel_size_angst: float, meta: dict[str, Any]) -> Found:
    """Conformations from linear motions; ``rigid`` (n,) is the log-likelihood of the model that does not move."""
    posterior, (count, latents) = fit.posterior, fit.latent.shape
    likelihood, expected, evidence = (values.cpu().numpy() for values in (posterior.log_likelihood, posterior.expected, posterior.evidence))
    return Found(
        motion=motion_of_lines(fit.motions, pixel_size_angst, meta),
        latents=fit.latent.cpu().numpy(),
        errors=posterior.sigma.cpu().numpy(),
        weight=posterior.weight.cpu().numpy(),
        log_likelihood=likelihood,
        gain=evidence - rigid,
        surprise=(likelihood - expected) / (2 * np.sqrt(expected.clip(1e-6))),
        at_end=np.zeros(count, bool),
        grid=np.zeros((0, latents)),
        state_weight=np.zeros((count, 0), np.float32),
        notes={"log_likelihood_by_round": fit.history, "junk_percent": 100 * fit.motions.junk, "explained_motion": fit.explained.tolist()},
    )
