"""How the engine writes result files: whole or not at all (:mod:`cryolearn.common.atomic`), and the formats that need the engine's libraries.

Exceptions are files that grow over hours and are continued after a kill: image stacks (:class:`.stacks.StackWriter`), which stand under a name of their own
until they are complete, and arrays among a run's records (:class:`.recorded_array.RecordedArray`), each of whose rows is marked when it is complete.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from os import PathLike
from typing import Any

import mrcfile
import numpy as np
from numpy.typing import ArrayLike

from ...common.atomic import (
    copy_file,
    finish_part,
    naming,
    open_whole,
    part_of,
    plain_value,
    to_disk,
    whole_file,
    write_csv,
    write_json,
    write_text,
)

__all__ = [
    "copy_file", "finish_part", "naming", "new_mrc", "open_whole", "part_of", "plain_value", "reserve", "to_disk", "whole_file", "write_csv", "write_json",
    "write_npz", "write_text",
]


def write_npz(path: str | PathLike[str], arrays: Mapping[str, ArrayLike]) -> None:
    """Write named arrays as npz, without compression.

    Raises
    ------
    ValueError
        naming the array that holds Python objects, which a reader would have to unpickle.
    """
    for name, values in arrays.items():
        if np.asarray(values).dtype.hasobject:
            raise ValueError(f"the array '{name}' holds Python objects")
    with open_whole(path, "wb") as handle:
        np.savez(handle, **arrays)  # type: ignore[arg-type]


@contextmanager
def new_mrc(path: str | PathLike[str], durable: bool = True) -> Iterator[Any]:
    """A new MRC file, open to take data and header; it has its name when the block ends without an error (``durable``: :func:`whole_file`)."""
    with whole_file(path, durable) as part, mrcfile.new(part) as handle:
        yield handle


def reserve(path: str | PathLike[str]) -> None:
    """Have the file system give a file all its room now: on a full disk, writing to it through a memory map would kill the process later."""
    handle = os.open(path, os.O_RDWR)
    try:
        if hasattr(os, "posix_fallocate") and (size := os.fstat(handle).st_size):
            os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP, errno.ENOSYS):
            raise
    finally:
        os.close(handle)
