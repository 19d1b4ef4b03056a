"""The autoencoder beside the curve: trained on one half of the particles, judged on the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...training.learning_curve import write_learning_curve
from ..config import GaussianHeterogeneityConfig
from ..conformation_estimates import Found
from ..linear.gradients import GradientSource
from ..linear.linear_estimates import linear_of
from ..model.fourier_particles import GaussianImages
from ..trajectory.trajectory_em import CurveFit, evaluate_curve
from .training import AutoencoderFit, fit_autoencoder

__all__ = ["autoencoder_of", "comparison_notes", "found_on_network", "judge_rows", "marginal_likelihood"]


def judge_rows(count: int, copies: int = 1) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Rows to learn from and rows to judge by, every second particle; the ``copies`` of a symmetric particle stay together."""
    second = np.arange(count) // copies % 2 == 1
    return np.flatnonzero(~second), np.flatnonzero(second)


def marginal_likelihood(images: GaussianImages, fit: CurveFit) -> NDArray[np.float64]:
    """Log-likelihood (n,) of images by a trajectory, with the place and whether there is a particle integrated out, over an empty image."""
    likelihood = evaluate_curve(images, fit.curve).likelihood
    with_empty = torch.nn.functional.pad(likelihood, (0, 1)) + fit.curve.log_prior
    return torch.logsumexp(with_empty.double(), 1).cpu().numpy()


def autoencoder_of(source: GradientSource, curve: CurveFit, config: GaussianHeterogeneityConfig, folder: Path, copies: int = 1) -> AutoencoderFit:
    """Train on the first rows of :func:`judge_rows`; ``source`` is of all images, ``curve`` of these rows alone."""
    images, model = source.images, source.model
    moves = torch.ones(len(model), dtype=torch.bool, device=images.device) if source.moves is None else source.moves
    training, held_out = judge_rows(len(images), copies)
    lines = linear_of(replace(source, images=images.subset(training)), config)
    fit = fit_autoencoder(
        images, model, curve.curve.spread, config.components, training=training, held_out=held_out,
        curve_likelihood=marginal_likelihood(images.subset(held_out), curve), moves=moves, config=replace(config, output=str(folder)), start=lines,
        vary=config.vary, junk=curve.curve.junk, seed=config.seed)
    write_learning_curve(Path(config.output), fit.history, "Autoencoder")
    kept = "kept" if fit.accepted else "not kept: the curve is"
    print(f"Autoencoder: log-likelihood of unseen particles {fit.held_out_gain:+.3f} ± {fit.standard_error:.3f} an image against the curve; {kept}", flush=True)
    return fit


def comparison_notes(fit: AutoencoderFit) -> dict[str, Any]:
    """What the summary says of the comparison."""
    return {"autoencoder_accepted": fit.accepted, "autoencoder_held_out_gain": fit.held_out_gain, "autoencoder_held_out_gain_error": fit.standard_error}


def found_on_network(fit: AutoencoderFit, rigid: NDArray[np.float64], pixel_size_angst: float, meta: dict[str, Any]) -> Found:
    """Conformations from the decoder; ``rigid`` (n,) is the log-likelihood of the model that does not move."""
    posterior, (count, latents) = fit.posterior, fit.latent.shape
    likelihood, expected, evidence = (values.cpu().numpy() for values in (posterior.log_likelihood, posterior.expected, posterior.evidence))
    return Found(
        motion=fit.motion(pixel_size_angst, meta),
        latents=fit.latent.cpu().numpy(),
        errors=posterior.sigma.cpu().numpy(),
        weight=posterior.weight.cpu().numpy(),
        log_likelihood=likelihood,
        gain=evidence - rigid,
        surprise=(likelihood - expected) / (2 * np.sqrt(expected.clip(1e-6))),
        at_end=np.zeros(count, bool),
        grid=np.zeros((0, latents)),
        state_weight=np.zeros((count, 0), np.float32),
        notes=comparison_notes(fit),
    )
