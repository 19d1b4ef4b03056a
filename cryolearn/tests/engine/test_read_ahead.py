"""Images are read while those before them are worked on."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from cryolearn.engine.io import read_ahead
from cryolearn.engine.io.read_ahead import ReadAhead
from cryolearn.engine.io.records import RunRecord
from cryolearn.engine.training.particle_images import ParticleImages

from .imaging_cases import gaussian_model, particle_set

PARTS = np.split(np.arange(20), 5)


def test_the_next_batch_is_read_meanwhile_and_no_other() -> None:
    read: list[int] = []

    def look(rows: np.ndarray) -> np.ndarray:
        read.append(int(rows[0]))
        return rows * 2

    seen = 0
    for rows, found in ReadAhead(look, PARTS):
        assert np.array_equal(found, rows * 2)
        seen += 1
        deadline = time.monotonic() + 20
        while len(read) < min(seen + 1, 5) and time.monotonic() < deadline:
            time.sleep(0.001)
        assert read == [0, 4, 8, 12, 16][: seen + 1]
    assert seen == 5 and list(ReadAhead(look, [])) == []


def test_time_spent_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """By a clock that shows what is given here: 3 s for the first batch and 1 s for the second, of 10 s in all."""
    clock = iter([0.0, 0, 0, 3, 5, 6, 10])
    monkeypatch.setattr(read_ahead, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    reader = ReadAhead(lambda rows: rows, PARTS[:2])
    assert len(list(reader)) == 2 and reader.waiting == pytest.approx(0.4)


def test_what_cannot_be_read_is_raised_where_it_is_asked_for() -> None:
    def look(rows: np.ndarray) -> np.ndarray:
        if rows[0] == 8:
            raise ValueError("image 9")
        return rows

    seen = []
    with pytest.raises(ValueError, match="image 9"):
        for rows, _ in ReadAhead(look, PARTS):
            seen.append(int(rows[0]))
    assert seen == [0, 4]


def test_chunks_are_read_ahead(tmp_path: Path) -> None:
    """Every batch by the reading thread and once; the images are those that a plain reader gives."""
    table = particle_set(str(tmp_path), 11, 16, 4.0, gaussian_model(10, 6.0))
    images, plain = (ParticleImages(table, 20.0, torch.device("cpu")) for _ in range(2))
    threads: list[str] = []
    inner = images._stack.read

    def read(rows: np.ndarray) -> np.ndarray:
        threads.append(threading.current_thread().name)
        return inner(rows)

    images._stack.read = read  # type: ignore[method-assign, assignment]
    found = RunRecord(tmp_path, "alignment", "d").in_chunks(
        np.arange(11), 4, lambda rows: {"image": images.read(rows)[0].numpy()}, "work", 3, ahead=images.expect)
    assert found is not None and np.array_equal(found["image"], plain.read(np.arange(11))[0].numpy())
    assert len(threads) == 5 and threading.current_thread().name not in threads
    assert not images._coming
