"""Many groups of features: mini-batch k-means, Gaussian mixtures by BIC, dense groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.cluster import HDBSCAN, MiniBatchKMeans
from sklearn.decomposition import PCA
from sklearn.mixture import GaussianMixture

from ...exceptions import InputError

__all__ = ["Groups", "divide", "reduced_features", "sizes_curve"]

Features = NDArray[np.float32]
_BATCH = 4096
_STARTS = 5
_SHARE = 0.99  # of the variance that grouping looks at
_FIT_LIMIT = {"gmm": 20_000, "hdbscan": 50_000}  # features that shape the groups; the others join the nearest
_STEPS = 8  # numbers of groups that a mixture is tried with
_CHUNK = 100_000


@dataclass
class Groups:
    """Groups of features.

    Attributes
    ----------
    number : (n,) from 1, the largest first; 0 belongs to none
    scores : (name of the score, value by number of groups) of what was tried
    """

    number: NDArray[np.int32]
    scores: tuple[str, dict[int, float]]


def reduced_features(features: Features) -> Features:
    """Principal components that hold 99 % of the variance, as logits and embeddings have fewer dimensions than numbers."""
    some = features[:: -(-len(features) // _CHUNK)]
    fitted = PCA(svd_solver="full").fit(some)
    count = int(np.searchsorted(np.cumsum(fitted.explained_variance_ratio_), _SHARE)) + 1
    return np.asarray((features - fitted.mean_) @ fitted.components_[:count].T, np.float32)


def divide(features: Features, method: str, clusters: int, smallest: int, seed: int) -> Groups:
    """Group (n, d) features by 'kmeans', 'gmm' or 'hdbscan'.

    Raises
    ------
    InputError
        when there are fewer subtomograms than groups, or no dense group is found.
    """
    if method != "hdbscan" and len(features) < clusters:
        raise InputError(f"{len(features)} subtomograms cannot be divided into {clusters} groups: ask for fewer groups.")
    if method == "kmeans":
        machine = MiniBatchKMeans(clusters, n_init=_STARTS, batch_size=_BATCH, random_state=seed).fit(features)
        return Groups(_largest_first(_by_parts(machine.predict, features)), ("inertia", {clusters: float(machine.inertia_)}))
    if method == "gmm":
        return _mixture(features, clusters, seed)
    return _dense(features, smallest, seed)


def _mixture(features: Features, clusters: int, seed: int) -> Groups:
    some = _some(features, "gmm", seed)
    tried = np.unique(np.round(np.geomspace(2, clusters, _STEPS)).astype(int))
    machines = {
        int(number): GaussianMixture(int(number), covariance_type="diag", reg_covar=1e-3 * float(some.var()), n_init=2, random_state=seed).fit(some)
        for number in tried if number <= len(some)
    }
    scores = {number: float(machine.bic(some)) for number, machine in machines.items()}
    best = machines[min(scores, key=lambda number: scores[number])]
    return Groups(_largest_first(_by_parts(best.predict, features)), ("BIC", scores))


def _dense(features: Features, smallest: int, seed: int) -> Groups:
    rows = _rows(len(features), "hdbscan", seed)
    known = HDBSCAN(min_cluster_size=min(smallest, max(2, len(rows) // 2)), copy=True).fit_predict(features[rows])
    if (known < 0).all():
        raise InputError(f"No group of {smallest} subtomograms or more is denser than the rest: choose a smaller smallest group, or another method.")
    number = np.full(len(features), -1, np.int64)
    number[rows] = known
    others = np.setdiff1d(np.arange(len(features)), rows)
    if len(others):
        from scipy.spatial import cKDTree

        tree = cKDTree(features[rows])
        for part in np.array_split(others, -(-len(others) // _CHUNK)):
            number[part] = known[tree.query(features[part])[1]]
    return Groups(_largest_first(number), ("groups", {int(known.max()) + 1: float((number < 0).mean())}))


def _by_parts(predict: object, features: Features) -> NDArray[np.int64]:
    return np.concatenate([predict(features[start : start + _CHUNK]) for start in range(0, len(features), _CHUNK)])  # type: ignore[operator]


def _largest_first(number: NDArray[np.int64]) -> NDArray[np.int32]:
    """Numbers from 1 by size; negative ones become 0."""
    found, counts = np.unique(number[number >= 0], return_counts=True)
    rank = np.zeros(int(found.max()) + 2, np.int32)
    rank[found[np.argsort(-counts, kind="stable")]] = np.arange(1, len(found) + 1)
    return np.where(number < 0, 0, rank[np.maximum(number, 0)]).astype(np.int32)


def _rows(count: int, method: str, seed: int) -> NDArray[np.int64]:
    limit = _FIT_LIMIT[method]
    return np.arange(count) if count <= limit else np.sort(np.random.default_rng(seed).choice(count, limit, replace=False))


def _some(features: Features, method: str, seed: int) -> Features:
    return features[_rows(len(features), method, seed)]


def sizes_curve(number: NDArray[np.int32]) -> NDArray[np.int64]:
    """Sizes of the groups, the largest first."""
    return np.bincount(number)[1:]
