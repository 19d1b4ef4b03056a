"""Noise spectrum and radial gain of a particle set, measured once on a sample before alignment or prediction."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch

from ...imaging.ctf import Ctf
from ...io.records import RunRecord, is_whole_npz
from ...io.tables import read_table, write_table
from ...training.particle_images import ParticleImages
from ..config import ElasticAlignConfig, ElasticPredictConfig
from .aligner import ElasticAligner, ImageModel, radial_gain
from .levenberg_marquardt import Observed, Refined
from .tilt_particles import ParticleRows

CALIBRATION = "calibration.npz"
_IMAGES = 48
_FEWEST = 8  # particles of the sample, where each has many tilt images
CALIBRATION_ROUNDS = 2

Solve = Callable[[ElasticAligner, torch.Tensor, Ctf | None, np.ndarray], Refined]


def flat_model(images: ParticleImages) -> ImageModel:
    """White noise of variance 1 and no radial fall-off: what holds before the calibration."""
    flat = torch.ones(images.table.box // 2 + 1, device=images.device)
    return ImageModel(images.table.box, images.table.pixel_size_angst, flat, flat)


class SetSolver(Protocol):
    """What finds poses and amplitudes of the particles of a set."""

    def solve(self, aligner: ElasticAligner, images: torch.Tensor, ctf: Ctf | None, rows: np.ndarray) -> Refined:
        """Solutions of images, as far as the calibration needs them."""

    def columns(self, aligner: ElasticAligner, rows: np.ndarray) -> dict[str, np.ndarray]:
        """Columns of the result table."""


def solve_set(
    solver: SetSolver, aligner: ElasticAligner, images: ParticleImages, record: RunRecord, config: ElasticAlignConfig | ElasticPredictConfig,
    rounds: int = CALIBRATION_ROUNDS,
) -> dict[str, np.ndarray] | None:
    """Measure noise and gain of a set, then solve it chunk by chunk; all processes share the chunks.

    Parameters
    ----------
    solver
        Finds poses and amplitudes of the images and makes the columns of the result table.
    aligner
        Aligner whose image model is replaced by the one measured.
    images
        Particle images with their CTFs.
    record
        Keeps the calibration and the finished chunks, from which an interrupted run resumes.
    config
        Gives ``chunk``, the images of one record, and ``batch``, the images that are solved together.
    rounds
        Rounds of the calibration; 0 measures the noise only.

    Returns
    -------
    columns of the result table; None in processes whose part is done
    """
    path = record.once(CALIBRATION, lambda path: write_calibration(path, calibrate(aligner, images, solver.solve, rounds, config.batch)), is_whole_npz)
    calibrated = aligner.with_image_model(read_calibration(path, images))
    particles = ParticleRows(images)
    batch = max(1, config.batch // particles.tilts_each)
    return record.in_chunks(
        particles.ids, config.chunk, lambda rows: solver.columns(calibrated, rows), f"elastic {record.name}", batch,
        ahead=lambda rows: images.expect(particles.image_rows(rows)))


def calibrate(aligner: ElasticAligner, images: ParticleImages, solve: Solve, rounds: int, batch: int) -> ImageModel:
    """Noise spectrum and radial gain of a set, from a sample that is solved for the purpose.

    Parameters
    ----------
    aligner
        Aligner whose image model is replaced by that of each round.
    images
        Particle images with their CTFs; up to 48 of them are the sample.
    solve
        Finds pose and amplitudes of particles with an aligner, from ``(aligner, images, ctf, rows)``, rows being those of the particles.
    rounds
        How often the sample is solved: searched in the first round, then refined with the gain found before; 0 measures the noise only.
    batch
        Images that are solved together.
    """
    table, particles = images.table, ParticleRows(images)
    chosen = particles.sample(_IMAGES, _FEWEST)
    noise = images.noise_power()
    model = ImageModel(table.box, table.pixel_size_angst, noise, torch.ones_like(noise))
    parts = np.array_split(chosen, max(1, -(-len(chosen) * particles.tilts_each // batch)))
    found: list[Refined] = []
    for _ in range(rounds):
        present, before, found = aligner.with_image_model(model), found, []
        observed: list[Observed] = []
        for at, some in enumerate(parts):
            data, ctf = images.read(particles.image_rows(some))
            fine = present.observe(data, ctf, particles.tilts(some))[1]
            each = torch.arange(len(some), device=images.device)
            found.append(present.refine_fine(fine, each, before[at], len(some)).best if before else solve(present, data, ctf, some))
            observed.append(fine)
        model = replace(model, gain=model.gain * radial_gain(present.fine, Observed.joined(observed), Refined.concatenate(found), table.box))
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
