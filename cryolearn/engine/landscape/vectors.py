"""The latent vectors of a result table, checked."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InputError
from ..io.tables import number_vectors

__all__ = ["axis_values"]


def axis_values(columns: Mapping[str, NDArray[Any]], axis: str, table: str) -> NDArray[np.float64]:
    """One axis (n,) named as ``column`` or ``column:component``, components counted from 0.

    Raises
    ------
    InputError
        when the column or the component does not exist.
    """
    name, _, component = axis.partition(":")
    vectors = number_vectors(columns, name, table)
    if component and not component.isdigit():
        raise InputError(f"The axis '{axis}' is not of the form column or column:component, such as amplitudes:0.")
    index = int(component or 0)
    if index >= vectors.shape[1]:
        raise InputError(f"The axis '{axis}' does not exist: column '{name}' has components 0 to {vectors.shape[1] - 1}.")
    return vectors[:, index]
