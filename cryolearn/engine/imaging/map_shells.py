"""Shells of frequency, filters and correlations of maps with any sides and voxels (sides and voxel sizes may differ along z, y and x)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from scipy import fft

from ...common.fsc import HALF_MAP_THRESHOLD

__all__ = ["Shells", "cosine_edge", "frequency", "half_fsc", "logistic_fsc"]

_LOGIT = np.log(1 / HALF_MAP_THRESHOLD - 1)  # from FSC 0.5 to FSC 0.143 of a logistic curve, in its widths

Array = NDArray[np.float32]


def frequency(shape: Sequence[int], voxel_angst: Sequence[float]) -> Array:
    """1 / d (1/Å) on the half grid of the transform of a map (z, y, x)."""
    z, y = (np.fft.fftfreq(side, voxel).astype(np.float32) ** 2 for side, voxel in zip(shape[:2], voxel_angst[:2]))
    x = np.fft.rfftfreq(shape[2], voxel_angst[2]).astype(np.float32) ** 2
    return np.asarray(np.sqrt(z[:, None, None] + y[:, None] + x), np.float32)


class Shells:
    """Shells of equal width 1 / (longest side) around the origin of a map's half transform.

    Parameters
    ----------
    shape : (z, y, x) of the map
    voxel_angst : along z, y and x

    Attributes
    ----------
    frequency : (count,) 1/Å of each shell, up to the Nyquist frequency of the coarsest axis
    """

    def __init__(self, shape: Sequence[int], voxel_angst: Sequence[float]) -> None:
        self.shape = tuple(shape)
        width = 1 / max(side * voxel for side, voxel in zip(shape, voxel_angst))
        count = int(0.5 / max(voxel_angst) / width) + 1
        self.frequency: NDArray[np.float64] = np.arange(count) * width
        self.radius = frequency(shape, voxel_angst) / np.float32(width)
        self._index = np.minimum(np.rint(self.radius), count).astype(np.int32).ravel()
        weight = np.full(shape[2] // 2 + 1, 2.0)
        weight[0] = 1
        if shape[2] % 2 == 0:
            weight[-1] = 1
        self._weight = np.broadcast_to(weight, (shape[0], shape[1], len(weight))).ravel()

    def __len__(self) -> int:
        return len(self.frequency)

    def sum(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Sum (count,) of real values on the half grid over the shells of the whole transform."""
        return np.asarray(np.bincount(self._index, values.ravel() * self._weight, len(self) + 1)[: len(self)], np.float64)

    def mean(self, values: NDArray[np.floating]) -> NDArray[np.float64]:
        """Means over the shells of real values on the half grid."""
        return self.sum(values) / np.maximum(self.sum(np.ones(self.radius.shape, np.float32)), 1)

    def correlation(self, first: NDArray[np.complexfloating], second: NDArray[np.complexfloating]) -> NDArray[np.float64]:
        """FSC (count,) of two half transforms; 1 at shell 0, 0 where a shell is empty."""
        norm = np.sqrt(self.sum(np.abs(first) ** 2) * self.sum(np.abs(second) ** 2))
        curve = np.divide(self.sum((first * second.conj()).real), norm, out=np.zeros(len(self)), where=norm > 0)
        curve[0] = 1
        return curve

    def spread(self, curve: NDArray[np.floating]) -> Array:
        """Values on the half grid from (count,) values of the shells, linear in between, the last one beyond."""
        return np.asarray(np.interp(self.radius, np.arange(len(self)), curve), np.float32)


def half_fsc(shells: Shells, first: Array, second: Array, mask: Array | None = None) -> NDArray[np.float64]:
    """FSC of two maps (z, y, x), both multiplied by ``mask`` first."""
    one, two = (fft.rfftn(item if mask is None else item * mask) for item in (first, second))
    return shells.correlation(one, two)


def logistic_fsc(frequency_inv_angst: NDArray[np.floating], resolution_angst: float, width_inv_angst: float) -> NDArray[np.floating]:
    """Half-map FSC that falls as a logistic curve and crosses 0.143 at a resolution."""
    argument = (frequency_inv_angst - 1 / resolution_angst) / width_inv_angst + _LOGIT
    return np.asarray(1 / (1 + np.exp(np.minimum(argument, 50.0))))


def cosine_edge(frequency_inv_angst: Array, resolution_angst: float, width_inv_angst: float = 0.03) -> Array:
    """Low-pass filter: 1 up to a resolution, falling to 0 as a raised cosine over the next ``width_inv_angst``."""
    ramp = np.clip((frequency_inv_angst - 1 / resolution_angst) / width_inv_angst, 0, 1)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * ramp), np.float32)
