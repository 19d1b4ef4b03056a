"""How sure a class is, and how strange a subtomogram: temperature of the logits, and distance of the features to the known classes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar
from scipy.special import logsumexp
from sklearn.covariance import LedoitWolf

__all__ = ["KnownClasses", "calibration_error", "fit_temperature", "probabilities", "reliability"]

_BINS = 10


def probabilities(logits: NDArray[np.float32], temperature: float = 1.0) -> NDArray[np.float64]:
    """Softmax (n, classes) of logits divided by a temperature."""
    scaled = np.asarray(logits, np.float64) / temperature
    return np.exp(scaled - logsumexp(scaled, axis=1, keepdims=True))


def fit_temperature(logits: NDArray[np.float32], number: NDArray[np.int64]) -> float:
    """Temperature at which the probabilities of unseen subtomograms are likeliest (Guo et al. 2017)."""
    def surprise(log_temperature: float) -> float:
        scaled = np.asarray(logits, np.float64) / np.exp(log_temperature)
        return float(np.mean(logsumexp(scaled, axis=1) - scaled[np.arange(len(number)), number]))

    return float(np.exp(minimize_scalar(surprise, bounds=(-5, 5), method="bounded").x))


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Mean confidence, part of right answers and number in each of ten bins of equal width of the confidence."""
    at = np.minimum((confidence * _BINS).astype(int), _BINS - 1)
    count = np.bincount(at, minlength=_BINS)
    divisor = np.maximum(count, 1)
    return np.bincount(at, confidence, _BINS) / divisor, np.bincount(at, right, _BINS) / divisor, count


def calibration_error(confidence: NDArray[np.float64], right: NDArray[np.bool_]) -> float:
    """Expected calibration error: how far confidence is from the part of right answers, on average."""
    said, true, count = reliability(confidence, right)
    return float((np.abs(said - true) * count).sum() / max(count.sum(), 1))


@dataclass
class KnownClasses:
    """Where the known classes lie among the features.

    Attributes
    ----------
    centres : (classes, d) mean features of the training
    whitening : (d, d) that makes the scatter of unseen subtomograms about their centres round
    """

    centres: NDArray[np.float32]
    whitening: NDArray[np.float32]

    @classmethod
    def fit(
        cls, training: NDArray[np.float32], training_number: NDArray[np.int64], unseen: NDArray[np.float32], unseen_number: NDArray[np.int64], classes: int,
    ) -> KnownClasses:
        """From features of subtomograms that were learned from, and of others.

        The scatter is that of the unseen ones (a network pulls together what it learns from), shrunk as they are few (Ledoit & Wolf 2004).
        """
        centres = np.stack([training[training_number == number].mean(0) for number in range(classes)]).astype(np.float64)
        scatter = LedoitWolf(assume_centered=True).fit(unseen - centres[unseen_number]).covariance_
        values, vectors = np.linalg.eigh(scatter)
        values = np.maximum(values, 1e-6 * values.max() + 1e-12)
        return cls(centres.astype(np.float32), (vectors / np.sqrt(values)).astype(np.float32))

    def distances(self, features: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distance (n, classes) of features to each class, in standard deviations a dimension."""
        whitening = self.whitening.astype(np.float64)
        moved, known = features @ whitening, self.centres @ whitening
        squared = np.stack([((moved - centre) ** 2).sum(1) for centre in known], 1)
        return np.sqrt(squared / features.shape[1]).astype(np.float32)
