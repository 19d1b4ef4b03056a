"""What is learned from: atomic models, X-ray map coefficients, pairs of maps; who validates, and the manifest of it all."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import gemmi
import numpy as np
from numpy.typing import NDArray

from ....common.checks import check_resolution_range
from ....common.limits import same_pixel_size
from ...exceptions import InputError
from ...imaging.density_maps import read_density
from ...imaging.map_resampling import resample_cubic
from ...imaging.model_map import box_around, polymer_atoms
from ...io.atomic import write_csv
from ...io.structures import Structure, read_structure
from ..config import MapTrainConfig
from .patches import VOXELS_OF_TARGET, AtomSource, DensitySource, Source
from .sequence_split import Entry, split_models

__all__ = ["Sources", "crystal_density", "gather_sources", "polymer_structure", "write_manifest"]

_FEWEST_ATOMS = 200
_PAD_ANGST = 12.0
_LABELS = (("FWT", "PHWT"), ("2FOFCWT", "PH2FOFCWT"), ("FDM", "PHIDM"), ("FP", "PHIB"))


@dataclass
class Sources:
    """Molecules of both sides, and a row for each file that was given."""

    training: list[Source]
    validation: list[Source]
    entries: list[Entry]


def polymer_structure(path: str) -> Structure:
    """Heavy polymer atoms of a model.

    Raises
    ------
    InputError
        when there are hardly any.
    """
    structure = read_structure(path)
    atoms = structure.subset(polymer_atoms(structure))
    if len(atoms) < _FEWEST_ATOMS:
        raise InputError(f"The structure '{path}' has {len(atoms)} atoms of protein or nucleic acid: "
                         f"there is nothing to learn from with fewer than {_FEWEST_ATOMS}.")
    if not atoms.b_factor.any():
        print(f"Warning: the structure '{path}' has no B factors: all of its atoms are taken as equally sharp.", flush=True)
    return atoms


def gather_sources(config: MapTrainConfig, voxel_angst: float) -> Sources:
    """Read everything that is learned from.

    Raises
    ------
    InputError
        naming the file that cannot be used, or what is missing.
    """
    _check(config)
    models = [*config.structures, *config.coefficient_models]
    entries = split_models(models, config.exclude, config.validation_fraction, config.e_value, config.seed) if models else []
    coefficients = dict(zip(config.coefficient_models, config.coefficients))
    sides: dict[str, list[Source]] = {"training": [], "validation": []}
    for entry in entries:
        if entry.side not in sides:
            continue
        structure = polymer_structure(entry.path)
        if entry.path in coefficients:
            sides[entry.side].append(_crystal_source(coefficients[entry.path], structure, voxel_angst))
        else:
            sides[entry.side].append(AtomSource(structure))
    # a map says nothing of sequences: whoever gives pairs sees to it that they are of different molecules
    for number, (seen, target) in enumerate(zip(config.input_maps, config.target_maps)):
        side = "validation" if number == len(config.input_maps) - 1 and not sides["validation"] else "training"
        sides[side].append(_pair_source(seen, target, voxel_angst))
        entries.append(Entry(target, side, f"pair with {os.path.basename(seen)}"))
    return Sources(sides["training"], sides["validation"], entries)


def _check(config: MapTrainConfig) -> None:
    if not config.structures and not config.coefficients and not config.input_maps:
        raise InputError("There is nothing to learn from: give structures, map coefficients with their models, or pairs of maps.")
    if len(config.input_maps) != len(config.target_maps):
        raise InputError(f"{len(config.input_maps)} input maps and {len(config.target_maps)} target maps are no pairs: give one target for each input.")
    if len(config.coefficients) != len(config.coefficient_models):
        raise InputError(f"{len(config.coefficients)} files of map coefficients and {len(config.coefficient_models)} models do not belong together: "
                         "give one model for each.")
    if config.coefficients and config.degradation == "physics":
        raise InputError("Map coefficients can be degraded in the way of 'paper' only: 'physics' needs atoms, so give the models as structures.")
    check_resolution_range(config.finest_angst, config.coarsest_angst)


def crystal_density(path: str, structure: Structure, voxel_angst: float) -> tuple[NDArray[np.float32], NDArray[np.float64], float]:
    """X-ray density around a model, on a grid along x, y and z.

    Returns
    -------
    density : (z, y, x), in units of its spread over the unit cell
    origin_angst : (3,) x, y, z of voxel [0, 0, 0]
    resolution_angst : of the coefficients

    Raises
    ------
    InputError
        when the file is no MTZ or has no map coefficients.
    """
    try:
        mtz = gemmi.read_mtz_file(path)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"The map coefficients '{path}' cannot be read as MTZ: {str(error).splitlines()[0]}.") from error
    columns = set(mtz.column_labels())
    labels = next((pair for pair in _LABELS if columns >= set(pair)), None)
    if labels is None:
        known = ", ".join("/".join(pair) for pair in _LABELS)
        raise InputError(f"'{path}' has none of the map coefficients {known}: name the columns so, or calculate the map's coefficients.")
    resolution = float(mtz.resolution_high())
    grid = mtz.transform_f_phi_to_map(*labels, sample_rate=max(3.0, resolution / voxel_angst))
    grid.normalize()
    shape, origin = box_around(structure.coordinates, voxel_angst, _PAD_ANGST)
    density = np.zeros(shape[::-1], np.float32)
    turn = gemmi.Transform(gemmi.Mat33((np.eye(3) * voxel_angst).tolist()), gemmi.Vec3(*origin))
    grid.interpolate_values(density, turn, order=3)
    return np.ascontiguousarray(density.T), origin, resolution


def _crystal_source(path: str, structure: Structure, voxel_angst: float) -> DensitySource:
    density, origin, resolution = crystal_density(path, structure, voxel_angst)
    places = np.rint((structure.coordinates - origin) / voxel_angst).astype(np.int64)[:, ::-1]
    return DensitySource(density, places, max(resolution, VOXELS_OF_TARGET * voxel_angst))


def _pair_source(seen_path: str, target_path: str, voxel_angst: float) -> DensitySource:
    seen, target = read_density(seen_path), read_density(target_path)
    if seen.data.shape != target.data.shape or not same_pixel_size(seen.pixel_size_angst, target.pixel_size_angst):
        raise InputError(f"'{seen_path}' and '{target_path}' are not on the same grid: resample one of them.")
    one, two = (resample_cubic(item.data, item.pixel_size_angst, voxel_angst) for item in (seen, target))
    level = float(np.median(two))
    places = np.argwhere(two > level + 2 * two.std())
    if not len(places):
        raise InputError(f"The target map '{target_path}' has nothing that stands out: it seems to be empty.")
    resolution = max(2 * target.pixel_size_angst, VOXELS_OF_TARGET * voxel_angst)
    return DensitySource(two - level, places, resolution, one - float(np.median(one)))


def write_manifest(path: Path, entries: list[Entry], shown: bool = True) -> None:
    """Write ``manifest.csv``: file, side, reason; in the end say how many there are of each."""
    write_csv(path, ["file", "side", "reason"], ([entry.name, entry.side, entry.reason] for entry in entries))
    if shown:
        counts = {side: sum(entry.side == side for entry in entries) for side in ("training", "validation", "left out")}
        said = ", ".join(f"{count} {side}" for side, count in counts.items())
        print(f"models and maps: {said} (see {path.name})", flush=True)
