"""Novelty of single subtomograms: proteins that networks have not learned, each about as large as one that they know, over several trainings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import prody
import torch
from _results import parser, record
from _run import kept_engine

from cryolearn.engine.simulate.config import SubtomogramSimulateConfig
from cryolearn.engine.simulate.subtomogram_simulator import SubtomogramSimulator
from cryolearn.engine.subtomogram.networks.trained_model import SubtomogramModel

DATA = Path(prody.__file__).parent / "tests" / "datafiles"
KNOWN = {"enolase": "pdb3enl.pdb", "kinase": "4akeA_alg_fixed.pdb", "receptor": "pdb3hsy.pdb"}
UNKNOWN = {
    "peptidase": "1pwc.pdb", "kinase_dimer": "mmcif_1ake_chimerax.cif", "open_receptor": "pdb6flr.pdb", "methyltransferase": "pdb3mht.pdb",
}
SEEN: dict[str, Any] = dict(box=20, pixel_size_angst=5.0, tilt_step_deg=3.0, snr=1.0, shift_angst=5.0, apply_ctf=False, threads=1)
FALSE = 0.05


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    seeds, judged = (6, 60) if options.scale == "laptop" else (20, 500)
    names = {**KNOWN, **UNKNOWN}
    areas: dict[str, list[float]] = {name: [] for name in UNKNOWN}
    rejected: dict[str, list[float]] = {name: [] for name in ("known", *UNKNOWN)}
    for seed in range(1, seeds + 1):
        trained = kept_engine(
            options.work / "novelty", True, "subtomogram-train", f"seed{seed}", source="simulation", structures=[str(DATA / file) for file in KNOWN.values()],
            names=list(KNOWN), per_class=250, width=8, embedding=16, epochs=4, batch=16, precision="32", seed=seed, **SEEN,
        )
        model = SubtomogramModel.load(str(trained.folder / "model"), torch.device("cpu"))
        drawn = SubtomogramSimulateConfig(
            structures=[str(DATA / file) for file in names.values()], names=list(names), per_class=judged, seed=seed + 1000, **SEEN,
        )
        novelty, label = look(model, SubtomogramSimulator(drawn, model.device))
        known = np.isin(label, list(KNOWN))
        limit = model.novelty_limit(FALSE)
        rejected["known"].append(float((novelty[known] > limit).mean()))
        for name in UNKNOWN:
            ones = novelty[label == name]
            areas[name].append(float((ones[:, None] > novelty[known][None]).mean()))
            rejected[name].append(float((ones > limit).mean()))
    condition = f"three proteins learned, 5 Å voxels, SNR 1, {seeds} trainings, {judged} subtomograms each"
    for name in UNKNOWN:
        record("house", f"novelty of an unknown protein ({name}): area under the curve, least and mean", condition=condition, target="mean >= .75",
               measured=f"{min(areas[name]):.2f}, {np.mean(areas[name]):.2f}", holds=bool(np.mean(areas[name]) >= 0.75), scale=options.scale)
        record("house", f"novelty of an unknown protein ({name}): rejected, at a limit of {FALSE:g} for the known", condition=condition, target="told",
               measured=f"{np.mean(rejected[name]):.2f} ({min(rejected[name]):.2f} to {max(rejected[name]):.2f})", holds=True, scale=options.scale)
    share = float(np.mean(rejected["known"]))
    record(
        "house",
        f"novelty: known proteins rejected at a limit of {FALSE:g}",
        condition=condition,
        target=f"<= {2 * FALSE:g}",
        measured=f"{share:.3f}",
        holds=share <= 2 * FALSE,
        scale=options.scale,
    )


def look(model: SubtomogramModel, simulator: SubtomogramSimulator, at_once: int = 60) -> tuple[np.ndarray, np.ndarray]:
    """Novelty and true name of all subtomograms of a simulation."""
    novelty, label = [], []
    for start in range(0, simulator.count, at_once):
        rows = np.arange(start, min(start + at_once, simulator.count))
        draws = simulator.draws(rows)
        found = model.look(simulator.make(rows).noisy, simulator.tilt_range(draws))
        novelty.append(model.answer(found["logits"], found["class_distance"])["novelty"])
        label.append(np.array(simulator.names)[draws.number - 1])
    return np.concatenate(novelty), np.concatenate(label)


if __name__ == "__main__":
    main()
