"""A reconstruction that several processes make together: each inserts a part of the images, and one adds up the sums of all, in the order of the processes.

The sums go through files among the run's records, which stay until the map is written: a process that was killed and is started again finds what the others,
and itself, have finished.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..io.atomic import open_whole
from ..io.records import RunRecord
from ..launch import process_rank
from .reconstruction import Reconstructor

__all__ = ["SharedSums"]

_PIECE = 1 << 23  # numbers that are read or written at a time


class SharedSums:
    """Parts of the images of several maps, and their sums.

    Parameters
    ----------
    record : RunRecord or None
        Of the run; None when there is one process.
    """

    def __init__(self, record: RunRecord | None) -> None:
        self._record = record
        self.rank, self.world, _ = process_rank() if record is not None else (0, 1, 0)

    def own(self, rows: NDArray[np.int64]) -> NDArray[np.int64]:
        """Places, among the images of a map, of those that this process inserts."""
        return np.array_split(np.arange(len(rows)), self.world)[self.rank]

    def is_finisher(self, number: int) -> bool:
        """Whether this process adds up the sums of the map of a number."""
        return number % self.world == self.rank

    def is_given(self, name: str, work: Reconstructor) -> bool:
        """Whether an earlier run has given the sums of this process for a map."""
        return _is_whole(self._file(name, self.rank), work)

    def give(self, name: str, work: Reconstructor) -> None:
        """Leave the sums of this process for the one that makes the map."""
        with open_whole(self._file(name, self.rank), "wb") as handle:
            handle.write(np.array(work.count, np.int64).tobytes())
            for piece in _pieces(work):
                handle.write(piece.cpu().numpy().tobytes())

    def add(self, name: str, work: Reconstructor) -> None:
        """Add the sums of the other processes to those of this one; waits for them."""
        for rank in range(self.world):
            if rank == self.rank or self._record is None:
                continue
            path = self._file(name, rank)
            self._record.wait_for([path], lambda file: _is_whole(file, work))
            with open(path, "rb") as handle:
                counts = np.frombuffer(handle.read(16), np.int64)
                work.count = [own + int(other) for own, other in zip(work.count, counts, strict=True)]
                for piece in _pieces(work):
                    size = piece.numel() * piece.element_size()
                    piece += torch.frombuffer(bytearray(handle.read(size)), dtype=piece.dtype).to(piece.device)

    def remove(self, name: str) -> None:
        """Remove what the processes gave for a map that has been written."""
        for rank in range(self.world):
            if rank != self.rank:
                self._file(name, rank).unlink(missing_ok=True)

    def _file(self, name: str, rank: int) -> Path:
        assert self._record is not None
        return self._record.file(f"{name}_{rank + 1}_of_{self.world}.sums")


def _pieces(work: Reconstructor) -> Iterator[Tensor]:
    """Consecutive parts of all sums, which can be changed in place."""
    for sums in (*work.numerator, *work.denominator):
        yield from sums.split(_PIECE)


def _is_whole(path: Path, work: Reconstructor) -> bool:
    """Whether sums of the right size are there: files have their name when they are complete."""
    return path.exists() and os.path.getsize(path) == 16 + sum(sums.numel() * sums.element_size() for sums in (*work.numerator, *work.denominator))
