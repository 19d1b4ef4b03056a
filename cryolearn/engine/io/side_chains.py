"""Residues of a model, and the rings on which the first atom of each side chain turns about CA-CB."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .structures import Structure

__all__ = ["EMRINGER_RESIDUES", "Residues", "SideChains", "find_residues", "find_side_chains"]

EMRINGER_RESIDUES = ("ARG", "ASN", "ASP", "CYS", "GLU", "GLN", "HIS", "LEU", "LYS", "MET", "PHE", "SER", "TRP", "TYR")
_GAMMA = {"SER": "OG", "CYS": "SG"}


@dataclass
class Residues:
    """Runs of atoms of one residue.

    Attributes
    ----------
    of_atom : (M,) int
        Residue of each atom.
    first : (R,) int
        First atom of each residue.
    """

    of_atom: NDArray[np.int64]
    first: NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.first)

    def rows_of(self, structure: Structure, name: str) -> NDArray[np.int64]:
        """Atom (R,) called ``name`` in each residue, -1 where there is none."""
        rows = np.full(len(self), -1, np.int64)
        named = np.flatnonzero(structure.atom_name == name)[::-1]  # the first of several wins
        rows[self.of_atom[named]] = named
        return rows


def find_residues(structure: Structure) -> Residues:
    """Group atoms that follow one another into residues."""
    new = np.zeros(len(structure), bool)
    new[0] = True
    for column in (structure.chain, structure.residue_number, structure.insertion_code, structure.residue_name):
        new[1:] |= column[1:] != column[:-1]
    return Residues(np.cumsum(new) - 1, np.flatnonzero(new))


@dataclass
class SideChains:
    """Side chains that EMRinger looks at.

    Attributes
    ----------
    residue : (N,) int
        Place in :class:`Residues`.
    atoms : (N, 4, 3) float64
        N, CA, CB and the gamma atom (CG; OG of serine, SG of cysteine), x, y, z in Å.
    """

    residue: NDArray[np.int64]
    atoms: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.residue)

    def subset(self, rows: NDArray[np.bool_]) -> SideChains:
        """The side chains in a mask (n,)."""
        return SideChains(self.residue[rows], self.atoms[rows])

    def chi1_deg(self) -> NDArray[np.float64]:
        """Dihedral N-CA-CB-gamma (N,) of the model in degrees, 0 to 360."""
        _, radius, first, second = self._frame()
        arm = self.atoms[:, 3] - self.atoms[:, 2]
        return np.degrees(np.arctan2((arm * second).sum(1), (arm * first).sum(1))) % 360

    def rings(self, samples: int = 72) -> NDArray[np.float64]:
        """Places (N, samples, 3) of the gamma atom at chi1 = 360 (i + 1) / samples degrees, i = 0 ... samples - 1."""
        height, radius, first, second = self._frame()
        angle = np.radians(360 * np.arange(1, samples + 1) / samples)
        turned = np.cos(angle)[:, None] * first[:, None] + np.sin(angle)[:, None] * second[:, None]
        return (self.atoms[:, 2] + height)[:, None] + radius[:, None, None] * turned

    def _frame(self) -> tuple[NDArray[np.float64], ...]:
        """Height of the ring along CA-CB (N, 3), its radius (N,), and the directions of chi1 = 0 and 90 degrees (N, 3)."""
        nitrogen, alpha, beta, gamma = self.atoms.transpose(1, 0, 2)
        axis = _unit(beta - alpha)
        arm = gamma - beta
        height = (arm * axis).sum(1, keepdims=True) * axis
        back = nitrogen - alpha
        first = _unit(back - (back * axis).sum(1, keepdims=True) * axis)
        return height, np.linalg.norm(arm - height, axis=1), first, np.cross(axis, first)


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def find_side_chains(structure: Structure, residues: Residues | None = None) -> SideChains:
    """Side chains of the residue types that EMRinger knows and that have the four atoms which define chi1."""
    residues = residues or find_residues(structure)
    names = structure.residue_name[residues.first]
    gamma = residues.rows_of(structure, "CG")
    for residue_name, atom_name in _GAMMA.items():
        here = names == residue_name
        gamma[here] = residues.rows_of(structure, atom_name)[here]
    rows = np.stack([residues.rows_of(structure, name) for name in ("N", "CA", "CB")] + [gamma], 1)
    usable = np.isin(names, EMRINGER_RESIDUES) & (rows >= 0).all(1)
    return SideChains(np.flatnonzero(usable), structure.coordinates[rows[usable]])
