"""Command ``validate-map``: scores of one map, or of a map before and after a treatment, against an atomic model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...common.fsc import HALF_MAP_THRESHOLD
from ..config import check_config, require
from ..figures import fsc_curves, save_figure
from ..imaging.half_set_maps import write_fsc_csv
from ..io.atomic import write_csv
from ..io.summary import ValidationSummary, write_summary
from ..io.tables import write_table
from ..progress import Progress
from .config import ValidateMapConfig
from .emringer import CEILING, model_ceiling, model_score
from .input_validation import Inputs, read_inputs
from .map_model_agreement import MODEL_THRESHOLDS, box_fsc, model_mask, resolution_of
from .map_scores import MapScores, score_maps
from .q_score import mean_by_residue
from .score_figures import change_figure, emringer_figure, q_figure
from .score_table import Change, score_table
from .size_and_hand import size_and_hand_warnings

__all__ = ["run"]

_PARTS = 4


def run(config: ValidateMapConfig) -> None:
    """Read and check, score, write tables, curves, pictures and summary."""
    check_config(config)
    require(config, "volume", "structure")
    torch.set_num_threads(max(1, config.threads or torch.get_num_threads()))
    inputs = read_inputs(config)
    _say_what_was_assumed(inputs)
    warnings = size_and_hand_warnings(inputs.maps[0].volume, inputs.structure.coordinates, inputs.maps[0].path)
    for text in warnings:
        print(f"WARNING: {text}", flush=True)
    progress = Progress("Scores", _PARTS + config.decoys, "parts")
    scores = score_maps(
        inputs.maps, inputs.structure, inputs.chains, mask=inputs.mask, resolution_angst=config.resolution_angst, q_sigma_angst=config.q_sigma_angst,
        decoys=config.decoys, report=lambda name: progress.step(note=name),
    )
    lines = score_table(scores, inputs.residues, config.q_sigma_angst, config.bootstraps, config.seed)
    names = [item.name for item in inputs.maps]
    curves = _curves(inputs, scores)
    cross = {name: resolution_of(curve, HALF_MAP_THRESHOLD, inputs.maps[0].volume) for name, curve in curves.items() if name.startswith("cross")}
    out = Path(config.output)
    out.mkdir(parents=True, exist_ok=True)
    residues = _write_residues(out, inputs, scores, names, config)
    _write_scores(out, names, lines)
    _write_curves(out, inputs, scores, curves)
    _draw(out, config, inputs=inputs, scores=scores, lines=lines, curves=curves, residues=residues)
    _write_summary(out, config, inputs=inputs, scores=scores, names=names, lines=lines, cross=cross, warnings=warnings)


_PLACES = {"zero": "its first voxel at 0, 0, 0", "centre": "its middle voxel at 0, 0, 0"}


def _say_what_was_assumed(inputs: Inputs) -> None:
    if inputs.place in _PLACES:
        print(f"The map is taken with {_PLACES[inputs.place]}: the model does not lie in its density where its header says, or so it was asked.", flush=True)
    if inputs.atoms_outside or inputs.chains_outside:
        print(f"{inputs.atoms_outside} atoms and {inputs.chains_outside} side chains lie outside the map: they are not scored.", flush=True)


def _curves(inputs: Inputs, scores: Sequence[MapScores]) -> dict[str, Tensor]:
    """All FSC curves by 'name_kind'; with half maps of both maps also the cross FSC: each half after against the *other* half before."""
    found = {f"{item.name}_{kind}": curve for item, score in zip(inputs.maps, scores) for kind, curve in score.curves.items()}
    if len(inputs.maps) == 2 and all(item.halves for item in inputs.maps):
        (before1, before2), (after1, after2) = (item.halves for item in inputs.maps)
        mask = inputs.mask if inputs.mask is not None else model_mask(inputs.structure, inputs.maps[0].volume)
        for name, used in (("cross_masked", mask), ("cross", None)):
            found[name] = (box_fsc(after1.data, before2.data, used) + box_fsc(after2.data, before1.data, used)) / 2
    return found


def _write_residues(
    out: Path, inputs: Inputs, scores: Sequence[MapScores], names: Sequence[str], config: ValidateMapConfig
) -> dict[str, NDArray[Any]]:
    structure, residues, chains = inputs.structure, inputs.residues, inputs.chains
    count, scored = len(residues), np.zeros(len(residues), bool)
    scored[chains.residue] = True

    def spread(values: NDArray[np.float64]) -> NDArray[np.float64]:
        column = np.full(count, np.nan)
        column[chains.residue] = values
        return column

    columns: dict[str, NDArray[Any]] = {
        "id": np.arange(1, count + 1), "chain": structure.chain[residues.first], "residue_number": structure.residue_number[residues.first],
        "insertion_code": structure.insertion_code[residues.first], "residue_name": structure.residue_name[residues.first],
        "emringer": scored, "chi1_deg": spread(chains.chi1_deg()),
    }
    for name, score, item in zip(names, scores, inputs.maps):
        data = item.volume.data
        mean, deviation = float(data.mean(dtype=np.float64)), float(data.std(dtype=np.float64))
        columns[f"peak_deg_{name}"] = spread(score.tie_safe_votes.angle_deg)
        columns[f"peak_sd_{name}"] = spread((score.tie_safe_votes.peak - mean) / deviation)
        columns[f"rotameric_{name}"] = spread(score.tie_safe_votes.rotameric)
        columns[f"q_{name}"] = mean_by_residue(score.q_atoms, residues.of_atom, count)
    write_table(str(out / "residues.npz"), columns, {"maps": list(names), "q_sigma_angst": config.q_sigma_angst})
    write_csv(out / "residues.csv", list(columns), ([_cell(value) for value in row] for row in zip(*columns.values())))
    return columns


def _cell(value: Any) -> Any:
    if isinstance(value, (bool, np.bool_)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return "" if np.isnan(value) else f"{value:.4f}"
    return value


def _write_scores(out: Path, names: Sequence[str], lines: Sequence[Change]) -> None:
    header = ["score", "label"]
    for name in names:
        header += [name, f"{name}_low", f"{name}_high"]
    if len(names) == 2:
        header += ["change", "change_low", "change_high", "better"]
    rows = []
    for line in lines:
        spreads = line.spreads + ([line.change] if line.change else [])
        values = [value for spread in spreads for value in (spread.value, spread.low, spread.high)]
        if line.change:
            values.append(line.better)
        rows.append([line.name, line.label, *("" if value is None else _cell(float(value)) for value in values)])
    write_csv(out / "scores.csv", header, rows)


def _write_curves(out: Path, inputs: Inputs, scores: Sequence[MapScores], curves: dict[str, Tensor]) -> None:
    volume = inputs.maps[0].volume
    write_fsc_csv(str(out / "fsc.csv"), curves, max(volume.data.shape), volume.pixel_size_angst)
    write_csv(out / "emringer.csv", ["map", "votes", "step", "threshold", "score", "rotameric_share", "count"], (
        [item.name, kind, step, *(f"{value:.6g}" for value in row)]
        for item, score in zip(inputs.maps, scores)
        for kind, curve in (("tie_safe", score.tie_safe), ("cctbx", score.classic))
        for step, row in enumerate(zip(curve.thresholds, curve.scores, curve.ratios, curve.counts))
    ))


def _draw(
    out: Path, config: ValidateMapConfig, inputs: Inputs, scores: Sequence[MapScores], lines: Sequence[Change], curves: dict[str, Tensor],
    residues: dict[str, NDArray[Any]],
) -> None:
    figures, names = out / "figures", [item.name for item in inputs.maps]
    pairs = {name: (score.tie_safe, score.classic) for name, score in zip(names, scores)}
    save_figure(emringer_figure(pairs, model_ceiling(inputs.chains)), str(figures / "emringer.png"))
    volume = inputs.maps[0].volume
    box, pixel = max(volume.data.shape), volume.pixel_size_angst
    kinds = {"map_model_fsc": ("model", MODEL_THRESHOLDS, "FSC of map and model"), "half_map_fsc": ("halves", (HALF_MAP_THRESHOLD,), "FSC of half maps")}
    for file, (kind, thresholds, title) in kinds.items():
        drawn = {_label(name): curve.numpy() for name, curve in curves.items() if kind in name or (kind == "halves" and name.startswith("cross"))}
        if drawn:
            save_figure(fsc_curves(drawn, box, pixel, thresholds, title=title), str(figures / f"{file}.png"))
    q = {name: residues[f"q_{name}"] for name in names}
    save_figure(q_figure(residues["chain"], residues["residue_number"], q, config.q_sigma_angst), str(figures / "q_score.png"))
    if len(names) == 2:
        save_figure(change_figure(lines), str(figures / "change.png"))


def _label(name: str) -> str:
    """'before_model_masked' as 'before, masked'."""
    words = name.split("_")
    first = "after against the other half before" if words[0] == "cross" else words[0]
    return first + (", masked" if words[-1] == "masked" else ", unmasked")


def _write_summary(
    out: Path, config: ValidateMapConfig, inputs: Inputs, scores: Sequence[MapScores], names: Sequence[str], lines: Sequence[Change],
    cross: dict[str, float | None], warnings: Sequence[str],
) -> None:
    summary = ValidationSummary(
        maps=list(names), residues=len(inputs.residues), side_chains=len(inputs.chains), side_chains_outside=inputs.chains_outside,
        atoms=len(inputs.structure), atoms_outside=inputs.atoms_outside, pixel_size_angst=inputs.maps[0].volume.pixel_size_angst, place=inputs.place,
        resolution_angst=scores[0].resolution_angst, q_sigma_angst=config.q_sigma_angst, emringer_ceiling=CEILING,
        model_ceiling=model_ceiling(inputs.chains), model_score=model_score(inputs.chains),
    )
    measures: dict[str, Any] = {}
    for name, score in zip(names, scores):
        measures[f"ties_{name}"], measures[f"ties_tie_safe_{name}"] = score.classic.ties, score.tie_safe.ties
    for line in lines:
        for name, spread in zip(names, line.spreads):
            measures[f"{line.name}_{name}"] = _number(spread.value)
            if spread.low is not None:
                measures[f"{line.name}_{name}_low"], measures[f"{line.name}_{name}_high"] = spread.low, spread.high
        if line.change:
            measures[f"{line.name}_change"] = _number(line.change.value)
            if line.change.low is not None:
                measures[f"{line.name}_change_low"], measures[f"{line.name}_change_high"] = line.change.low, line.change.high
                measures[f"{line.name}_better"] = line.better
        print(f"{line.label}: " + _sentence(line, names), flush=True)
    for name, value in cross.items():
        measures[f"fsc_{name}_angst"] = value
        print(f"FSC of each half after the treatment with the other half before it ({name.replace('_', ', ')}): {_text(value)} Å", flush=True)
    if any(score.own_grid.score > CEILING for score in scores):
        print(f"EMRinger by cctbx's votes is above the formula's ceiling of {CEILING:.2f}: the density has plateaus that vote more than once. Read the "
              "score of one vote a residue.", flush=True)
    write_summary(out, summary, measures, warnings)


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _text(value: float | None) -> str:
    return "none" if value is None or np.isnan(value) else f"{value:.3f}"


def _sentence(line: Change, names: Sequence[str]) -> str:
    parts = []
    for name, spread in zip(names, line.spreads):
        interval = f" ({_text(spread.low)} to {_text(spread.high)})" if spread.low is not None else ""
        parts.append((f"{name} " if len(names) > 1 else "") + _text(spread.value) + interval)
    if line.change and not np.isnan(line.change.value):
        interval = f" ({line.change.low:+.3f} to {line.change.high:+.3f})" if line.change.low is not None else ""
        parts.append(f"change {line.change.value:+.3f}{interval}")
    return ", ".join(parts)
