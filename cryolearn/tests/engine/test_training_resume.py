"""Training that was killed, or shared by processes, ends as an unbroken run of one process."""

from __future__ import annotations

import csv
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cryolearn.engine.config import RunConfig
from cryolearn.engine.io.records import RunRecord
from cryolearn.engine.training.plan import TrainingPlan, block_generator
from cryolearn.engine.training.task import Blocks, Task
from cryolearn.engine.training.trainer import train
from cryolearn.tests.forks import SERVER, preload
from cryolearn.tests.waiting import HANG_S, waitUntil


class Regression(Task):
    """A small network that learns a square from samples that follow from the blocks' numbers."""

    def __init__(self, seed: int, pause: float) -> None:
        torch.manual_seed(0)
        self.network = nn.Sequential(nn.Linear(4, 16), nn.GELU(), nn.Linear(16, 1))
        self.seed, self.pause = seed, pause

    def losses(self, blocks: Blocks) -> torch.Tensor:
        x = torch.cat([torch.randn(count, 4, generator=block_generator(self.seed, number)) for number, count in blocks])
        return (self.network(x)[:, 0] - x.square().sum(1)).square()

    def training_loss(self, blocks: Blocks) -> torch.Tensor:
        time.sleep(self.pause)
        return self.losses(blocks).mean()

    def validation_sums(self, blocks: Blocks) -> dict[str, torch.Tensor]:
        found = self.losses(blocks).detach()
        return {"loss": torch.stack([found.sum(), torch.tensor(float(len(found)))])}


def regress(out: str, seed: int = 1, schedule: str = "cosine", pause: float = 0.0) -> None:
    torch.set_num_threads(1)
    task = Regression(seed, pause)
    plan = TrainingPlan(digest=f"{seed}{schedule}", seed=seed, epochs=3, images_per_epoch=640, batch=64, learning_rate=1e-2, weight_decay=1e-4,
                        schedule=schedule, patience=0, checkpoint_steps=4, validation_images=64)
    train(task, plan, RunConfig(output=out))
    if int(os.environ.get("RANK", "0")) == 0:
        torch.save(task.network.state_dict(), os.path.join(out, "end.pt"))


def logged(out: str, *values: Any) -> None:
    """What a process of its own does: everything said goes to a file."""
    with open(os.path.join(out, "log"), "w") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    regress(out, *values)
    sys.stdout.flush()


# a process each, from a server that has imported Lightning already
preload(__name__)


def start(out: Path, seed: int = 1, schedule: str = "cosine", pause: float = 0.0) -> Any:
    out.mkdir(exist_ok=True)
    process = SERVER.Process(target=logged, args=(str(out), seed, schedule, pause))
    process.start()
    return process


def run(out: Path, seed: int = 1, schedule: str = "cosine") -> str:
    process = start(out, seed, schedule)
    process.join()
    said = (out / "log").read_text()
    assert process.exitcode == 0, said
    return said


def weights(out: Path) -> torch.Tensor:
    return torch.cat([value.flatten() for value in torch.load(out / "end.pt", weights_only=True).values()])


def curve(out: Path) -> list[dict[str, str]]:
    with open(out / "learning.csv") as handle:
        return [{name: value for name, value in row.items() if name != "seconds"} for row in csv.DictReader(handle)]


CHECKPOINTS = "records/training/1_*"


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("unbroken")
    run(out)
    return out


def kill_at(out: Path, checkpoint: str, schedule: str) -> None:
    """Start a run and kill it once the named checkpoint is there."""
    process = start(out, 1, schedule, 0.15)
    waitUntil(lambda: list(out.glob(f"{CHECKPOINTS}/{checkpoint}")), alive=process.is_alive, pause=0.01)
    process.kill()
    process.join()


@pytest.mark.parametrize(
    ("checkpoint", "schedule"),
    [("step_00000016.ckpt", "cosine"), ("step_00000010.ckpt", "cosine"), ("step_00000016.ckpt", "plateau")],
    ids=["within an epoch", "at the end of an epoch", "plateau schedule"],
)  # a checkpoint every 4 steps and at the end of each epoch of 10
def test_killed_training_ends_as_if_it_had_not_been(tmp_path: Path, unbroken: Path, checkpoint: str, schedule: str) -> None:
    whole = unbroken
    if schedule == "plateau":
        whole = tmp_path / "whole"
        run(whole, schedule=schedule)
        assert float(curve(whole)[0]["learning_rate"]) == 1e-2  # the rate asked for, from the start
    broken = tmp_path / "broken"
    kill_at(broken, checkpoint, schedule)
    assert not (broken / "end.pt").exists()
    said = run(broken, schedule=schedule)
    assert "goes on after" in said
    assert torch.equal(weights(broken), weights(whole))
    assert curve(broken) == curve(whole) and len(curve(whole)) == 3


def test_finished_training_is_not_repeated(unbroken: Path) -> None:
    before = weights(unbroken)
    assert "training:" not in run(unbroken).replace("training: goes on after 1920/1920", "")
    assert torch.equal(before, weights(unbroken))


def test_checkpoints_of_other_parameters_are_not_used(tmp_path: Path, unbroken: Path) -> None:
    run(tmp_path / "a", seed=1)
    run(tmp_path / "fresh", seed=2)
    said = run(tmp_path / "a", seed=2)
    assert "belong to other parameters or inputs: the run starts anew" in said
    assert torch.equal(weights(tmp_path / "a"), weights(tmp_path / "fresh"))
    assert list((tmp_path / "a").glob("records/training/1_1cosine/step_*.ckpt"))
    said = run(tmp_path / "a", seed=1)  # back to the first parameters: their checkpoints are still there
    assert "anew" not in said and "training:" not in said
    assert torch.equal(weights(tmp_path / "a"), weights(unbroken))


def test_training_that_an_earlier_version_began_is_continued(tmp_path: Path, unbroken: Path) -> None:
    """It kept the checkpoints of all digests in one folder, and the digest in the file alone."""
    kill_at(tmp_path, "step_00000016.ckpt", "cosine")
    (folder,) = tmp_path.glob(CHECKPOINTS)
    folder.rename(tmp_path / "checkpoints")
    (tmp_path / "records").rename(tmp_path / "elsewhere")
    said = run(tmp_path)
    assert "goes on after" in said and "anew" not in said
    assert torch.equal(weights(tmp_path), weights(unbroken))


def test_a_damaged_checkpoint_is_passed_over(tmp_path: Path, unbroken: Path) -> None:
    kill_at(tmp_path, "step_00000016.ckpt", "cosine")
    newest = max(tmp_path.glob(f"{CHECKPOINTS}/step_*.ckpt"))
    newest.write_bytes(newest.read_bytes()[:1000])
    assert "cannot be read and is passed over" in run(tmp_path)
    assert torch.equal(weights(tmp_path), weights(unbroken))


class Evil:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (os.system, ("touch evil",))


def test_nothing_in_a_checkpoint_is_executed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryolearn.engine.training.checkpoints import DIGEST, find_checkpoint

    monkeypatch.chdir(tmp_path)
    torch.save({DIGEST: "d", "extra": Evil()}, RunRecord(tmp_path, "training", "d").checkpoint(1))
    assert find_checkpoint(RunRecord(tmp_path, "training", "d")) is None
    assert not (tmp_path / "evil").exists()


def test_two_processes_end_as_one(tmp_path: Path, unbroken: Path) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", __name__, str(tmp_path)]
    done = subprocess.run(command, env={**os.environ, "OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    # gradients are means over the same samples, summed in another order: 30 Adam steps amplify rounding (1.2e-7) only mildly
    torch.testing.assert_close(weights(tmp_path), weights(unbroken), rtol=1e-4, atol=1e-5)
    assert float(curve(tmp_path)[-1]["val_loss"]) == pytest.approx(float(curve(unbroken)[-1]["val_loss"]), rel=1e-4)


if __name__ == "__main__":  # torchrun's processes
    regress(sys.argv[1])
