"""What the tests of matching, gauge and recovery share: a random model of Gaussians and its noisy projections."""

from __future__ import annotations

import math
from dataclasses import replace

import torch

from cryolearn.engine.alignment.fourier_band import FourierBand
from cryolearn.engine.alignment.fourier_images import FourierImages, transform_images
from cryolearn.engine.imaging.noise import add_noise
from cryolearn.engine.imaging.poses import random_rotations

from .imaging_cases import GaussianModel, gaussian_model

BOX, PIXEL, DIAMETER = 32, 5.0, 120.0


def model() -> GaussianModel:
    return gaussian_model(45, 6, 60)


def projections(count: int, snr: float, seed: int, shift_angst: float = 0.0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Images (n, box, box), poses (n, 3, 3), shifts (n, 2) Å."""
    generator = torch.Generator().manual_seed(seed)
    rotations = random_rotations(count, generator)
    shifts = (2 * torch.rand(count, 2, generator=generator) - 1) * shift_angst
    clean = model().images(rotations, shifts, BOX, PIXEL)
    return add_noise(clean, snr, generator, variance=float(clean.var((1, 2)).mean())), rotations, shifts


def fourier_images(images: torch.Tensor, rings: int = 10) -> FourierImages:
    band = FourierBand.up_to(BOX, rings + 0.5, length=BOX * PIXEL, lowest=0)
    found = FourierImages(band=band, data=transform_images(images, band), noise=torch.ones(band.rings))
    return replace(found, noise=found.mean_power())


def degrees(radians: object) -> float:
    return math.degrees(float(torch.as_tensor(radians).mean()))
