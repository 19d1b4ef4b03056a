"""Command ``elastic-align``: pose, shift and mode amplitudes of every particle of a set.

Memory does not grow with the set: the template bank (``views * conformers^modes * points * 4`` bytes), one batch of
images and one batch of Jacobians (see :attr:`ForwardModel.bytes_per_problem`) are all that is held, beside 200 bytes a
particle for the table. The bound is printed before the work begins.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from ..chunks import in_chunks, once_for_all, process_rank, remove_chunks
from ..config import check_config, digest_config, require
from ..device import select_device
from ..errors import InputError
from ..imaging.poses import euler_to_matrix
from ..io.modes import read_modes
from ..io.star import read_particles
from ..io.tables import read_table, write_table
from .aligner import Aligned, ElasticAligner, ImageModel, radial_gain
from .config import ElasticAlignConfig
from .particles import ParticleImages, write_alignment
from .reference import ElasticReference
from .refine import Observed, Refined

_CALIBRATION_IMAGES = 48
_CALIBRATION_ROUNDS = 2


def run(config: ElasticAlignConfig) -> None:
    """Align a particle set; killed work goes on after its last chunk, several processes share the chunks."""
    check_config(config)
    require(config, "particles", "modes")
    rank, world, local_rank = process_rank()
    device = select_device(config, local_rank)
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
    calibration = out / "chunks" / f"calibration_{digest}.npz"
    aligner = _aligner(config, reference, images)
    once_for_all(calibration, lambda path: _calibrate(config, aligner, images, path))
    aligner.image_model = _read_calibration(calibration, table.box, table.pixel_size_angst, device)
    if rank == 0:
        print(_memory_line(config, aligner, world), flush=True)

    def work(rows: np.ndarray) -> dict[str, np.ndarray]:
        return _align_rows(config, aligner, images, rows).columns()

    columns = in_chunks(out, digest, table.ids, config.chunk, work, "elastic alignment", config.batch)
    if columns is None:
        return
    curves = read_table(str(calibration))[0]
    write_table(str(out / "calibration.npz"), curves)
    meta = {"digest": digest, "box": table.box, "pixel_size_angst": table.pixel_size_angst, "atoms": reference.n_atoms}
    write_alignment(out, table, columns, meta, config.mode_numbers)
    remove_chunks(out)


def _aligner(config: ElasticAlignConfig, reference: ElasticReference, images: ParticleImages) -> ElasticAligner:
    box, pixel = images.table.box, images.table.pixel_size_angst
    flat = torch.ones(box // 2 + 1, device=images.device)
    aligner = ElasticAligner(
        reference, ImageModel(box, pixel, flat, flat), resolution_angst=config.resolution_angst,
        amplitude_range=config.amplitude_range, search_pixel_angst=max(config.search_pixel_angst, pixel),
        candidates=config.candidates, prior_sigma=config.prior_sigma, phase_flipped=config.phase_flipped,
    )
    if config.start == "blind":
        aligner.build_bank(config.views, config.conformers, config.shift_range_angst)
    return aligner


def _align_rows(config: ElasticAlignConfig, aligner: ElasticAligner, images: ParticleImages, rows: np.ndarray) -> Aligned:
    data, ctf = images.read(rows)
    if config.start == "blind":
        return aligner.align(data, ctf)
    table = images.table
    assert table.angles_deg is not None
    rotation = euler_to_matrix(torch.from_numpy(table.angles_deg[rows])).float().to(images.device)
    origin = np.zeros((len(rows), 2)) if table.origin_angst is None else table.origin_angst[rows]
    shift = torch.from_numpy(-origin).float().to(images.device)
    return aligner.align_locally(data, ctf, rotation, shift, config.local_range_deg, config.conformers)


def _calibrate(config: ElasticAlignConfig, aligner: ElasticAligner, images: ParticleImages, path: Path) -> None:
    """Noise spectrum and radial gain of the set, from a sample that is aligned for the purpose."""
    table = images.table
    noise = images.noise_power()
    gain = torch.ones_like(noise)
    rows = images.sample_rows(_CALIBRATION_IMAGES)
    for _ in range(_CALIBRATION_ROUNDS):
        aligner.image_model = ImageModel(table.box, table.pixel_size_angst, noise, gain)
        solved: list[Refined] = []
        observed: list[Observed] = []
        for some in np.array_split(rows, max(1, -(-len(rows) // config.batch))):
            solved.append(_align_rows(config, aligner, images, some).best)
            observed.append(aligner.observe(*images.read(some))[1])
        together = Observed(torch.cat([part.data for part in observed]), torch.cat([part.transfer for part in observed]))
        gain = gain * radial_gain(aligner.fine, together, Refined.concatenate(solved), table.box)
    write_table(str(path), {"id": np.arange(len(noise)), "noise_power": noise.cpu().numpy(), "gain": gain.cpu().numpy()})


def _read_calibration(path: Path, box: int, pixel_size_angst: float, device: torch.device) -> ImageModel:
    columns, _ = read_table(str(path))
    noise, gain = (torch.from_numpy(columns[name]).float().to(device) for name in ("noise_power", "gain"))
    return ImageModel(box, pixel_size_angst, noise, gain)


def _memory_line(config: ElasticAlignConfig, aligner: ElasticAligner, world: int) -> str:
    bank = 4 * aligner.bank.templates.numel() if aligner.bank else 0
    jacobians = max(4 * aligner.fine.bytes_per_problem, 32 * aligner.coarse.bytes_per_problem)
    batch = config.batch * aligner.image_model.box ** 2 * 4 * 6
    total = (bank + jacobians + batch) / 2**20
    processes = f" in each of {world} processes" if world > 1 else ""
    return f"memory for the work{processes}: at most {total:.0f} MiB beside PyTorch's own, whatever the number of particles"
