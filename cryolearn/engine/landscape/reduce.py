"""Few axes out of many latent coordinates."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.figures.palette import sample_rows
from ..exceptions import InputError

__all__ = ["Reduction", "reduce_vectors"]

Array = NDArray[np.float64]
FIT_LIMIT = {"tsne": 10_000, "umap": 100_000}  # vectors that are embedded themselves; the others are placed among them
_NEIGHBOURS = 5


@dataclass(frozen=True)
class Reduction:
    """Reduced coordinates and, for linear reductions, how they were made.

    Attributes
    ----------
    coordinates : (n, d).
    mean : (k,); coordinates are ``(vectors - mean) @ components.T``. None when not linear.
    components : (d, k) orthonormal rows. None when not linear.
    explained_variance : (d,) part of the whole variance along each axis. None when not linear.
    """

    coordinates: Array
    mean: Array | None = None
    components: Array | None = None
    explained_variance: Array | None = None


def reduce_vectors(vectors: ArrayLike, method: str, dimensions: int, seed: int = 1) -> Reduction:
    """Reduce (n, k) vectors to ``dimensions`` axes by 'pca', 'none', 'tsne' or 'umap'.

    Beyond ``FIT_LIMIT`` vectors, t-SNE and UMAP embed a random part; t-SNE, which has no mapping of its own, then places
    each other vector at the distance-weighted mean of its five nearest embedded ones.

    Raises
    ------
    InputError
        when there are fewer vectors or components than axes, or umap-learn is not installed.
    """
    data = np.asarray(vectors, dtype=np.float64)
    count, size = data.shape
    if method in ("pca", "none"):
        dimensions = min(dimensions, size)  # two axes of a one-mode alignment are the one that there is
    if method == "none":
        return _untouched(data, dimensions)
    if method == "pca":
        return _principal_axes(data, dimensions)
    if count < 10:
        raise InputError(f"The reduction '{method}' needs at least 10 particles, but there are {count}: choose 'pca'.")
    rows = sample_rows(count, FIT_LIMIT[method], seed)
    rest = np.setdiff1d(np.arange(count), rows, assume_unique=True)
    coordinates = np.empty((count, dimensions))
    if method == "tsne":
        coordinates[rows] = _tsne(data[rows], dimensions, seed)
        if len(rest):
            coordinates[rest] = _place_among(data[rest], data[rows], coordinates[rows])
    else:
        model = _umap_model(dimensions, min(15, len(rows) - 1), seed)
        coordinates[rows] = model.fit_transform(data[rows])
        if len(rest):
            coordinates[rest] = model.transform(data[rest])
    return Reduction(coordinates)


def _untouched(data: Array, dimensions: int) -> Reduction:
    mean = np.zeros(data.shape[1])
    variance = data.var(axis=0)
    return Reduction(data[:, :dimensions].copy(), mean, np.eye(data.shape[1])[:dimensions],
                     variance[:dimensions] / max(float(variance.sum()), 1e-300))


def _principal_axes(data: Array, dimensions: int) -> Reduction:
    """Principal axes by the covariance; the largest element of each axis is positive, so that signs are reproducible."""
    mean = data.mean(axis=0)
    centred = data - mean
    values, axes = np.linalg.eigh(centred.T @ centred / len(data))
    order = np.argsort(values)[::-1][:dimensions]
    components = axes[:, order].T
    largest = np.take_along_axis(components, np.abs(components).argmax(axis=1)[:, None], axis=1)
    components = components * np.where(largest < 0, -1.0, 1.0)
    explained = np.clip(values[order], 0, None) / max(float(values.clip(0).sum()), 1e-300)
    return Reduction(centred @ components.T, mean, components, explained)


def _tsne(data: Array, dimensions: int, seed: int) -> Array:
    from sklearn.manifold import TSNE

    perplexity = min(30.0, (len(data) - 1) / 3)
    method = "barnes_hut" if dimensions < 4 else "exact"
    model = TSNE(dimensions, perplexity=perplexity, init="pca" if dimensions <= data.shape[1] else "random",
                 method=method, random_state=seed)
    return np.asarray(model.fit_transform(data), dtype=np.float64)


def _place_among(data: Array, known: Array, coordinates: Array) -> Array:
    from scipy.spatial import cKDTree

    distance, nearest = cKDTree(known).query(data, k=_NEIGHBOURS)
    weight = 1.0 / np.maximum(distance, 1e-9)
    weight /= weight.sum(axis=1, keepdims=True)
    return np.asarray(np.einsum("nk,nkd->nd", weight, coordinates[nearest]))


def _umap_model(dimensions: int, neighbours: int, seed: int) -> Any:
    try:
        import umap
    except ImportError as error:
        raise InputError(
            "The reduction 'umap' needs the package umap-learn, which is not installed: "
            "install it in the engine's environment with 'pip install umap-learn', or choose 'pca' or 'tsne'."
        ) from error
    return umap.UMAP(n_components=dimensions, n_neighbors=neighbours, random_state=seed)
