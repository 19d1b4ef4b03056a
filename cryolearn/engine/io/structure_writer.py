"""The one writer of atomic models: PDB where that format can hold the model, else mmCIF, through gemmi."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import gemmi
import numpy as np
from numpy.typing import ArrayLike

from ..exceptions import InputError
from .atomic import whole_file
from .atomic_model import Structure

__all__ = ["fits_pdb", "gemmi_model", "write_fitting", "write_models", "write_structure", "write_structures"]

_CIF = (".cif", ".mmcif")
_MOST_ATOMS, _LARGEST_RESIDUE, _SMALLEST_RESIDUE = 99_999, 9999, -999  # that the columns of the PDB format hold without other programs' extensions
_LARGEST_ANGST, _SMALLEST_ANGST, _LARGEST_B = 9999.999, -999.999, 999.99


def fits_pdb(structure: Structure, coordinates: Sequence[ArrayLike] = ()) -> bool:
    """Whether the columns of the PDB format hold a structure, and all (N, 3) ``coordinates`` in Å it is to be written at."""
    places = [structure.coordinates, *(np.asarray(moved) for moved in coordinates)]
    return bool(
        len(structure) <= _MOST_ATOMS
        and np.char.str_len(structure.chain).max() <= 1 and np.char.str_len(structure.residue_name).max() <= 3
        and np.char.str_len(structure.atom_name).max() <= 4 and np.char.str_len(structure.segment).max() <= 4
        and structure.residue_number.max() <= _LARGEST_RESIDUE and structure.residue_number.min() >= _SMALLEST_RESIDUE
        and np.abs(structure.b_factor).max() <= _LARGEST_B
        and all(moved.max() <= _LARGEST_ANGST and moved.min() >= _SMALLEST_ANGST for moved in places)
    )


def write_fitting(stem: str, structure: Structure, coordinates: Sequence[ArrayLike] = (), pdb: bool | None = None) -> str:
    """Write ``STEM.pdb``, or ``STEM.cif`` where the PDB format cannot hold the model; returns the path.

    Parameters
    ----------
    stem : str
        Path without ending. The file of the other ending, from an earlier run, is removed.
    structure : Structure
        Atoms (N).
    coordinates : sequence of (N, 3)
        Coordinates in Å of one or several models; none: the structure's own.
    pdb : bool, optional
        Whether to write PDB, where several files are to be of one kind.
    """
    fits = fits_pdb(structure, coordinates) if pdb is None else pdb
    path, other = (f"{stem}.pdb", f"{stem}.cif") if fits else (f"{stem}.cif", f"{stem}.pdb")
    write_models(path, structure, coordinates or [structure.coordinates])
    if os.path.exists(other):
        os.remove(other)
    return path


def write_structure(path: str, structure: Structure, coordinates: ArrayLike | None = None) -> None:
    """Write a structure as PDB, or as mmCIF when the name ends in .cif or .mmcif.

    Parameters
    ----------
    path
        File to write.
    structure
        Atoms (N).
    coordinates : (N, 3), optional
        Coordinates in Å to write instead of the structure's own.

    Raises
    ------
    InputError
        when the structure does not fit the PDB format (chain names of more than two letters).
    """
    write_models(path, structure, [structure.coordinates if coordinates is None else coordinates])


def write_models(path: str, structure: Structure, coordinates: Iterable[ArrayLike]) -> None:
    """Write one model for each (N, 3) set of ``coordinates`` in Å into one PDB or mmCIF file."""
    write_structures(path, (structure.with_coordinates(np.asarray(positions)) for positions in coordinates))


def write_structures(path: str, structures: Iterable[Structure]) -> None:
    """Write each structure as a model of one PDB or mmCIF file."""
    cif = path.lower().endswith(_CIF)
    document = gemmi.Structure()
    document.name = os.path.splitext(os.path.basename(path))[0]
    for number, structure in enumerate(structures, 1):
        if cif and (structure.chain == "").any():  # mmCIF has no segments, and names of chains are never empty there
            structure = replace(structure, chain=np.where(structure.chain == "", np.where(structure.segment == "", "A", structure.segment), structure.chain))
        document.add_model(gemmi_model(structure, number))
    document.setup_entities()
    if cif:
        with whole_file(path) as part:
            document.make_mmcif_document().write_file(part)
        return
    try:
        with whole_file(path) as part:
            document.write_pdb(part)
    except RuntimeError as error:
        raise InputError(f"The structure does not fit the PDB format of '{path}' ({error}): write mmCIF (.cif).") from error


def gemmi_model(structure: Structure, number: int = 1) -> gemmi.Model:
    """The structure as a model of gemmi."""
    model = gemmi.Model(number)
    chain: gemmi.Chain | None = None
    residue: gemmi.Residue | None = None
    last: tuple[Any, ...] = ()
    columns = (structure.chain, structure.residue_number, structure.insertion_code, structure.residue_name, structure.segment)
    places, occupancy, b_factor = structure.coordinates.tolist(), structure.occupancy.tolist(), structure.b_factor.tolist()
    names, elements, hetero = structure.atom_name.tolist(), structure.element.tolist(), structure.hetero.tolist()
    for at, key in enumerate(zip(*(column.tolist() for column in columns))):
        if key != last:
            if chain is None or key[0] != last[0]:
                chain = model.add_chain(gemmi.Chain(key[0]))
            residue = gemmi.Residue()
            residue.name, residue.segment = key[3], key[4]
            residue.seqid = gemmi.SeqId(key[1], key[2] or " ")
            residue.het_flag = "H" if hetero[at] else "A"
            residue = chain.add_residue(residue)
            last = key
        assert residue is not None
        atom = gemmi.Atom()
        atom.name, atom.element = names[at], gemmi.Element(elements[at])
        atom.pos = gemmi.Position(*places[at])
        atom.occ, atom.b_iso = occupancy[at], b_factor[at]
        residue.add_atom(atom)
    return model
