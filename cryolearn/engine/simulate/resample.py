"""Bring a map to the box and pixel size of a simulation."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ..errors import InputError
from ..imaging.fourier import fourier_resize
from ..io.maps import Map

_SCALE_TOLERANCE = 1e-3  # an error of 0.1 % in size moves the border of a 128 px particle by less than 0.1 px


def fit_map(volume: Map, box: int, pixel_size_angst: float) -> NDArray[np.float32]:
    """The map's density (box, box, box) at another pixel size, centre kept at index n // 2.

    The map is padded to a side that is a whole number of new pixels to within 0.1 %, resampled in Fourier space, and cut
    or padded to ``box``.

    Raises
    ------
    InputError
        when no such side exists below twice the map's.
    """
    data = volume.data
    ratio = volume.pixel_size_angst / pixel_size_angst
    if abs(ratio - 1) > _SCALE_TOLERANCE:
        sides = np.arange(len(data), 2 * len(data) + 2)
        sides = sides[sides % 2 == 0]
        scaled = 2 * np.round(sides * ratio / 2)
        error = np.abs(scaled / (sides * ratio) - 1)
        good = np.flatnonzero((error < _SCALE_TOLERANCE) & (scaled > 0))
        if not len(good):
            raise InputError(
                f"A map of {len(data)} px at {volume.pixel_size_angst:g} Å cannot be brought to {pixel_size_angst:g} Å: resample it first."
            )
        padded = torch.as_tensor(centred_window(data, int(sides[good[0]])))
        data = fourier_resize(padded, int(scaled[good[0]]), dims=3).numpy()
    return centred_window(data, box)


def centred_window(data: NDArray[np.float32], box: int) -> NDArray[np.float32]:
    """Cut or zero-pad (z, y, x) to a cube of side ``box``, index n // 2 to index box // 2."""
    result = np.zeros((box,) * 3, np.float32)
    source, target = [], []
    for side in data.shape:
        low = max(-(box // 2), -(side // 2))
        high = min(box - box // 2, side - side // 2)
        source.append(slice(side // 2 + low, side // 2 + high))
        target.append(slice(box // 2 + low, box // 2 + high))
    result[tuple(target)] = data[tuple(source)]
    return result
