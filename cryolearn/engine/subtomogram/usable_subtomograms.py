"""Subtomograms that cannot be used are found as a set is read, as :mod:`cryolearn.engine.imaging.unusable_images` finds images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InputError
from ..imaging.standard_images import even_rows
from ..imaging.unusable_images import UnusableImages
from ..io.subtomograms import SubtomogramStack, SubtomogramTable
from ..launch import say_once

__all__ = ["UsableSubtomograms", "say_unusable"]

_SAMPLED_TOGETHER = 4
_WHY = ("", "blank", "masked, and the others are not", "saturated", "on a grey scale more than ten times that of the others")


class UsableSubtomograms:
    """A set that is read with a look at each volume.

    Parameters
    ----------
    stack : SubtomogramStack
        The set as it is in its files.
    refuse : bool
        Refuse a subtomogram that cannot be used; otherwise it is read as 0, and :attr:`unusable` tells it.
    """

    def __init__(self, stack: SubtomogramStack, refuse: bool = True) -> None:
        self.stack, self.table, self.box, self._refuse = stack, stack.table, stack.box, refuse
        self._faults = UnusableImages(len(stack), self._sample)

    def __len__(self) -> int:
        return len(self.stack)

    @property
    def unusable(self) -> NDArray[np.bool_]:
        """The subtomograms (n,), among those read, that cannot be used."""
        return self._faults.found

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Volumes (n, z, y, x) of rows of the table.

        Raises
        ------
        InputError
            naming the subtomogram that cannot be read, or not used.
        """
        volumes = self.stack.read(rows)
        self._faults.judge(np.asarray(rows), volumes)
        bad = np.flatnonzero(self.unusable[rows])
        if self._refuse and len(bad):
            row = int(rows[bad[0]])
            raise InputError(f"The {self.stack.table.name(row)} is {_WHY[self._faults.reason[row]]}: remove it from the set.")
        return volumes

    def tilt_deg(self, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """First and last tilt (n, 2) of rows of the table."""
        return self.stack.tilt_deg(rows)

    def _sample(self, most: int) -> Iterator[NDArray[np.float32]]:
        rows = even_rows(len(self.stack), most)
        for some in np.split(rows, range(_SAMPLED_TOGETHER, len(rows), _SAMPLED_TOGETHER)):
            yield self.stack.read(some)


def say_unusable(table: SubtomogramTable, unusable: NDArray[np.bool_]) -> list[str]:
    """Warn of the subtomograms of a table that cannot be used, ``unusable`` (n,); returns what was said."""
    if not unusable.any():
        return []
    text = (f"{int(unusable.sum())} of the {len(table)} subtomograms are blank, masked, saturated or on another grey scale and belong to no class (first: "
            f"{table.name(int(np.argmax(unusable)))}): extract them again, or remove them.")
    say_once(f"WARNING: {text}")
    return [text]
