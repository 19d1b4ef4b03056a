"""How far averaged classes lie from the classes that a network was trained on, so that a new structure stands out without knowing the truth.

Distances are Mahalanobis distances in the space of features, with the covariance within training classes, pooled over the classes: a subtomogram lies
outside of a class when it is farther from its centre than 95 % of that class's own (labelled, held out) subtomograms.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...exceptions import InputError
from ...io.subtomograms import SubtomogramTable
from ...io.tables import join, number_vectors, read_table

__all__ = ["Known", "Novelty", "novelty_of", "read_known"]

INSIDE = 95.0  # % of a training class's own subtomograms
HALF = 0.5  # of an average's subtomograms have to lie outside of every training class for it to be called new
_SHRINK = 0.1  # of the mean variance is added to the covariance (Ledoit & Wolf's target), as features may be fewer in rank than in number
_FEWEST = 20  # subtomograms of a training class whose own spread is taken for its limit, else that of all


@dataclass
class Known:
    """Features of the set and of the training classes.

    Attributes
    ----------
    features : (n, d), rows as in the table
    centres : (C, d)
    whiten : (d, d) by which differences are multiplied
    limit : (C,) distance within which 95 % of a class's own subtomograms lie; of all classes' when it has fewer than 20
    names : names of the training classes
    """

    features: NDArray[np.float64]
    centres: NDArray[np.float64]
    whiten: NDArray[np.float64]
    limit: NDArray[np.float64]
    names: list[str]

    def distances(self, features: NDArray[np.float64]) -> NDArray[np.float64]:
        """Distances (n, C) to the centres, in units of the spread within classes."""
        return np.linalg.norm((features[:, None] - self.centres) @ self.whiten, axis=-1)


@dataclass
class Novelty:
    """Where an average lies.

    Attributes
    ----------
    nearest : name of the nearest training class
    distance : of the mean of its features from that class's centre
    outside : part of its subtomograms that lie outside of every training class
    new : more than half of them do, and its half maps agree beyond what compact maps do anyway
    """

    nearest: str
    distance: float
    outside: float
    new: bool


def read_known(features: str, known_features: str, table: SubtomogramTable) -> Known:
    """Read the two tables of features.

    Raises
    ------
    InputError
        when one of them is missing, lacks a column, has no features for a subtomogram, or features of another length.
    """
    if not features or not known_features:
        raise InputError("Distances to training classes need both 'features' and 'known_features': give both or none.")
    own, _ = read_table(features)
    labelled, notes = read_table(known_features)
    for path, columns in ((features, own), (known_features, labelled)):
        columns["features"] = number_vectors(columns, "features", path)
    label = next((name for name in ("true_class", "class") if name in labelled), None)
    if label is None:
        raise InputError(f"The table '{known_features}' has no column 'true_class' or 'class': give the features of labelled subtomograms.")
    if own["features"].shape[1] != labelled["features"].shape[1]:
        raise InputError(
            f"'{features}' has {own['features'].shape[1]} features and '{known_features}' {labelled['features'].shape[1]}: take both from one network."
        )
    missing = np.setdiff1d(table.ids, own["id"])
    if len(missing):
        raise InputError(f"The table '{features}' has no features of subtomogram {missing[0]}.")
    rows = join(table.ids, own["id"], table="the features")
    return _known(own["features"][rows], labelled["features"], labelled[label], notes.get("class_names", []))


def _known(features: NDArray[np.float64], labelled: NDArray[np.float64], classes: NDArray[np.int64], names: list[str]) -> Known:
    numbers = [number for number in np.unique(classes) if number > 0]
    if len(labelled) <= len(numbers) or not numbers:
        raise InputError(f"{len(labelled)} labelled subtomograms of {len(numbers)} classes are too few to tell how far a class spreads.")
    centres = np.stack([labelled[classes == number].mean(0) for number in numbers])
    within = [labelled[classes == number] - centre for number, centre in zip(numbers, centres)]
    joined = np.concatenate(within)
    covariance = joined.T @ joined / max(len(joined) - len(numbers), 1)
    mean = np.trace(covariance) / len(covariance)
    values, vectors = np.linalg.eigh((1 - _SHRINK) * covariance + _SHRINK * mean * np.eye(len(covariance)))
    whiten = vectors / np.sqrt(np.maximum(values, 1e-12 * max(values.max(), 1e-12)))
    spread = [np.linalg.norm(part @ whiten, axis=1) for part in within]
    common = np.percentile(np.concatenate(spread), INSIDE)
    limit = np.array([np.percentile(own, INSIDE) if len(own) >= _FEWEST else common for own in spread])
    known = [names[number - 1] if 0 < number <= len(names) else f"class {number}" for number in numbers]
    return Known(features, centres, whiten, limit, known)


def novelty_of(known: Known, rows: NDArray[np.int64], agrees: bool) -> Novelty:
    """Where the subtomograms in some rows of the table lie; ``agrees``: the half maps of their average agree."""
    features = known.features[rows]
    distance = known.distances(features.mean(0, keepdims=True))[0]
    nearest = int(distance.argmin())
    outside = float((known.distances(features) > known.limit).all(1).mean())
    return Novelty(known.names[nearest], float(distance[nearest]), outside, bool(outside > HALF and agrees))
