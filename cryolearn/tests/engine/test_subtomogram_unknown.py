"""Proteins that a network does not know, as large as one that it knows: their subtomograms are stranger to it than those of the known ones."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

from cryolearn.engine.io.structures import atom_weights, read_structure
from cryolearn.engine.simulate.config import SubtomogramSimulateConfig
from cryolearn.engine.simulate.subtomogram_simulator import SubtomogramSimulator
from cryolearn.engine.subtomogram.config import SubtomogramTrainConfig
from cryolearn.engine.subtomogram.networks.trained_model import SubtomogramModel
from cryolearn.engine.subtomogram.train_command import run as train

BENCHMARKS = Path(__file__).parents[3] / "benchmarks"
JUDGED = 60  # of each

pytestmark = pytest.mark.skipif(not BENCHMARKS.exists(), reason="benchmarks are not part of the wheel")


@pytest.fixture(scope="module")
def proteins() -> Iterator[ModuleType]:
    """Proteins and sampling of ``benchmarks/silence_novelty.py``."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(BENCHMARKS))
        import _novelty

        yield _novelty


def gyration(path: Path) -> float:
    """Radius of gyration in Å."""
    atoms = read_structure(str(path))
    atoms = atoms.subset((atoms.atomic_number != 1) & (np.asarray(atoms.residue_name) != "HOH"))
    weights = atom_weights(atoms)
    centre = np.average(atoms.coordinates, axis=0, weights=weights)
    return float(np.sqrt(np.average(((atoms.coordinates - centre) ** 2).sum(1), weights=weights)))


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory, proteins: ModuleType) -> dict[str, np.ndarray]:
    """Of subtomograms that a network has not seen: ``label``, predicted ``name`` and ``novelty``."""
    folder = tmp_path_factory.mktemp("unknown")
    known = proteins.KNOWN
    train(SubtomogramTrainConfig(structures=proteins.paths(known), names=list(known), output=str(folder), **{**proteins.TRAINING, "epochs": 4}))
    model = SubtomogramModel.load(str(folder / "model"), torch.device("cpu"))
    names = {**known, **{name: proteins.UNKNOWN[name] for name in ("peptidase", "kinase_dimer")}}
    drawn = SubtomogramSimulateConfig(structures=proteins.paths(names), names=list(names), per_class=JUDGED, seed=2, **proteins.SEEN)
    return proteins.look(model, SubtomogramSimulator(drawn, model.device), at_once=1000)


def test_the_known_ones_are_told_apart(answers: dict[str, np.ndarray], proteins: ModuleType) -> None:
    known = np.isin(answers["label"], list(proteins.KNOWN))
    right = answers["name"][known] == answers["label"][known]
    assert right.mean() > 1 / len(proteins.KNOWN) + 5 * np.sqrt(2 / 9 / known.sum())  # five standard errors of guessing


@pytest.mark.parametrize(("unknown", "as_large_as"), [("peptidase", "kinase"), ("kinase_dimer", "receptor")])
def test_a_protein_left_out_of_the_training_is_stranger_than_those_in_it(
    answers: dict[str, np.ndarray], proteins: ModuleType, unknown: str, as_large_as: str,
) -> None:
    """Half way at least from a coin to a perfect novelty: an area under the curve of .75 is six of its standard errors above .5 (Mann & Whitney 1947).

    Several trainings, and closer relatives, are measured by ``benchmarks/silence_novelty.py``.
    """
    sizes = [gyration(proteins.DATA / file) for file in (proteins.UNKNOWN[unknown], proteins.KNOWN[as_large_as])]
    assert abs(sizes[0] / sizes[1] - 1) < 0.1  # size alone does not give it away
    ones, others = (answers["novelty"][np.isin(answers["label"], names)] for names in ([unknown], list(proteins.KNOWN)))
    assert (ones[:, None] > others[None]).mean() > 0.75
