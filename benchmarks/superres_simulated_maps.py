"""Cryo-EM maps with half maps, made from models that no network has seen: what networks do where the truth is known.

One network is chosen over another by these, so that the real maps of ``superres_real_maps.py`` stay a test. The network of the software is always among them;
``--model`` names others, each by the folder that its training wrote. Beside each stands the linear baseline: the input with the result's amplitude in
every shell. Rows name a network by the number of patches that it learned from.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np
from _results import parser, record
from _superres import METHOD, Case, score_case
from _superres_data import add_data_option, unseen_models
from _superres_maps import amplitude_matched, arguments, enhanced, sharpened

from cryolearn.engine.imaging.model_map import atom_distance, box_around, model_map
from cryolearn.engine.io.maps import Map, read_map, write_map
from cryolearn.engine.io.structures import Structure
from cryolearn.engine.map_enhancement.networks.by_name import SHIPPED
from cryolearn.engine.map_enhancement.training.degradation import PhysicsDraw, cryo_map, fade_carboxylates, input_b_factors
from cryolearn.engine.map_enhancement.training.training_sources import polymer_structure
from cryolearn.engine.map_validation.score_table import Change

RESOLUTIONS = (3.5, 4.0, 4.5, 3.5, 4.0, 4.5)  # in Å, of the first unseen models, in their order
VOXEL, PAD_ANGST = 1.0, 20.0
BLUR, SHARPENING = 60.0, 90.0  # B factors in Å^2 of the half maps, and by which their mean is sharpened; disorder of the atoms comes on top of the former
SCORES = ("emringer_tie_safe", "q_score", "fsc_model_masked_0.5_angst")


def half_maps(structure: Structure, resolution_angst: float, seed: int) -> tuple[list[Map], Map]:
    """Two half maps of a molecule whose FSC crosses 0.143 at a resolution, and their mean, sharpened."""
    draw = PhysicsDraw(
        resolution_angst=resolution_angst, fall_off=0.02, sharpening=BLUR, contrast=0.5, contrast_b=150, domain_b=60, atom_b=10, fade=0.4, half=True,
        weighted=False, cut=False, masked=False, solvent=0.15, micelle=0, mask_angst=5,
    )
    random = np.random.default_rng(seed)
    shape, origin = box_around(structure.coordinates, VOXEL, PAD_ANGST)
    moving = fade_carboxylates(structure, draw.fade)
    moving.b_factor = input_b_factors(structure, draw, random)
    signal, distance = model_map(moving, shape, VOXEL, origin), atom_distance(structure.coordinates, shape, VOXEL, origin)
    x, y, z = (float(value) for value in origin)
    halves = [Map(cryo_map(signal, distance, VOXEL, draw, random), VOXEL, (x, y, z)) for _ in range(2)]
    return halves, sharpened(Map((halves[0].data + halves[1].data) / 2, VOXEL, (x, y, z)), SHARPENING, resolution_angst)


def learned(model: str) -> str:
    """What a network is called in the rows."""
    description = json.loads((Path(model or SHIPPED) / "model.json").read_text())
    return f"network of {description['steps'] * description['batch']} patches"


def judge(options: argparse.Namespace, number: int, networks: dict[str, str]) -> dict[str, tuple[dict[str, Change], dict[str, Change], dict[str, float]]]:
    """Changes by each network and by its linear baseline, and what the engine says of the half maps."""
    path, resolution = unseen_models(options.data)[number], RESOLUTIONS[number]
    folder = options.work / "simulated" / path.name.split(".")[0]
    folder.mkdir(parents=True, exist_ok=True)
    structure = polymer_structure(str(path))
    halves, before = half_maps(structure, resolution, number)
    files = {name: folder / f"{name}.mrc" for name in ("volume", "half1", "half2")}
    for file, volume in zip(files.values(), (before, *halves)):
        write_map(str(file), volume.data, VOXEL, volume.origin_angst)
    maps, said = {"before": read_map(str(files["volume"]))}, {}
    for name, model in networks.items():
        out = folder / name.replace(" ", "_")
        maps[name], _ = enhanced(options, files["volume"], out, resolution, model, half1=files["half1"], half2=files["half2"], rotations=options.rotations)
        maps[f"{name}, linear"] = amplitude_matched(before, maps[name], resolution)
        said[name] = json.loads((out / "summary.json").read_text())
    scored = score_case(Case(path.name, maps, structure), resolution, decoys=False)
    found = {name: (scored.changes("before", name), scored.changes("before", f"{name}, linear"), said[name]) for name in networks}
    for name, (network, linear, summary) in found.items():
        told = [f"{score} {' '.join(f'{spread.value:.3f}' for spread in (*network[score].spreads, linear[score].spreads[1]))}" for score in SCORES]
        told.append(f"cross FSC {summary['mean_fsc_raw']} {summary['mean_fsc_cross']}")
        print(f"{path.name}, {resolution:g} Å, {name}; before, after, linear: {', '.join(told)}", flush=True)
    return found


def tell(options: argparse.Namespace, name: str, changes: list[dict[str, Change]]) -> None:
    """Rows of one treatment over all maps."""
    for score, label in (("emringer_tie_safe", "EMRinger, one vote a residue"), ("q_score", "Q-score")):
        lines = [change[score].change for change in changes]
        values, lows, highs = (np.array([getattr(line, end) for line in lines]) for end in ("value", "low", "high"))
        measured = f"{values.mean():+.3f} ({values.min():+.3f} to {values.max():+.3f}); interval above 0 on {(lows > 0).sum()}, below 0 on {(highs < 0).sum()}"
        row(options, f"{name}: change of {label}", "above 0 on average", measured, bool(values.mean() > 0))
    before, after = (np.array([change["fsc_model_masked_0.5_angst"].spreads[index].value for change in changes]) for index in (0, 1))
    coarser = int((after > 1.005 * before).sum())
    row(options, f"{name}: map-model FSC 0.5, masked", "coarser on none", f"{before.mean():.2f} -> {after.mean():.2f} Å; coarser on {coarser}", not coarser)


def row(options: argparse.Namespace, what: str, aim: str, measured: str, holds: bool) -> None:
    condition = f"{len(RESOLUTIONS)} maps of unseen proteins at 3.5 to 4.5 Å, made with half maps, {options.rotations} orientations"
    record(METHOD, f"simulated maps, {what}", condition=condition, target=aim, measured=measured, holds=holds, scale=options.scale)


def main() -> None:
    made = parser(__doc__ or "")
    add_data_option(made)
    made.add_argument("--model", nargs="*", default=[], help="folders of other networks")
    made.add_argument("--rotations", default="4", help="orientations that the networks see")
    made.add_argument("--maps", type=int, default=len(RESOLUTIONS), help="only so many maps (a trial: writes no rows)")
    options = arguments(made)
    networks = {learned(model): model for model in ("", *options.model)}
    found = [judge(options, number, networks) for number in range(options.maps)]
    if options.maps < len(RESOLUTIONS):
        return
    for name in networks:
        tell(options, name, [case[name][0] for case in found])
        tell(options, f"{name}, its amplitudes alone", [case[name][1] for case in found])
        raw, cross = (float(np.mean([case[name][2][key] for case in found])) for key in ("mean_fsc_raw", "mean_fsc_cross"))
        row(options, f"{name}: cross FSC, mean to the resolution", "not below that of the raw half maps", f"{raw:.3f} -> {cross:.3f}", cross >= raw - 5e-4)


if __name__ == "__main__":
    main()
