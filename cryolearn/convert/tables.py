"""Result tables (npz without pickle) of the engine, read and written with numpy alone."""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np


def readTable(path: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Columns and notes of a result table: ``({name: array}, dict)``."""
    with np.load(path, allow_pickle=False) as data:
        columns = {name: data[name] for name in data.files if name != 'meta'}
        meta = json.loads(str(data['meta'])) if 'meta' in data.files else {}
    return columns, meta


def writeTable(path: str, columns: dict[str, Any], meta: dict[str, Any] | None = None) -> None:
    """Write a result table; it appears under its name only when it is whole."""
    temporary = path + '.part'
    with open(temporary, 'wb') as handle:
        np.savez(handle, meta=np.array(json.dumps(meta or {})), **columns)
    os.replace(temporary, path)


def rowsById(ids: Any) -> Any:
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
