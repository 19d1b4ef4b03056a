"""Atomic models: plain arrays, the one reader (PDB and mmCIF, through gemmi) and the one writer."""

from __future__ import annotations

from .atomic_model import Structure, atom_sigmas, atom_weights, element_sigma
from .structure_reader import copies_of_residues, find_structure, read_dry_atoms, read_structure
from .structure_writer import fits_pdb, gemmi_model, write_fitting, write_models, write_structure, write_structures

__all__ = [
    "Structure", "atom_sigmas", "atom_weights", "copies_of_residues", "element_sigma", "find_structure", "fits_pdb", "gemmi_model", "read_dry_atoms",
    "read_structure", "write_fitting", "write_models", "write_structure", "write_structures",
]
