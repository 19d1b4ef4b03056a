"""Transforms of images in files: the same as in memory, read once, and no part of the process's memory."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryolearn.engine.alignment.fourier_band import FourierBand
from cryolearn.engine.alignment.image_parts import batches, part_rows
from cryolearn.engine.alignment.stored_rows import PartFile, StoredRows
from cryolearn.engine.imaging.ctf import Ctf
from cryolearn.engine.io.records import RunRecord
from cryolearn.engine.io.stacks import write_stack
from cryolearn.engine.io.star import read_particles
from cryolearn.engine.orientation.refinement.memory_plan import matching_bytes, memory_line
from cryolearn.engine.orientation.refinement.read_images import matching_band, read_fourier_images
from cryolearn.engine.training.particle_images import ParticleImages

from .orientation_cases import BOX, PIXEL, fourier_images, projections

COUNT = 300  # two parts


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> ParticleImages:
    folder = tmp_path_factory.mktemp("stored")
    images, _, _ = projections(COUNT, 1.0, 1)
    write_stack(str(folder / "particles.mrcs"), images.numpy(), PIXEL)
    rows = "".join(f"{number + 1:06d}@particles.mrcs 1\n" for number in range(COUNT))
    (folder / "particles.star").write_text(
        "data_optics\n\nloop_\n_rlnOpticsGroup #1\n_rlnImagePixelSize #2\n_rlnImageSize #3\n_rlnImageDimensionality #4\n"
        f"1 {PIXEL} {BOX} 2\n\ndata_particles\n\nloop_\n_rlnImageName #1\n_rlnOpticsGroup #2\n{rows}")
    return ParticleImages(read_particles(str(folder / "particles.star")), 60.0, torch.device("cpu"), ignore_ctf=True, normalise=False)


def test_stored_images_are_those_in_memory(source: ParticleImages, tmp_path: Path) -> None:
    stored = read_fourier_images(source, matching_band(source, 10), 64, RunRecord(tmp_path, "recovery", "1"))
    memory = fourier_images(torch.from_numpy(source.read(np.arange(COUNT))[0].numpy()))
    assert len(stored) == COUNT and stored.stored is not None and not len(stored.data)
    assert torch.equal(stored.coefficients(stored.every), memory.data)
    torch.testing.assert_close(stored.noise, memory.noise)
    torch.testing.assert_close(stored.mean_power(), memory.mean_power())
    rows = torch.tensor([299, 3, 150, 149])
    some, other = stored.within(4.5).rows(rows), memory.within(4.5).rows(rows)
    assert torch.equal(some.coefficients(torch.tensor([0, 2])), other.data[[0, 2]])
    assert torch.equal(some.loaded(torch.tensor([1, 3])).data, other.data[[1, 3]])


def test_a_part_that_was_read_is_not_read_again(source: ParticleImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two parts one is cut short: that one alone is read again, with the faults of images of the other one known from its record."""
    record = RunRecord(tmp_path, "recovery", "1")
    band = matching_band(source, 10)
    first = read_fourier_images(source, band, 64, record)
    assert first.stored is not None
    before = first.coefficients(first.every)
    path = first.stored.files[1].path
    path.write_bytes(path.read_bytes()[:-8])
    again = ParticleImages(source.table, 60.0, torch.device("cpu"), ignore_ctf=True, normalise=False)
    read: list[int] = []

    def noted(self: ParticleImages, rows: np.ndarray, inner: Any = ParticleImages.read) -> tuple[torch.Tensor, Ctf | None]:
        read.extend(rows.tolist())
        found: tuple[torch.Tensor, Ctf | None] = inner(self, rows)
        return found

    monkeypatch.setattr(ParticleImages, "read", noted)
    second = read_fourier_images(again, band, 64, record)
    assert read == part_rows(COUNT)[1].tolist()
    assert torch.equal(second.coefficients(second.every), before)


def test_batches_hold_images_of_one_part() -> None:
    part = torch.tensor([0] * 5 + [1] * 4 + [3] * 2)
    assert [rows.tolist() for rows in batches(part, torch.arange(11), 3)] == [[0, 1, 2], [3, 4], [5, 6, 7], [8], [9, 10]]
    assert [rows.tolist() for rows in batches(part, torch.tensor([1, 4, 5, 10]), 3)] == [[1, 4], [5], [10]]
    assert not list(batches(part, torch.arange(0), 3)) and not list(batches(None, torch.arange(0), 3))
    sizes = [len(rows) for rows in part_rows(100_000)]
    assert len(sizes) == 64 and max(sizes) - min(sizes) <= 1 and len(part_rows(100)) == 1


def test_memory_grows_by_poses_alone() -> None:
    """A million images of 256 px at the default of three pixels: 4 pi 85^2 bytes each on disk, and less than a thirtieth of that in memory."""
    band = FourierBand.up_to(256, 85.5, length=256.0, lowest=0)
    few, many = (matching_bytes(band, count, 200.0, None, "cpu") for count in (1000, 1_000_000))
    assert (many - few) / 999_000 < 8 * len(band) / 30 and abs(8 * len(band) / (4 * np.pi * 85.5**2) - 1) < 0.02
    line = memory_line(band, 1_000_000, many, "cpu")
    said = re.search(r"at most (\d+) MiB, .* disk: (\d+) MiB", line)
    assert said is not None and int(said[2]) == round(8e6 * len(band) / 2**20) and int(said[1]) > many / 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="/proc says how much of a file is in memory")
def test_what_was_read_is_not_kept_in_memory(tmp_path: Path) -> None:
    """Of 64 MiB on disk that are read by batches of 1 MiB, the process keeps less than 4 MiB mapped."""
    file = PartFile(tmp_path / "rows.c64", (1024, 8192))
    file.write(torch.full((64, 8192), float(number), dtype=torch.complex64) for number in range(16))
    rows = StoredRows(files=[file], index=np.arange(1024), width=8192, device=torch.device("cpu"))
    before = _mapped_bytes()
    for number, some in enumerate(torch.arange(1024).split(64)):
        assert float(rows.read(some).real.mean()) == number
    assert _mapped_bytes() - before < 4 << 20


def _mapped_bytes() -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("RssFile"))
