"""Elements of the atoms of polymers by their names, for files that leave them out or do not place names in the columns that tell them."""

from __future__ import annotations

from functools import cache

import gemmi

__all__ = ["polymer_element"]

_OF_TWO_LETTERS = {("SE", "MSE"): "SE", ("SE", "SEC"): "SE"}


@cache
def polymer_element(atom_name: str, residue_name: str) -> str:
    """Element of an atom of an amino acid or nucleotide, whose names begin with it; '' for other residues.

    Parameters
    ----------
    atom_name, residue_name : str
        With or without blanks; digits may stand before the element (``1HB``).
    """
    name, residue = atom_name.strip().upper(), residue_name.strip().upper()
    kind = gemmi.find_tabulated_residue(residue)
    if not (kind.is_amino_acid() or kind.is_nucleic_acid()):
        return ""
    found = _OF_TWO_LETTERS.get((name, residue)) or name.lstrip("0123456789'\"*")[:1]
    return found if found in ("C", "N", "O", "S", "P", "H", "D", "SE") else ""
