"""Reading while computing: the next batch is read in a thread while this one is worked on."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

__all__ = ["ReadAhead"]

T = TypeVar("T")


class ReadAhead(Generic[T]):
    """Batches of rows with what was read of them, in order; at most three are in memory.

    Parameters
    ----------
    read : callable
        Reads given rows; it is called in one thread, for one batch after the other. What it raises comes out where its batch is asked for.
    parts : sequence of int arrays
        Rows of each batch.
    """

    def __init__(self, read: Callable[[NDArray[np.int64]], T], parts: Sequence[NDArray[np.int64]]) -> None:
        self._read, self._parts = read, parts
        self._waited_s, self._began = 0.0, time.monotonic()
        self._ended: float | None = None

    def __iter__(self) -> Iterator[tuple[NDArray[np.int64], T]]:
        self._waited_s, self._began, self._ended = 0.0, time.monotonic(), None
        with ThreadPoolExecutor(1) as pool:
            coming = [pool.submit(self._read, part) for part in self._parts[:1]]
            for part, following in zip(self._parts, [*self._parts[1:], None]):
                asked = time.monotonic()
                found = coming.pop().result()
                self._waited_s += time.monotonic() - asked
                if following is not None:
                    coming.append(pool.submit(self._read, following))
                yield part, found
        self._ended = time.monotonic()

    @property
    def waiting(self) -> float:
        """Share of the time, from when the first batch was asked for until the last one was done with, that was spent waiting for files."""
        until = time.monotonic() if self._ended is None else self._ended
        return self._waited_s / max(until - self._began, 1e-9)
