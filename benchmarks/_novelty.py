"""Which proteins a subtomogram network learns, which it has never seen, and how they are drawn: shared by the novelty benchmark and its test."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import prody

from cryolearn.engine.simulate.subtomogram_simulator import SubtomogramSimulator
from cryolearn.engine.subtomogram.networks.trained_model import SubtomogramModel

DATA = Path(prody.__file__).parent / "tests" / "datafiles"
KNOWN = {"enolase": "pdb3enl.pdb", "kinase": "4akeA_alg_fixed.pdb", "receptor": "pdb3hsy.pdb"}
UNKNOWN = {
    "peptidase": "1pwc.pdb", "kinase_dimer": "mmcif_1ake_chimerax.cif", "open_receptor": "pdb6flr.pdb", "methyltransferase": "pdb3mht.pdb",
}
SEEN: dict[str, Any] = dict(box=20, pixel_size_angst=5.0, tilt_step_deg=3.0, snr=1.0, shift_angst=5.0, apply_ctf=False, threads=1)
TRAINING: dict[str, Any] = dict(source="simulation", per_class=250, width=8, embedding=16, epochs=15, batch=16, precision="32", **SEEN)


def paths(names: dict[str, str]) -> list[str]:
    """Structure files of proteins by name."""
    return [str(DATA / file) for file in names.values()]


def look(model: SubtomogramModel, simulator: SubtomogramSimulator, at_once: int = 60) -> dict[str, np.ndarray]:
    """Of all subtomograms of a simulation: true name ``label``, predicted ``name`` and ``novelty``."""
    parts: list[dict[str, np.ndarray]] = []
    for start in range(0, simulator.count, at_once):
        rows = np.arange(start, min(start + at_once, simulator.count))
        draws = simulator.draws(rows)
        found = model.look(simulator.make(rows).noisy, simulator.tilt_range(draws))
        answer = model.answer(found["logits"], found["class_distance"])
        parts.append({"label": np.array(simulator.names)[draws.number - 1], "name": np.array(model.names)[answer["best_class"] - 1],
                      "novelty": answer["novelty"]})
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
