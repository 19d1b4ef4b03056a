"""One file of an unfinished run's records: named arrays and plain values, and waiting for those that other processes write."""

from __future__ import annotations

import json
import time
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from .atomic import plain_value, write_npz

__all__ = ["Columns", "Stage", "is_whole_npz", "say_damaged", "wait_for_others"]

Columns = dict[str, NDArray[Any]]

_VALUES = "values"
_POLL_S = 0.5
_SILENCE_S = 24 * 3600.0


class Stage:
    """Named arrays and plain values in one file: the result of a step, or the state after a round.

    Parameters
    ----------
    path : Path
        File, whose name ends in ``.npz``.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def exists(self) -> bool:
        """Whether it has been recorded; a file that was cut short or is damaged does not count."""
        return is_whole_npz(self.path)

    def remove(self) -> None:
        """Forget it."""
        self.path.unlink(missing_ok=True)

    def write(self, arrays: Mapping[str, ArrayLike], values: Mapping[str, Any] | None = None) -> None:
        """Record arrays, and values that JSON can hold."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        write_npz(self.path, {**arrays, _VALUES: json.dumps(dict(values or {}), default=plain_value)})

    def read(self) -> tuple[Columns, dict[str, Any]] | None:
        """Arrays and values; None when they are not recorded, or cannot be read, which one sentence says."""
        if not self.path.exists():
            return None
        try:
            with open(self.path, "rb") as handle, np.load(handle, allow_pickle=False) as archive:  # NumPy leaves a damaged file open
                arrays = {name: archive[name] for name in archive.files}
            return arrays, json.loads(str(arrays.pop(_VALUES)))
        except (OSError, ValueError, KeyError, TypeError, AttributeError, EOFError, zipfile.BadZipFile):
            say_damaged(self.path)
            return None

    def awaited(self) -> tuple[Columns, dict[str, Any]]:
        """Arrays and values that another process records, once it has.

        Raises
        ------
        InputError
            when nothing was recorded for a day, or it cannot be read.
        """
        wait_for_others([self], Stage.exists, lambda stage: str(stage.path))
        found = self.read()
        if found is None:
            raise InputError(f"The record '{self.path}' is damaged: remove it and run again.")
        return found


def is_whole_npz(path: Path) -> bool:
    """Whether a file is there and holds all that was written to it, by its checksums."""
    try:
        with zipfile.ZipFile(path) as archive:
            return archive.testzip() is None
    except (OSError, EOFError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def say_damaged(path: Path) -> None:
    """Print that a record is not used."""
    print(f"The record '{path}' cannot be read and is made anew.", flush=True)


def wait_for_others(items: Sequence[Any], is_there: Callable[[Any], bool], name: Callable[[Any], str]) -> None:
    """Wait for what other processes write; give up after a day without anything new."""
    last, missing = time.monotonic(), list(items)
    while True:
        absent = [item for item in missing if not is_there(item)]
        if not absent:
            return
        if len(absent) < len(missing):
            last, missing = time.monotonic(), absent
        if time.monotonic() - last > _SILENCE_S:
            raise InputError(f"Another process never wrote '{name(absent[0])}': look at its log and run again.")
        time.sleep(_POLL_S)
