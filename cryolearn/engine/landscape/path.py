"""Paths through a landscape: frames at equal arc length, and where the particles lie along them."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from .reduce import reduce_vectors

__all__ = ["arc_length", "equal_frames", "nearest_frames", "population", "principal_path", "project_on_path"]

Array = NDArray[np.float64]
_CHUNK = 100_000


def arc_length(points: ArrayLike) -> Array:
    """Length along the polyline of (m, k) points at each of them, from 0."""
    steps = np.linalg.norm(np.diff(np.asarray(points, float), axis=0), axis=1)
    return np.concatenate([[0.0], np.cumsum(steps)])


def equal_frames(points: ArrayLike, frames: int) -> Array:
    """(frames, k) points at equal arc length along the polyline of (m, k) points, ends included.

    Raises
    ------
    InputError
        when the path has no length.
    """
    corners = np.asarray(points, float)
    position = arc_length(corners)
    if len(corners) < 2 or position[-1] <= 0:
        raise InputError("The path has no length: give at least two different points.")
    wanted = np.linspace(0, position[-1], frames)
    return np.stack([np.interp(wanted, position, column) for column in corners.T], axis=1)


def principal_path(vectors: Array, axis: int, extent_percent: float) -> Array:
    """Two ends of the stretch of principal axis ``axis`` (from 1), through the mean, that spans the given part of the particles.

    Raises
    ------
    InputError
        when there is no such axis or the particles do not differ along it.
    """
    size = vectors.shape[1]
    if axis > size:
        raise InputError(f"Principal axis {axis} does not exist: the vectors have {size} coordinate(s).")
    reduction = reduce_vectors(vectors, "pca", size)
    assert reduction.mean is not None and reduction.components is not None
    coordinate = reduction.coordinates[:, axis - 1]
    margin = (100 - extent_percent) / 2
    low, high = np.percentile(coordinate, (margin, 100 - margin))
    if high - low <= 1e-9 * max(1.0, float(np.abs(vectors).max())):
        raise InputError(f"The particles do not differ along principal axis {axis}: choose another axis or give points.")
    return np.asarray(reduction.mean + np.outer([low, high], reduction.components[axis - 1]))


def project_on_path(vectors: Array, points: Array) -> tuple[Array, Array]:
    """Arc length of the nearest place on the polyline, and the distance to it, both (n,)."""
    start, step = points[:-1], np.diff(points, axis=0)
    length = np.linalg.norm(step, axis=1)
    used = length > 0
    start, step, length, offset = start[used], step[used], length[used], arc_length(points)[:-1][used]
    position, distance = np.empty(len(vectors)), np.empty(len(vectors))
    for first in range(0, len(vectors), _CHUNK):
        rows = slice(first, first + _CHUNK)
        best = np.full(len(vectors[rows]), np.inf)
        for base, vector, size, before in zip(start, step, length, offset):
            relative = vectors[rows] - base
            part = np.clip(relative @ vector / size**2, 0, 1)
            apart = np.linalg.norm(relative - part[:, None] * vector, axis=1)
            nearer = apart < best
            best[nearer] = apart[nearer]
            position[rows][nearer] = (before + part * size)[nearer]
        distance[rows] = best
    return position, distance


def population(position: Array, total: float, frames: int) -> NDArray[np.int64]:
    """Particles nearest along the path to each of ``frames`` equally spaced frames."""
    nearest = np.rint(position / total * (frames - 1)).astype(int)
    return np.bincount(nearest.clip(0, frames - 1), minlength=frames)


def nearest_frames(vectors: Array, frames: Array) -> tuple[NDArray[np.int64], Array]:
    """Particles nearest to each of ``frames`` (m, k) themselves, and each particle's distance to its nearest frame."""
    nearest, distance = np.zeros(len(vectors), dtype=np.int64), np.full(len(vectors), np.inf)
    for number, frame in enumerate(frames):
        apart = np.linalg.norm(vectors - frame, axis=1)
        nearest[apart < distance] = number
        np.minimum(distance, apart, out=distance)
    return np.bincount(nearest, minlength=len(frames)), distance
