"""Maps of density as commands read them: what cannot be a density is refused, what stands out is said."""

from __future__ import annotations

import numpy as np

from ..exceptions import InputError
from ..io.maps import Map, read_map
from ..launch import say_once

__all__ = ["check_density", "read_density"]

_LARGEST = 1e12  # squares of larger values, summed over a map, are beyond float32
_FEWEST = 4  # voxels along each axis
_OUTSHONE = 100.0  # times the value that all but a thousandth of the voxels stay below


def read_density(path: str) -> Map:
    """Read a map of density: :func:`cryolearn.engine.io.maps.read_map` and :func:`check_density`."""
    found = read_map(path)
    check_density(found, path)
    return found


def check_density(found: Map, path: str) -> None:
    """Refuse a map that cannot be one of density, and point out voxels that outshine all others.

    Raises
    ------
    InputError
        when all voxels are alike, values are too large to be computed with, or there are hardly any voxels.
    """
    low, high = float(found.data.min()), float(found.data.max())
    if not low < high:
        raise InputError(f"The map '{path}' shows no density: all of its voxels are {low:g}.")
    if max(-low, high) > _LARGEST:
        raise InputError(f"The map '{path}' has values as large as {max(-low, high):g}: scale it, and look for damaged voxels.")
    if min(found.data.shape) < _FEWEST:
        raise InputError(f"The map '{path}' has the shape {found.data.shape}: give a map of three dimensions.")
    usual = float(np.percentile(np.abs(found.data), 99.9))
    if max(-low, high) > _OUTSHONE * usual > 0:
        count = int((np.abs(found.data) > _OUTSHONE * usual).sum())
        say_once(f"WARNING: {count} of the voxels of the map '{path}' are more than {_OUTSHONE:g} times as strong as the rest: they are damaged; mask them.")
