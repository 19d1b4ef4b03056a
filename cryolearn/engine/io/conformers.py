"""Residues of a file in its order: which alternate locations are kept, and which residues are copies of an earlier one."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

__all__ = ["AtomRow", "chosen_atoms", "residue_copies"]

_FULL_OCCUPANCY = 1.01


class AtomRow(NamedTuple):
    """What an atom's residue and conformer are told by."""

    name: str
    altloc: str
    hydrogen: bool
    occupancy: float
    chain: str
    segment: str
    number: int
    insertion_code: str
    residue_name: str

    @property
    def place(self) -> tuple[str, str, int, str]:
        """Chain, segment, number and insertion code."""
        return self.chain, self.segment, self.number, self.insertion_code


def residue_copies(chain: Sequence[str], segment: Sequence[str], number: Sequence[int], code: Sequence[str], name: Sequence[str]) -> NDArray[np.int64]:
    """Which copy of its residue each atom (N,) belongs to, from 0.

    A residue whose atom names come again behind another residue is a second copy: two chains with one name.
    """
    copies = np.zeros(len(chain), np.int64)
    seen: dict[tuple[str, str, int, str], list[set[str]]] = {}
    last: tuple[str, str, int, str] | None = None
    for row, key in enumerate(zip(chain, segment, number, code)):
        found = seen.setdefault(key, [set()])
        if key != last and name[row] in found[-1]:
            found.append(set())
        found[-1].add(name[row])
        copies[row] = len(found) - 1
        last = key
    return copies


def chosen_atoms(atoms: Sequence[AtomRow], first_conformer: bool) -> tuple[list[int], NDArray[np.float64]]:
    """Rows of the atoms (N,) that are kept, one location each, and the occupancies (N,) with those of the other locations added.

    Of each residue the conformer of the highest mean occupancy is kept, the first of equal ones. A heavy atom that this conformer
    lacks is kept at its most occupied location. With ``first_conformer`` the first conformer alone counts.
    """
    occupancy = np.array([atom.occupancy for atom in atoms])
    kept = np.ones(len(atoms), bool)
    for rows in _residues(atoms):
        labels = _labels(atoms, rows)
        if not any(labels):
            continue
        of: dict[str, list[int]] = defaultdict(list)
        for row, label in zip(rows, labels):
            of[label].append(row)
        fixed = of.pop("", [])
        best = next(iter(of)) if first_conformer else max(of, key=lambda label: float(np.mean([atoms[row].occupancy for row in of[label]])))
        present = {(atoms[row].name, atoms[row].residue_name): row for row in fixed + of[best]}
        if not first_conformer:
            _add_others(atoms, of, best, present, occupancy)
        kept[rows] = False
        kept[list(present.values())] = True
    return np.flatnonzero(kept).tolist(), occupancy


def _add_others(
    atoms: Sequence[AtomRow], of: dict[str, list[int]], best: str, present: dict[tuple[str, str], int], occupancy: NDArray[np.float64]
) -> None:
    """Add the occupancies of the other conformers, and the heavy atoms that ``best`` lacks."""
    names = {atoms[row].residue_name for row in of[best]}
    others = [row for label in of if label != best for row in of[label]]
    for row in sorted(others, key=lambda row: -atoms[row].occupancy):
        atom = atoms[row]
        key = (atom.name, atom.residue_name)
        if key in present:
            occupancy[present[key]] = min(occupancy[present[key]] + atom.occupancy, 1.0)
        elif atom.residue_name in names and not atom.hydrogen:
            present[key] = row


def _residues(atoms: Sequence[AtomRow]) -> list[list[int]]:
    """Rows of each residue; alternate residues at one place are together, copies apart."""
    found: list[list[int]] = []
    newest: dict[tuple[str, str, int, str], int] = {}
    names: list[set[tuple[str, str, str]]] = []
    last = None
    for row, atom in enumerate(atoms):
        at, key = newest.get(atom.place), (atom.name, atom.altloc, atom.residue_name)
        again = at is not None and key in names[at]
        if at is None or (again and (last != atom.place or not _shared(atoms, found[at], row))):
            at = len(found)
            newest[atom.place] = at
            found.append([])
            names.append(set())
        found[at].append(row)
        names[at].add(key)
        last = atom.place
    return found


def _shared(atoms: Sequence[AtomRow], rows: list[int], row: int) -> bool:
    """Whether an atom named as earlier ones of its residue is another location: each is partly there, all of them once at most."""
    same = [atoms[other].occupancy for other in rows if atoms[other].name == atoms[row].name and atoms[other].altloc == atoms[row].altloc]
    return min(same) > 0 and 0 < atoms[row].occupancy and sum(same) + atoms[row].occupancy <= _FULL_OCCUPANCY


def _labels(atoms: Sequence[AtomRow], rows: list[int]) -> list[str]:
    """Conformer of each atom of a residue, '' where it has one location; locations without a label are counted."""
    locations: dict[tuple[str, str, str], int] = {}
    counts: list[int] = []
    for row in rows:
        key = (atoms[row].name, atoms[row].altloc, atoms[row].residue_name)
        counts.append(locations.get(key, 0))
        locations[key] = counts[-1] + 1
    labels = []
    for row, count in zip(rows, counts):
        atom = atoms[row]
        repeated = locations[(atom.name, atom.altloc, atom.residue_name)] > 1
        labels.append(f"{atom.altloc}#{count}" if repeated else atom.altloc)
    return labels
