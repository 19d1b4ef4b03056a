"""Training and prediction as commands: from simulated particles to refined amplitudes, labels, restarts and refusals."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import prody
import pytest
import torch

from cryolearn.common.flags import AlignmentFlag
from cryolearn.engine.config import save_config
from cryolearn.engine.elastic.config import ElasticPredictConfig, ElasticTrainConfig, NormalModesConfig
from cryolearn.engine.elastic.normal_modes_command import run as normal_modes
from cryolearn.engine.elastic.predict_command import run as predict
from cryolearn.engine.elastic.train_command import run as train
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.poses import angle_between_deg
from cryolearn.engine.io.models import load_model
from cryolearn.engine.io.star import read_particles, write_particles
from cryolearn.engine.io.star_text import read_star, write_star
from cryolearn.engine.io.tables import join, read_table, write_table
from cryolearn.engine.simulate.config import SimulateParticlesConfig
from cryolearn.engine.simulate.particles_command import run as simulate
from cryolearn.tests.waiting import HANG_S, waitUntil

STRUCTURE = str(Path(prody.__file__).parent / "tests" / "datafiles" / "4akeA_alg_fixed.pdb")
AMPLITUDE = 200.0


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adenylate kinase, two modes, 64 px at 4 Å: 64 particles to train beside and 40 others to predict."""
    path = tmp_path_factory.mktemp("network")
    normal_modes(NormalModesConfig(output=str(path / "nm"), structure=STRUCTURE, number=12))
    for name, number, seed in (("seen", 64, 1), ("unseen", 40, 2)):
        simulate(SimulateParticlesConfig(
            output=str(path / name), structure=str(path / "nm" / "structure.pdb"), modes=str(path / "nm" / "modes.npz"),
            mode_numbers=[7, 8], number=number, box=64, pixel_size_angst=4.0, snr=1.0, amplitude=AMPLITUDE, shift_angst=8.0, seed=seed,
        ))
    return path


def train_config(folder: Path, output: str, **changes) -> ElasticTrainConfig:
    values = dict(
        output=str(folder / output), modes=str(folder / "nm" / "modes.npz"), mode_numbers=[7, 8], particles=str(folder / "seen" / "particles.star"),
        labels="simulation", amplitude_range=AMPLITUDE, shift_range_angst=8.0, epochs=1, images_per_epoch=128, batch=64, width=16,
        precision="32", threads=1,
    )
    return ElasticTrainConfig(**{**values, **changes})


def predict_config(folder: Path, output: str, **changes) -> ElasticPredictConfig:
    values = dict(output=str(folder / output), particles=str(folder / "unseen" / "particles.star"), model=str(folder / "trained" / "model"),
                  threads=1, chunk=24, batch=12)
    return ElasticPredictConfig(**{**values, **changes})


@pytest.fixture(scope="module")
def trained(folder: Path) -> Path:
    train(train_config(folder, "trained", width=64, epochs=4, images_per_epoch=3072))
    return folder / "trained"


def test_what_is_not_used_stands_in_the_summary(folder: Path) -> None:
    """Of the particles that a network is trained beside, as of those that are aligned."""
    blocks = read_star(str(folder / "seen" / "particles.star"))
    blocks["particles"]["rlnBeamTiltX"] = np.full(64, 0.3)
    write_star(str(folder / "seen" / "tilted.star"), blocks)
    train(train_config(folder, "warned", particles=str(folder / "seen" / "tilted.star"), images_per_epoch=64))
    said = json.loads((folder / "warned" / "summary.json").read_text())["warnings"]
    assert len(said) == 1 and "rlnBeamTiltX" in said[0]


def result(folder: Path, output: str) -> dict[str, np.ndarray]:
    return read_table(str(folder / output / "alignment.npz"))[0]


@pytest.mark.slow
def test_network_then_refinement_solve_unseen_particles(folder: Path, trained: Path) -> None:
    predict(predict_config(folder, "predicted"))
    found, truth = result(folder, "predicted"), read_table(str(folder / "unseen" / "truth.npz"))[0]
    assert np.array_equal(found["id"], truth["id"])
    # the best constant answer to amplitudes that are uniform between -A and A errs by A / 2 on average
    assert np.abs(found["network_amplitudes"] - truth["amplitudes"]).mean() < AMPLITUDE / 2
    pose = angle_between_deg(torch.from_numpy(found["rotation"]), torch.from_numpy(truth["rotation"]).float()).numpy()
    # solved (docs/elastic.rst): pose within the Crowther angle of 75 Å at 8 Å, conformer within twice the paper's mean error of alignment
    rmsd = np.linalg.norm(found["amplitudes"] - truth["amplitudes"], axis=1) / np.sqrt(1656)
    assert ((pose < 6) & (rmsd < 0.6)).mean() >= 0.75
    for name in ("learning.csv", "summary.json", "figures/learning.png", "model/modes.npz", "model/structure.pdb"):
        assert (trained / name).exists()
    assert (folder / "predicted" / "particles.star").exists() and not (folder / "predicted" / "records").exists()


def test_prediction_joins_by_id_and_does_not_depend_on_chunks(folder: Path, trained: Path) -> None:
    table = read_particles(str(folder / "unseen" / "particles.star"))
    rows = np.array([30, 3, 17, 39, 8])
    write_particles(str(folder / "unseen" / "some.star"), table.subset(rows))
    predict(predict_config(folder, "whole", refine=False))
    predict(predict_config(folder, "some", refine=False, particles=str(folder / "unseen" / "some.star"), chunk=2, batch=2))
    whole, some = result(folder, "whole"), result(folder, "some")
    assert np.array_equal(some["id"], table.ids[rows])
    at = join(some["id"], whole["id"])
    assert np.allclose(some["network_amplitudes"], whole["network_amplitudes"][at], atol=0.05)
    assert np.array_equal(whole["amplitudes"], whole["network_amplitudes"])
    assert np.isfinite(whole["correlation"]).all()


def test_particles_of_another_pixel_size_box_or_modes_are_refused(folder: Path, trained: Path, tmp_path: Path) -> None:
    weights, description = load_model(str(trained / "model"))
    for change, said in (
        ({"pixel_size_angst": 3.9}, r"4 Å/px.*3.9 Å/px"), ({"box": 72}, r"64 px.*72 px"), ({"reference": "abc"}, r"digest [0-9a-f]{16}.*abc"),
    ):
        other = tmp_path / "model"
        shutil.copytree(trained / "model", other, dirs_exist_ok=True)
        (other / "model.json").write_text(json.dumps({**description, **change}))
        with pytest.raises(InputError, match=said):
            predict(predict_config(folder, "refused", model=str(other)))


def test_learning_from_particles_is_by_id(folder: Path) -> None:
    """The table's order does not matter, a missing particle is named, and other modes are refused."""
    truth, _ = read_table(str(folder / "seen" / "truth.npz"))
    columns = {name: truth[name] for name in ("id", "amplitudes", "rotation", "shift_angst")}
    order = np.random.default_rng(0).permutation(len(truth["id"]))
    write_table(str(folder / "labels.npz"), columns, {"mode_numbers": [7, 8]})
    write_table(str(folder / "mixed.npz"), {name: values[order] for name, values in columns.items()}, {"mode_numbers": [7, 8]})
    found = []
    for name in ("labels", "mixed"):
        train(train_config(folder, name, labels="particles", alignment=str(folder / f"{name}.npz"), batch=16, epochs=2))
        found.append(load_model(str(folder / name / "model"))[0])
    assert all(torch.equal(found[0][name], found[1][name]) for name in found[0])
    assert "val_labelled_error" in (folder / "labels" / "learning.csv").read_text()
    write_table(str(folder / "short.npz"), {name: values[1:] for name, values in columns.items()}, {"mode_numbers": [7, 8]})
    with pytest.raises(InputError, match=f"id {truth['id'][0]} is missing"):
        train(train_config(folder, "short", labels="both", alignment=str(folder / "short.npz")))
    write_table(str(folder / "others.npz"), columns, {"mode_numbers": [7, 9]})
    with pytest.raises(InputError, match=r"modes \[7, 9\], but modes \[7, 8\]"):
        train(train_config(folder, "others", labels="both", alignment=str(folder / "others.npz")))
    with pytest.raises(InputError, match="alignment is needed"):
        train(train_config(folder, "none", labels="both"))


def test_both_sources_are_learned_from(folder: Path) -> None:
    if not (folder / "labels.npz").exists():
        truth, _ = read_table(str(folder / "seen" / "truth.npz"))
        write_table(str(folder / "labels.npz"), {name: truth[name] for name in ("id", "amplitudes", "rotation", "shift_angst")}, {"mode_numbers": [7, 8]})
    train(train_config(folder, "both", labels="both", alignment=str(folder / "labels.npz")))
    header = (folder / "both" / "learning.csv").read_text().splitlines()[0]
    assert "val_labelled_error" in header and "val_simulated_error" in header


def test_the_papers_network_predicts_amplitudes_and_refines_given_poses(folder: Path) -> None:
    train(train_config(folder, "paper", architecture="resnet34", images_per_epoch=32, batch=16))
    model = str(folder / "paper" / "model")
    predict(predict_config(folder, "paper_alone", model=model, refine=False))
    assert result(folder, "paper_alone")["amplitudes"].shape == (40, 2)
    table = read_particles(str(folder / "unseen" / "particles.star"))
    bare = replace(table.subset(np.arange(6)), angles_deg=None, origin_angst=None)
    write_particles(str(folder / "unseen" / "bare.star"), bare)
    with pytest.raises(InputError, match="amplitudes only"):
        predict(predict_config(folder, "bare", model=model, particles=str(folder / "unseen" / "bare.star")))
    predict(predict_config(folder, "bare", model=model, particles=str(folder / "unseen" / "bare.star"), refine=False))
    assert (result(folder, "bare")["flags"] & AlignmentFlag.NOT_CONVERGED).all()  # no pose: not converged


def test_an_interrupted_training_says_so(folder: Path) -> None:
    """SIGTERM, as a queue sends it: exit code 130 and one line, not a crash."""
    config = train_config(folder, "interrupted", epochs=1000)
    save_config(config, str(folder / "interrupted.json"))
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "cryolearn.engine", "elastic-train", "--config", str(folder / "interrupted.json")]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    waitUntil((Path(config.output) / "learning.csv").exists, alive=lambda: process.poll() is None)
    process.terminate()
    _, said = process.communicate(timeout=HANG_S)
    assert process.returncode == 130 and "Interrupted" in said and "Traceback" not in said


def test_weight_digest_changes_with_the_learning_rate(folder: Path) -> None:
    """A changed learning rate trains anew instead of going on."""
    train(train_config(folder, "rate"))
    before = load_model(str(folder / "rate" / "model"))
    train(train_config(folder, "rate", learning_rate=5e-4))
    after = load_model(str(folder / "rate" / "model"))
    assert before[1]["digest"] != after[1]["digest"]
    assert not torch.equal(before[0]["hidden.weight"], after[0]["hidden.weight"])
