"""Likelihood of images given the volumes of several states."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .fourier_particles import GaussianImages
from .slices import Corners, SliceGrid

__all__ = ["StateBatch", "state_batches", "state_likelihood"]


@dataclass(frozen=True, kw_only=True)
class StateBatch:
    """Some images against all states.

    Attributes
    ----------
    rows : (b,) which images
    corners : where their slices lie
    signal, power : (b, P) filtered images ``C Y / noise``, and ``C^2 / noise``
    likelihood, expected : (b, G) log-likelihoods over that of an empty image, and what they are expected to be; of a tilt image those of its particle
    """

    rows: NDArray[np.int64]
    corners: Corners
    signal: Tensor
    power: Tensor
    likelihood: Tensor
    expected: Tensor


def state_batches(images: GaussianImages, volumes: Tensor, grid: SliceGrid) -> Iterator[StateBatch]:
    """All images, a batch at a time, against each of (G, z, y, x) volumes.

    The log-likelihood is ``2 Re sum (C Y)* V / noise - sum |C V|^2 / noise``, whose second sum is also the expectation when V is right.
    """
    count = len(volumes)
    table = grid.table(volumes)
    noise = images.band.per_point(images.noise_power)
    for batch in images.batches(chunk=grid.images_at_a_time(count, images.device)):
        corners = grid.corners(batch.rotation)
        slices = grid.sample(table, corners)
        signal, power = batch.filtered(noise)
        cross = signal.real[:, None] @ slices[..., :count] + (signal.imag * corners.sign)[:, None] @ slices[..., count:]
        slices.square_()
        own = power[:, None] @ (slices[..., :count] + slices[..., count:])
        likelihood, expected = batch.pooled((2 * cross - own)[:, 0]), batch.pooled(own[:, 0])
        yield StateBatch(rows=batch.rows, corners=corners, signal=signal, power=power, likelihood=likelihood, expected=expected)


def state_likelihood(images: GaussianImages, volumes: Tensor, grid: SliceGrid) -> tuple[Tensor, Tensor]:
    """Log-likelihoods (n, G) of :func:`state_batches`, and what they are expected to be (n, G)."""
    result, expected = (torch.empty(len(images), len(volumes), device=images.device) for _ in range(2))
    for batch in state_batches(images, volumes, grid):
        result[batch.rows], expected[batch.rows] = batch.likelihood, batch.expected
    return result, expected
