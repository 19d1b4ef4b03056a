"""Where the molecule is in a map of unknown content, the solvent's level, and the density's spread inside the molecule."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from ...exceptions import InputError
from ...imaging.masks import otsu_threshold

__all__ = ["Solvent", "measure_solvent", "noise_spread"]

Array = NDArray[np.float32]
_CLIPS, _WIDE = 12, 3.0
_SKEW = 0.5  # of smoothed density; Gaussian noise of a thousand independent values has 0 with a standard error of 0.08
_NOISE_APART, _APART = 2 / np.pi, 0.06  # share of the variance between the two halves of Gaussian noise, and how much more tells a molecule
_SMOOTH_ANGST = 2.5  # noise is averaged away, a chain is not
_STANDS_OUT = 4.0  # spreads of the smoothed solvent above its level
_FLAT = 0.2  # of the voxels with one and the same value: the map was masked
_FEWEST = 0.002  # of the voxels
_SPECK_ANGST3 = 500.0  # smaller things that stand out are noise: five residues
_SOLID = 1 / 3  # of the smoothed density inside: what is below is the fringe that smoothing adds, the wider the less noise there is


@dataclass(frozen=True)
class Solvent:
    """What a map's solvent says.

    Attributes
    ----------
    level, spread : mean and standard deviation of the solvent; the spread of a masked map is 0
    scale : root mean square of the density above the level inside the molecule, less its fringe: about 2.5 Å around the atoms, as in training
    inside : (z, y, x) voxels of the molecule, with the fringe
    found : something stands out of the solvent; without it ``inside`` is everything
    """

    level: float
    spread: float
    scale: float
    inside: NDArray[np.bool_]
    found: bool


def measure_solvent(data: Array, voxel_angst: Sequence[float], what: str = "The map") -> Solvent:
    """Measure level and spread of the solvent by clipping what stands out of it, and the density of what does.

    Raises
    ------
    InputError
        when all voxels are equal.
    """
    low, high = float(data.min()), float(data.max())
    if not high > low:
        raise InputError(f"{what} is empty: all of its voxels are {low:g}.")
    middle = float(np.median(data))
    flat = float((data == middle).mean()) > _FLAT
    free = data != middle if flat else np.ones(data.shape, bool)
    level, spread = (middle, 0.0) if flat else _clipped(data)
    smooth = ndimage.gaussian_filter(np.where(free, data - level, 0).astype(np.float32), [_SMOOTH_ANGST / voxel for voxel in voxel_angst], mode="nearest")
    threshold, parted = _threshold(smooth[free], flat, float(np.prod(voxel_angst)))
    inside = _without_specks(free & (smooth > threshold), voxel_angst)
    found = float(inside.mean()) >= _FEWEST
    if found and parted and not flat:  # the molecule's own density may have been taken for the solvent's
        level, spread = _clipped(data[smooth <= threshold])
    if not found:
        inside = np.ones(data.shape, bool)
    solid = inside & (smooth > _SOLID * np.percentile(smooth[inside], 90)) if found else inside
    scale = float(np.sqrt(np.square(data[solid].astype(np.float64) - level).mean()))
    return Solvent(level, spread, scale, inside, found)


def noise_spread(filtered: Array, solvent: Solvent) -> tuple[float, float]:
    """Mean and standard deviation of the noise in a map that was filtered after its solvent was measured."""
    return _clipped(filtered[~solvent.inside] if solvent.found else filtered)


def _clipped(values: Array) -> tuple[float, float]:
    """Mean and standard deviation of what lies within three of them of the median, until this settles."""
    kept = values.ravel()
    for _ in range(_CLIPS):
        middle, spread = float(np.median(kept)), float(kept.std(dtype=np.float64))
        near = kept[np.abs(kept - middle) <= _WIDE * spread]
        if len(near) == len(kept) or len(near) < 100:
            break
        kept = near
    return float(kept.mean(dtype=np.float64)), float(kept.std(dtype=np.float64))


def _threshold(smooth: Array, masked: bool, voxel_angst3: float) -> tuple[float, bool]:
    """Density above which smoothed voxels are the molecule's, and whether the histogram was parted in two for it.

    It stands far out of the solvent when most of the map is solvent. In a tight mask, beside detergent or in a crystal it does not: then the histogram is
    parted (Otsu), provided that it is lopsided as noise is not, or that its two parts lie farther apart than those of noise, or that its mean inside a mask
    is not the level outside.
    """
    level, spread = _clipped(smooth)
    plain = max(level, 0.0) + _STANDS_OUT * spread
    if not masked and float((smooth > plain).mean()) >= _FEWEST:
        return plain, False
    middle, deviation = float(smooth.mean(dtype=np.float64)), float(smooth.std(dtype=np.float64))
    if not deviation > 0:
        return np.inf, False
    independent = max(smooth.size * voxel_angst3 / (4 * np.pi**1.5 * _SMOOTH_ANGST**3), 2.0)
    lopsided = float((((smooth - middle) / deviation) ** 3).mean(dtype=np.float64)) > _SKEW
    above = masked and middle > _STANDS_OUT * deviation / np.sqrt(independent)
    threshold = otsu_threshold(torch.from_numpy(smooth))
    return (threshold, True) if lopsided or above or _apart(smooth, threshold) > _NOISE_APART + max(_APART, 2 / np.sqrt(independent)) else (np.inf, False)


def _apart(values: Array, threshold: float) -> float:
    """Share of the variance that lies between the means of the two parts."""
    upper = values > threshold
    part = float(upper.mean())
    if not 0 < part < 1:
        return 0.0
    return part * (1 - part) * float(values[upper].mean(dtype=np.float64) - values[~upper].mean(dtype=np.float64)) ** 2 / float(values.var(dtype=np.float64))


def _without_specks(inside: NDArray[np.bool_], voxel_angst: Sequence[float]) -> NDArray[np.bool_]:
    labels, count = ndimage.label(inside)
    if not count:
        return inside
    sizes = np.bincount(labels.ravel())
    sizes[0] = 0
    return np.asarray((sizes * float(np.prod(voxel_angst)) >= _SPECK_ANGST3)[labels])
