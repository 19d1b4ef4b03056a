"""Inputs of map validation, read and refused before anything is computed."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ...common.limits import same_pixel_size
from ..exceptions import InputError
from ..imaging.model_map import heavy_atoms
from ..io.maps import Map, check_mask, read_map
from ..io.side_chains import Residues, SideChains, find_residues, find_side_chains
from ..io.structures import Structure, read_structure
from .config import ValidateMapConfig
from .density_sampling import inside_map, trilinear
from .emringer import rings_inside

__all__ = ["Inputs", "MapInput", "check_placed", "read_dense_map", "read_inputs", "read_model", "require_same_grid"]

_COARSEST_ANGST = 3.0
_FEWEST_INSIDE = 0.5  # of the atoms: below it the model belongs elsewhere
_PLACES = ("header", "zero", "centre")
_ASIDE_ANGST = (3.0, 5.0)  # beyond what a coarse fit is off, within what a map of 6 Å tells apart


@dataclass
class MapInput:
    """A map with its name in tables ('map', or 'before' and 'after'), its file and its half maps."""

    name: str
    path: str
    volume: Map
    halves: list[Map] = field(default_factory=list)


@dataclass(kw_only=True)
class Inputs:
    """What is scored: maps on one grid, the heavy atoms of the model, its residues, and the side chains inside the map.

    ``place`` is what the maps' origin was taken from: 'header', 'zero' or 'centre'.
    """

    maps: list[MapInput]
    place: str
    structure: Structure
    residues: Residues
    chains: SideChains
    mask: NDArray[np.float32] | None
    atoms_outside: int
    chains_outside: int


def read_inputs(config: ValidateMapConfig) -> Inputs:
    """Read maps, half maps, mask and model.

    Raises
    ------
    InputError
        naming the item that cannot be used and what to do.
    """
    given = [("before" if config.volume_after else "map", config.volume, config.half1, config.half2)]
    if config.volume_after:
        given.append(("after", config.volume_after, config.after_half1, config.after_half2))
    elif config.after_half1 or config.after_half2:
        raise InputError("Half maps after the treatment were given without the map after it: give volume_after too.")
    maps: list[MapInput] = []
    for name, path, *halves in given:
        item = MapInput(name, path, read_dense_map(path))
        if bool(halves[0]) != bool(halves[1]):
            raise InputError(f"Only one half map of '{path}' was given: give both or none.")
        for half in filter(None, halves):
            item.halves.append(read_dense_map(half))
            require_same_grid(item.volume, item.halves[-1], path, half)
        maps.append(item)
        require_same_grid(maps[0].volume, item.volume, maps[0].path, path)
    structure, residues, chains = read_model(config.structure)
    place = _place(maps, structure, config)
    mask = None
    if config.mask:
        mask_map = read_dense_map(config.mask, "mask")
        require_same_grid(maps[0].volume, mask_map, maps[0].path, config.mask)
        check_mask(mask_map.data, config.mask)
        mask = mask_map.data
    inside = rings_inside(maps[0].volume, chains)
    if not inside.any():
        raise InputError(f"No side chain of the model '{config.structure}' lies inside the map '{maps[0].path}'.")
    outside = int((~inside_map(maps[0].volume, structure.coordinates)).sum())
    return Inputs(
        maps=maps,
        place=place,
        structure=structure,
        residues=residues,
        chains=chains.subset(inside),
        mask=mask,
        atoms_outside=outside,
        chains_outside=int((~inside).sum()),
    )


def _place(maps: list[MapInput], structure: Structure, config: ValidateMapConfig) -> str:
    """Move the maps to where the model fits; the header's place, or its refusal, when it fits nowhere better.

    Programs disagree on where a map without an origin stands, so a model can fit a map whose header says otherwise.
    """
    places = _PLACES if config.place == "auto" else (config.place,)
    found = next((place for place in places if all(_fits(_moved(item.volume, place), structure) for item in maps)), places[0])
    for item in maps:
        item.volume = _moved(item.volume, found)
        item.halves = [_moved(half, found) for half in item.halves]
        check_placed(item.volume, structure, item.path, config.structure)
    return found


def _fits(volume: Map, structure: Structure) -> bool:
    """Whether the model lies in density, clearly and better than a few Å aside."""
    if inside_map(volume, structure.coordinates).mean() < _FEWEST_INSIDE:
        return False
    mean, spread = float(volume.data.mean(dtype=np.float64)), float(volume.data.std(dtype=np.float64))
    here = float(trilinear(volume, structure.coordinates, mean).mean())
    steps = np.concatenate([length * sign * np.eye(3) for length in _ASIDE_ANGST for sign in (1, -1)])
    return here > mean + spread and all(float(trilinear(volume, structure.coordinates + step, mean).mean()) < here for step in steps)


def _moved(volume: Map, place: str) -> Map:
    if place == "header":
        return volume
    z, y, x = (0.0 if place == "zero" else -(side // 2) * volume.pixel_size_angst for side in volume.data.shape)
    return Map(volume.data, volume.pixel_size_angst, (x, y, z))


def read_dense_map(path: str, what: str = "map") -> Map:
    """A map that has something in it and voxels small enough to see side chains."""
    volume = read_map(path)
    low, high = float(volume.data.min()), float(volume.data.max())
    if low == high:
        raise InputError(f"The {what} '{path}' is empty: every voxel is {low:g}.")
    if volume.pixel_size_angst > _COARSEST_ANGST:
        raise InputError(
            f"The {what} '{path}' has voxels of {volume.pixel_size_angst:g} Å, which show no side chains (at most {_COARSEST_ANGST:g} Å): correct the voxel "
            "size in its header, or give a map with finer ones."
        )
    return volume


def require_same_grid(first: Map, second: Map, first_path: str, second_path: str) -> None:
    """Refuse maps that differ in shape, voxel size or place: scores are compared on one grid only."""
    differences = []
    if first.data.shape != second.data.shape:
        differences.append("{1[2]} x {1[1]} x {1[0]} voxels instead of {0[2]} x {0[1]} x {0[0]}".format(first.data.shape, second.data.shape))
    if not same_pixel_size(second.pixel_size_angst, first.pixel_size_angst):
        differences.append(f"voxels of {second.pixel_size_angst:g} Å instead of {first.pixel_size_angst:g} Å")
    apart = np.abs(np.subtract(first.origin_angst, second.origin_angst))
    if apart.max() > 0.01 * first.pixel_size_angst:
        places = [", ".join(f"{value:g}" for value in item.origin_angst) for item in (second, first)]
        differences.append(f"its first voxel at {places[0]} Å instead of {places[1]} Å")
    if differences:
        raise InputError(f"The map '{second_path}' is on another grid than '{first_path}' ({'; '.join(differences)}): resample it onto that grid.")


def read_model(path: str) -> tuple[Structure, Residues, SideChains]:
    """Heavy atoms of a model's first conformer, its residues, and the side chains that EMRinger knows."""
    structure = read_structure(path, first_conformer=True)
    structure = structure.subset(heavy_atoms(structure))
    if not len(structure):
        raise InputError(f"The model '{path}' has no atoms but hydrogens.")
    residues = find_residues(structure)
    chains = find_side_chains(structure, residues)
    if not len(chains):
        raise InputError(
            f"The model '{os.path.basename(path)}' has no side chains to score (residues with N, CA, CB and a gamma atom): give an all-atom model of a protein."
        )
    return structure, residues, chains


def check_placed(volume: Map, structure: Structure, path: str, structure_path: str) -> None:
    """Refuse a model that lies outside the map, or where the map is not denser than on average."""
    inside = inside_map(volume, structure.coordinates)
    if inside.mean() < _FEWEST_INSIDE:
        low = np.asarray(volume.origin_angst)
        high = low + (np.array(volume.data.shape[::-1]) - 1) * volume.pixel_size_angst
        box = " x ".join(f"{a:.0f} to {b:.0f}" for a, b in zip(low, high))
        centre = ", ".join(f"{value:.0f}" for value in structure.coordinates.mean(0))
        raise InputError(
            f"The model '{structure_path}' and the map '{path}' do not overlap: {int(inside.sum())} of {len(inside)} atoms are inside the map's box "
            f"({box} Å), the model's centre is at {centre} Å; check the map's origin and voxel size."
        )
    at_atoms = float(trilinear(volume, structure.coordinates[inside]).mean())
    mean = float(volume.data.mean(dtype=np.float64))
    if at_atoms <= mean:
        raise InputError(
            f"The map '{path}' is no denser at the atoms of '{structure_path}' (mean {at_atoms:.4g}) than on average ({mean:.4g}): fit the model to the map, "
            "check origin and voxel size, or invert the map's contrast."
        )
