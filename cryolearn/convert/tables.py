"""Rows of a result table by the ids of a set's items."""

from __future__ import annotations

from typing import Any

import numpy as np


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


def rowOf(rows: Any, objId: int, tableFile: str) -> int:
    """Row of a particle among ``rows`` (:func:`rowsById`).

    Raises
    ------
    ValueError
        naming the particle that has none.
    """
    if objId not in rows:
        raise ValueError("Particle %d of the input has no row in '%s'." % (objId, tableFile))
    return rows[objId]
