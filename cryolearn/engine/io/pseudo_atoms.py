"""Gaussians as pseudo-atoms (PDB and mmCIF, which ChimeraX opens) and as a result table."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .structures import Structure, write_structures
from .tables import write_table

__all__ = ["PDB_LARGEST_B", "gaussian_structure", "write_gaussians", "write_pseudo_atoms"]

PDB_LARGEST_B = 999.99
_RESIDUES_OF_A_CHAIN = 9999  # that the PDB format has columns for
_CHAIN_LETTERS = np.array(list("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"))


def gaussian_structure(position_angst: ArrayLike, weight: ArrayLike, sigma_angst: ArrayLike, b_factor: ArrayLike | None = None) -> Structure:
    """Pseudo-atoms of (M,) Gaussians at (M, 3) Å, a residue each.

    Occupancy is the weight relative to the mean, the B factor 8 pi^2 sigma^2 unless it is given.
    A chain has 9,999 residues at most, as the PDB format asks; chains are A ... Z, a ... z, 0 ... 9, then of two letters.
    """
    places, weights = np.asarray(position_angst, np.float64), np.asarray(weight, np.float64)
    count = len(weights)
    place, number = np.divmod(np.arange(count), _RESIDUES_OF_A_CHAIN)
    first, second = np.divmod(place, len(_CHAIN_LETTERS))
    chain = np.where(first == 0, _CHAIN_LETTERS[second], np.char.add(_CHAIN_LETTERS[first - 1], _CHAIN_LETTERS[second]))
    values: NDArray[np.float64] = 8 * np.pi**2 * np.asarray(sigma_angst, np.float64) ** 2 if b_factor is None else np.asarray(b_factor, np.float64)
    return Structure(
        coordinates=places, element=np.full(count, "X"), atomic_number=np.zeros(count, np.int64), b_factor=values,
        occupancy=weights / weights.mean(), atom_name=np.full(count, "CA"), residue_number=number + 1,
        residue_name=np.full(count, "GAU"), chain=chain, insertion_code=np.full(count, ""), hetero=np.zeros(count, bool),
    )


def write_pseudo_atoms(stem: str, *structures: Structure) -> bool:
    """Write ``STEM.cif``, and ``STEM.pdb`` with B factors up to the format's 999.99; several structures make several models.

    Returns
    -------
    bool
        Whether all B factors fit the PDB format.
    """
    write_structures(f"{stem}.cif", structures)
    limited = [replace(structure, b_factor=np.minimum(structure.b_factor, PDB_LARGEST_B), occupancy=np.minimum(structure.occupancy, PDB_LARGEST_B))
               for structure in structures]
    write_structures(f"{stem}.pdb", limited)
    return all(bool((structure.b_factor <= PDB_LARGEST_B).all()) for structure in structures)


def write_gaussians(
    folder: str, position_angst: NDArray[np.float64], weight: NDArray[np.float64], sigma_angst: NDArray[np.float64], meta: Mapping[str, Any],
    columns: Mapping[str, ArrayLike] | None = None,
) -> None:
    """Write ``gaussians.npz`` (result table, with more ``columns`` if given), ``gaussians.cif`` and ``gaussians.pdb`` into ``folder``."""
    os.makedirs(folder, exist_ok=True)
    if not write_pseudo_atoms(os.path.join(folder, "gaussians"), gaussian_structure(position_angst, weight, sigma_angst)):
        print("warning: Gaussians wider than 3.56 Å do not fit the B factor of the PDB format; use gaussians.cif", flush=True)
    write_table(os.path.join(folder, "gaussians.npz"), {
        "id": np.arange(1, len(weight) + 1), "position_angst": position_angst, "weight": weight, "sigma_angst": sigma_angst, **(columns or {}),
    }, meta)
