"""Result tables of :mod:`cryolearn.common.tables`, for the engine."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.tables import Columns, join, read_table, write_table
from ..exceptions import InputError

__all__ = ["Columns", "join", "number_vectors", "read_table", "write_table"]

_LARGEST = 1e15  # squares of what is larger, and sums of them, are beyond float32


def number_vectors(columns: Mapping[str, NDArray[Any]], name: str, table: str) -> NDArray[np.float64]:
    """Column ``name`` of a table as (n, k) vectors.

    Raises
    ------
    InputError
        when the column is absent, empty or is not numbers, the table is empty, or a value is not finite or too large (the id is named).
    """
    if name not in columns:
        raise InputError(f"The table '{table}' has no column '{name}': choose one of {', '.join(sorted(columns))}.")
    values = np.asarray(columns[name])
    if values.dtype.kind not in "fiu" or (len(values) and not values[:1].size):
        raise InputError(f"Column '{name}' of '{table}' does not hold numbers: choose another column.")
    if not len(values):
        raise InputError(f"The table '{table}' has no rows: there is no landscape to work on.")
    vectors = values.reshape(len(values), -1).astype(np.float64)
    bad = np.flatnonzero(~(np.abs(vectors) < _LARGEST).all(axis=1))
    if len(bad):
        raise InputError(
            f"Column '{name}' of '{table}' is not finite, or beyond {_LARGEST:g}, for particle {int(columns['id'][bad[0]])} "
            f"({len(bad)} such particles): leave them out first."
        )
    return vectors
