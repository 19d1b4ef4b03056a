"""Grey values and densities that can be computed with."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["unusable"]


def unusable(values: NDArray[np.float32]) -> NDArray[np.int64]:
    """Which of the images or maps (n, ...) hold NaN, infinity, or numbers whose squares single precision does not hold (1e19 and more).

    One pass over the values, without a copy.
    """
    flat = values.reshape(len(values), -1)
    with np.errstate(over="ignore", invalid="ignore"):
        return np.flatnonzero(~np.isfinite(np.einsum("np,np->n", flat, flat)))
