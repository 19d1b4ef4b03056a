"""Density of many narrow Gaussians: each is added to the voxels near it only, with gradients, in bounded memory."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

__all__ = ["splat_gaussians"]

_CHUNK_BYTES = 64 << 20


def splat_gaussians(
    positions_px: Tensor, weights: Tensor, sigma_px: Tensor, shape: tuple[int, int, int], radius_px: int | None = None
) -> Tensor:
    """Density ``sum_j w_j (2 pi s_j^2)^(-3/2) exp(-|r - r_j|^2 / 2 s_j^2)`` on a grid.

    Parameters
    ----------
    positions_px
        (N, 3) x, y, z in voxels from voxel [0, 0, 0]; gradients flow to it.
    weights, sigma_px
        (N,) integrals, and standard deviations in voxels; gradients flow to both.
    shape
        Sides of the grid (z, y, x).
    radius_px
        A Gaussian is cut to the cube of this half side about the voxel nearest to it; default four of the largest widths.

    Returns
    -------
    Tensor
        (z, y, x) in weight / voxel.
    """
    if radius_px is None:
        radius_px = math.ceil(4 * float(sigma_px.detach().max()))
    result: Tensor = _Splat.apply(positions_px, weights, sigma_px, shape, radius_px)  # type: ignore[no-untyped-call]
    return result


def _factors(positions: Tensor, sigma: Tensor, nearest: Tensor, reach: Tensor) -> tuple[Tensor, Tensor]:
    """Distances in widths and 1D Gaussians (3, c, k) of a chunk."""
    distance = (nearest[:, :, None] + reach - positions[:, :, None]).permute(1, 0, 2) / sigma[:, None]
    return distance, torch.exp(-0.5 * distance * distance) / (sigma[:, None] * math.sqrt(2 * math.pi))


class _Splat(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, positions: Tensor, weights: Tensor, sigma: Tensor, shape: tuple[int, int, int], radius: int) -> Tensor:
        side = [length + 2 * radius for length in shape]
        padded = positions.new_zeros(side[0] * side[1] * side[2])
        for rows, nearest, index, reach in _chunks(positions, shape, radius):
            _, (gx, gy, gz) = _factors(positions[rows], sigma[rows], nearest, reach)
            plane = (gy * weights[rows, None])[:, :, None] * gx[:, None]
            padded.index_add_(0, index.flatten(), (gz[:, :, None, None] * plane[:, None]).flatten())
        ctx.save_for_backward(positions, weights, sigma)
        ctx.shape, ctx.radius = shape, radius
        z, y, x = (slice(radius, radius + length) for length in shape)
        return padded.view(side)[z, y, x]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None, None]:
        positions, weights, sigma = ctx.saved_tensors
        padded = torch.nn.functional.pad(gradients[0], (ctx.radius,) * 6).flatten()
        to_positions, to_weights, to_sigma = torch.zeros_like(positions), torch.zeros_like(weights), torch.zeros_like(sigma)
        for rows, nearest, index, reach in _chunks(positions, ctx.shape, ctx.radius):
            distance, (gx, gy, gz) = _factors(positions[rows], sigma[rows], nearest, reach)
            width, weight = sigma[rows], weights[rows]
            # contracted over x with the Gaussian and its first two moments, (c, z, y) each
            moments = torch.stack((gx, gx * distance[0], gx * distance[0] ** 2), dim=2)
            along_x, slope_x, curve_x = (padded[index] @ moments[:, None]).unbind(-1)

            def contract(patch: Tensor, y: Tensor, z: Tensor) -> Tensor:
                return ((patch @ y[:, :, None])[..., 0] * z).sum(-1)

            value = contract(along_x, gy, gz)
            slopes = (contract(slope_x, gy, gz), contract(along_x, gy * distance[1], gz), contract(along_x, gy, gz * distance[2]))
            curves = (
                contract(curve_x, gy, gz) + contract(along_x, gy * distance[1] ** 2, gz) + contract(along_x, gy, gz * distance[2] ** 2)
            )
            to_weights[rows] = value
            to_positions[rows] = torch.stack(slopes, dim=1) * (weight / width)[:, None]
            to_sigma[rows] = weight / width * (curves - 3 * value)
        return to_positions, to_weights, to_sigma, None, None


def _chunks(positions: Tensor, shape: tuple[int, int, int], radius: int) -> Any:
    """Rows, nearest voxels (c, 3), indices (c, k, k, k) into the padded grid, and offsets (k,), chunk after chunk."""
    reach = torch.arange(-radius, radius + 1, device=positions.device)
    side = [length + 2 * radius for length in shape]
    last = torch.tensor([length - 1 for length in shape[::-1]], device=positions.device)
    cube = (reach[:, None, None] * side[1] + reach[:, None]) * side[2] + reach
    chunk = max(1, _CHUNK_BYTES // (16 * cube.numel()))
    for start in range(0, len(positions), chunk):
        rows = slice(start, start + chunk)
        nearest = torch.minimum(positions[rows].detach().round().long().clamp(min=0), last)
        x, y, z = (nearest + radius).unbind(1)
        yield rows, nearest.to(positions.dtype), ((z * side[1] + y) * side[2] + x)[:, None, None, None] + cube, reach.to(positions.dtype)
