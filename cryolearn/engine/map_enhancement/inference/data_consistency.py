"""How an enhanced map is held to the data it was made of, and where it agrees with them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from ....common.fsc import HALF_MAP_THRESHOLD, first_shell_below
from ...imaging.map_shells import Shells

__all__ = ["DataWeight", "hold_to_data", "local_correlation", "sharpness_gain", "signal_share"]

Array = NDArray[np.float32]
_LARGEST_GAIN = 4.0


@dataclass
class DataWeight:
    """Weight of the data in each shell (count,), and the factor that brings the input to the result's amplitude there."""

    weight: NDArray[np.float64]
    factor: NDArray[np.float64]


def signal_share(half_map_fsc: NDArray[np.float64]) -> NDArray[np.float64]:
    """Part of a map's power that is signal in each shell, 2 FSC / (1 + FSC) (Rosenthal & Henderson 2003); 0 from where the curve first falls below 0.143."""
    curve = np.clip(half_map_fsc, 0, 1)
    curve[first_shell_below(curve, HALF_MAP_THRESHOLD) :] = 0
    return 2 * curve / (1 + curve)


def hold_to_data(
    seen: Array, found: Array, share: NDArray[np.float64], strength: float, shells: Shells, mask: Array, sharp_to_angst: float = 0.0
) -> tuple[Array, DataWeight]:
    """Mix the input into the result in Fourier space, by the share of signal in each shell.

    The input is brought to the result's amplitude first, by one factor a shell (least squares within the mask): that is a plain sharpening, which leaves
    phases, and amplitudes within a shell, as they were measured.

    Parameters
    ----------
    seen, found : (z, y, x)
        Input of the network and its result.
    share : (count,)
        Fraction of the input's power in each shell that is signal (:func:`signal_share`).
    strength
        Factor of the share; 1 mixes by the share itself, 0 leaves the result's phases alone.
    shells
        Shells of the maps' Fourier transforms.
    mask : (z, y, x)
        Mask of the molecule, within which the amplitudes are compared.
    sharp_to_angst
        Resolution in Å to which the result is made no blurrier than the input (:func:`sharpness_gain`); 0 does no such correction.
    """
    one, two = (fft.rfftn(item * mask) for item in (seen, found))
    power = shells.sum(np.abs(one) ** 2)
    factor = np.clip(np.divide(shells.sum((two * one.conj()).real), power, out=np.zeros(len(shells)), where=power > 0), 0, None)
    gain = sharpness_gain(factor, shells, sharp_to_angst) if sharp_to_angst else np.ones(len(shells))
    weight = strength * share
    if not weight.any() and (gain == 1).all():
        return found, DataWeight(weight, factor)
    data, network = (fft.rfftn(item) for item in (seen, found))
    mixed = shells.spread(gain) * (network + shells.spread(weight) * (shells.spread(factor) * data - network))
    return np.asarray(fft.irfftn(mixed, s=found.shape), np.float32), DataWeight(weight, factor * gain)


def sharpness_gain(factor: NDArray[np.float64], shells: Shells, resolution_angst: float) -> NDArray[np.float64]:
    """Factor (count,) that gives back to each shell what the result has less of than the input, by the shells between 12 and 6 Å.

    A network that is unsure of a shell makes it weaker, as every estimate with least error does: that is a blur, though nothing was known to be wrong. Shells
    beyond the input's resolution get the factor of the last one within it.

    Parameters
    ----------
    factor : (count,)
        Factor of :func:`hold_to_data` that brings the input to the result's amplitude.
    shells
        Shells of the maps' Fourier transforms.
    resolution_angst
        Resolution of the input in Å.
    """
    known = (shells.frequency >= 1 / 12) & (shells.frequency <= 1 / max(6.0, 1.5 * resolution_angst)) & (factor > 0)
    gain = np.ones(len(shells))
    if not known.any():
        return gain
    used = (shells.frequency > 1 / 12) & (shells.frequency <= 1 / resolution_angst)
    ratio = factor[known].mean() / np.maximum(factor, 1e-6)
    gain[used] = np.clip(ratio[used], 1, _LARGEST_GAIN)
    if used.any():
        gain[shells.frequency > 1 / resolution_angst] = gain[used][-3:].mean()
    return np.asarray(ndimage.uniform_filter1d(gain, 3, mode="nearest"))


def local_correlation(first: Array, second: Array, sigma_px: float) -> Array:
    """Correlation (z, y, x) of two maps in a Gaussian window around each voxel; 0 where one of them is flat."""
    def mean(values: Array) -> Array:
        return np.asarray(ndimage.gaussian_filter(values, sigma_px, mode="nearest"))

    one, two = mean(first), mean(second)
    cross = mean(first * second) - one * two
    norm = np.clip(mean(first * first) - one * one, 0, None) * np.clip(mean(second * second) - two * two, 0, None)
    flat = norm <= 1e-12 * float(norm.max())
    return np.asarray(np.clip(np.where(flat, 0, cross / np.sqrt(np.where(flat, 1, norm))), -1, 1), np.float32)
