"""What an atomic model is held against when it is read: occupancies, elements, and distances that no molecule has."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

from ..exceptions import InputError
from .atomic_model import Structure

__all__ = ["check_atoms"]

_CLOSEST_ANGST = 0.6  # median distance to the nearest atom that is too short for a molecule: a C-H bond has 1.1 Å, in nm it would be 0.1
_SAME_PLACE_ANGST = 0.01
_FURTHEST_ANGST, _LARGEST_B, _LARGEST_OCCUPANCY = 1e6, 1e9, 1e6  # pseudo-atoms have wide ones, and weights as occupancies
_FEWEST_ATOMS, _LOOKED_AT = 20, 2000


def check_atoms(path: str, structure: Structure, notes: list[str]) -> None:
    """Correct occupancies of 0 and add to ``notes`` what is said of a model.

    Parameters
    ----------
    path : str
        File, for messages.
    structure : Structure
        Its atoms; occupancies that are all 0 become 1.
    notes : list of str
        Added to.

    Raises
    ------
    InputError
        when occupancies are negative, or atoms far closer to each other than bonds are long.
    """
    _check_numbers(path, structure)
    _check_occupancies(path, structure, notes)
    _check_elements(structure, notes)
    _check_distances(path, structure)


def _check_numbers(path: str, structure: Structure) -> None:
    for what, values, limit in (("a coordinate", np.abs(structure.coordinates).max(1), _FURTHEST_ANGST), ("a B factor", np.abs(structure.b_factor), _LARGEST_B),
                                ("an occupancy", np.abs(structure.occupancy), _LARGEST_OCCUPANCY)):
        wrong = np.flatnonzero(~(values <= limit))
        if len(wrong):
            raise InputError(f"Atom {wrong[0] + 1} of the structure '{path}' has {what} of {values[wrong[0]]:g}, beyond {limit:g}: correct it.")


def _check_occupancies(path: str, structure: Structure, notes: list[str]) -> None:
    occupancy = structure.occupancy
    negative = np.flatnonzero(occupancy < 0)
    if len(negative):
        raise InputError(
            f"{len(negative)} of the {len(structure)} atoms of the structure '{path}' have a negative occupancy ({occupancy[negative[0]]:g} of atom "
            f"{negative[0] + 1}): a PQR file, which holds charges in its place, must be converted to PDB or mmCIF."
        )
    empty = int((occupancy == 0).sum())
    if empty == len(structure):
        occupancy[:] = 1.0
        notes.append("all occupancies are 0; they are taken as 1")
    elif empty:
        notes.append(f"{empty} of {len(structure)} atoms have occupancy 0 and do not scatter")
    above = (occupancy > 1.0) & (structure.atomic_number > 0)  # those of pseudo-atoms are weights
    if above.any():
        notes.append(f"{int(above.sum())} of {len(structure)} atoms have an occupancy above 1 (up to {occupancy[above].max():g}) and scatter so much more")


def _check_elements(structure: Structure, notes: list[str]) -> None:
    unknown = int((structure.atomic_number == 0).sum())
    if 0 < unknown < len(structure):
        notes.append(f"{unknown} of {len(structure)} atoms have no element that is known; each counts as one electron")


def _check_distances(path: str, structure: Structure) -> None:
    places = structure.coordinates[structure.atomic_number > 0][:_LOOKED_AT]
    if len(places) < _FEWEST_ATOMS:
        return
    nearest = float(np.median(cKDTree(places).query(places, k=2)[0][:, 1]))
    if nearest < _SAME_PLACE_ANGST:
        raise InputError(f"Half of the atoms of the structure '{path}', or more, lie at the place of another atom: remove the copies.")
    if nearest < _CLOSEST_ANGST:
        raise InputError(
            f"The atoms of the structure '{path}' lie {nearest:.2f} Å from their nearest (median), closer than any bond: coordinates are needed in Å (those "
            "in nm must be multiplied by 10)."
        )
