"""Models of ProDy's package and their maps, as the golden values of EMRinger were made: P1 box, 8 Å around the polymer, voxel d / 4, cut at d."""

from __future__ import annotations

import os
from functools import cache

import numpy as np
import prody

from cryolearn.engine.imaging.model_map import box_around, model_map, polymer_atoms
from cryolearn.engine.io.maps import Map
from cryolearn.engine.io.structures import Structure, read_structure

STRUCTURES = os.path.join(os.path.dirname(prody.__file__), "tests", "datafiles")


@cache
def polymer(name: str) -> Structure:
    """Heavy polymer atoms of the first conformer of '3enl' (enolase) or '1ubi' (ubiquitin)."""
    structure = read_structure(os.path.join(STRUCTURES, f"pdb{name}.pdb"), first_conformer=True)
    return structure.subset(polymer_atoms(structure))


@cache
def sharp_map(name: str, resolution_angst: float) -> Map:
    structure, pixel = polymer(name), resolution_angst / 4
    shape, origin = box_around(structure.coordinates, pixel, 8.0)
    x, y, z = (float(value) for value in origin)
    return Map(model_map(structure, shape, pixel, origin, resolution_angst), pixel, (x, y, z))


def jittered(name: str, spread_angst: float = 0.3) -> Structure:
    """The polymer with every atom moved at random: a model that fits its map badly enough for correlations to tell something."""
    structure = polymer(name)
    moves = np.random.default_rng(7).normal(0, spread_angst, structure.coordinates.shape)
    return structure.with_coordinates(np.round(structure.coordinates + moves, 3))


def blurred(volume: Map, b_factor: float, noise: float = 0.0, seed: int = 0) -> Map:
    """A map damped by exp(-B s^2 / 4), with white noise of so many of its standard deviations."""
    frequency = [np.fft.fftfreq(side, volume.pixel_size_angst) for side in volume.data.shape[:2]]
    frequency.append(np.fft.rfftfreq(volume.data.shape[2], volume.pixel_size_angst))
    squared = frequency[0][:, None, None] ** 2 + frequency[1][:, None] ** 2 + frequency[2] ** 2
    data = np.fft.irfftn(np.fft.rfftn(volume.data) * np.exp(-b_factor * squared / 4), s=volume.data.shape)
    data = data + noise * data.std() * np.random.default_rng(seed).normal(size=data.shape)
    return Map(data.astype(np.float32), volume.pixel_size_angst, volume.origin_angst)
