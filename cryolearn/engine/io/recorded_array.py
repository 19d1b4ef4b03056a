"""A large array on disk that is filled row by row over hours, and continued after a kill."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from .atomic import naming, reserve, to_disk

__all__ = ["RecordedArray", "mapped_array"]


class RecordedArray:
    """Rows of a large array, mapped into memory, each of which is finished or not.

    Values and marks are two files that are made together; when one of them does not fit, both start empty.

    Parameters
    ----------
    path : Path
        File of the values (npy); the marks lie beside it.
    shape : tuple of int
        Of the array; its first axis is that of the rows.
    dtype : data type
    """

    def __init__(self, path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        marks = path.with_name(f"{path.stem}_finished.npy")
        values, finished = mapped_array(path, shape, dtype), mapped_array(marks, shape[:1], np.bool_)
        if values is None or finished is None:
            path.parent.mkdir(parents=True, exist_ok=True)
            marks.unlink(missing_ok=True)  # before the values, so that no mark outlives what it stands for
            with naming(path):
                try:
                    values = np.lib.format.open_memmap(path, "w+", dtype, shape)
                    reserve(path)
                    finished = np.lib.format.open_memmap(marks, "w+", np.bool_, shape[:1])
                    reserve(marks)
                    to_disk(path.parent)
                except BaseException:
                    path.unlink(missing_ok=True)
                    marks.unlink(missing_ok=True)
                    raise
        self._values, self._finished = values, finished

    @property
    def finished(self) -> NDArray[np.bool_]:
        """(n,) which rows are finished."""
        return np.array(self._finished)

    def write(self, rows: int | slice, values: ArrayLike) -> None:
        """Record rows, and mark them when they are on their way to the disk."""
        self._values[rows] = values
        self._values.flush()
        self._finished[rows] = True
        self._finished.flush()

    def read(self, rows: int | slice) -> NDArray[Any]:
        """Values of rows, mapped into memory."""
        return self._values[rows]


def mapped_array(path: Path, shape: tuple[int, ...], dtype: DTypeLike) -> np.memmap[Any, Any] | None:
    """An array on disk, mapped and writable; None when there is none of this shape and type, and a sentence when there is another or a part of one."""
    if not path.exists():
        return None
    try:
        size = path.stat().st_size  # a file that was cut short grows when it is mapped
        found = np.load(path, mmap_mode="r+", allow_pickle=False) if size else None
    except (OSError, ValueError, EOFError):
        found = None
    if isinstance(found, np.memmap) and found.shape == shape and found.dtype == np.dtype(dtype) and found.offset + found.nbytes == size:
        return found
    print(f"The record '{path}' cannot be read and is made anew.", flush=True)
    return None
