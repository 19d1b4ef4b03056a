"""The autoencoder beside the trajectory: trained on one half of the particles, compared on the other."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from ...training.learning_curve import write_learning_curve
from ..config import GaussianHeterogeneityConfig
from ..linear.gradients import GradientSource
from ..linear.linear_estimates import linear_of
from ..model.fourier_particles import GaussianImages
from ..summary import SummaryNotes
from ..trajectory.trajectory_em import CurveFit, evaluate_curve
from .training import AutoencoderFit, AutoencoderSettings, HeldOutComparison, fit_autoencoder

__all__ = ["autoencoder_of", "comparison_notes", "judge_rows", "marginal_likelihood"]


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
    images = source.images
    training, held_out = judge_rows(len(images), copies)
    lines = linear_of(replace(source, images=images.subset(training)), config)
    comparison = HeldOutComparison(
        training=training, held_out=held_out, curve_likelihood=marginal_likelihood(images.subset(held_out), curve))
    settings = AutoencoderSettings(latents=config.components, vary=config.vary, junk=curve.curve.junk, seed=config.seed)
    fit = fit_autoencoder(
        images, source.model, curve.curve.spread, settings, moves=source.chosen, comparison=comparison, config=replace(config, output=str(folder)),
        start=lines)
    write_learning_curve(Path(config.output), fit.history, "Autoencoder")
    kept = "kept" if fit.accepted else "not kept: the curve is"
    print(f"Autoencoder: log-likelihood of unseen particles {fit.held_out_gain:+.3f} ± {fit.standard_error:.3f} an image against the curve; {kept}", flush=True)
    return fit


def comparison_notes(fit: AutoencoderFit) -> SummaryNotes:
    """What the summary says of the comparison."""
    return {"autoencoder_accepted": fit.accepted, "autoencoder_held_out_gain": fit.held_out_gain, "autoencoder_held_out_gain_error": fit.standard_error}
