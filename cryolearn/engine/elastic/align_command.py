"""Command ``elastic-align``: pose, shift and mode amplitudes of every particle of a set.

Memory does not grow with the set: the template bank (``views * conformers^modes * points * 4`` bytes), one batch of
images and one batch of Jacobians (see :attr:`ForwardModel.bytes_per_problem`) are all that is held, beside 200 bytes a
particle for the table. The bound is printed before the work begins.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..config import check_config, digest_config, require
from ..device import select_device
from ..exceptions import InputError
from ..imaging.ctf import Ctf
from ..io.modes import read_modes
from ..io.records import RunRecord
from ..io.star import read_particles
from ..io.tables import read_table, write_table
from ..launch import is_first_process, process_rank
from ..training.particle_images import ParticleImages
from .alignment.aligner import Aligned, ElasticAligner
from .alignment.levenberg_marquardt import Refined
from .alignment.noise_and_gain import calibrate, flat_model, read_calibration, write_calibration
from .config import ElasticAlignConfig
from .modes.deformable_reference import ElasticReference
from .report.write_results import write_alignment

_CALIBRATION_ROUNDS = 2


def run(config: ElasticAlignConfig) -> None:
    """Align a particle set; killed work goes on after its last chunk, several processes share the chunks."""
    check_config(config)
    require(config, "particles", "modes")
    device = select_device(config)
    table = read_particles(config.particles)
    modes = read_modes(config.modes)
    reference = ElasticReference.from_modes(modes, config.mode_numbers, device, config.atom_sigma_angst)
    if config.start == "local" and table.angles_deg is None:
        raise InputError("The particles carry no poses: start 'blind', or give aligned particles.")
    images = ParticleImages(
        table, reference.radius_angst(config.amplitude_range) + config.shift_range_angst, device,
        invert_contrast=config.invert_contrast, ignore_ctf=config.ignore_ctf,
    )
    out = Path(config.output)
    digest = digest_config(config, tuple(table.image_file))
    record = RunRecord(out, "alignment", digest)
    uncalibrated = _aligner(config, reference, images)

    def solve(present: ElasticAligner, data: torch.Tensor, ctf: Ctf | None, rows: np.ndarray) -> Refined:
        return _align(config, present, images, data, ctf, rows).best

    def measure(path: Path) -> None:
        write_calibration(path, calibrate(uncalibrated, images, solve, _CALIBRATION_ROUNDS, config.batch))

    calibration = record.once("calibration.npz", measure)
    aligner = uncalibrated.with_image_model(read_calibration(calibration, images))
    if is_first_process():
        print(_memory_line(config, aligner, process_rank()[1]), flush=True)

    def work(rows: np.ndarray) -> dict[str, np.ndarray]:
        return _align(config, aligner, images, *images.read(rows), rows).columns()

    columns = record.in_chunks(table.ids, config.chunk, work, "elastic alignment", config.batch)
    if columns is None:
        return
    curves = read_table(str(calibration))[0]
    write_table(str(out / "calibration.npz"), curves)
    meta = {"digest": digest, "box": table.box, "pixel_size_angst": table.pixel_size_angst, "atoms": reference.n_atoms}
    write_alignment(out, table, columns, meta, config.mode_numbers)
    record.remove()


def _aligner(config: ElasticAlignConfig, reference: ElasticReference, images: ParticleImages) -> ElasticAligner:
    aligner = ElasticAligner.build(
        reference, flat_model(images), resolution_angst=config.resolution_angst,
        amplitude_range=config.amplitude_range, search_pixel_angst=max(config.search_pixel_angst, images.table.pixel_size_angst),
        candidates=config.candidates, prior_sigma=config.prior_sigma, phase_flipped=config.phase_flipped,
    )
    if config.start == "blind":
        return aligner.with_bank(config.views, config.conformers, config.shift_range_angst)
    return aligner


def _align(
    config: ElasticAlignConfig, aligner: ElasticAligner, images: ParticleImages, data: torch.Tensor, ctf: Ctf | None, rows: np.ndarray
) -> Aligned:
    if config.start == "blind":
        return aligner.align(data, ctf)
    rotation, shift = images.poses(rows)
    return aligner.align_locally(data, ctf, rotation, shift, config.local_range_deg, config.conformers)


def _memory_line(config: ElasticAlignConfig, aligner: ElasticAligner, world: int) -> str:
    bank = 4 * aligner.bank.templates.numel() if aligner.bank else 0
    jacobians = max(4 * aligner.fine.bytes_per_problem, 32 * aligner.coarse.bytes_per_problem)
    batch = config.batch * aligner.image_model.box ** 2 * 4 * 6
    total = (bank + jacobians + batch) / 2**20
    processes = f" in each of {world} processes" if world > 1 else ""
    return f"memory for the work{processes}: at most {total:.0f} MiB beside PyTorch's own, whatever the number of particles"
