"""What the benchmarks of map enhancement share: scoring of maps against their models, before and after, and the rows that tell the outcome."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from _results import record
from _run import write_table_of

from cryolearn.engine.io.maps import Map
from cryolearn.engine.io.side_chains import find_residues, find_side_chains
from cryolearn.engine.io.structures import Structure
from cryolearn.engine.map_validation.emringer import model_ceiling, model_score, rings_inside
from cryolearn.engine.map_validation.input_validation import MapInput
from cryolearn.engine.map_validation.map_scores import MapScores, score_maps
from cryolearn.engine.map_validation.score_table import Change, score_table

METHOD = "superres"
SCORES = ("emringer_tie_safe", "emringer_fine", "emringer", "q_score", "cc_mask", "fsc_model_masked_0.5_angst", "decoy_gap_emringer", "decoy_gap_q")


@dataclass
class Case:
    """Maps of one molecule on one grid by label ('truth', 'degraded', 'linear', 'paper', 'residual' ...; 'before', 'after'), and its model.

    ``structure`` holds the atoms to score; hydrogens are left out here, waters and ligands must be by whoever wants that.
    """

    name: str
    maps: Mapping[str, Map]
    structure: Structure
    halves: Mapping[str, Sequence[Map]] = field(default_factory=dict)


@dataclass
class CaseValues:
    """Scores of a case as plain numbers: ``scores`` holds a list, one for each label, by name of the score."""

    name: str
    labels: list[str]
    side_chains: int
    ceiling: float
    scores: dict[str, list[float]]

    def value(self, label: str, score: str) -> float:
        return self.scores[score][self.labels.index(label)]


@dataclass
class ScoredCase:
    """Scores of every map of a case, by label."""

    name: str
    scores: dict[str, MapScores]
    side_chains: int
    ceiling: float
    own_score: float
    structure: Structure
    sigma: float = 0.4

    def value(self, label: str, score: str) -> float:
        """One score (see ``SCORES``) of one map."""
        return self.values([label])[score][0]

    def values(self, labels: Sequence[str]) -> dict[str, list[float]]:
        table = score_table([self.scores[label] for label in labels], find_residues(self.structure), self.sigma, 2, 0)
        return {line.name: [spread.value for spread in line.spreads] for line in table}

    def summary(self) -> CaseValues:
        """What the tables need."""
        labels = list(self.scores)
        return CaseValues(self.name, labels, self.side_chains, self.ceiling, self.values(labels))

    def changes(self, before: str, after: str, draws: int = 1000, seed: int = 1) -> dict[str, Change]:
        """Every score of two maps with its change, by paired bootstrap where residues can be resampled."""
        table = score_table([self.scores[before], self.scores[after]], find_residues(self.structure), self.sigma, draws, seed)
        return {line.name: line for line in table}


def score_case(case: Case, resolution_angst: float = 0.0, q_sigma_angst: float = 0.4, decoys: bool = True) -> ScoredCase:
    """Score all maps of a case; points around atoms and the model's map are made once for all of them."""
    structure = case.structure.subset(case.structure.atomic_number != 1)
    labels = list(case.maps)
    chains = find_side_chains(structure)
    chains = chains.subset(rings_inside(case.maps[labels[0]], chains))
    found = score_maps(
        [MapInput(label, "", case.maps[label], list(case.halves.get(label, ()))) for label in labels], structure, chains, resolution_angst=resolution_angst,
        q_sigma_angst=q_sigma_angst, decoys=decoys,
    )
    return ScoredCase(
        case.name,
        dict(zip(labels, found)),
        side_chains=len(chains),
        ceiling=model_ceiling(chains),
        own_score=model_score(chains),
        structure=structure,
        sigma=q_sigma_angst,
    )


def gap_recovered(scored: CaseValues, label: str, truth: str = "truth", degraded: str = "degraded", score: str = "emringer_tie_safe") -> float:
    """Share of what the degradation took that a map has got back: (x - degraded) / (truth - degraded)."""
    low, value, high = (scored.value(name, score) for name in (degraded, label, truth))
    return (value - low) / (high - low) if not math.isclose(high, low) else math.nan


def write_case_table(path: Path, cases: Iterable[CaseValues]) -> None:
    """All scores of all maps, a row a map, beside the pictures."""
    rows: list[dict[str, object]] = []
    for scored in cases:
        for index, label in enumerate(scored.labels):
            row: dict[str, object] = {"case": scored.name, "map": label, "side_chains": scored.side_chains, "ceiling": round(scored.ceiling, 4)}
            row |= {name: round(values[index], 4) for name, values in scored.scores.items()}
            rows.append(row)
    write_table_of(path, rows)


def record_gaps(
    cases: Sequence[CaseValues], label: str, condition: str, target: float, scale: str, baselines: Sequence[str] = ("linear", "linear, best"),
) -> None:
    """Rows of a treatment of degraded maps: mean gap recovered by the tie-safe score, and maps above the linear baselines."""
    gaps = np.array([gap_recovered(scored, label) for scored in cases])
    shares = f"{np.nanmean(gaps):.2f} (median {np.nanmedian(gaps):.2f}, {np.nanmin(gaps):.2f} to {np.nanmax(gaps):.2f}, {len(gaps)} maps)"
    holds = bool(np.nanmean(gaps) >= target)
    record(
        METHOD,
        f"{label}: gap recovered (EMRinger, one vote a residue)",
        condition=condition,
        target=f">= {target:g} on average",
        measured=shares,
        holds=holds,
        scale=scale,
    )
    for baseline in baselines:
        if label in baselines or any(baseline not in scored.labels for scored in cases):
            continue
        better = sum(scored.value(label, "emringer_tie_safe") > scored.value(baseline, "emringer_tie_safe") for scored in cases)
        what = {"linear": "the linear baseline", "linear, best": "the linear filter that suits each map best"}.get(baseline, baseline)
        record(
            METHOD,
            f"{label}: maps above {what}",
            condition=condition,
            target="every map",
            measured=f"{better} of {len(cases)}",
            holds=better == len(cases),
            scale=scale,
        )


def record_changes(scored: ScoredCase, before: str, after: str, condition: str, scale: str) -> None:
    """Rows of one map before and after: EMRinger and Q by paired bootstrap, FSC with the model, gaps to wrong models."""
    lines = scored.changes(before, after)
    where = f"{scored.name}, {condition}"
    ringer, q = lines["emringer_tie_safe"], lines["q_score"]
    assert ringer.change and q.change
    record(
        METHOD,
        f"{after}: EMRinger change (paired bootstrap)",
        condition=where,
        target="gain, interval above 0",
        measured=_told(ringer),
        holds=(ringer.change.low or 0) > 0,
        scale=scale,
    )
    record(
        METHOD,
        f"{after}: Q-score change (paired bootstrap)",
        condition=where,
        target="not lower",
        measured=_told(q),
        holds=(q.change.high or 0) >= 0,
        scale=scale,
    )
    fsc = lines["fsc_model_masked_0.5_angst"].spreads
    record(METHOD, f"{after}: map-model FSC 0.5, masked", condition=where, target="not coarser", measured=f"{fsc[0].value:.2f} -> {fsc[1].value:.2f} Å",
           holds=fsc[1].value <= fsc[0].value * 1.005, scale=scale)
    for name, label in (("decoy_gap_emringer", "EMRinger"), ("decoy_gap_q", "Q of side chains")):
        if name in lines:
            gap = lines[name].spreads
            told = f"{gap[0].value:.3f} -> {gap[1].value:.3f}"
            record(
                METHOD, f"{after}: gap to wrong models, {label}", condition=where, target="wider", measured=told, holds=gap[1].value > gap[0].value, scale=scale
            )


def _told(line: Change) -> str:
    assert line.change
    first, second = (spread.value for spread in line.spreads)
    return f"{first:.3f} -> {second:.3f}, change {line.change.value:+.3f} ({line.change.low:+.3f} to {line.change.high:+.3f})"
