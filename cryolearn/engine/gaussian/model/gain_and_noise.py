"""Radial gain between model and images, and the noise of the images' coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from ...exceptions import InputError
from ...imaging.standard_images import even_rows
from .fourier_particles import GaussianImages
from .projection import Gaussians, project

__all__ = ["calibrate", "line_sums", "split_noise"]

_SAMPLE = 3000
_LEAST_EVEN = 0.05  # part of the noise that does not pass the CTF, at least: the camera's
_LEAST_SPREAD = 1e-3  # variance of CTF^2 within a ring below which the two cannot be told apart
_SMALLEST_GAIN = 1e-3


def calibrate(images: GaussianImages, model: Gaussians) -> GaussianImages:
    """The images with the ``gain`` by which the model's rings appear in them, and the noise (``noise_power``, ``ctf_noise``) left without the model.

    A gain by rings makes the map's scale, the images' scale and the envelope of the microscope harmless. What moves in the
    particles counts as noise here, which is what it is for a rigid model.

    Raises
    ------
    InputError
        when the model explains nothing of the images: wrong contrast or poses.
    """
    band = images.band
    rows = even_rows(len(images), _SAMPLE)
    flat = replace(images, gain=torch.ones_like(images.gain), ctf_noise=None)
    sums = torch.zeros(9, band.rings, device=images.device, dtype=torch.float64)
    for batch in flat.batches(rows):
        projected = batch.transfer * project(model, batch.rotation, band).values.flatten(1)[:, band.grid_index]
        parts = [(projected.conj() * batch.data).real, projected.abs().square(), batch.data.abs().square()]
        passed, kept = batch.transfer.square(), images.noise_kept(batch.rows)
        for total, part in zip(sums, line_sums(parts, passed, kept), strict=True):
            total += band.ring_sum(part.double()).sum(0)
    cross, own, power = sums[:3]
    gain = cross / own.clamp(min=1e-30)
    overall = float(cross.sum() / own.sum())
    if not overall > 0:
        raise InputError(
            "The images agree with the map no better than with its negative: turn the contrast of the images (particles must be white), "
            "or check that the poses belong to the map.")
    gain = gain.clamp(min=_SMALLEST_GAIN * overall)
    noise, ctf_noise = split_noise(gain, sums[:-1] / sums[-1].clamp(min=1e-30))
    return replace(images, gain=gain.float(), noise_power=noise, ctf_noise=None if images.ctf is None else ctf_noise)


def line_sums(parts: Sequence[Tensor], passed: Tensor, kept: Tensor) -> list[Tensor]:
    """What is summed over coefficients for :func:`split_noise`, the divisor of all of it last.

    The noise of a coefficient is ``even kept + slope passed``: ``kept`` (b, P) is the part of its noise that an image holds, ``passed`` the square of its
    transfer. ``parts`` are ``Re (C V)* Y``, ``|C V|^2`` and ``|Y|^2``.
    """
    return [*(part * kept for part in parts), *(part * passed for part in parts), passed * kept, passed.square(), kept.square()]


def split_noise(gain: Tensor, means: Tensor) -> tuple[Tensor, Tensor]:
    """Noise that has not passed the CTF (rings,), and that which has, over it: the line of ``|Y - g C V|^2`` over CTF^2 within each ring.

    ``means`` (8, rings) over all coefficients: ``Re (C V)* Y``, ``|C V|^2``, ``|Y|^2``, each of these times CTF^2, CTF^2, and its square; see
    :func:`line_sums` for images that do not hold all of the noise.
    """
    def left(cross: Tensor, own: Tensor, power: Tensor) -> Tensor:
        return power - 2 * gain * cross + gain**2 * own

    *_, passed, square = means
    noise = left(*means[:3])
    noise = noise.clamp(min=1e-6 * float(noise.max()))
    spread = square - passed**2
    slope = torch.where(spread > _LEAST_SPREAD, (left(*means[3:6]) - passed * noise) / spread.clamp(min=_LEAST_SPREAD), 0.0).clamp(min=0)
    slope = torch.minimum(slope, (1 - _LEAST_EVEN) * noise / passed.clamp(min=1e-12))
    even = noise - slope * passed
    return even.float(), (slope / even).float()
