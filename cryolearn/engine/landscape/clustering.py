"""Ways to group vectors, quick at a million of them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common.figures.palette import sample_rows

__all__ = ["Partition", "partition", "score_curve", "silhouette"]

Array = NDArray[np.float64]
MINIBATCH_FROM = 50_000  # k-means works on mini-batches from here on
FIT_LIMIT = {"gmm": 100_000, "agglomerative": 5_000}  # vectors that shape the clusters; the others are assigned to them
SILHOUETTE_LIMIT = 4_000  # the score is quadratic in the number of vectors
CURVE_LIMIT = 20_000  # vectors that the score curve is computed on
_CHUNK = 200_000


@dataclass(frozen=True)
class Partition:
    """Groups of vectors.

    Attributes
    ----------
    labels : (n,) from 0 to C - 1, numbered along the first axis by the groups' means.
    probability : (n,) of the group given: the posterior of a Gaussian mixture, 1 for the other methods.
    """

    labels: NDArray[np.int64]
    probability: Array


def partition(vectors: Array, first_axis: Array, method: str, clusters: int, seed: int = 1) -> Partition:
    """Group (n, k) vectors by 'kmeans', 'gmm', 'agglomerative' or 'slices'.

    ``first_axis`` (n,) is cut into equally populated slices by 'slices' and numbers the groups of the others.
    Ward clusters of more than ``FIT_LIMIT`` vectors are made from a random part and given to the nearest cluster mean.
    """
    count = len(vectors)
    probability = np.ones(count)
    clusters = min(clusters, count)
    if method == "slices":
        rank = np.empty(count, dtype=np.int64)
        rank[np.argsort(first_axis, kind="stable")] = np.arange(count)
        return Partition(rank * clusters // count, probability)
    if method == "kmeans":
        labels = _kmeans(vectors, clusters, seed)
    elif method == "gmm":
        labels, probability = _mixture(vectors, clusters, seed)
    else:
        labels = _ward(vectors, clusters, seed)
    return Partition(_numbered_along(first_axis, labels), probability)


def _kmeans(vectors: Array, clusters: int, seed: int) -> NDArray[np.int64]:
    from sklearn.cluster import KMeans, MiniBatchKMeans

    if len(vectors) < MINIBATCH_FROM:
        return np.asarray(KMeans(clusters, n_init=10, random_state=seed).fit_predict(vectors), dtype=np.int64)
    model = MiniBatchKMeans(clusters, n_init=5, batch_size=8192, random_state=seed)
    return np.asarray(model.fit_predict(vectors), dtype=np.int64)


def _mixture(vectors: Array, clusters: int, seed: int) -> tuple[NDArray[np.int64], Array]:
    from sklearn.mixture import GaussianMixture

    model = GaussianMixture(clusters, n_init=3, reg_covar=1e-6 * max(float(vectors.var()), 1e-12), random_state=seed)
    model.fit(vectors[sample_rows(len(vectors), FIT_LIMIT["gmm"], seed)])
    labels, probability = np.empty(len(vectors), dtype=np.int64), np.empty(len(vectors))
    for start in range(0, len(vectors), _CHUNK):
        posterior = model.predict_proba(vectors[start : start + _CHUNK])
        labels[start : start + _CHUNK] = posterior.argmax(axis=1)
        probability[start : start + _CHUNK] = posterior.max(axis=1)
    return labels, probability


def _ward(vectors: Array, clusters: int, seed: int) -> NDArray[np.int64]:
    from scipy.spatial import cKDTree
    from sklearn.cluster import AgglomerativeClustering

    if clusters == 1:
        return np.zeros(len(vectors), dtype=np.int64)
    rows = sample_rows(len(vectors), FIT_LIMIT["agglomerative"], seed)
    known = np.asarray(AgglomerativeClustering(clusters).fit_predict(vectors[rows]), dtype=np.int64)
    if len(rows) == len(vectors):
        return known
    centres = np.stack([vectors[rows][known == label].mean(axis=0) for label in range(clusters)])
    labels = cKDTree(centres).query(vectors)[1].astype(np.int64)
    labels[rows] = known
    return labels


def _numbered_along(first_axis: Array, labels: NDArray[np.int64]) -> NDArray[np.int64]:
    """The same groups, empty ones closed up, numbered by their mean position on the first axis."""
    found, compact = np.unique(labels, return_inverse=True)
    means = np.bincount(compact, weights=first_axis) / np.bincount(compact)
    rank = np.empty(len(found), dtype=np.int64)
    rank[np.argsort(means, kind="stable")] = np.arange(len(found))
    return np.asarray(rank[compact])


def silhouette(vectors: Array, labels: NDArray[np.int64], seed: int = 1) -> float:
    """Mean silhouette (Rousseeuw 1987) over at most ``SILHOUETTE_LIMIT`` vectors; NaN with fewer than two groups."""
    from sklearn.metrics import silhouette_score

    rows = sample_rows(len(vectors), SILHOUETTE_LIMIT, seed)
    groups = len(np.unique(labels[rows]))
    if groups < 2 or groups >= len(rows):
        return float("nan")
    return float(silhouette_score(vectors[rows], labels[rows]))


def score_curve(vectors: Array, first_axis: Array, method: str, seed: int = 1, largest: int = 12) -> dict[int, float]:
    """Silhouette for 2 to ``largest`` groups of (a random part of) the vectors."""
    rows = sample_rows(len(vectors), CURVE_LIMIT if method != "gmm" else 5_000, seed)
    data, axis = vectors[rows], first_axis[rows]
    return {
        number: silhouette(data, partition(data, axis, method, number, seed).labels, seed)
        for number in range(2, min(largest, len(rows) - 1) + 1)
    }
