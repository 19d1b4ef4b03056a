"""Tables that the engine wrote: result tables by the ids of a set's items, and CSV files."""

from __future__ import annotations

import csv
from typing import Any, Sequence

import numpy as np

from ..common.tables import read_table
from .poses import transformsFromPoses


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
        self._rows = rowsById(self.columns['id'])

    def __len__(self) -> int:
        return len(self.columns['id'])

    def rowOf(self, item: Any) -> int:
        """Row of an item of a set.

        Raises
        ------
        ValueError
            naming the item, when it has none.
        """
        if item.getObjId() not in self._rows:
            raise ValueError("Particle %d of the input has no row in '%s'." % (item.getObjId(), self.path))
        return self._rows[item.getObjId()]

    def value(self, item: Any, column: str) -> Any:
        """Value of a column for an item; None when the table has no such column."""
        return self.columns[column][self.rowOf(item)].item() if column in self.columns else None

    def transforms(self, pixelSize: float) -> Any:
        """Matrices of Scipion's ``Transform`` (n, 4, 4) of the poses in the columns ``rotation`` and ``shift_angst``."""
        return transformsFromPoses(self.columns['rotation'], self.columns['shift_angst'], pixelSize)

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
