"""What a network's similarity means: the distance that it stands for and how much that is worth, measured on unseen images."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from sklearn.isotonic import IsotonicRegression

from ...exceptions import InputError
from ...io.model_entries import require_agreement

__all__ = ["Calibration", "fit_calibration"]

_BINS = 32
_LEAST = 1e-6


@dataclass(frozen=True)
class Calibration:
    """Monotone curve from similarity to distance, and the variance of the distances that it gives.

    Attributes
    ----------
    similarity, distance_rad : (k,) knots, similarity falling
    variance_rad2 : (k,) variance of the distance at each knot, for a pair whose predicted variance is the mean one
    mean_spread : that mean
    constant, slope : a pair's variance is the knot's times ``constant + slope * predicted / mean_spread``
    """

    similarity: tuple[float, ...]
    distance_rad: tuple[float, ...]
    variance_rad2: tuple[float, ...]
    mean_spread: float
    constant: float
    slope: float

    def to_dict(self) -> dict[str, Any]:
        """What ``model.json`` holds of it."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> Calibration:
        """Calibration from what :meth:`to_dict` made."""
        knots = {name: tuple(values[name]) for name in ("similarity", "distance_rad", "variance_rad2")}
        return cls(**{**values, **knots})

    def check(self, folder: str) -> None:
        """Refuse the curve of the model in ``folder`` when it is none.

        Raises
        ------
        InputError
            when its columns differ in length, or the similarity does not fall.
        """
        require_agreement(folder, {"calibration.similarity": self.similarity, "calibration.distance_rad": self.distance_rad,
                                   "calibration.variance_rad2": self.variance_rad2})
        if len(self.similarity) < 2 or not all(later < earlier for earlier, later in zip(self.similarity, self.similarity[1:])):
            raise InputError(f"The trained model '{folder}' cannot be used: calibration.similarity in its model.json does not fall from 2 values or more.")

    def apply(self, similarity: torch.Tensor, spread: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Distances in radians and their weights (1 / variance, 1/rad^2) of pairs of any shape.

        Parameters
        ----------
        similarity
            Similarities of the pairs.
        spread
            Their predicted variances, of the same shape.
        """
        knots, distance, variance = (
            torch.tensor(values[::-1], dtype=similarity.dtype, device=similarity.device)
            for values in (self.similarity, self.distance_rad, self.variance_rad2)
        )
        clamped = similarity.clamp(float(knots[0]), float(knots[-1])).contiguous()
        above = torch.searchsorted(knots, clamped).clamp(1, len(knots) - 1)
        share = (clamped - knots[above - 1]) / (knots[above] - knots[above - 1])
        found, width = (values[above - 1] + share * (values[above] - values[above - 1]) for values in (distance, variance))
        return found, 1 / (width * (self.constant + self.slope * spread / self.mean_spread))


def fit_calibration(similarity: np.ndarray, spread: np.ndarray, distance_rad: np.ndarray, largest_rad: float) -> Calibration:
    """Calibration from pairs (n,) of known distance.

    The mean similarity of each true distance is made monotone (isotonic regression) and inverted: so a distance is not drawn towards those that
    are frequent among the pairs given here, which may be others in a real set. The variance of a distance is the similarity's over the squared
    slope of that curve, so that where the network cannot tell distances apart they weigh nothing.
    """
    edges = np.linspace(0, largest_rad, _BINS + 1)
    at = np.clip(np.digitize(distance_rad, edges) - 1, 0, _BINS - 1)
    counts = np.bincount(at, minlength=_BINS)
    used = counts >= 8
    centres = np.bincount(at, distance_rad, _BINS)[used] / counts[used]
    means = np.bincount(at, similarity, _BINS)[used] / counts[used]
    curve = IsotonicRegression(increasing=False).fit(centres, means, counts[used]).predict(centres)
    curve = curve - _LEAST * np.arange(len(curve))  # strictly falling
    residual = similarity - np.interp(distance_rad, centres, curve)
    noise = np.bincount(at, residual**2, _BINS)[used] / counts[used]
    slope = np.abs(np.gradient(curve, centres))
    # a slope is known no better than the means of neighbouring bins are; a flat stretch is one of unknown distance
    variance = (noise + _LEAST) / np.maximum(slope, 0.02 * slope.max()) ** 2
    variance = np.minimum(variance, largest_rad**2)
    constant, share, mean_spread = _fit_spread(residual**2 / np.maximum(noise, _LEAST)[np.cumsum(used)[at] - 1], spread)
    # beyond the outermost bins the curve ends at equal and at the most different orientations
    knots = np.concatenate([[max(1.0, curve[0] + _LEAST)], curve, [curve[-1] - max(_LEAST, 0.5 * abs(curve[-2] - curve[-1]))]])
    return Calibration(
        tuple(knots.tolist()), (0.0, *centres.tolist(), largest_rad), (float(variance[0]), *variance.tolist(), float(variance[-1])),
        mean_spread, constant, share,
    )


def _fit_spread(ratio: np.ndarray, spread: np.ndarray) -> tuple[float, float, float]:
    """How residuals, over what their distance leads to expect, grow with the predicted variance: constant, slope, mean of the variance."""
    mean = float(spread.mean())
    relative = spread / mean
    order = np.argsort(relative)
    groups = [part for part in np.array_split(order, 20) if len(part)]
    x, y = (np.array([values[part].mean() for part in groups]) for values in (relative, ratio))
    deviation = ((x - x.mean()) ** 2).sum()
    slope = float(((x - x.mean()) * (y - y.mean())).sum() / deviation) if deviation > _LEAST else 0.0
    slope = min(max(slope, 0.0), 1.0)
    return 1 - slope, slope, mean
