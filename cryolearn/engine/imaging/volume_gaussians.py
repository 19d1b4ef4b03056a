"""Represent a map by Gaussians (pseudo-atoms): weighted k-means, then a fit of positions, weights and widths."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from torch import Tensor

from ..exceptions import InputError
from ..progress import Progress
from .fourier import fourier_resize, low_pass
from .fsc import correlation_curve
from .gaussian_splat import splat_gaussians
from .poses import view_grid
from .slices import VolumeProjector

__all__ = ["SPACING_FOR_FITTING", "GaussianModel", "fit_gaussians", "mean_projection_frc"]

# A Gaussian of width 0.225 d has fallen to 1/e at the frequency 1/d (the definition of ChimeraX's molmap) ...
_WIDTH_OF_RESOLUTION = 0.225
# ... and Gaussians 0.6 d apart still sum to a density without gaps; a grid of d/2 would represent any band limited to d.
SPACING_FOR_FITTING = 0.6
_VIEWS = 200  # projections by which the fit is judged
_VIEWS_AT_A_TIME = 50
_PIXELS_OF_RESOLUTION = 3.0
_WIDTH_RANGE = (0.6, 1.5)  # of the first width; wider ones would reach too many voxels, narrower ones alias
_LLOYD_STEPS = 12
_DENSITY_WEIGHT = 0.3  # of the squared error against the mean FSC: it fixes scale and what lies beyond the resolution, the FSC does the rest
_CUT_SIGMAS = 4.0


@dataclass
class GaussianModel:
    """Gaussians that represent a density.

    Attributes
    ----------
    positions_angst : (N, 3)
        x, y, z from voxel [0, 0, 0] of the map.
    weights : (N,)
        Integrals, in the map's density x Å^3.
    sigma_angst : (N,)
        Standard deviations.
    """

    positions_angst: Tensor
    weights: Tensor
    sigma_angst: Tensor

    def __len__(self) -> int:
        return len(self.weights)

    def render(self, shape: tuple[int, ...], pixel_size_angst: float) -> Tensor:
        """Density (z, y, x) on a grid that starts at the same place."""
        z, y, x = shape
        radius = math.ceil(_CUT_SIGMAS * float(self.sigma_angst.detach().max()) / pixel_size_angst)
        volume = splat_gaussians(
            self.positions_angst / pixel_size_angst, self.weights, self.sigma_angst / pixel_size_angst, (z, y, x), radius
        )
        return volume / pixel_size_angst**3


def fit_gaussians(target: Tensor, pixel_size_angst: float, resolution_angst: float, number: int = 0, iterations: int = 200,
                  seed: int = 1, spacing: float = SPACING_FOR_FITTING) -> GaussianModel:
    """Gaussians whose sum is a density, as far as a resolution.

    They start as the centres of a k-means clustering of the voxels, weighted by density, and are fitted by Adam to the
    low-passed density: one minus the mean FSC up to the resolution (the FRC of all projections at once), plus 0.3 of the relative squared
    error.

    Parameters
    ----------
    target
        (n, n, n) density, 0 where nothing is to be represented.
    pixel_size_angst
        Voxel size in Å.
    resolution_angst
        Finest resolution in Å that is represented.
    number
        Number of Gaussians; 0 takes one for each cube of ``spacing`` resolutions.
    iterations
        Steps of Adam.
    seed
        Of the clustering.
    spacing
        Distance between neighbours over the resolution: 0.6 to represent the map, 0.73 for Gaussians that are to move.

    Raises
    ------
    InputError
        when the density is nowhere positive, or more Gaussians are asked for than the map has voxels to put them in.
    """
    smooth, pixel, offset = _resampled(target, pixel_size_angst, resolution_angst)
    model = _initial(smooth, pixel, resolution_angst, number, seed, spacing)
    with torch.enable_grad():
        model = _refined(model, smooth, pixel, resolution_angst, iterations)
    return replace(model, positions_angst=model.positions_angst + offset)


def mean_projection_frc(model: GaussianModel, target: Tensor, pixel_size_angst: float, resolution_angst: float, views: int = _VIEWS) -> float:
    """Mean Fourier ring correlation, up to the resolution, of projections of the Gaussians and of the density they stand for.

    The directions are spread evenly; both are projected on the grid of the fit.
    """
    smooth, pixel, offset = _resampled(target, pixel_size_angst, resolution_angst)
    rendered = replace(model, positions_angst=model.positions_angst - offset).render(smooth.shape, pixel)
    rings = min(len(smooth) // 2, max(1, round(len(smooth) * pixel / resolution_angst)))
    side = min(len(smooth), 2 * (rings + 2))  # finer frequencies are not looked at
    rotations = view_grid(views, device=target.device)

    def slices(volume: Tensor) -> Tensor:
        projector = VolumeProjector(fourier_resize(volume, side, dims=3))
        return torch.cat([projector.project(part) for part in rotations.split(_VIEWS_AT_A_TIME)])

    curves = correlation_curve(slices(smooth), slices(rendered), side, 2)
    return float(curves[:, 1 : rings + 1].mean())


def _resampled(target: Tensor, pixel_size_angst: float, resolution_angst: float) -> tuple[Tensor, float, float]:
    """The density low-passed to a resolution on a grid of three pixels a resolution, that grid's pixel size, and where it starts (Å)."""
    box = len(target)
    length = box * pixel_size_angst
    side = min(box, 2 * math.ceil(length * _PIXELS_OF_RESOLUTION / resolution_angst / 2))
    pixel = length / side
    smooth = fourier_resize(low_pass(target, resolution_angst, pixel_size_angst, dims=3), side, dims=3)
    # resampling keeps the centre voxel, n // 2; voxel [0, 0, 0] moves by this
    return smooth, pixel, (box // 2) * pixel_size_angst - (side // 2) * pixel


def _initial(target: Tensor, pixel: float, resolution: float, number: int, seed: int, spacing: float) -> GaussianModel:
    """k-means (Lloyd's steps, nearest centres by a k-d tree, which takes tens of thousands of centres) of the voxels."""
    density = target.cpu().numpy().astype(np.float64)
    inside = density > 0.02 * density.max()
    if density.max() <= 0 or not inside.any():
        raise InputError("The map has no positive density inside the mask or above the threshold: lower the threshold or invert the map.")
    points = np.argwhere(inside)[:, ::-1] * pixel
    mass = density[inside]
    # the volume that would hold the mass at the density a typical unit of mass sees
    volume = mass.sum() ** 2 / np.square(mass).sum() * pixel**3
    if number > len(points):
        raise InputError(
            f"{number} Gaussians are more than the {len(points)} voxels of {pixel:.3g} Å that the map has above the threshold at {resolution:g} Å: "
            "ask for fewer, or for a finer resolution."
        )
    count = number or max(1, min(math.ceil(volume / (spacing * resolution) ** 3), len(points)))
    rng = np.random.default_rng(seed)
    centres = points[rng.choice(len(points), count, replace=False, p=mass / mass.sum())] + rng.uniform(-0.25, 0.25, (count, 3)) * pixel
    weights: NDArray[np.float64] = np.zeros(count)
    for _ in range(_LLOYD_STEPS):
        _, nearest = cKDTree(centres).query(points)
        weights = np.bincount(nearest, mass, count).astype(np.float64)
        sums = np.stack([np.bincount(nearest, mass * points[:, axis], count) for axis in range(3)], axis=1)
        kept = weights > 0
        centres[kept] = sums[kept] / weights[kept, None]
    apart = (volume / count) ** (1 / 3)
    sigma = _WIDTH_OF_RESOLUTION * max(resolution, apart / spacing)
    kept = weights > 0

    def tensor(values: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=target.device)

    return GaussianModel(tensor(centres[kept]), tensor(weights[kept] * pixel**3), tensor(np.full(int(kept.sum()), sigma)))


def _refined(model: GaussianModel, target: Tensor, pixel: float, resolution: float, iterations: int) -> GaussianModel:
    box = len(target)
    sigma0 = float(model.sigma_angst[0])
    unit = float(model.weights.mean())
    radius = math.ceil(3 * _WIDTH_RANGE[1] * sigma0 / pixel)
    shells = min(box // 2, max(1, round(box * pixel / resolution)))
    wanted = torch.fft.rfftn(target)
    power = target.square().sum()
    positions = (model.positions_angst / sigma0).requires_grad_()
    weights = (model.weights / unit).clamp(min=1e-3).log().requires_grad_()
    widths = torch.zeros_like(weights).requires_grad_()
    optimiser = torch.optim.Adam([{"params": [positions], "lr": 0.05}, {"params": [weights], "lr": 0.05}, {"params": [widths], "lr": 0.02}])
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, iterations)
    progress = Progress("Fit Gaussians", iterations, "steps")
    for _ in range(iterations):
        optimiser.zero_grad()
        volume = splat_gaussians(positions * (sigma0 / pixel), weights.exp() * unit, widths.exp() * (sigma0 / pixel), (box,) * 3, radius)
        volume = volume / pixel**3
        curve = correlation_curve(torch.fft.rfftn(volume), wanted, box, 3)[1 : shells + 1]
        loss = _DENSITY_WEIGHT * (volume - target).square().sum() / power + 1 - curve.mean()
        loss.backward()
        optimiser.step()
        schedule.step()
        with torch.no_grad():
            widths.clamp_(*(math.log(limit) for limit in _WIDTH_RANGE))
        progress.step(note=f"loss {loss.item():.4f}")
    return GaussianModel((positions * sigma0).detach(), (weights.exp() * unit).detach(), (widths.exp() * sigma0).detach())
