"""The one reader of atomic models: PDB and mmCIF, through gemmi."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import gemmi
import numpy as np
from numpy.typing import NDArray

from ...common.packed_files import unpack_gzip
from ..exceptions import InputError
from ..launch import say_once
from .atomic_model import Structure
from .cif_columns import read_cif
from .conformers import AtomRow, chosen_atoms, residue_copies
from .pdb_columns import number_lines
from .structure_checks import check_atoms

__all__ = ["copies_of_residues", "find_structure", "read_dry_atoms", "read_structure"]

_FORMATS = {
    ".pqr": "a PQR file (charges and radii in place of occupancies and B factors)", ".pdbqt": "a PDBQT file of AutoDock", ".gro": "a GRO file of GROMACS",
    ".xyz": "an XYZ file", ".mol2": "a MOL2 file", ".sdf": "an SDF file", ".bcif": "a binary CIF file",
}
_FIELDS = ("coordinates", "element", "atomic_number", "b_factor", "occupancy", "atom_name", "residue_number", "residue_name",
           "chain", "insertion_code", "hetero", "segment")
_TYPES: dict[str, Any] = {"coordinates": np.float64, "atomic_number": np.int64, "b_factor": np.float64, "occupancy": np.float64,
                          "residue_number": np.int64, "hetero": np.bool_}
_WATER = ("HOH", "WAT", "H2O", "DOD", "TIP", "TIP3", "TIP4", "TIP5", "TP3", "SPC", "SPCE", "SOL")
# ions of the CHARMM force field, whose names are not those of their elements
_CHARMM_IONS = {"SOD": "Na", "CLA": "Cl", "POT": "K", "CAL": "Ca", "CES": "Cs", "LIT": "Li", "RUB": "Rb", "CD2": "Cd"}


def read_structure(path: str, first_conformer: bool = False, quiet: bool = False) -> Structure:
    """Read the first model of a PDB or mmCIF file, in the file's order.

    What is not read as it stands in the file is said in one line each: models, alternate locations, chain names that are there twice, biological
    assemblies, occupancies.

    Parameters
    ----------
    path : str
        PDB or mmCIF file, compressed by gzip or not; the content tells which.
    first_conformer : bool
        Of alternate locations keep those of each residue's first conformer, as validation programs do, instead of the most occupied one's.
    quiet : bool
        Say nothing, for files of our own.

    Raises
    ------
    InputError
        when the file is absent, is no structure, has no atoms, a coordinate that is no number, atoms that cannot be read, or what no model has: negative
        occupancies, atoms far closer than bonds.
    """
    if not os.path.isfile(path):
        raise InputError(f"The structure '{path}' does not exist.")
    ending = os.path.splitext(path)[1].lower()
    if ending in _FORMATS:
        raise InputError(f"The structure '{path}' is {_FORMATS[ending]}, which cannot be read: convert it to PDB or mmCIF.")
    notes: list[str] = []
    try:
        document, expected, names = _document(path, notes)
        rows = sorted(_rows(document[0], names), key=lambda row: row[0]) if len(document) else []
    except InputError:
        raise
    except (RuntimeError, ValueError, OSError, EOFError) as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"The structure '{path}' cannot be read as PDB or mmCIF: {reason.rstrip('.')}.") from error
    if not rows:
        raise InputError(f"The structure '{path}' has no atoms.")
    if len(rows) != expected:
        raise InputError(f"Only {len(rows)} of the {expected} atoms of the structure '{path}' can be read: check its columns.")
    structure = _chosen(rows, first_conformer, notes)
    bad = np.flatnonzero(~np.isfinite(structure.coordinates).all(axis=1))
    if len(bad):
        atom = bad[0]
        raise InputError(
            f"Atom {structure.atom_name[atom]} of residue {structure.residue_number[atom]}, chain {structure.chain[atom]}, of the "
            f"structure '{path}' has no numbers as coordinates."
        )
    check_atoms(path, structure, notes)
    _note_copies(structure, notes)
    _note_assembly(document, notes)
    if notes and not quiet:
        say_once("\n".join(f"NOTE: '{os.path.basename(path)}': {note}." for note in notes))
    return structure


def read_dry_atoms(path: str) -> Structure:
    """The atoms of a PDB or mmCIF file without hydrogens and water.

    Raises
    ------
    InputError
        when nothing but hydrogen and water is there, or none of the atoms scatters.
    """
    structure = read_structure(path)
    atoms = structure.subset((structure.atomic_number != 1) & ~np.isin(structure.residue_name, _WATER))
    if not len(atoms):
        raise InputError(f"The structure '{path}' has no atoms but hydrogen and water.")
    if not atoms.occupancy.any():
        raise InputError(f"All atoms of the structure '{path}' but hydrogen and water have occupancy 0: correct the occupancies.")
    return atoms


def find_structure(folder: str, stem: str = "structure") -> str:
    """``STEM.pdb`` of a folder, or ``STEM.cif`` where the PDB format could not hold the model."""
    path = os.path.join(folder, stem)
    return f"{path}.cif" if os.path.exists(f"{path}.cif") and not os.path.exists(f"{path}.pdb") else f"{path}.pdb"


def copies_of_residues(structure: Structure) -> NDArray[np.int64]:
    """Which copy (N,) of its residue each atom belongs to, from 0; more than one where two chains have one name."""
    columns = (structure.chain, structure.segment, structure.residue_number, structure.insertion_code, structure.atom_name)
    return residue_copies(*(column.tolist() for column in columns))


def _document(path: str, notes: list[str]) -> tuple[gemmi.Structure, int, dict[int, str]]:
    """Structure whose serial numbers are the places in the file, atoms of its first model, and long residue names."""
    with open(path, "rb") as handle:
        content = handle.read()
    if content[:2] == b"\x1f\x8b":
        content = unpack_gzip(content)
    text = content.decode("utf-8", "replace").lstrip("\ufeff")
    if _is_cif(text):
        document, count, models = read_cif(text)
        _note_models(models, notes)
        return document, count, {}
    if not any(text.startswith(word) or f"\n{word}" in text for word in ("ATOM", "HETATM", "END", "HEADER", "CRYST1", "REMARK", "MODEL")):
        raise ValueError("it has neither records of PDB nor a data block of mmCIF")
    numbered = number_lines(path, [line.rstrip("\r") for line in text.split("\n")])
    document = gemmi.read_pdb_string(numbered.text)
    _note_models(len(document), notes)
    if numbered.blank_occupancies:
        notes.append(f"{numbered.blank_occupancies} atoms have no occupancy; it is taken as 1")
    if numbered.no_b_factors:
        notes.append(f"{numbered.no_b_factors} atoms have no number as B factor; it is taken as 0")
    if numbered.after_end:
        notes.append(f"{numbered.after_end} atoms behind END are not read")
    return document, numbered.atoms, numbered.residue_names


def _is_cif(text: str) -> bool:
    first = next((line for line in text.splitlines() if line.strip() and not line.startswith("#")), "")
    return first.lstrip().lower().startswith("data_")


def _note_models(count: int, notes: list[str]) -> None:
    if count > 1:
        notes.append(f"{count} models, of which the first is read")


def _rows(model: gemmi.Model, names: dict[int, str]) -> Iterable[tuple[int, AtomRow, tuple[Any, ...]]]:
    for chain in model:
        for residue in chain:
            number, code, segment = int(residue.seqid.num or 0), residue.seqid.icode.strip(), residue.segment.strip()
            for atom in residue:
                element = gemmi.Element(_CHARMM_IONS[atom.name]) if residue.name == atom.name and atom.name in _CHARMM_IONS else atom.element
                weight = element.atomic_number
                name = names.get(atom.serial, residue.name)
                row = AtomRow(name=atom.name, altloc=atom.altloc.strip("\0"), hydrogen=weight == 1, occupancy=atom.occ, chain=chain.name, segment=segment,
                              number=number, insertion_code=code, residue_name=name)
                yield atom.serial, row, (
                    atom.pos.tolist(), element.name if weight else "X", weight, atom.b_iso, atom.occ, row.name, number, row.residue_name,
                    row.chain, code, residue.het_flag == "H", segment,
                )


def _chosen(rows: list[tuple[int, AtomRow, tuple[Any, ...]]], first_conformer: bool, notes: list[str]) -> Structure:
    atoms = [row[1] for row in rows]
    kept, occupancy = chosen_atoms(atoms, first_conformer)
    if len(kept) < len(rows):
        left = set(range(len(rows))).difference(kept)
        residues = len({atoms[row].place for row in left})
        which = "first" if first_conformer else "most occupied"
        notes.append(f"{len(left)} of {len(rows)} atoms are alternate locations that are left out; the {which} conformer of {residues} residue(s) is kept")
    columns = zip(*(rows[row][2] for row in kept))
    structure = Structure(**{name: np.array(list(values), _TYPES.get(name)) for name, values in zip(_FIELDS, columns)})
    structure.occupancy = occupancy[kept]
    return structure


def _note_copies(structure: Structure, notes: list[str]) -> None:
    copies = copies_of_residues(structure)
    if copies.any():
        chains = [str(name) or "blank" for name in np.unique(structure.chain[copies > 0])]
        listed = ", ".join(chains[:5]) + (" ..." if len(chains) > 5 else "")
        notes.append(f"chain {listed} holds residues of one number more than once ({int((copies > 0).sum())} atoms of further copies); all copies are kept")


def _note_assembly(document: gemmi.Structure, notes: list[str]) -> None:
    generators = [generator for assembly in document.assemblies for generator in assembly.generators]
    if any(not operator.transform.is_identity() for generator in generators for operator in generator.operators):
        notes.append("the biological assembly (REMARK 350, _pdbx_struct_assembly) is not applied; the coordinates of the file are taken")
