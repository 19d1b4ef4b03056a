"""Slices of all states at the poses of images, and the likelihood about these poses."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...alignment.gauss_newton import difference_rotations, pose_jacobian
from ..model.fourier_particles import Batch, GaussianImages
from ..model.slices import SliceGrid

__all__ = ["Quadratic", "Slicer"]


@dataclass(frozen=True, kw_only=True)
class Quadratic:
    """Log-likelihoods (b, G), their slopes (b, G, 5) and curvatures (b, G, 5, 5) at a pose."""

    value: Tensor
    slope: Tensor
    curvature: Tensor


class Slicer:
    """Slices of all states, whitened, as (b, G, 2 P) real numbers: real parts, then imaginary ones."""

    def __init__(self, images: GaussianImages, volumes: Tensor, grid: SliceGrid) -> None:
        self.band, self.grid, self.count = images.band, grid, len(volumes)
        self.table = grid.table(volumes)
        self.white = images.band.per_point(images.noise_power).rsqrt()
        self.more, self.less = difference_rotations(images.device)
        self.waves = images.band.points.T * (2 * math.pi / images.band.length)

    def slices(self, rotation: Tensor, transfer: Tensor) -> Tensor:
        """Slices of the states at rotations (b, 3, 3), times the transfer (b, P) of the images."""
        corners = self.grid.corners(rotation)
        found = self.grid.sample(self.table, corners).view(*transfer.shape, 2, self.count)
        scale = torch.stack((transfer * self.white, transfer * self.white * corners.sign), dim=-1)
        return (found * scale[..., None]).permute(0, 3, 2, 1).flatten(2)

    def data(self, batch: Batch, move: Tensor) -> Tensor:
        """(b, 2 P) images shifted back by ``move`` beyond their batch's shift."""
        shifted = batch.data * self.band.phase(-move) * self.white
        return torch.cat((shifted.real, shifted.imag), dim=-1)

    def value(self, batch: Batch, rotation: Tensor, move: Tensor) -> Tensor:
        """Log-likelihoods (b, G)."""
        slices = self.slices(rotation, batch.transfer)
        return 2 * (slices @ self.data(batch, move)[..., None])[..., 0] - slices.square().sum(-1)

    def integrated(self, batch: Batch, rotation: Tensor, move: Tensor, away: Tensor, precision: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Evidence (b, G) of each state at a rotation with the shift integrated out, mean (b, G, 2) and variance (b, G, 2) of the shift's change.

        ``away`` (b, 2) is where ``move`` lies from the centre of its prior, of ``precision`` (2,).
        """
        slices = self.slices(rotation, batch.transfer)
        points = len(self.band)
        data = self.data(batch, move)
        misfit = data[:, None] - slices
        value = (slices * (misfit + data[:, None])).sum(-1)
        swapped = torch.cat((slices[..., points:], -slices[..., :points]), dim=-1)
        waves = self.waves.repeat(1, 2)
        slope = 2 * (swapped * misfit) @ waves.T - (away * precision)[:, None]
        square = slices.square()
        xx, yy, xy = (2 * square @ torch.stack((waves[0] ** 2, waves[1] ** 2, waves[0] * waves[1])).T).unbind(-1)
        xx, yy = xx + precision[0], yy + precision[1]
        area = xx * yy - xy.square()
        step = torch.stack((yy * slope[..., 0] - xy * slope[..., 1], xx * slope[..., 1] - xy * slope[..., 0]), dim=-1) / area[..., None]
        evidence = value + ((slope * step).sum(-1) - (away.square() * precision).sum(1, keepdim=True) - (area / precision.prod()).log()) / 2
        return evidence, step, torch.stack((yy, xx), dim=-1) / area[..., None]

    def quadratic(self, batch: Batch, rotation: Tensor, move: Tensor) -> Quadratic:
        """Expansion by the rotation vector (degrees, about the image's axes) and the shift (Å)."""
        slices = self.slices(rotation, batch.transfer)
        ahead, behind = ((self.slices(turn @ rotation, batch.transfer) for turn in turns) for turns in (self.more, self.less))
        jacobian = pose_jacobian(slices, ahead, behind, self.band)  # (b, G, 5, 2 P)
        jacobian[..., :3, :] *= math.pi / 180
        data = self.data(batch, move)[:, None]
        value = (slices * (2 * data - slices)).sum(-1)
        slope = 2 * (jacobian @ (data - slices)[..., None])[..., 0]
        return Quadratic(value=value, slope=slope, curvature=2 * jacobian @ jacobian.transpose(-1, -2))
