"""The table of scores: what a bootstrap over the residues says of each score, and of its change between two maps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from ..io.side_chains import Residues
from .emringer import bootstrap_scores
from .map_model_agreement import MODEL_THRESHOLDS
from .map_scores import MapScores

__all__ = ["Change", "Spread", "bootstrap_q", "changes", "score_table", "spread_of"]

_CURVES = {"model_masked": "map and model, masked", "model": "map and model, unmasked", "halves_masked": "half maps, masked",
           "halves": "half maps, unmasked"}


def bootstrap_q(scores: Sequence[MapScores], residues: Residues, draws: int, seed: int) -> NDArray[np.float64]:
    """Mean Q-scores of atoms (draws, maps) of resampled residues, the same ones for every map."""
    known = np.isfinite(scores[0].q_atoms)
    count = np.bincount(residues.of_atom[known], minlength=len(residues)).astype(float)
    total = np.stack([np.bincount(residues.of_atom[known], score.q_atoms[known], len(residues)) for score in scores], 1)
    used = count > 0
    count, total = count[used], total[used]
    random = np.random.default_rng(seed)
    weights = random.multinomial(len(count), np.full(len(count), 1 / len(count)), draws).astype(float)
    return (weights @ total) / (weights @ count)[:, None]


@dataclass
class Spread:
    """A score with the interval that holds 95 % of its resampled values."""

    value: float
    low: float | None = None
    high: float | None = None


@dataclass
class Change:
    """One line of the table: a score of each map, and its change when there are two.

    ``better`` is the share of resamplings in which the second map scores higher; None where no resampling is possible.
    """

    name: str
    label: str
    spreads: list[Spread]
    change: Spread | None = None
    better: float | None = None
    draws: NDArray[np.float64] | None = field(default=None, repr=False)


def spread_of(value: float, draws: NDArray[np.float64]) -> Spread:
    """A value with the 95 % interval of its resampled values."""
    low, high = np.percentile(draws, (2.5, 97.5))
    return Spread(value, float(low), float(high))


def changes(name: str, label: str, values: Sequence[float | None], draws: NDArray[np.float64] | None = None) -> Change:
    """A line of the table from values (maps,) and their resampled values (draws, maps)."""
    plain = [float("nan") if value is None else float(value) for value in values]
    spreads = [Spread(value) if draws is None else spread_of(value, draws[:, index]) for index, value in enumerate(plain)]
    line = Change(name, label, spreads, draws=draws)
    if len(plain) == 2:
        difference = plain[1] - plain[0]
        line.change = Spread(difference) if draws is None else spread_of(difference, draws[:, 1] - draws[:, 0])
        line.better = None if draws is None else float((draws[:, 1] > draws[:, 0]).mean())
    return line


def score_table(scores: Sequence[MapScores], residues: Residues, q_sigma_angst: float, draws: int, seed: int) -> list[Change]:
    """Every score of one or two maps, those that residues can be resampled for with intervals."""
    q_label = f"Q-score (sigma {q_sigma_angst:g} Å)"
    safe = bootstrap_scores([score.tie_safe_votes for score in scores], draws, seed)
    classic = bootstrap_scores([score.classic_votes for score in scores], draws, seed)
    lines = [
        changes("emringer_tie_safe", "EMRinger, one vote a residue, ≤ 0.5 Å grid", [score.tie_safe.score for score in scores], safe),
        changes("emringer_fine", "EMRinger, cctbx's votes, ≤ 0.5 Å grid", [score.classic.score for score in scores], classic),
        changes("emringer", "EMRinger, cctbx's on the map's own grid", [score.own_grid.score for score in scores]),
        changes("q_score", q_label, [score.q for score in scores], bootstrap_q(scores, residues, draws, seed)),
    ]
    for kind, text in (("mask", "inside the molecule"), ("box", "whole box"), ("peaks", "highest voxels of both")):
        lines.append(changes(f"cc_{kind}", f"CC_{kind}, {text}", [getattr(score.correlations, kind) for score in scores]))
    for name, text in _CURVES.items():
        for threshold in MODEL_THRESHOLDS:
            key = f"{name}_{threshold:g}"
            if any(key in score.resolutions_angst for score in scores):
                lines.append(changes(f"fsc_{key}_angst", f"FSC {threshold:g} (Å), {text}", [score.resolutions_angst.get(key) for score in scores]))
    if all(score.decoy_emringer is not None for score in scores):
        lines += _decoy_lines(scores, q_label)
    return lines


def _decoy_lines(scores: Sequence[MapScores], q_label: str) -> list[Change]:
    ringer = [score.decoy_emringer or 0.0 for score in scores]
    wrong, right = ([value or 0.0 for value in values] for values in ([s.decoy_q for s in scores], [s.flipped_q for s in scores]))
    return [
        changes("decoy_emringer", "EMRinger of shifted models", ringer),
        changes("decoy_gap_emringer", "EMRinger, gap to shifted models", [score.tie_safe.score - value for score, value in zip(scores, ringer)]),
        changes("decoy_q", f"{q_label} of flipped side chains", wrong),
        changes("decoy_gap_q", f"{q_label}, gap to flipped side chains", [a - b for a, b in zip(right, wrong)]),
    ]
