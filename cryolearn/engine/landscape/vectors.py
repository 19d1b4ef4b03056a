"""The latent vectors of a result table, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InputError

__all__ = ["axis_values", "latent_vectors"]


def latent_vectors(columns: Mapping[str, NDArray[Any]], name: str, table: str) -> NDArray[np.float64]:
    """Column ``name`` as (n, k) vectors.

    Raises
    ------
    InputError
        when the column is absent or is not numbers, the table is empty, or a value is not finite (the id is named).
    """
    if name not in columns:
        raise InputError(f"The table '{table}' has no column '{name}': choose one of {', '.join(sorted(columns))}.")
    values = np.asarray(columns[name])
    if values.dtype.kind not in "fiu":
        raise InputError(f"Column '{name}' of '{table}' does not hold numbers: choose another column.")
    if not len(values):
        raise InputError(f"The table '{table}' has no rows: there is no landscape to work on.")
    vectors = values.reshape(len(values), -1).astype(np.float64)
    bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(bad):
        raise InputError(
            f"Column '{name}' of '{table}' is not finite for particle {int(columns['id'][bad[0]])} "
            f"({len(bad)} such particles): leave them out first."
        )
    return vectors


def axis_values(columns: Mapping[str, NDArray[Any]], axis: str, table: str) -> NDArray[np.float64]:
    """One axis (n,) named as ``column`` or ``column:component``, components counted from 0.

    Raises
    ------
    InputError
        when the column or the component does not exist.
    """
    name, _, component = axis.partition(":")
    vectors = latent_vectors(columns, name, table)
    if component and not component.isdigit():
        raise InputError(f"The axis '{axis}' is not of the form column or column:component, such as amplitudes:0.")
    index = int(component or 0)
    if index >= vectors.shape[1]:
        raise InputError(f"The axis '{axis}' does not exist: column '{name}' has components 0 to {vectors.shape[1] - 1}.")
    return vectors[:, index]
