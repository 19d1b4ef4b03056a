"""Command ``elastic-align``: pose, shift and mode amplitudes of every particle of a set.

Memory does not grow with the set: the template bank (``views * conformers^modes * points * 4`` bytes), one batch of
images and one batch of Jacobians (see :attr:`ForwardModel.bytes_per_problem`) are all that is held, beside 200 bytes a
particle for the table. The bound is printed before the work begins.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..alignment.reference_check import check_images
from ..batches import print_plans
from ..config import check_config, digest_config, require
from ..device import select_device
from ..exceptions import InputError
from ..imaging.ctf import Ctf
from ..imaging.defocus_hand import with_defocus_hand
from ..imaging.first_images import ImageUse
from ..io.atomic import copy_file
from ..io.modes import read_modes
from ..io.records import RunRecord
from ..io.star import read_particles
from ..launch import is_first_process, process_rank
from ..training.particle_images import ParticleImages
from .alignment.aligner import Aligned, ElasticAligner
from .alignment.levenberg_marquardt import Refined
from .alignment.noise_and_gain import CALIBRATION, flat_model, solve_set
from .alignment.tilt_particles import ParticleRows
from .config import ElasticAlignConfig
from .modes.deformable_reference import ElasticReference
from .report.write_results import write_alignment


def run(config: ElasticAlignConfig) -> None:
    """Align a particle set; killed work goes on after its last chunk, several processes share the chunks."""
    check_config(config)
    require(config, "particles", "modes")
    device = select_device(config)
    table = with_defocus_hand(read_particles(config.particles, datadir=config.datadir, tilt_series=True))
    reference = ElasticReference.from_modes(read_modes(config.modes), config.mode_numbers, device, config.atom_sigma_angst)
    if config.start == "local" and table.angles_deg is None:
        raise InputError("The particles carry no poses: start 'blind', or give aligned particles.")
    if config.start == "blind" and table.tilts is not None:
        raise InputError(f"The particles in '{config.particles}' are tilt series, whose poses are not searched from scratch: give aligned particles and start "
                         "'local'.")
    reach = reference.radius_angst(config.amplitude_range) + config.shift_range_angst
    images = ParticleImages(table, reach, device, invert_contrast=config.invert_contrast, ignore_ctf=config.ignore_ctf)
    finest = max(config.resolution_angst, 2 * table.pixel_size_angst)
    use = ImageUse(invert_contrast=config.invert_contrast, ignore_ctf=config.ignore_ctf, phase_flipped=config.phase_flipped)
    check_images(table, reference.expected(config.start == "local", finest), use)
    aligner = ElasticAligner.build(
        reference, flat_model(images), resolution_angst=config.resolution_angst,
        amplitude_range=config.amplitude_range, search_pixel_angst=max(config.search_pixel_angst, table.pixel_size_angst),
        candidates=config.candidates, prior_sigma=config.prior_sigma, phase_flipped=config.phase_flipped,
    )
    if config.start == "blind":
        aligner = aligner.with_bank(config.views, config.conformers, config.shift_range_angst)
    if is_first_process():
        search = aligner.bank.plan if aligner.bank else aligner.plans.near
        print_plans([search, aligner.plans.coarse, aligner.plans.fine])
        print(_memory_line(config, aligner, process_rank()[1]), flush=True)
    record = RunRecord(config.output, "alignment", digest_config(config, table.files()))
    columns = solve_set(_Search(config, images, ParticleRows(images)), aligner, images, record, config)
    if columns is not None:
        copy_file(record.file(CALIBRATION), Path(config.output) / CALIBRATION)
        write_alignment(Path(config.output), table, columns, config.mode_numbers, {"digest": record.digest, "atoms": reference.n_atoms})
        record.remove()


@dataclass(frozen=True)
class _Search:
    """Blind or local search of every particle."""

    config: ElasticAlignConfig
    images: ParticleImages
    particles: ParticleRows

    def solve(self, aligner: ElasticAligner, images: torch.Tensor, ctf: Ctf | None, rows: np.ndarray) -> Refined:
        return self._align(aligner, images, ctf, rows).best

    def columns(self, aligner: ElasticAligner, rows: np.ndarray) -> dict[str, np.ndarray]:
        found = self._align(aligner, *self.images.read(self.particles.image_rows(rows)), rows)
        return found.columns(self.particles.unusable(rows))

    def _align(self, aligner: ElasticAligner, images: torch.Tensor, ctf: Ctf | None, rows: np.ndarray) -> Aligned:
        if self.config.start == "blind":
            return aligner.align(images, ctf)
        rotation, shift = self.particles.poses(rows)
        return aligner.align_locally(
            images, ctf, rotation, shift, range_deg=self.config.local_range_deg, conformers_per_mode=self.config.conformers, tilts=self.particles.tilts(rows))


def _memory_line(config: ElasticAlignConfig, aligner: ElasticAligner, world: int) -> str:
    bank = 4 * aligner.bank.templates.numel() if aligner.bank else 0
    steps = [aligner.plans.coarse, aligner.plans.fine, aligner.bank.plan if aligner.bank else aligner.plans.near]
    largest = max(plan.at_once * plan.bytes_each for plan in steps)
    batch = config.batch * aligner.image_model.box ** 2 * 4 * 6
    total = (bank + largest + batch) / 2**20
    processes = f" in each of {world} processes" if world > 1 else ""
    return f"memory for the work{processes}: at most {total:.0f} MiB beside PyTorch's own, whatever the number of particles"
