"""Models of ProDy's package and their maps, as the golden values of EMRinger were made: P1 box, 8 Å around the polymer, voxel d / 4, cut at d."""

from __future__ import annotations

import os
from functools import cache

import prody

from cryolearn.engine.io.maps import Map
from cryolearn.engine.io.structures import Structure, read_structure
from cryolearn.engine.superres.model_map import box_around, model_map, polymer_atoms

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
