"""Confidence map: where a map stands out of its noise, with what is declared found in error held to a known share.

Each voxel's density is tested against the noise, Gaussian around the solvent's level, and the p values of all voxels become false discovery rates in the way
of Benjamini & Yekutieli, which holds however neighbouring voxels depend on each other.

References
----------
Beckers, Jakobi & Sachse, IUCrJ 6 (2019) 18. Benjamini & Yekutieli, Ann. Statist. 29 (2001) 1165.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.special import digamma, ndtr

__all__ = ["confidence_map", "discovery_rates"]

Array = NDArray[np.float32]
_EULER = 0.5772156649


def discovery_rates(p: NDArray[np.float64], total: int) -> NDArray[np.float64]:
    """False discovery rates (k,), Benjamini-Yekutieli, of the k smallest of ``total`` p values; those that are not given must be larger."""
    order = np.argsort(p)
    rates = p[order] * (total * _harmonic(total)) / np.arange(1, len(p) + 1)
    found = np.empty(len(p))
    found[order] = np.minimum.accumulate(rates[::-1])[::-1]
    return np.minimum(found, 1.0)


def _harmonic(total: int) -> float:
    return float(digamma(total + 1)) + _EULER


def confidence_map(density: Array, level: float, noise: float) -> Array:
    """1 minus the false discovery rate (z, y, x) of density that is higher than the solvent's.

    Parameters
    ----------
    density : (z, y, x)
        Map in which the molecule is brighter than the solvent.
    level, noise
        Mean and standard deviation of the noise, in units of the density.
    """
    flat = density.ravel()
    total = flat.size
    p = ndtr((level - flat.astype(np.float64)) / noise)
    # a rate is p total c / rank, c the harmonic number of total, and no rank passes total: larger p values have a rate of 1
    likely = np.flatnonzero(p < 1 / _harmonic(total))
    found = np.zeros(total, np.float32)
    found[likely] = 1 - discovery_rates(p[likely], total)
    return found.reshape(density.shape)
