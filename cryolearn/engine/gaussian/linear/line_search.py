"""Place of each particle on one straight eigen-motion: by scanning its score, or by one gradient step as the released programs of Chen 2018."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...progress import Progress
from ..model.fourier_particles import Batch, GaussianImages
from ..model.image_scores import frc_score, likelihood_score
from ..model.projection import Gaussians, project
from .gradients import GradientSource

__all__ = ["ScanResult", "scan_motion"]

_HALF_POINTS = 7
_STEP_OF_RESOLUTION = 1 / 7  # so that the first range reaches one resolution to either side
_STEP_OF_AMPLITUDE = 1 / 7
_DOUBLINGS = 2
_ENDS = 0.05  # part of the images whose best place may be an end
_NEWTON_STEPS = 2


@dataclass
class ScanResult:
    """Position of each particle along one motion.

    Attributes
    ----------
    place : (n,) along the motion, in Å of the Gaussian that moves most (parts of the amplitude for composition)
    error : (n,) standard deviation: the curvature of the likelihood, or of the FRC with the noise of a likelihood of the same curvature
    at_end : (n,) the best place is at the end of the widest range
    log_likelihood, rigid : (n,) at the place, and of the model that does not move
    """

    place: NDArray[np.float64]
    error: NDArray[np.float64]
    at_end: NDArray[np.bool_]
    log_likelihood: NDArray[np.float64]
    rigid: NDArray[np.float64]


def scan_motion(source: GradientSource, motion: Tensor) -> ScanResult:
    """Best place of each image along ``motion``, by the source's score.

    Each batch is scored on 15 places up to one resolution (composition: one amplitude) away; when the best place of more than one image in twenty
    is an end, the range is doubled, twice at most. Two Newton steps with the score's own curvature follow.

    Parameters
    ----------
    source
        Images, Gaussians and kind of score.
    motion
        (M, 3) displacement with 1 Å at the Gaussian that moves most, or (M,) relative change of amplitude with 1 at the largest.
    """
    images = source.images
    spacing = images.band.length / images.band.radius * _STEP_OF_RESOLUTION if motion.dim() == 2 else _STEP_OF_AMPLITUDE
    progress = Progress("Scan", len(images))
    found: list[tuple[NDArray[np.int64], tuple[Tensor, ...]]] = []
    for batch in images.batches(chunk=source.chunk):
        reach, steps = 0, _HALF_POINTS
        scores = torch.empty(len(batch.rows), 0, device=images.device)
        for _ in range(_DOUBLINGS + 1):
            sides = [list(range(-steps, -reach)), list(range(reach + 1, steps + 1))] if reach else [list(range(-steps, steps + 1)), []]
            left, right = (
                torch.stack([_score(source, batch, motion, scores.new_full((len(batch.rows),), number * spacing)) for number in side], 1)
                if side else scores[:, :0] for side in sides)
            scores = torch.cat((left, scores, right), 1)
            reach, steps = steps, 2 * steps
            best = scores.argmax(1)
            ends = (best == 0) | (best == 2 * reach)
            if int(ends.sum()) <= _ENDS * len(ends):
                break
        places = torch.arange(-reach, reach + 1, device=images.device) * spacing
        inside = best.clamp(1, len(places) - 2)
        step = spacing
        place = places[inside]
        for _ in range(_NEWTON_STEPS):
            low, middle, high = (_score(source, batch, motion, place + shift * step) for shift in (-1, 0, 1))
            curvature = (low - 2 * middle + high).clamp(max=-1e-30)
            place = place - step * ((high - low) / (2 * curvature)).clamp(-1, 1)
            step /= 2
        found.append((batch.rows, _judge(source, batch, motion, place, ends)))
        progress.step(len(batch.rows))
    columns = [np.concatenate([values[number].cpu().numpy() for _, values in found]) for number in range(5)]
    return ScanResult(columns[0], columns[1], columns[2] > 0, columns[3], columns[4])


def _displaced(model: Gaussians, motion: Tensor, place: Tensor) -> Gaussians:
    if motion.dim() == 2:
        return model.moved(place[:, None, None] * motion)
    amplitudes = model.amplitudes * (1 + place[:, None] * motion).clamp(min=0)
    return Gaussians(model.positions_angst, amplitudes, model.sigma_angst)


def _score(source: GradientSource, batch: Batch, motion: Tensor, place: Tensor, score: str = "") -> Tensor:
    images: GaussianImages = source.images
    band = images.band
    values = project(_displaced(source.model, motion, place), batch.rotation, band).values.flatten(1)[:, band.grid_index]
    if (score or source.score) == "frc":
        return batch.pooled(frc_score(values, batch, band)[0])
    return batch.pooled(likelihood_score(values, batch, band, images.noise_power)[0])


def _judge(source: GradientSource, batch: Batch, motion: Tensor, place: Tensor, ends: Tensor) -> tuple[Tensor, ...]:
    """Error bars by the curvature of the likelihood: 1 / sqrt(-d2 log L / dc2)."""
    step = 1.0 if motion.dim() == 2 else 0.1
    low, middle, high = (_score(source, batch, motion, place + shift * step, "likelihood") for shift in (-1, 0, 1))
    curvature = -(low - 2 * middle + high) / step**2
    empty = batch.pooled((batch.data.abs().square() / source.images.band.per_point(source.images.noise_power)).sum(-1))
    rigid = _score(source, batch, motion, torch.zeros_like(place), "likelihood")
    # an image that does not see the motion has no curvature: its error bar is the whole range
    error = 1 / torch.sqrt(curvature.clamp(min=1e-4 if motion.dim() == 2 else 1e-2))
    return place, error, ends.to(place), middle + empty, rigid + empty
