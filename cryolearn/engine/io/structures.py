"""Atomic models (PDB and mmCIF, through gemmi) as plain arrays."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from .atomic import whole_file

_CIF = (".cif", ".mmcif")
# band in which an element's scattering is replaced by one Gaussian: 20 Å to 3 Å
_FIT_BAND_PER_ANGST = (0.05, 1.0 / 3.0)


@dataclass
class Structure:
    """Atoms of one model; all arrays have one row an atom.

    Attributes
    ----------
    coordinates : (N, 3) float64
        x, y, z in Å.
    element, atomic_number : (N,) str, int
        0 and 'X' for pseudo-atoms.
    b_factor : (N,) float64
        Å^2.
    occupancy : (N,) float64
        Summed over the alternate positions of an atom, of which the most occupied one is kept.
    atom_name, residue_name, chain, insertion_code : (N,) str
    residue_number : (N,) int
    hetero : (N,) bool
        Written as HETATM.
    """

    coordinates: NDArray[np.float64]
    element: NDArray[np.str_]
    atomic_number: NDArray[np.int64]
    b_factor: NDArray[np.float64]
    occupancy: NDArray[np.float64]
    atom_name: NDArray[np.str_]
    residue_number: NDArray[np.int64]
    residue_name: NDArray[np.str_]
    chain: NDArray[np.str_]
    insertion_code: NDArray[np.str_]
    hetero: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.coordinates)

    def subset(self, rows: ArrayLike | slice) -> Structure:
        """The atoms in ``rows`` (indices, a mask or a slice)."""
        at = rows if isinstance(rows, slice) else np.asarray(rows)
        return Structure(**{name: values[at] for name, values in vars(self).items()})

    def with_coordinates(self, coordinates: ArrayLike) -> Structure:
        """The same atoms at other coordinates (N, 3) in Å."""
        moved = np.asarray(coordinates, np.float64)
        if moved.shape != self.coordinates.shape:
            raise ValueError(f"{len(self)} atoms need coordinates (N, 3), not {moved.shape}")
        return replace(self, coordinates=moved)


def read_structure(path: str, first_conformer: bool = False) -> Structure:
    """Read the first model of a PDB or mmCIF file.

    Parameters
    ----------
    path
        PDB or mmCIF file, compressed by gzip or not.
    first_conformer : bool
        Of alternate positions keep those of each residue's first conformer, as validation programs do, instead of each atom's most occupied one.

    Raises
    ------
    InputError
        when the file is absent, is no structure, has no atoms or a coordinate that is no number.
    """
    if not os.path.isfile(path):
        raise InputError(f"The structure '{path}' does not exist.")
    try:
        document = gemmi.read_structure(path)
    except (RuntimeError, ValueError, OSError) as error:
        raise InputError(f"The structure '{path}' cannot be read as PDB or mmCIF: {str(error).splitlines()[0]}.") from error
    atoms = list(_atoms(document[0], first_conformer)) if len(document) else []
    if not atoms:
        raise InputError(f"The structure '{path}' has no atoms.")
    rows: dict[str, list[Any]] = {name: list(values) for name, values in zip(_FIELDS, zip(*atoms))}
    structure = Structure(**{name: np.array(values, _TYPES.get(name)) for name, values in rows.items()})
    bad = np.flatnonzero(~np.isfinite(structure.coordinates).all(axis=1))
    if len(bad):
        atom = bad[0]
        raise InputError(
            f"Atom {structure.atom_name[atom]} of residue {structure.residue_number[atom]}, chain {structure.chain[atom]}, of the "
            f"structure '{path}' has no numbers as coordinates."
        )
    return structure


_FIELDS = ("coordinates", "element", "atomic_number", "b_factor", "occupancy", "atom_name", "residue_number", "residue_name",
           "chain", "insertion_code", "hetero")
_TYPES: dict[str, Any] = {"coordinates": np.float64, "atomic_number": np.int64, "b_factor": np.float64, "occupancy": np.float64,
                          "residue_number": np.int64, "hetero": np.bool_}


def _atoms(model: gemmi.Model, first_conformer: bool) -> Iterable[tuple[Any, ...]]:
    for chain in model:
        for residue in chain.first_conformer():
            best: dict[str, gemmi.Atom] = {}
            occupancy: dict[str, float] = {}
            first = next((atom.altloc for atom in residue if atom.has_altloc()), "") if first_conformer else ""
            for atom in residue:
                if first and atom.has_altloc() and atom.altloc != first:
                    continue
                kept = best.get(atom.name)
                if kept is None or (atom.has_altloc() and atom.occ > kept.occ):
                    best[atom.name] = atom
                occupancy[atom.name] = occupancy.get(atom.name, 0.0) + atom.occ
            for name, atom in best.items():
                number = atom.element.atomic_number
                occ = min(occupancy[name], 1.0) if atom.has_altloc() else atom.occ
                yield (
                    atom.pos.tolist(), atom.element.name if number else "X", number, atom.b_iso, occ, name, residue.seqid.num,
                    residue.name, chain.name, residue.seqid.icode.strip(), residue.het_flag == "H",
                )


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
    document = gemmi.Structure()
    document.name = os.path.splitext(os.path.basename(path))[0]
    for number, structure in enumerate(structures, 1):
        document.add_model(gemmi_model(structure, number))
    document.setup_entities()
    if path.lower().endswith(_CIF):
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
    for at in range(len(structure)):
        key = (structure.chain[at], structure.residue_number[at], structure.insertion_code[at], structure.residue_name[at])
        if key != last:
            if chain is None or key[0] != last[0]:
                chain = model.add_chain(gemmi.Chain(str(key[0])))
            residue = gemmi.Residue()
            residue.name = str(key[3])
            residue.seqid = gemmi.SeqId(int(key[1]), str(key[2]) or " ")
            residue.het_flag = "H" if structure.hetero[at] else "A"
            residue = chain.add_residue(residue)
            last = key
        assert residue is not None
        atom = gemmi.Atom()
        atom.name = str(structure.atom_name[at])
        atom.element = gemmi.Element(str(structure.element[at]))
        atom.pos = gemmi.Position(*structure.coordinates[at])
        atom.occ, atom.b_iso = float(structure.occupancy[at]), float(structure.b_factor[at])
        residue.add_atom(atom)
    return model


def atom_weights(structure: Structure) -> NDArray[np.float64]:
    """Weight of each atom's Gaussian (N,): electrons x occupancy; a pseudo-atom's is its occupancy."""
    return np.maximum(structure.atomic_number, 1) * structure.occupancy


def atom_sigmas(structure: Structure) -> NDArray[np.float64]:
    """Width (standard deviation, Å) of each atom's Gaussian (N,).

    The element's electron scattering between 20 and 3 Å as one Gaussian, widened by the B factor:
    sigma^2 = sigma_element^2 + B / (8 pi^2). A pseudo-atom has the width of its B factor.
    """
    element = np.array([element_sigma(int(number)) for number in structure.atomic_number])
    return np.sqrt(element**2 + np.maximum(structure.b_factor, 0.0) / (8 * math.pi**2))


@cache
def element_sigma(atomic_number: int) -> float:
    """Standard deviation in Å of the Gaussian nearest to an element's electron scattering factor between 20 and 3 Å.

    A Gaussian of width sigma scatters as exp(-2 pi^2 sigma^2 g^2), so log f is fitted by a line in g^2, weighted by
    f^2 g (the power, times the number of Fourier samples of an image at g). Scattering factors: gemmi's C4322,
    International Tables C 4.3.2.2. 0 for pseudo-atoms.
    """
    if atomic_number == 0:
        return 0.0
    g = np.linspace(*_FIT_BAND_PER_ANGST, 200)
    coefficients = gemmi.Element(atomic_number).c4322
    factor = np.array([coefficients.calculate_sf(stol2) for stol2 in (g / 2) ** 2])
    slope, _ = np.polyfit(g**2, np.log(factor), 1, w=factor * np.sqrt(g))
    return math.sqrt(max(-slope, 0.0) / 2) / math.pi
