"""What is computed of modes of motion on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

__all__ = ["collectivity"]


def collectivity(vectors: ArrayLike) -> NDArray[np.float64]:
    """Part of the N atoms (or Gaussians) that modes (..., N, d) move, 1/N to 1: exp(entropy of the squared displacements) / N; 0 where nothing moves.

    References
    ----------
    Brüschweiler, J. Chem. Phys. 102 (1995) 3396.
    """
    squared = np.square(np.asarray(vectors, dtype=float)).sum(axis=-1)
    total = squared.sum(axis=-1, keepdims=True)
    share = np.divide(squared, total, out=np.zeros_like(squared), where=total > 0)
    entropy = -(share * np.log(np.maximum(share, 1e-300))).sum(axis=-1)
    return np.asarray(np.where(total[..., 0] > 0, np.exp(entropy) / squared.shape[-1], 0.0))
