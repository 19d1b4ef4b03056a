"""How an enhanced map is held to the data it was made of, and where it agrees with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from .spectra import Shells

__all__ = ["DataWeight", "hold_to_data", "local_correlation", "signal_share"]

Array = NDArray[np.float32]
_LOST = 0.143


@dataclass
class DataWeight:
    """Weight of the data in each shell `(count,)`, and the factor that brings the input to the result's amplitude there."""

    weight: NDArray[np.float64]
    factor: NDArray[np.float64]


def signal_share(half_map_fsc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Part of a map's power that is signal in each shell, 2 FSC / (1 + FSC) (Rosenthal & Henderson 2003); 0 from where the curve first falls below 0.143."""
    curve = np.clip(half_map_fsc, 0, 1)
    lost = np.flatnonzero(curve[1:] < _LOST)
    if len(lost):
        curve[lost[0] + 1 :] = 0
    return 2 * curve / (1 + curve)


def hold_to_data(seen: Array, found: Array, share: NDArray[np.float64], strength: float, shells: Shells, mask: Array) -> tuple[Array, DataWeight]:
    """Mix the input into the result in Fourier space, by the share of signal in each shell.

    The input is brought to the result's amplitude first, by one factor a shell (least squares within the mask): that is a plain sharpening, which leaves
    phases, and amplitudes within a shell, as they were measured.

    Parameters
    ----------
    seen, found : input and result (z, y, x)
    share : `(count,)` see :func:`signal_share`
    strength : 0 leaves the result alone
    """
    if strength == 0:
        return found, DataWeight(np.zeros(len(shells)), np.ones(len(shells)))
    one, two = (fft.rfftn(item * mask) for item in (seen, found))
    power = shells.sum(np.abs(one) ** 2)
    factor = np.clip(np.divide(shells.sum((two * one.conj()).real), power, out=np.zeros(len(shells)), where=power > 0), 0, None)
    weight = strength * share
    data, network = (fft.rfftn(item) for item in (seen, found))
    mixed = network + shells.spread(weight) * (shells.spread(factor) * data - network)
    return np.asarray(fft.irfftn(mixed, s=found.shape), np.float32), DataWeight(weight, factor)


def local_correlation(first: Array, second: Array, sigma_px: float) -> Array:
    """Correlation (z, y, x) of two maps in a Gaussian window around each voxel; 0 where one of them is flat."""
    def mean(values: Array) -> Array:
        return np.asarray(ndimage.gaussian_filter(values, sigma_px, mode="nearest"))

    one, two = mean(first), mean(second)
    cross = mean(first * second) - one * two
    norm = np.clip(mean(first * first) - one * one, 0, None) * np.clip(mean(second * second) - two * two, 0, None)
    flat = norm <= 1e-12 * float(norm.max())
    return np.asarray(np.clip(np.where(flat, 0, cross / np.sqrt(np.where(flat, 1, norm))), -1, 1), np.float32)
