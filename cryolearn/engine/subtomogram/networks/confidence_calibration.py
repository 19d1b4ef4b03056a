"""Confidence and novelty: temperature of the logits, and distance to the known classes."""

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


@dataclass(frozen=True, kw_only=True)
class KnownClasses:
    """Where the known classes lie in the space of a network's representation.

    Attributes
    ----------
    centres : (classes, d) mean of each class over the training
    whitening : (d, d) that makes the scatter about the centres a unit sphere
    discriminants : the first columns of ``whitening`` span the differences of the centres (linear discriminant analysis); 0 in models of version 0.1
    """

    centres: NDArray[np.float32]
    whitening: NDArray[np.float32]
    discriminants: int = 0

    @classmethod
    def fit(cls, training: NDArray[np.float32], number: NDArray[np.int64], classes: int) -> KnownClasses:
        """From the representation (n, d) and class numbers (n,) of the training subtomograms.

        The scatter is shrunk, as subtomograms are few (Ledoit & Wolf 2004). A network pulls together what it learns from, so the scale of distances is
        that of the training; their limits have to be read from subtomograms that it has not seen.
        """
        centres = np.stack([training[number == one].mean(0) for one in range(classes)]).astype(np.float64)
        scatter = LedoitWolf(assume_centered=True).fit(training - centres[number]).covariance_
        values, vectors = np.linalg.eigh(scatter)
        whitening = vectors / np.sqrt(np.maximum(values, 1e-6 * values.max() + 1e-12))
        differences = (centres - centres.mean(0)) @ whitening
        axes = np.linalg.svd(differences, full_matrices=True)[2].T
        discriminants = min(classes - 1, axes.shape[1])
        return cls(centres=centres.astype(np.float32), whitening=(whitening @ axes).astype(np.float32), discriminants=discriminants)

    def distances(self, representation: NDArray[np.float32]) -> NDArray[np.float32]:
        """Distance (n, classes) to each class, in standard deviations a dimension.

        The discriminant axes count as much as all others together: an unknown structure lies between known ones there, while the many axes
        that hold no difference between structures hold noise.
        """
        whitening = self.whitening.astype(np.float64)
        moved, known = representation @ whitening, self.centres @ whitening
        squared = np.stack([self._mean_square(moved - centre) for centre in known], 1)
        return np.sqrt(squared).astype(np.float32)

    def _mean_square(self, difference: NDArray[np.float64]) -> NDArray[np.float64]:
        split = self.discriminants
        if not 0 < split < difference.shape[1]:
            return (difference**2).mean(1)
        return ((difference[:, :split] ** 2).mean(1) + (difference[:, split:] ** 2).mean(1)) / 2
