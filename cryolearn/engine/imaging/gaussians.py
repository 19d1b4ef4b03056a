"""Density and projections of isotropic Gaussians: separable, so that a picture is one matrix product."""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = ["gaussian_factors", "pixel_coordinates", "render_gaussians_2d", "render_gaussians_3d"]


def pixel_coordinates(
    box: int, pixel_size_angst: float, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> Tensor:
    """(box,) coordinates in Å of the pixels of one axis, 0 at pixel ``box // 2``."""
    return (torch.arange(box, device=device, dtype=dtype) - box // 2) * pixel_size_angst


def gaussian_factors(coordinates: Tensor, sigma_angst: Tensor | float, box: int, pixel_size_angst: float) -> Tensor:
    """Normalised 1D Gaussians (..., N, box), in 1/Å, of (..., N) positions in Å along one axis."""
    pixels = pixel_coordinates(box, pixel_size_angst, coordinates.device, coordinates.dtype)
    sigma = torch.as_tensor(sigma_angst, dtype=coordinates.dtype, device=coordinates.device)[..., None]
    scaled = (pixels - coordinates[..., None]) / sigma
    # tails end at exp(-28): products of smaller factors are denormal numbers, which slow a CPU down tenfold
    return torch.exp((-0.5 * scaled * scaled).clamp_min(-28.0)) / (sigma * math.sqrt(2 * math.pi))


def render_gaussians_2d(
    positions_angst: Tensor, weights: Tensor, sigma_angst: Tensor | float, box: int, pixel_size_angst: float
) -> Tensor:
    """Projections along z of Gaussians: ``sum_j w_j / (2 pi s_j^2) exp(-|r - r_j|^2 / 2 s_j^2)``.

    Parameters
    ----------
    positions_angst
        (b, N, 2) or (b, N, 3) x, y(, z) in Å from the centre, already rotated and shifted; z does not matter.
    weights
        (N,) or (b, N) integrals of the Gaussians.
    sigma_angst
        Scalar, (N,) or (b, N) standard deviations in Å.
    box, pixel_size_angst
        Image side in pixels and pixel size in Å; the origin is the pixel ``box // 2``.

    Returns
    -------
    Tensor
        (b, box, box) density integrated along z at the pixel centres (weight / Å^2). Needs ``2 b N box`` floats.
    """
    along_x = gaussian_factors(positions_angst[..., 0], sigma_angst, box, pixel_size_angst)
    along_y = gaussian_factors(positions_angst[..., 1], sigma_angst, box, pixel_size_angst)
    return (along_y * weights[..., None]).transpose(-1, -2) @ along_x


def render_gaussians_3d(
    positions_angst: Tensor, weights: Tensor, sigma_angst: Tensor | float, box: int, pixel_size_angst: float,
    memory_mib: int = 128,
) -> Tensor:
    """Density (box, box, box) (z, y, x), in weight / Å^3, of Gaussians at (N, 3) x, y, z in Å from the centre.

    Works through the Gaussians in chunks, so that the factors take at most about ``memory_mib`` MiB.
    """
    sigma = torch.as_tensor(sigma_angst, dtype=positions_angst.dtype, device=positions_angst.device)
    sigma = sigma.expand(positions_angst.shape[0])
    chunk = max(1, (memory_mib << 20) // (positions_angst.element_size() * box * box))
    volume = positions_angst.new_zeros((box, box * box))
    for start in range(0, positions_angst.shape[0], chunk):
        rows = slice(start, start + chunk)
        x, y, z = (
            gaussian_factors(positions_angst[rows, axis], sigma[rows], box, pixel_size_angst) for axis in range(3)
        )
        plane = (y[:, :, None] * x[:, None, :]).flatten(1)
        volume = volume + (z * weights[rows, None]).T @ plane
    return volume.view(box, box, box)
