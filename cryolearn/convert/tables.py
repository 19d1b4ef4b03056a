"""Tables that the engine wrote: result tables by the ids of a set's items, and CSV files."""

from __future__ import annotations

import csv
from typing import Any, Sequence

import numpy as np

from ..common.tables import read_table
from .poses import transformsFromPoses

_BLOCK = 4096  # rows whose poses are converted at once


def rowsById(ids: Any) -> dict[int, int]:
    """``{id: row}`` of a table's id column.

    Raises
    ------
    ValueError
        when an id stands there twice.
    """
    rows = {int(value): row for row, value in enumerate(ids)}
    if len(rows) != len(ids):
        values, counts = np.unique(ids, return_counts=True)
        raise ValueError('Id %d stands %d times in the result table.' % (values[counts > 1][0], counts.max()))
    return rows


class ResultTable:
    """A result table of the engine by the ids of a set's items.

    Attributes
    ----------
    columns : dict of arrays
    meta : dict
        What holds for the whole table.
    path : str
        The file.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self.columns, self.meta = read_table(path)
        self._order = np.argsort(self.columns['id'], kind='stable')
        self._ids = self.columns['id'][self._order]
        self._row = -1  # the one asked for last
        self._block, self._transforms = (-1, 0.), np.zeros((0, 4, 4))

    def __len__(self) -> int:
        return len(self._ids)

    def rowsOf(self, ids: Any) -> Any:
        """Rows (n,) of the items with these ids.

        Raises
        ------
        ValueError
            naming the first item that has none.
        """
        wanted = np.asarray(ids, dtype=np.int64)
        places = np.minimum(np.searchsorted(self._ids, wanted), max(len(self) - 1, 0))
        missing = np.ones(len(wanted), dtype=bool) if not len(self) else self._ids[places] != wanted
        if missing.any():
            raise ValueError("Particle %d of the input has no row in '%s'." % (wanted[missing][0], self.path))
        return self._order[places]

    def rowOf(self, item: Any) -> int:
        """Row of an item of a set.

        Raises
        ------
        ValueError
            naming the item, when it has none.
        """
        if self._row < 0 or self.columns['id'][self._row] != item.getObjId():
            self._row = int(self.rowsOf([item.getObjId()])[0])
        return self._row

    def value(self, item: Any, column: str) -> Any:
        """Value of a column for an item; None when the table has no such column."""
        return self.columns[column][self.rowOf(item)].item() if column in self.columns else None

    def transform(self, item: Any, pixelSize: float) -> Any:
        """Matrix of Scipion's ``Transform`` (4, 4) of an item's pose in the columns ``rotation`` and ``shift_angst``."""
        row = self.rowOf(item)
        if self._block != (row // _BLOCK, pixelSize):
            self._block = row // _BLOCK, pixelSize
            rows = slice(row // _BLOCK * _BLOCK, (row // _BLOCK + 1) * _BLOCK)
            self._transforms = transformsFromPoses(self.columns['rotation'][rows], self.columns['shift_angst'][rows], pixelSize)
        return self._transforms[row % _BLOCK]

    def setAttributes(self, item: Any, kinds: Any) -> None:
        """Give an item attributes ``(name, column, type)`` from its row, of those columns that the table has."""
        for name, column, kind in kinds:
            if column in self.columns:
                setattr(item, name, kind(self.value(item, column)))


def readRows(path: str, text: Sequence[str] = ()) -> list[dict[str, Any]]:
    """Rows of a CSV file as dictionaries: numbers are numbers, what is empty or NaN is None, columns of ``text`` and other words stay as they are."""
    with open(path, newline='', encoding='utf-8') as handle:
        rows = csv.DictReader(line for line in handle if not line.startswith('#'))
        return [{name: value if name in text else _value(value) for name, value in row.items()} for row in rows]


def _value(text: Any) -> Any:
    if not text:
        return None
    try:
        number = float(text)
    except ValueError:
        return text
    return None if number != number else number
