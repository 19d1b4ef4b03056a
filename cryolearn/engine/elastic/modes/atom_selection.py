"""Atoms for an elastic network: a structure in ProDy's selection language, and what a selection holds."""

from __future__ import annotations

from collections import Counter

import numpy as np
import prody
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from ...exceptions import InputError
from ...io.structures import Structure, copies_of_residues, read_structure

__all__ = ["atoms_by_kind", "loose_nodes", "refuse_shared_places", "rigid_blocks", "select_atoms"]

_FEWEST_ATOMS = 10
_SAME_PLACE_ANGST = 0.01
_KINDS = ("protein", "nucleic", "water", "ion", "lipid")
_NAMED = 4  # residue names that are listed of other atoms
_SMALLEST_BLOCK = 4  # three atoms that are not on a line have six degrees of freedom


def _atom_group(structure: Structure) -> prody.AtomGroup:
    """The atoms as ProDy's object; copies of a residue (chains of one name) are told by a segment name of their own."""
    group = prody.AtomGroup("structure")
    group.setCoords(structure.coordinates)
    deuterium = structure.element == "D"  # ProDy knows hydrogen by its name
    group.setNames(np.where(deuterium, np.char.replace(structure.atom_name, "D", "H", 1), structure.atom_name))
    group.setElements(np.where(deuterium, "H", np.char.upper(structure.element)))
    group.setResnames(structure.residue_name)
    group.setResnums(structure.residue_number)
    group.setIcodes(structure.insertion_code)
    group.setChids(np.where(structure.chain == "", " ", structure.chain))
    copies = copies_of_residues(structure)
    group.setSegnames(np.where(copies > 0, np.char.add(np.char.add(structure.segment, "_"), copies.astype(str)), structure.segment))
    group.setBetas(structure.b_factor)
    group.setOccupancies(structure.occupancy)
    group.setFlags("hetatm", structure.hetero)
    return group


def _chosen_rows(group: prody.AtomGroup, selection: str, path: str) -> NDArray[np.int64]:
    """Rows of the atoms that a ProDy selection keeps.

    Raises
    ------
    InputError
        when the selection is not valid or keeps too few atoms.
    """
    try:
        chosen = group.select(selection)
    except prody.SelectionError as error:
        raise InputError(f"The atom selection '{selection}' is not valid: {error}.") from error
    if chosen is None or len(chosen) < _FEWEST_ATOMS:
        found = 0 if chosen is None else len(chosen)
        raise InputError(
            f"The atom selection '{selection}' keeps {found} atoms of '{path}': at least {_FEWEST_ATOMS} are needed. The file holds {atoms_by_kind(group)}."
        )
    rows: NDArray[np.int64] = chosen.getIndices()
    return rows


def refuse_shared_places(coordinates: NDArray[np.float64], names: list[str], path: str) -> None:
    """Refuse atoms (N, 3) at one place, between which no spring has a direction.

    Parameters
    ----------
    coordinates : (N, 3)
        Å.
    names : list of str
        Of the atoms, for messages.
    path : str
        Their file.
    """
    distance, nearest = cKDTree(coordinates).query(coordinates, k=2)
    shared = np.flatnonzero(distance[:, 1] < _SAME_PLACE_ANGST)
    if len(shared):
        first = shared[0]
        second = next(int(row) for row in nearest[first] if row != first)
        raise InputError(
            f"{len(shared)} of the atoms selected from '{path}' lie at the place of another (first: {names[first]} and {names[second]}): remove the copies, "
            "or atoms whose coordinates stand for unknown ones."
        )


def select_atoms(path: str, selection: str) -> tuple[Structure, prody.AtomGroup]:
    """Atoms of a PDB or mmCIF file that a ProDy selection keeps, for the engine and for ProDy; what they are is said in one line.

    Raises
    ------
    InputError
        when the file cannot be read, the selection is not valid or keeps too few atoms.
    """
    structure = read_structure(path)
    group = _atom_group(structure)
    rows = _chosen_rows(group, selection, path)
    atoms = group[rows].copy()
    refuse_shared_places(
        atoms.getCoords(), [f"{name} of residue {chain}/{number}" for name, chain, number in zip(atoms.getNames(), atoms.getChids(), atoms.getResnums())], path,
    )
    print(f"selected {len(atoms)} of {len(group)} atoms: {atoms_by_kind(atoms)}", flush=True)
    return structure.subset(rows), atoms


def atoms_by_kind(atoms: prody.AtomGroup, rows: NDArray[np.int64] | NDArray[np.bool_] | None = None) -> str:
    """Numbers of atoms of each kind, as '1656 protein, 1 ion (CA), 12 other (LIG)'."""
    chosen = np.arange(len(atoms)) if rows is None else np.arange(len(atoms))[rows]
    names = atoms.getResnames()[chosen]
    kind = np.full(len(chosen), "other", "U8")
    for flag in reversed(_KINDS):
        kind[atoms.getFlags(flag)[chosen]] = flag
    counts = []
    for what in (*_KINDS, "other"):
        of = kind == what
        if of.any():
            listed = [name for name, _ in Counter(names[of].tolist()).most_common()]
            shown = ", ".join(listed[:_NAMED]) + (" ..." if len(listed) > _NAMED else "")
            counts.append(f"{int(of.sum())} {what}" + (f" ({shown})" if what in ("ion", "lipid", "other") else ""))
    return ", ".join(counts) or "no atoms"


def rigid_blocks(atoms: prody.AtomGroup, residues_per_block: int) -> NDArray[np.int64]:
    """Rigid block of each atom (N,), counted from 0.

    A block holds ``residues_per_block`` residues that follow each other in one chain; what is neither protein nor nucleic acid has a block a
    residue. Blocks of fewer than four atoms join that of the nearest atom outside.
    """
    residue = atoms.getResindices()
    first = np.unique(residue, return_index=True)[1]
    row = np.searchsorted(residue[first], residue)
    chain = np.char.add(np.char.add(atoms.getSegnames()[first], "/"), atoms.getChids()[first])
    polymer = (atoms.getFlags("protein") | atoms.getFlags("nucleic"))[first]
    starts = np.concatenate([[0], np.flatnonzero((chain[1:] != chain[:-1]) | ~polymer[1:] | ~polymer[:-1]) + 1])
    run = np.searchsorted(starts, np.arange(len(first)), side="right") - 1
    within = (np.arange(len(first)) - starts[run]) // residues_per_block
    blocks = np.unique(np.stack((run, within), 1), axis=0, return_inverse=True)[1].reshape(-1)[row]
    small = np.bincount(blocks)[blocks] < _SMALLEST_BLOCK
    if small.any() and not small.all():
        coordinates = atoms.getCoords()
        distance, nearest = cKDTree(coordinates[~small]).query(coordinates[small])
        block, order = blocks[small], np.lexsort((distance, blocks[small]))
        closest = order[np.unique(block[order], return_index=True)[1]]  # of each small block the atom that is nearest to a large one
        target = dict(zip(block[closest], blocks[~small][nearest[closest]]))
        blocks[small] = [target[one] for one in block]
    return np.unique(blocks, return_inverse=True)[1].reshape(-1)


def loose_nodes(coordinates: NDArray[np.float64], cutoff_angst: float, blocks: NDArray[np.int64] | None = None) -> NDArray[np.bool_]:
    """Nodes (N,) of an elastic network that are apart from its largest connected part, or have fewer than three neighbours.

    Parameters
    ----------
    coordinates : (N, 3)
        Å.
    cutoff_angst : float
        Length of the longest spring.
    blocks : (N,) int, optional
        Rigid block of each node; blocks hold their nodes, so that neighbours are not counted.
    """
    count = len(coordinates)
    pairs = cKDTree(coordinates).query_pairs(cutoff_angst, output_type="ndarray")
    few = np.bincount(pairs.ravel(), minlength=count) < 3
    if blocks is not None:
        few = np.zeros(count, bool)
        order = np.argsort(blocks, kind="stable")
        together = np.column_stack([order[:-1], order[1:]])
        pairs = np.concatenate([pairs, together[blocks[order[:-1]] == blocks[order[1:]]]])
    graph = coo_matrix((np.ones(len(pairs), bool), (pairs[:, 0], pairs[:, 1])), (count, count))
    _, part = connected_components(graph, directed=False)
    loose: NDArray[np.bool_] = few | (part != np.bincount(part).argmax())
    return loose
