"""Particle images read once, as the Fourier coefficients that are matched."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch

from ...alignment.fourier_band import FourierBand
from ...alignment.fourier_images import FourierImages, transform_images
from ...progress import Progress
from ...training.particle_images import ParticleImages

__all__ = ["read_fourier_images"]


def read_fourier_images(source: ParticleImages, rings: int, batch: int, phase_flipped: bool = False) -> FourierImages:
    """Read all images of a set and keep their transforms up to a radius of ``rings`` Fourier pixels; the noise is all that is there at first.

    Memory: about ``4 pi rings^2`` bytes an image on the device (22 kB at 42 rings), besides one batch of images.
    """
    table = source.table
    band = FourierBand.up_to(table.box, rings + 0.5, length=table.box * table.pixel_size_angst, lowest=0, device=source.device)
    count = len(table)
    data = torch.empty(count, len(band), dtype=torch.complex64, device=source.device)
    progress = Progress("Reading for matching", count)
    for rows in np.split(np.arange(count), range(batch, count, batch)):
        pictures, _ = source.read(rows)
        data[int(rows[0]) : int(rows[-1]) + 1] = transform_images(pictures, band)
        progress.step(len(rows))
    noise, ctf = torch.ones(band.rings, device=source.device), source.ctf(np.arange(count))  # of images that cannot be used it is 0
    images = FourierImages(band=band, data=data, noise=noise, ctf=ctf, phase_flipped=phase_flipped)
    return replace(images, noise=images.mean_power())
