"""Transforms of images in files, one a part of the set, of which only those rows are in memory that are worked on."""

from __future__ import annotations

import mmap
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..io.atomic import open_whole

__all__ = ["PartFile", "StoredRows"]


class PartFile:
    """Rows of complex numbers (n, P) in single precision, in one file.

    Parameters
    ----------
    path : Path
        File; see :meth:`write`.
    shape : tuple of int
        Rows and numbers in a row.
    """

    def __init__(self, path: Path, shape: tuple[int, int]) -> None:
        self.path, self.shape = path, shape

    @property
    def is_whole(self) -> bool:
        """Whether the file is there, with all its rows."""
        return self.path.exists() and self.path.stat().st_size == 8 * self.shape[0] * self.shape[1]

    def write(self, rows: Iterable[Tensor]) -> None:
        """Write all rows, some at a time."""
        with open_whole(self.path, "wb") as handle:
            for some in rows:
                handle.write(some.cpu().contiguous().numpy().tobytes())

    @cached_property
    def _mapped(self) -> tuple[mmap.mmap, NDArray[np.complex64]]:
        with open(self.path, "rb") as handle:
            mapped = mmap.mmap(handle.fileno(), 0, access=mmap.ACCESS_READ)
        return mapped, np.frombuffer(mapped, np.complex64).reshape(self.shape)

    def read(self, rows: NDArray[np.int64], width: int) -> NDArray[np.complex64]:
        """The first ``width`` numbers of some rows, in memory."""
        mapped, values = self._mapped
        found = values[rows, :width]
        if hasattr(mmap, "MADV_DONTNEED"):
            mapped.madvise(mmap.MADV_DONTNEED)  # else all that was ever read counts as this process's memory
        return found


@dataclass(frozen=True, kw_only=True)
class StoredRows:
    """Rows (n, width) of complex numbers in the files of the parts of a set.

    Attributes
    ----------
    files : of the parts, in their order
    index : (n,) rows of the whole set
    width : numbers of a row that are looked at
    device : where rows are read to
    """

    files: Sequence[PartFile]
    index: NDArray[np.int64]
    width: int
    device: torch.device

    def __len__(self) -> int:
        return len(self.index)

    def subset(self, rows: Tensor) -> StoredRows:
        """Some of the rows; nothing is read."""
        return replace(self, index=self.index[rows.cpu().numpy()])

    def narrower(self, width: int) -> StoredRows:
        """The first numbers of each row; nothing is read."""
        return replace(self, width=width)

    def read(self, rows: Tensor) -> Tensor:
        """Some rows (b, width), on the device."""
        index = self.index[rows.cpu().numpy()]
        ends = np.cumsum([file.shape[0] for file in self.files])
        number = np.searchsorted(ends, index, side="right")
        found = np.empty((len(index), self.width), np.complex64)
        for part in np.unique(number):
            own = np.flatnonzero(number == part)
            found[own] = self.files[part].read(index[own] - (ends[part - 1] if part else 0), self.width)
        return torch.from_numpy(found).to(self.device)
