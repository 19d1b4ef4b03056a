"""Particle images read once, as the Fourier coefficients that are matched."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...alignment.fourier_band import FourierBand
from ...alignment.fourier_images import FourierImages, transform_images
from ...alignment.image_parts import is_mine, part_rows
from ...alignment.stored_rows import PartFile, StoredRows
from ...imaging.ctf import noise_kept
from ...io.records import RunRecord
from ...progress import Progress
from ...training.particle_images import ParticleImages

__all__ = ["matching_band", "read_fourier_images"]


def matching_band(source: ParticleImages, rings: int) -> FourierBand:
    """Frequencies of the images up to a radius of ``rings`` Fourier pixels; its length is in Å."""
    table = source.table
    return FourierBand.up_to(table.box, rings + 0.5, length=table.box * table.pixel_size_angst, lowest=0, device=source.device)


def read_fourier_images(source: ParticleImages, band: FourierBand, batch: int, record: RunRecord, phase_flipped: bool = False) -> FourierImages:
    """Read all images of a set and keep their transforms in files of ``record``; the noise is all that is there at first.

    A finished part of the set is not read again. Processes share the parts, and each gets all images. Memory: one batch of images; on disk ``8 P`` bytes an
    image (22 kB at 42 rings).
    """
    parts = part_rows(len(source.table))
    files = [PartFile(record.file(f"transforms_{number:02d}.c64"), (len(rows), len(band))) for number, rows in enumerate(parts)]
    stages = [record.stage(f"transforms_{number:02d}") for number in range(len(parts))]
    mine = torch.nonzero(is_mine(torch.arange(len(parts)))).flatten().tolist()
    missing = [number for number in mine if not (files[number].is_whole and stages[number].exists())]
    count = sum(len(parts[number]) for number in mine)
    progress = Progress("Reading for matching", count, done=count - sum(len(parts[number]) for number in missing))
    for number in missing:
        power = torch.zeros(2, len(band), device=source.device)
        _read_part(source, parts[number], batch, file=files[number], power=power, progress=progress, band=band)
        stages[number].write({"power": power.cpu().numpy(), "faults": source.faults[parts[number]]})
    found = [stage.awaited()[0] for stage in stages]
    for rows, kept in zip(parts, found, strict=True):
        source.faults[rows] = kept["faults"]
    power, amount = (band.ring_sum(values) for values in torch.from_numpy(np.sum([kept["power"] for kept in found], axis=0)).to(band.points))
    index = np.arange(len(source.table))
    return FourierImages(
        band=band, data=torch.empty(0, len(band), dtype=torch.complex64, device=source.device), noise=power / amount.clamp(min=1e-6), ctf=source.ctf(index),
        phase_flipped=phase_flipped, stored=StoredRows(files=files, index=index, width=len(band), device=source.device),
        part=torch.from_numpy(np.repeat(np.arange(len(parts)), [len(rows) for rows in parts])))


def _read_part(
    source: ParticleImages, rows: NDArray[np.int64], batch: int, *, file: PartFile, power: Tensor, progress: Progress, band: FourierBand,
) -> None:
    """Write the transforms of some images, and add their power and the part of the noise that they hold to ``power`` (2, P)."""

    def transforms() -> Iterator[Tensor]:
        for some in np.split(rows, range(batch, len(rows), batch)):
            pictures, ctf = source.read(some)
            found = transform_images(pictures, band)
            kept = None if ctf is None else noise_kept(ctf, band.kx / band.length, band.ky / band.length)
            power[0] += found.abs().square().sum(0)
            power[1] += len(some) if kept is None else kept.sum(0)
            yield found
            progress.step(len(some))

    file.write(transforms())
