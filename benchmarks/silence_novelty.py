"""Novelty of single subtomograms: proteins that networks have not learned, each about as large as one that they know, over several trainings."""

from __future__ import annotations

import numpy as np
import torch
from _novelty import KNOWN, SEEN, TRAINING, UNKNOWN, look, paths
from _results import parser, record
from _run import kept_engine

from cryolearn.engine.simulate.config import SubtomogramSimulateConfig
from cryolearn.engine.simulate.subtomogram_simulator import SubtomogramSimulator
from cryolearn.engine.subtomogram.networks.trained_model import SubtomogramModel

FALSE = 0.05


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    seeds, judged = (6, 60) if options.scale == "laptop" else (20, 500)
    names = {**KNOWN, **UNKNOWN}
    areas: dict[str, list[float]] = {name: [] for name in UNKNOWN}
    told: list[float] = []
    rejected: dict[str, list[float]] = {name: [] for name in ("known", *UNKNOWN)}
    for seed in range(1, seeds + 1):
        trained = kept_engine(
            options.work / "novelty", True, "subtomogram-train", f"seed{seed}", structures=paths(KNOWN), names=list(KNOWN), seed=seed, **TRAINING,
        )
        model = SubtomogramModel.load(str(trained.folder / "model"), torch.device("cpu"))
        drawn = SubtomogramSimulateConfig(structures=paths(names), names=list(names), per_class=judged, seed=seed + 1000, **SEEN)
        seen = look(model, SubtomogramSimulator(drawn, model.device))
        novelty, known = seen["novelty"], np.isin(seen["label"], list(KNOWN))
        limit = model.novelty_limit(FALSE)
        told.append(float((seen["name"] == seen["label"])[known].mean()))
        rejected["known"].append(float((novelty[known] > limit).mean()))
        for name in UNKNOWN:
            ones = novelty[seen["label"] == name]
            areas[name].append(float((ones[:, None] > novelty[known][None]).mean()))
            rejected[name].append(float((ones > limit).mean()))
    condition = f"three proteins learned, 5 Å voxels, SNR 1, {seeds} trainings, {judged} subtomograms each"
    for name in UNKNOWN:
        record("silence", f"novelty of an unknown protein ({name}): area under the curve, least and mean", condition=condition, target="mean >= .9",
               measured=f"{min(areas[name]):.2f}, {np.mean(areas[name]):.2f}", holds=bool(np.mean(areas[name]) >= 0.9), scale=options.scale)
        record("silence", f"unknown protein ({name}): rejected, at a limit of {FALSE:g} for the known", condition=condition, target=">= .8 on average",
               measured=f"{np.mean(rejected[name]):.2f} ({min(rejected[name]):.2f} to {max(rejected[name]):.2f})",
               holds=bool(np.mean(rejected[name]) >= 0.8), scale=options.scale)
    share, right = float(np.mean(rejected["known"])), float(np.mean(told))
    record("silence", f"known proteins: rejected, at a limit of {FALSE:g}", condition=condition, target=f"<= {2 * FALSE:g}", measured=f"{share:.3f}",
           holds=share <= 2 * FALSE, scale=options.scale)
    record("silence", "known proteins: told apart", condition=condition, target=">= .95", measured=f"{right:.3f}", holds=right >= 0.95, scale=options.scale)


if __name__ == "__main__":
    main()
