"""Radial gain between model and images, and the noise of the images' coefficients."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ..errors import InputError
from .forward import Gaussians, project
from .particles import GaussianImages

__all__ = ["calibrate"]

_SAMPLE = 3000
_SMALLEST_GAIN = 1e-3


def calibrate(images: GaussianImages, model: Gaussians) -> GaussianImages:
    """The images with the ``gain`` by which the model's rings appear in them, and the ``noise_power`` left when the model is taken away.

    A gain by rings makes the map's scale, the images' scale and the envelope of the microscope harmless. What moves in the
    particles counts as noise here, which is what it is for a rigid model.

    Raises
    ------
    InputError
        when the model explains nothing of the images: wrong contrast or poses.
    """
    band = images.band
    rows = np.unique(np.linspace(0, len(images) - 1, min(_SAMPLE, len(images))).round().astype(np.int64))
    flat = replace(images, gain=torch.ones_like(images.gain))
    sums = torch.zeros(3, band.rings, device=images.device, dtype=torch.float64)
    for batch in flat.batches(rows):
        projected = batch.transfer * project(model, batch.rotation, band).values.flatten(1)[:, band.grid_index]
        parts = (projected.conj() * batch.data).real, projected.abs().square(), batch.data.abs().square()
        for total, part in zip(sums, parts, strict=True):
            total += band.ring_sum(part.double()).sum(0)
    cross, own, power = sums
    gain = cross / own.clamp(min=1e-30)
    overall = float(cross.sum() / own.sum())
    if not overall > 0:
        raise InputError(
            "The images agree with the map no better than with its negative: turn the contrast of the images (particles must be white), "
            "or check that the poses belong to the map.")
    gain = gain.clamp(min=_SMALLEST_GAIN * overall)
    points = band.ring_sum(torch.ones(len(band), device=images.device, dtype=torch.float64))
    left = (power - 2 * gain * cross + gain**2 * own) / (points * len(rows))
    return replace(images, gain=gain.float(), noise_power=left.clamp(min=1e-6 * float(left.max())).float())
