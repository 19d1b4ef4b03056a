"""Noise spectrum and radial gain of a particle set, measured once on a sample before alignment or prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from ...imaging.ctf import Ctf
from ...io.tables import read_table, write_table
from ...training.particle_images import ParticleImages
from .aligner import ElasticAligner, ImageModel, radial_gain
from .levenberg_marquardt import Observed, Refined

_IMAGES = 48

Solve = Callable[[ElasticAligner, torch.Tensor, Ctf | None, np.ndarray], Refined]


def flat_model(images: ParticleImages) -> ImageModel:
    """White noise of variance 1 and no radial fall-off: what holds before the calibration."""
    flat = torch.ones(images.table.box // 2 + 1, device=images.device)
    return ImageModel(images.table.box, images.table.pixel_size_angst, flat, flat)


def calibrate(aligner: ElasticAligner, images: ParticleImages, solve: Solve, rounds: int, batch: int) -> ImageModel:
    """Noise spectrum and radial gain of a set, from a sample that is solved for the purpose.

    Parameters
    ----------
    aligner : aligner whose image model does not matter
    solve : finds pose and amplitudes of images with an aligner, from ``(aligner, images, ctf, rows)``
    rounds : how often the sample is solved, each time with the gain found before; 0 measures the noise only
    batch : images at a time
    """
    table, rows = images.table, images.sample_rows(_IMAGES)
    noise = images.noise_power()
    model = ImageModel(table.box, table.pixel_size_angst, noise, torch.ones_like(noise))
    for _ in range(rounds):
        present = aligner.with_image_model(model)
        solved: list[Refined] = []
        observed: list[Observed] = []
        for some in np.array_split(rows, max(1, -(-len(rows) // batch))):
            data, ctf = images.read(some)
            solved.append(solve(present, data, ctf, some))
            observed.append(present.observe(data, ctf)[1])
        together = Observed(torch.cat([part.data for part in observed]), torch.cat([part.transfer for part in observed]))
        model = replace(model, gain=model.gain * radial_gain(present.fine, together, Refined.concatenate(solved), table.box))
    return model


def write_calibration(path: Path, model: ImageModel) -> None:
    """Write noise and gain as a table, read by :func:`read_calibration`."""
    noise, gain = model.noise_power.cpu().numpy(), model.gain.cpu().numpy()
    write_table(str(path), {"id": np.arange(len(noise)), "noise_power": noise, "gain": gain})


def read_calibration(path: Path, images: ParticleImages) -> ImageModel:
    """Model of the set's images from a file that :func:`write_calibration` wrote."""
    columns, _ = read_table(str(path))
    noise, gain = (torch.from_numpy(columns[name]).float().to(images.device) for name in ("noise_power", "gain"))
    return ImageModel(images.table.box, images.table.pixel_size_angst, noise, gain)
