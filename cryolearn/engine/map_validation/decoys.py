"""Wrong models, made from the right one: a score that they also get says nothing about the map.

EMRinger does not see which rotamer a side chain has (the ring is the same), so its decoys are moved as a whole; Q-scores of side chains are
asked with their rotamers flipped.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..io.side_chains import Residues, SideChains
from ..io.structures import Structure

__all__ = ["SHIFT_ANGST", "flip_rotamers", "shifted_chains"]

SHIFT_ANGST = 1.5  # a bond's length: rings then turn about places without a backbone, still inside the molecule
FLIPS_DEG = (120.0, -120.0)
_BACKBONE = ("N", "CA", "C", "O", "OXT", "CB")


def shifted_chains(chains: SideChains, shift_angst: float = SHIFT_ANGST) -> list[SideChains]:
    """Six copies of the side chains, moved along plus and minus x, y and z."""
    steps = np.concatenate((np.eye(3), -np.eye(3))) * shift_angst
    return [SideChains(chains.residue, chains.atoms + step) for step in steps]


def flip_rotamers(structure: Structure, residues: Residues, chains: SideChains, angle_deg: float) -> tuple[Structure, NDArray[np.int64]]:
    """Turn each side chain about CA-CB: chi1 grows by ``angle_deg``, all else about the side chain stays.

    Returns
    -------
    Structure
        The model with turned side chains.
    rows : (n,) int
        Atoms that were moved.
    """
    chain_of_residue = np.full(len(residues), -1)
    chain_of_residue[chains.residue] = np.arange(len(chains))
    owner = chain_of_residue[residues.of_atom]
    rows = np.flatnonzero((owner >= 0) & ~np.isin(structure.atom_name, _BACKBONE))
    beta = chains.atoms[owner[rows], 2]
    axis = beta - chains.atoms[owner[rows], 1]
    axis /= np.linalg.norm(axis, axis=1, keepdims=True)
    arm, angle = structure.coordinates[rows] - beta, np.radians(angle_deg)
    along = (arm * axis).sum(1, keepdims=True) * axis
    turned = along + np.cos(angle) * (arm - along) + np.sin(angle) * np.cross(axis, arm)
    coordinates = structure.coordinates.copy()
    coordinates[rows] = beta + turned
    return structure.with_coordinates(coordinates), rows
