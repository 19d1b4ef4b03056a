"""Paths through a landscape: frames at equal arc length, and where the particles lie along them."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from ..io.tables import join, read_table
from .config import TrajectoryConfig
from .reduce import reduce_vectors

__all__ = [
    "arc_length", "cluster_rows", "count_particles", "equal_frames", "nearest_frames", "path_corners", "population", "principal_path", "project_on_path",
]

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


def count_particles(vectors: Array, corners: Array, frames: Array, *, alone: bool) -> tuple[NDArray[np.int64], Array]:
    """Particles nearest to each frame, and each particle's distance to the path, or to its nearest frame where frames stand ``alone``."""
    if alone:
        return nearest_frames(vectors, frames)
    position, distance = project_on_path(vectors, corners)
    return population(position, float(arc_length(corners)[-1]), len(frames)), distance


def path_corners(config: TrajectoryConfig, columns: dict[str, NDArray[Any]], vectors: Array) -> Array:
    """Corners (m, k) of the path that was asked for.

    Raises
    ------
    InputError
        when points or clusters do not fit the vectors.
    """
    size = vectors.shape[1]
    if config.path == "pca":
        return principal_path(vectors, config.axis, config.extent_percent)
    if config.path in ("points", "frames"):
        fewest = 1 if config.path == "frames" else 2
        if len(config.points) < fewest * size or len(config.points) % size:
            raise InputError(
                f"The path has {len(config.points)} numbers, but each of its points ({fewest} at least) takes {size}: one for each coordinate."
            )
        return np.asarray(config.points, float).reshape(-1, size)
    return np.stack([vectors[rows].mean(axis=0) for rows in cluster_rows(config, columns)])


def cluster_rows(config: TrajectoryConfig, columns: dict[str, NDArray[Any]]) -> list[NDArray[np.int64]]:
    """Rows of the particles of each cluster, in the clusters' order.

    Raises
    ------
    InputError
        when there is no table of clusters, or it does not fit the particles.
    """
    if not config.clusters:
        raise InputError("The path through clusters needs the table of the clusters (clusters.npz).")
    groups, _ = read_table(config.clusters)
    if "class" not in groups:
        raise InputError(f"'{config.clusters}' has no column 'class': give the clusters.npz of the cluster command.")
    inside = np.flatnonzero(groups["class"] > 0)
    rows = join(np.asarray(groups["id"])[inside], columns)
    classes = np.asarray(groups["class"])[inside]
    return [rows[classes == number] for number in np.unique(classes)]
