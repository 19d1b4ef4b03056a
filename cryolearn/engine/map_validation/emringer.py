"""EMRinger: whether the peaks of density around CA-CB stand where side chains are known to stand.

Two kinds of votes go through one score. *Classic* votes are those of cctbx (``mmtbx.ringer.em_scoring``): every one of 72 samples that
holds its ring's maximum counts, so a map whose density has plateaus (a binarised one) votes many times for one residue, and its score is
not bounded by the ceiling. *Tie-safe* votes are one a residue, split between the samples that tie.

References
----------
Barad et al., Nature Methods 12 (2015) 943.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..io.maps import Map
from ..io.side_chains import SideChains
from .density_sampling import inside_map, sample_finer, trilinear

__all__ = [
    "CEILING", "CLASSIC_SAMPLES", "FINE_SAMPLES", "EmringerScore", "Votes", "bootstrap_scores", "classic_votes", "emringer", "emringer_score",
    "model_ceiling", "model_score", "rings_inside", "rotameric_share", "tie_safe_votes",
]

CLASSIC_SAMPLES, FINE_SAMPLES = 72, 360
THRESHOLDS = 20
_ROTAMERIC = 39 / 72  # share of the circle within 32.5 degrees of 60, 180 and 300: what chance gives
CEILING = 10 * math.sqrt((1 - _ROTAMERIC) / _ROTAMERIC)
_TIE = 1e-6  # of the largest density: differences that rounding explains
_RESAMPLED = 1 << 22  # residues resampled at a time in a bootstrap


@dataclass
class Votes:
    """What each ring says; all arrays (N,).

    Attributes
    ----------
    peak, mean
        Largest and mean density of the ring.
    votes, rotameric
        Number of votes, and how many of them are rotameric.
    angle_deg
        chi1 of the (first) peak.
    """

    peak: NDArray[np.float64]
    mean: NDArray[np.float64]
    votes: NDArray[np.float64]
    rotameric: NDArray[np.float64]
    angle_deg: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.peak)


@dataclass(kw_only=True)
class EmringerScore:
    """Score of one map and model.

    Attributes
    ----------
    score
        10 z / sqrt(N) at the best threshold.
    residues
        N, the number of side chains.
    best
        Index of the best threshold.
    thresholds, scores, ratios, counts
        The curve, (k,), k <= 20: density threshold, score, share of rotameric votes, number of votes.
    ties
        Side chains with more than one vote (classic) or a split one (tie-safe).
    """

    score: float
    residues: int
    best: int
    thresholds: NDArray[np.float64]
    scores: NDArray[np.float64]
    ratios: NDArray[np.float64]
    counts: NDArray[np.float64]
    ties: int = 0


def rings_inside(volume: Map, chains: SideChains) -> NDArray[np.bool_]:
    """Side chains (N,) whose whole ring lies in the map; others cannot be scored."""
    return inside_map(volume, chains.rings(CLASSIC_SAMPLES)).all(1)


def classic_votes(densities: NDArray[np.float64]) -> Votes:
    """Votes of rings (N, 72) as cctbx counts them: every sample equal to the maximum, in bins of 12 from index 6, every second one rotameric."""
    peak = densities.max(1)
    at_peak = densities == peak[:, None]
    rotameric = ((np.arange(CLASSIC_SAMPLES) - 6) % CLASSIC_SAMPLES) // 12 % 2 == 0
    return Votes(peak, densities.mean(1), at_peak.sum(1).astype(float), (at_peak & rotameric).sum(1).astype(float), _angle(densities))


def tie_safe_votes(densities: NDArray[np.float64]) -> Votes:
    """One vote a ring (N, samples), split evenly over the samples that tie with its maximum.

    Rotameric are angles within 32.5 degrees of 60, 180 and 300, which are 39 / 72 of the circle, the share that the score takes for chance
    (cctbx's bins cover 36 / 72). A flat ring so votes as chance does.
    """
    peak = densities.max(1)
    at_peak = densities >= peak[:, None] - _TIE * np.abs(densities).max()
    angle = 360 * np.arange(1, densities.shape[1] + 1) / densities.shape[1]
    rotameric = _near_rotamer(angle)
    return Votes(peak, densities.mean(1), np.ones(len(peak)), (at_peak & rotameric).sum(1) / at_peak.sum(1), _angle(densities))


def _near_rotamer(angle_deg: NDArray[np.float64]) -> NDArray[np.bool_]:
    return np.abs(angle_deg % 120 - 60) <= 32.5


def _angle(densities: NDArray[np.float64]) -> NDArray[np.float64]:
    return (densities.argmax(1) + 1) * 360.0 / densities.shape[1]


def _curve(votes: Votes, rows: NDArray[np.int64] | None = None) -> tuple[NDArray[np.float64], ...]:
    """Thresholds, votes and rotameric votes above them and scores, each (20, ...); ``rows`` (..., N) resamples the rings."""
    peak, mean, count, rotameric = (
        values if rows is None else values[rows] for values in (votes.peak, votes.mean, votes.votes, votes.rotameric)
    )
    low, high, total = mean.mean(-1), peak.max(-1), peak.shape[-1]
    thresholds = low + np.arange(THRESHOLDS).reshape(-1, *[1] * low.ndim) * (high - low) / THRESHOLDS
    above = [peak > threshold[..., None] for threshold in thresholds]
    counts = np.stack([(count * mask).sum(-1) for mask in above])
    hits = np.stack([(rotameric * mask).sum(-1) for mask in above])
    with np.errstate(invalid="ignore", divide="ignore"):
        z = (hits - counts * _ROTAMERIC) / np.sqrt(counts * _ROTAMERIC * (1 - _ROTAMERIC))
    scores = 10 * np.where(counts > 0, z, 0.0) / math.sqrt(total)
    return thresholds, counts, hits, scores


def _kept(hits: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Thresholds before the first without a rotameric vote; the first one always."""
    kept = np.logical_and.accumulate(hits > 0, axis=0)
    kept[0] = True
    return kept


def emringer_score(votes: Votes) -> EmringerScore:
    """Score of the votes of one map."""
    thresholds, counts, hits, scores = _curve(votes)
    length = int(_kept(hits).sum())
    best = int(scores[:length].argmax())
    with np.errstate(invalid="ignore"):
        ratios = np.where(counts > 0, hits / np.maximum(counts, 1e-300), 0.0)
    split = (votes.votes > 1) | ((votes.rotameric > 0) & (votes.rotameric < votes.votes))
    return EmringerScore(
        score=float(scores[best]),
        residues=len(votes),
        best=best,
        thresholds=thresholds[:length],
        scores=scores[:length],
        ratios=ratios[:length],
        counts=counts[:length],
        ties=int(split.sum()),
    )


def emringer(volume: Map, chains: SideChains, factor: int = 1, tie_safe: bool = False) -> EmringerScore:
    """EMRinger score of a map and the side chains of its model.

    Parameters
    ----------
    volume, chains
        All rings must lie inside the map (:func:`rings_inside`).
    factor
        1 samples the map's own grid; more a grid that Fourier interpolation makes so many times finer.
    tie_safe
        Classic votes of 72 samples, or one vote a residue from 360 samples.
    """
    points = chains.rings(FINE_SAMPLES if tie_safe else CLASSIC_SAMPLES)
    densities = trilinear(volume, points) if factor == 1 else sample_finer(volume, points, factor)
    return emringer_score(tie_safe_votes(densities) if tie_safe else classic_votes(densities))


def rotameric_share(chains: SideChains, tie_safe: bool = True) -> float:
    """Share of the model's own chi1 angles that are rotameric, by the windows of either kind of votes."""
    chi1 = chains.chi1_deg()
    if tie_safe:
        return float(_near_rotamer(chi1).mean())
    index = np.rint(chi1 / 5).astype(int) - 1
    return float((((index - 6) % CLASSIC_SAMPLES) // 12 % 2 == 0).mean())


def model_score(chains: SideChains, tie_safe: bool = True) -> float:
    """Score when every ring peaks exactly at the model's chi1, equally high: near what a perfect map of this model has."""
    return 10 * (rotameric_share(chains, tie_safe) - _ROTAMERIC) / math.sqrt(_ROTAMERIC * (1 - _ROTAMERIC))


def model_ceiling(chains: SideChains, tie_safe: bool = True) -> float:
    """What no map can pass that peaks at the model's chi1, with one vote a residue: all rotameric side chains counted, no other one."""
    return CEILING * math.sqrt(rotameric_share(chains, tie_safe))


def bootstrap_scores(votes: list[Votes], draws: int, seed: int = 0) -> NDArray[np.float64]:
    """Scores (draws, maps) of resampled residues, the same ones for every map, so that differences between maps are paired.

    Parameters
    ----------
    votes
        Those of each map, for the same side chains in the same order.
    draws
        Number of bootstrap samples.
    seed
        Of the samples.
    """
    total = len(votes[0])
    if any(len(item) != total for item in votes):
        raise ValueError("Maps are compared by the same side chains.")
    random = np.random.default_rng(seed)
    step = max(1, _RESAMPLED // max(total, 1))
    found = []
    for start in range(0, draws, step):
        rows = random.integers(0, total, (min(step, draws - start), total))
        parts = []
        for item in votes:
            _, _, hits, scores = _curve(item, rows)
            parts.append(np.where(_kept(hits), scores, -np.inf).max(0))
        found.append(np.stack(parts, 1))
    return np.concatenate(found)
