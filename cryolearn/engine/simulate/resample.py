"""Bring a map to the box and pixel size of a simulation."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from ...common.limits import same_pixel_size
from ..exceptions import InputError
from ..imaging.fourier import fourier_resize
from ..io.maps import Map

_GRID_ERROR = 1e-3  # an error of 0.1 % in size moves the border of a 128 px particle by less than 0.1 px


def fit_map(volume: Map, box: int, pixel_size_angst: float) -> Tensor:
    """The map's density (box, box, box) at another pixel size, centre kept at index n // 2.

    The map is padded to a side that is a whole number of new pixels to within 0.1 %, resampled in Fourier space, and cut
    or padded to ``box``.

    Raises
    ------
    InputError
        when no such side exists below twice the map's.
    """
    data = torch.as_tensor(volume.data)
    ratio = volume.pixel_size_angst / pixel_size_angst
    if not same_pixel_size(ratio, 1.0):
        sides = np.arange(len(data), 2 * len(data) + 2)
        sides = sides[sides % 2 == 0]
        scaled = 2 * np.round(sides * ratio / 2)
        error = np.abs(scaled / (sides * ratio) - 1)
        good = np.flatnonzero((error < _GRID_ERROR) & (scaled > 0))
        if not len(good):
            raise InputError(
                f"A map of {len(data)} px at {volume.pixel_size_angst:g} Å cannot be brought to {pixel_size_angst:g} Å: resample it first."
            )
        padded = centred_window(data, (int(sides[good[0]]),) * 3)
        data = fourier_resize(padded, int(scaled[good[0]]), dims=3)
    return centred_window(data, (box,) * 3)


def centred_window(data: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Cut or zero-pad the last axes of ``data`` to ``shape``, index n // 2 to index n // 2 of the new side."""
    pads: list[int] = []
    for side, wanted in zip(data.shape[::-1], shape[::-1]):
        before = wanted // 2 - side // 2
        pads += [before, wanted - side - before]
    return torch.nn.functional.pad(data, pads)
