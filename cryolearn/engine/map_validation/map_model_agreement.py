"""How well a map and a model agree: correlations in real space, and Fourier shell correlation with and without a mask.

References
----------
Afonine et al., Acta Cryst. D74 (2018) 814: CC_box, CC_mask, CC_volume, CC_peaks (``phenix.map_model_cc``, ``mmtbx.maps.correlation``).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...common.fsc import HALF_MAP_THRESHOLD, TRUTH_THRESHOLD, resolution_at
from ..imaging.fsc import fsc
from ..imaging.masks import soft_edge
from ..imaging.model_map import mask_around, model_map, molecule_mask
from ..io.maps import Map
from ..io.structures import Structure

__all__ = ["MODEL_THRESHOLDS", "Correlations", "box_fsc", "correlations", "model_mask", "resolution_of"]

MODEL_THRESHOLDS = (TRUTH_THRESHOLD, HALF_MAP_THRESHOLD)
_MASK_RADIUS_ANGST = 3.0
_SOFT_ANGST = 5.0


@dataclass
class Correlations:
    """Correlation coefficients of a map and the map of its model.

    Attributes
    ----------
    box
        Over the whole box.
    mask
        Inside the molecule.
    volume
        Over the highest voxels of the model's map, as many as are inside the molecule.
    peaks
        Over the union of the highest voxels of both maps, as many each.
    """

    box: float
    mask: float
    volume: float
    peaks: float


def correlations(volume: Map, structure: Structure, resolution_angst: float) -> Correlations:
    """CC_box, CC_mask, CC_volume and CC_peaks of a map with its model's map cut at a resolution."""
    shape = _shape(volume)
    calculated = model_map(structure, shape, volume.pixel_size_angst, volume.origin_angst, resolution_angst)
    inside = molecule_mask(structure, volume)
    count = min(int(inside.sum()), calculated.size - 1)
    high_model, high_map = _highest(calculated, count), _highest(volume.data, count)
    return Correlations(
        _correlation(volume.data, calculated), _correlation(volume.data[inside], calculated[inside]),
        _correlation(volume.data[high_model], calculated[high_model]),
        _correlation(volume.data[high_model | high_map], calculated[high_model | high_map]),
    )


def _highest(values: NDArray[np.float32], count: int) -> NDArray[np.bool_]:
    """The ``count`` highest voxels and those equal to the next one, as cctbx selects them."""
    return values >= np.partition(values, -(count + 1), axis=None)[-(count + 1)]


def _correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    one, two = (values.ravel().astype(np.float64) for values in (first, second))
    one, two = one - one.mean(), two - two.mean()
    norm = float(np.sqrt((one @ one) * (two @ two)))
    return float(one @ two) / norm if norm > 0 else 0.0


def model_mask(structure: Structure, volume: Map) -> NDArray[np.float32]:
    """Soft mask (z, y, x): 1 within 3 Å of an atom, falling to 0 over the next 5 Å."""
    hard = torch.from_numpy(mask_around(structure, volume, _MASK_RADIUS_ANGST))
    return np.asarray(soft_edge(hard, _SOFT_ANGST / volume.pixel_size_angst).numpy())


def box_fsc(first: NDArray[np.float32], second: NDArray[np.float32], mask: NDArray[np.float32] | None = None) -> Tensor:
    """FSC (n // 2 + 1,) of maps (z, y, x) of any shape, which are padded to a cube of side n, the longest one.

    Masked maps are padded with zeros, others with their mean after it was taken off, so that padding makes no edge.
    """
    side = max(first.shape)
    prepared = []
    for values in (first, second):
        centred = values * mask if mask is not None else values - values.mean(dtype=np.float64).astype(np.float32)
        cube = np.zeros((side, side, side), np.float32)
        cube[tuple(slice(0, count) for count in values.shape)] = centred
        prepared.append(torch.from_numpy(cube))
    return fsc(*prepared)


def resolution_of(curve: Tensor, threshold: float, volume: Map) -> float | None:
    """Resolution in Å at which a curve of :func:`box_fsc` first falls below a threshold."""
    return resolution_at(curve, threshold, max(volume.data.shape), volume.pixel_size_angst)


def _shape(volume: Map) -> tuple[int, int, int]:
    z, y, x = volume.data.shape
    return z, y, x
