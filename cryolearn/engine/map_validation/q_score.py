"""Q-score: how much the density around each atom looks like a Gaussian.

References
----------
Pintilie et al., Nature Methods 17 (2020) 328. The paper's reference Gaussian has a sigma of 0.6 Å; EMDB's validation uses 0.4 Å now.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.spatial import cKDTree

from ..io.maps import Map
from .density_sampling import inside_map, trilinear

__all__ = ["RADII_ANGST", "mean_by_residue", "q_scores", "sphere_points"]

RADII_ANGST = np.arange(0, 2.05, 0.1)
_POINTS, _TRIES = 8, 50
_OWN = 0.9  # a point belongs to its atom when no other atom is nearer than this times its radius
_ATOMS = 4096  # atoms at a time


@cache
def sphere_points(count: int) -> NDArray[np.float64]:
    """Spiral of ``count`` unit vectors (count, 3) from pole to pole, nearly evenly spread (Saff & Kuijlaars 1997), as in MapQ."""
    height = np.linspace(-1, 1, count)
    step = np.zeros(count)
    step[1:-1] = 3.6 / np.sqrt(count * (1 - height[1:-1] ** 2))
    angle, ring = np.cumsum(step), np.sqrt(1 - height**2)
    return np.stack((ring * np.cos(angle), ring * np.sin(angle), height), 1)


def q_scores(
    volumes: Sequence[Map], coordinates: ArrayLike, sigma_angst: float = 0.4, rows: ArrayLike | None = None
) -> NDArray[np.float64]:
    """Q-score of atoms in one or several maps; the points around each atom are chosen once for all of them.

    Around each atom, shells of radius 0, 0.1 ... 2.0 Å have at least 8 points that are nearer to it than to any other atom (a finer and
    finer spiral is tried up to 50 times; a shell without such points is left out). Q is the correlation about the mean of the density at all
    points with exp(-r^2 / (2 sigma^2)).

    Parameters
    ----------
    volumes
        Maps of one grid.
    coordinates
        (N, 3) x, y, z in Å of all atoms but hydrogens.
    sigma_angst
        0.4 as EMDB, 0.6 as the paper.
    rows
        Atoms to score; all when not given.

    Returns
    -------
    (maps, atoms); NaN for an atom outside the map.
    """
    atoms = np.asarray(coordinates, np.float64)
    chosen = np.arange(len(atoms)) if rows is None else np.asarray(rows)
    tree = cKDTree(atoms)
    found = np.full((len(volumes), len(chosen)), np.nan)
    scales = [(float(volume.data.mean(dtype=np.float64)), float(volume.data.std(dtype=np.float64)) or 1.0) for volume in volumes]
    for start in range(0, len(chosen), _ATOMS):
        part = slice(start, start + _ATOMS)
        centres = atoms[chosen[part]]
        owner, points, radius = _own_points(tree, centres)
        reference = np.exp(-0.5 * (radius / sigma_angst) ** 2)
        for index, (volume, (mean, spread)) in enumerate(zip(volumes, scales)):
            values = (trilinear(volume, points) - mean) / spread
            found[index, part] = np.where(inside_map(volume, centres), _correlation(owner, values, reference, len(centres)), np.nan)
    return found


def _correlation(owner: NDArray[np.int64], first: NDArray[np.float64], second: NDArray[np.float64], count: int) -> NDArray[np.float64]:
    """Correlation about the mean of the points of each owner (count,); 0 where the density does not vary."""
    number = np.bincount(owner, minlength=count)
    mean = [np.bincount(owner, values, count) / number for values in (first, second)]
    first, second = first - mean[0][owner], second - mean[1][owner]
    cross, one, two = (np.bincount(owner, values, count) for values in (first * second, first * first, second * second))
    norm = np.sqrt(one * two)
    return np.where(norm > 1e-12, cross / np.maximum(norm, 1e-12), 0.0)


def _own_points(tree: cKDTree, centres: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float64]]:
    """Points of all shells: the row of their centre, their places (n, 3), their radius."""
    towards, distance = _neighbours(tree, centres)
    owners = [np.repeat(np.arange(len(centres)), _POINTS)]
    places = [np.repeat(centres, _POINTS, axis=0)]
    radii = [np.zeros(len(owners[0]))]
    for radius in RADII_ANGST[1:]:
        pending = np.arange(len(centres))
        for attempt in range(_TRIES):
            directions = sphere_points(_POINTS + 2 * attempt)
            own = _own_directions(directions, radius, towards[pending], distance[pending])
            enough = own.sum(1) >= _POINTS
            row, direction = np.nonzero(own & enough[:, None])
            owners.append(pending[row])
            places.append(centres[pending[row]] + radius * directions[direction])
            radii.append(np.full(len(row), radius))
            pending = pending[~enough]
            if not len(pending):
                break
    return np.concatenate(owners), np.concatenate(places), np.concatenate(radii)


def _neighbours(tree: cKDTree, centres: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Vectors (n, k, 3) to the atoms that can own a point of the largest shell, nearest first, and their lengths, infinite where there are fewer."""
    reach, number = (1 + _OWN) * float(RADII_ANGST[-1]), 32
    while True:
        number = min(number, tree.n)
        distance, index = tree.query(centres, k=np.arange(1, number + 1), distance_upper_bound=reach)
        if number == tree.n or not np.isfinite(distance[:, -1]).any():
            break
        number *= 2
    there = np.isfinite(distance)
    towards = np.where(there[..., None], tree.data[np.where(there, index, 0)] - centres[:, None], 0.0)
    distance[distance < 1e-6] = np.inf  # the atom itself
    return towards, distance


def _own_directions(
    directions: NDArray[np.float64], radius: float, towards: NDArray[np.float64], distance: NDArray[np.float64]
) -> NDArray[np.bool_]:
    """Which points (n, directions) at ``radius`` have no other atom within 0.9 of it: |r u - d| < 0.9 r is u.d > (0.19 r^2 + d^2) / 2 r."""
    near = distance < (1 + _OWN) * radius
    count = np.flatnonzero(near.any(0))
    if not len(count):
        return np.ones((len(distance), len(directions)), bool)
    used = slice(0, count[-1] + 1)
    limit = np.where(near[:, used], ((1 - _OWN**2) * radius**2 + np.minimum(distance[:, used], 1e3) ** 2) / (2 * radius), np.inf)
    along = towards[:, used] @ directions.T
    return ~(along > limit[..., None]).any(1)


def mean_by_residue(values: NDArray[np.float64], of_atom: NDArray[np.int64], residues: int) -> NDArray[np.float64]:
    """Mean (residues,) of atoms' values, those that are NaN left out; NaN for a residue without any."""
    known = np.isfinite(values)
    number = np.bincount(of_atom[known], minlength=residues)
    total = np.bincount(of_atom[known], values[known], residues)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)
