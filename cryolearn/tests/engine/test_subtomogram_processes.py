"""Training in two processes is that of one: batch statistics, dropout and the contrastive loss are those of the whole batch."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from cryolearn.engine.config import save_config
from cryolearn.engine.simulate.config import SubtomogramSimulateConfig
from cryolearn.engine.simulate.subtomograms_command import run as simulate
from cryolearn.engine.subtomogram.config import SubtomogramTrainConfig
from cryolearn.engine.subtomogram.train_command import run as train
from cryolearn.engine.training.distributed import BlockDropout
from cryolearn.tests.engine.subtomogram_cases import blob_maps

BOX, BATCH = 16, 96  # all training subtomograms of three classes
# a gradient is a sum over the batch's voxels, whose rounding errors add up like a random walk
ROUNDING = float(np.finfo(np.float32).eps * np.sqrt(BATCH * BOX**3))


@pytest.mark.filterwarnings("ignore")
def test_a_step_shared_by_two_processes_is_that_of_one(tmp_path: Path) -> None:
    """Gradient (Adam's first moment after one step), batch statistics and loss; more steps of Adam would blow roundings up."""
    simulate(SubtomogramSimulateConfig(
        volumes=blob_maps(tmp_path, 3), per_class=40, box=BOX, pixel_size_angst=14.0, tilt_step_deg=3.0, snr=1.0, shift_angst=10.0, apply_ctf=False,
        output=str(tmp_path / "simulated"), threads=1,
    ))
    config = SubtomogramTrainConfig(
        subtomograms=str(tmp_path / "simulated" / "subtomograms.star"), width=8, embedding=8, epochs=1, batch=BATCH, threads=1, precision="32",
        contrastive_weight=1.0, output=str(tmp_path / "one"),
    )
    train(config)
    save_config(replace(config, output=str(tmp_path / "two")), str(tmp_path / "two.json"))
    words = [sys.executable, "-m", "cryolearn.engine", "subtomogram-train", "--config", str(tmp_path / "two.json"), "--processes", "2"]
    environment = {key: value for key, value in os.environ.items() if not key.startswith("SLURM_")}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    assert "1 steps of 96" in done.stdout
    one, two = (checkpoint(tmp_path / name) for name in ("one", "two"))
    gradients = [np.concatenate([values["exp_avg"].double().numpy().ravel() for _, values in sorted(state["optimizer_states"][0]["state"].items())])
                 for state in (one, two)]
    assert np.linalg.norm(gradients[0] - gradients[1]) < ROUNDING * np.linalg.norm(gradients[0])
    statistics = [name for name in one["state_dict"] if "running" in name]
    assert len(statistics) == 2 * 10
    for name in statistics:
        torch.testing.assert_close(two["state_dict"][name], one["state_dict"][name], rtol=ROUNDING, atol=ROUNDING, msg=name)
    losses = [np.genfromtxt(tmp_path / name / "learning.csv", delimiter=",", names=True)["train_loss"] for name in ("one", "two")]
    np.testing.assert_allclose(losses[1], losses[0], rtol=ROUNDING)


def checkpoint(output: Path) -> dict[str, Any]:
    (path,) = output.glob("records/training/*/step_*.ckpt")
    return dict(torch.load(path, map_location="cpu", weights_only=True))


def test_what_dropout_takes_follows_from_the_blocks_and_is_its_part() -> None:
    layer = BlockDropout(0.3)
    ones = torch.ones(48, 4000)
    BlockDropout.show(layer, 5, [(7, 16), (8, 16), (9, 16)])
    whole = layer(ones)
    parts = {}
    for blocks in ([(7, 16), (9, 16)], [(8, 16)]):  # as two processes have them
        BlockDropout.show(layer, 5, blocks)
        parts |= dict(zip([number for number, _ in blocks], layer(ones[: 16 * len(blocks)]).split(16)))
    torch.testing.assert_close(torch.cat([parts[number] for number in (7, 8, 9)]), whole, rtol=0, atol=0)
    kept = (whole > 0).double()
    assert abs(float(kept.mean()) - 0.7) < 5 * np.sqrt(0.3 * 0.7 / kept.numel())
    torch.testing.assert_close(whole[whole > 0], torch.full_like(whole[whole > 0], 1 / 0.7))
    BlockDropout.show(layer, 6, [(7, 16), (8, 16), (9, 16)])
    assert not torch.equal(layer(ones), whole)
    assert torch.equal(layer.eval()(ones), ones)
