"""Stereochemistry of deformed models: what a linear displacement breaks, and how to keep it whole.

Linear displacements along modes move atoms on straight lines, so that a domain that turns grows. :func:`restore_geometry`
takes the nearest rigid motion of each short block of residues instead and then brings bond lengths and the 1-3 distances
of bond angles back by projection steps (position-based dynamics, Müller et al. 2007, J Vis Commun Image Represent 18:109).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

from ..exceptions import InputError

__all__ = ["Geometry", "GeometryReport", "find_geometry", "report_geometry", "restore_geometry"]

Array = NDArray[np.float64]
Pairs = NDArray[np.int64]

BOND_OFF_ANGST = 0.2
CLASH_ANGST = 2.0
_COVALENT_RADIUS = {"H": 0.31, "C": 0.76, "N": 0.71, "O": 0.66, "F": 0.57, "P": 1.07, "S": 1.05, "SE": 1.20}  # Cordero 2008
_LONGEST_RADIUS = 1.3
_BOND_TOLERANCE_ANGST = 0.3
_OVER_RELAXATION = 1.7  # of the mean of the pairs' corrections; stable below 2
_KEEP_APART_ANGST = 2.6  # non-bonded atoms closer than this are pushed apart (or kept at the reference's distance)


@dataclass(frozen=True)
class Geometry:
    """What is to be kept, read from the reference.

    Attributes
    ----------
    reference : (N, 3) Å.
    bonds, angles : (b, 2) bonded pairs, and (a, 2) pairs with a common bonded neighbour.
    excluded : sorted ``i * N + j`` of the pairs that are never a clash: bonded over one, two or three bonds.
    block : (N,) rigid block of each atom, from 0.
    """

    reference: Array
    bonds: Pairs
    angles: Pairs
    excluded: NDArray[np.int64]
    block: NDArray[np.int64]


@dataclass(frozen=True)
class GeometryReport:
    """Bonds off by more than 0.2 Å and pairs of atoms closer than 2 Å that are not joined over three bonds or fewer."""

    bonds: int
    bonds_off: int
    largest_bond_change_angst: float
    clashes: int
    rmsd_angst: float

    @property
    def bonds_off_percent(self) -> float:
        """Percentage of the bonds that are off by more than 0.2 Å."""
        return 100.0 * self.bonds_off / max(self.bonds, 1)


def find_geometry(
    coordinates: Array, element: NDArray[np.str_], residue_number: NDArray[np.int64], chain: NDArray[np.str_],
    residues_per_block: int = 10,
) -> Geometry:
    """Bonds by covalent radii (consecutive C-alpha atoms when there are no others), blocks of residues by chain.

    A model without bonds (pseudo-atoms) has none here, and can be reported on but not restored.
    """
    count = len(coordinates)
    radius = np.asarray([_COVALENT_RADIUS.get(str(name).upper(), _LONGEST_RADIUS) for name in element])
    pairs = cKDTree(coordinates).query_pairs(2 * _LONGEST_RADIUS + _BOND_TOLERANCE_ANGST, output_type="ndarray").astype(np.int64)
    distance = np.linalg.norm(coordinates[pairs[:, 0]] - coordinates[pairs[:, 1]], axis=1)
    bonds = pairs[distance < radius[pairs].sum(axis=1) + _BOND_TOLERANCE_ANGST]
    starts = np.flatnonzero(np.r_[True, (residue_number[1:] != residue_number[:-1]) | (chain[1:] != chain[:-1])])
    residue = np.searchsorted(starts, np.arange(count), side="right") - 1
    if not len(bonds):
        step = np.linalg.norm(np.diff(coordinates, axis=0), axis=1)
        near = np.flatnonzero((step > 3.5) & (step < 4.1) & (chain[1:] == chain[:-1]))  # a peptide's C-alpha pair is 3.8 Å
        bonds = np.column_stack([near, near + 1]) if len(near) > count // 2 else np.empty((0, 2), np.int64)
    angles, torsions = _second_and_third_neighbours(bonds, count)
    keys = np.concatenate([_key(bonds, count), _key(angles, count), _key(torsions, count)])
    return Geometry(coordinates, bonds, angles, np.unique(keys), _blocks(residue, chain, residues_per_block))


def _blocks(residue: NDArray[np.int64], chain: NDArray[np.str_], size: int) -> NDArray[np.int64]:
    """Consecutive blocks of ``size`` residues; a chain's short last block joins the one before."""
    block = np.zeros(len(residue), dtype=np.int64)
    begin = 0
    for name_start in np.flatnonzero(np.r_[True, chain[1:] != chain[:-1]]):
        rows = np.arange(name_start, len(chain))
        ends = np.flatnonzero(chain[rows] != chain[name_start])
        rows = rows[: ends[0]] if len(ends) else rows
        within = residue[rows] - residue[rows[0]]
        number = max((within[-1] + 1) // size, 1)
        block[rows] = begin + np.minimum(within // size, number - 1)
        begin += number
    return block


def _second_and_third_neighbours(bonds: Pairs, count: int) -> tuple[Pairs, Pairs]:
    from scipy.sparse import coo_matrix, triu

    ones = np.ones(2 * len(bonds), dtype=np.int32)
    joined = coo_matrix((ones, (np.r_[bonds[:, 0], bonds[:, 1]], np.r_[bonds[:, 1], bonds[:, 0]])), (count, count)).tocsr()
    two = joined @ joined
    three = two @ joined
    found = []
    for matrix in (two, three):
        upper = triu(matrix, k=1).tocoo()
        found.append(np.column_stack([upper.row, upper.col]).astype(np.int64))
    bonded = _key(bonds, count)
    return found[0][~np.isin(_key(found[0], count), bonded)], found[1]


def _key(pairs: Pairs, count: int) -> NDArray[np.int64]:
    return np.asarray(pairs.min(axis=1) * count + pairs.max(axis=1)) if len(pairs) else np.empty(0, np.int64)


def _lengths(coordinates: Array, pairs: Pairs) -> Array:
    return np.asarray(np.linalg.norm(coordinates[pairs[:, 0]] - coordinates[pairs[:, 1]], axis=1))


def _contacts(coordinates: Array, geometry: Geometry, distance: float) -> Pairs:
    pairs = cKDTree(coordinates).query_pairs(distance, output_type="ndarray").astype(np.int64)
    return pairs[~np.isin(_key(pairs, len(coordinates)), geometry.excluded)] if len(pairs) else pairs.reshape(0, 2)


def report_geometry(coordinates: Array, geometry: Geometry) -> GeometryReport:
    """Compare the bonds of (N, 3) coordinates with the reference's, and count clashes."""
    change = np.abs(_lengths(coordinates, geometry.bonds) - _lengths(geometry.reference, geometry.bonds))
    rmsd = np.sqrt(((coordinates - geometry.reference) ** 2).sum(axis=1).mean())
    return GeometryReport(
        len(geometry.bonds), int((change > BOND_OFF_ANGST).sum()), float(change.max(initial=0.0)),
        len(_contacts(coordinates, geometry, CLASH_ANGST)), float(rmsd),
    )


def restore_geometry(target: Array, geometry: Geometry, sweeps: int = 10, iterations: int = 100) -> Array:
    """Conformation near (N, 3) target coordinates whose blocks are rigid copies of the reference's, bonds restored.

    Raises
    ------
    InputError
        when the model has no bonds.
    """
    if not len(geometry.bonds):
        raise InputError("The model has no bonds to restore (pseudo-atoms?): choose the geometry 'linear'.")
    coordinates = _rigid_blocks(target, geometry)
    pairs = np.concatenate([geometry.bonds, geometry.angles])
    wanted = _lengths(geometry.reference, pairs)
    least = np.ones(len(pairs), bool)
    for sweep in range(sweeps):
        near = _contacts(coordinates, geometry, _KEEP_APART_ANGST)
        apart = np.minimum(_lengths(geometry.reference, near), _KEEP_APART_ANGST)
        all_pairs, all_wanted = np.concatenate([pairs, near]), np.concatenate([wanted, apart])
        two_sided = np.concatenate([least, np.zeros(len(near), bool)])
        _project(coordinates, all_pairs, all_wanted, two_sided, iterations if sweep < sweeps - 1 else 2 * iterations)
    return coordinates


def _rigid_blocks(target: Array, geometry: Geometry) -> Array:
    """Each block of the reference, moved onto its target by the best rigid motion (Kabsch 1976)."""
    moved = np.empty_like(target)
    for number in range(int(geometry.block.max()) + 1):
        rows = np.flatnonzero(geometry.block == number)
        source, goal = geometry.reference[rows], target[rows]
        centre, to = source.mean(axis=0), goal.mean(axis=0)
        u, _, vt = np.linalg.svd((goal - to).T @ (source - centre))
        flip = np.diag([1.0, 1.0, np.sign(np.linalg.det(u @ vt)) or 1.0])
        moved[rows] = (source - centre) @ (u @ flip @ vt).T + to
    return moved


def _project(coordinates: Array, pairs: Pairs, wanted: Array, two_sided: NDArray[np.bool_], iterations: int) -> None:
    """Move atoms in place towards the wanted distances; one-sided pairs are only pushed apart.

    All pairs act at once; each atom moves by the over-relaxed mean of what its pairs ask for.
    """
    count = len(coordinates)
    first, second = pairs.T
    asked = np.maximum(np.bincount(first, minlength=count) + np.bincount(second, minlength=count), 1)
    relax = _OVER_RELAXATION / asked
    for _ in range(iterations):
        vector = coordinates[first] - coordinates[second]
        length = np.maximum(np.linalg.norm(vector, axis=1), 1e-9)
        error = length - wanted
        error[~two_sided & (error > 0)] = 0.0
        push = (0.5 * error / length)[:, None] * vector
        for axis in range(3):
            total = np.bincount(second, push[:, axis], count) - np.bincount(first, push[:, axis], count)
            coordinates[:, axis] += relax * total
