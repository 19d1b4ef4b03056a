"""Networks of maps: what an output voxel depends on, alignment of even kernels, tiles that fit, turns, training that goes on."""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.config import save_config
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.models import load_model
from cryolearn.engine.io.records import RunRecord
from cryolearn.engine.map_enhancement.config import MapTrainConfig
from cryolearn.engine.map_enhancement.inference.tiling import Inference, apply_network, plan_tiles
from cryolearn.engine.map_enhancement.networks.by_name import TrainedMapNetwork
from cryolearn.engine.map_enhancement.networks.cube_rotations import ROTATIONS, turn_array
from cryolearn.engine.map_enhancement.networks.network_paper import PaperMapNetwork
from cryolearn.engine.map_enhancement.networks.network_residual import ResidualMapNetwork, gather_voxels, spread_voxels
from cryolearn.engine.map_enhancement.train_command import run as train
from cryolearn.engine.map_enhancement.training.losses import dice_loss

from .map_cases import STRUCTURES

CPU = torch.device("cpu")


def how(rotations: int, tile_px: int) -> Inference:
    return Inference(rotations=rotations, tile_px=tile_px, device=CPU)
TOLD = (torch.tensor([3.5]), torch.tensor([2.5]))
MODELS = [os.path.join(STRUCTURES, name) for name in ("pdb1ubi.pdb", "4akeA_alg_fixed.pdb")]


def shaken(width: int = 4, seed: int = 0) -> ResidualMapNetwork:
    """A residual network with random weights everywhere, so that it does something."""
    torch.manual_seed(seed)
    network = ResidualMapNetwork(width)
    with torch.no_grad():
        for weight in network.parameters():
            weight.add_(0.15 * torch.randn_like(weight))
    return network.eval()


def random_map(*shape: int) -> np.ndarray:
    return np.random.default_rng(1).standard_normal(shape).astype(np.float32)


# ---------------------------------------------------------------- residual

def test_gathering_loses_nothing() -> None:
    x = torch.randn(2, 3, 4, 6, 8)
    assert torch.equal(spread_voxels(gather_voxels(x)), x)
    assert torch.equal(gather_voxels(x)[0, :8, 0, 0, 0], x[0, 0, :2, :2, :2].flatten())


def test_the_untrained_network_returns_its_input() -> None:
    x = torch.randn(1, 1, 8, 12, 16)
    found, error = ResidualMapNetwork(8)(x, *TOLD)
    assert torch.equal(found, x) and bool((error > 0).all())


def test_no_output_depends_on_voxels_beyond_the_reach() -> None:
    network = shaken()
    side, at = 4 * 20, 40
    x = torch.zeros(1, 1, side, 4, 4, requires_grad=True)
    for place in range(at, at + 4):  # all phases of the stride
        network(x, *TOLD)[0][0, 0, place, 2, 2].backward(retain_graph=True)
    assert x.grad is not None
    used = torch.nonzero(x.grad[0, 0].abs().sum((1, 2)))[:, 0]
    assert at - network.reach <= int(used.min()) and int(used.max()) <= at + 3 + network.reach
    assert int(used.max()) - int(used.min()) > network.reach  # and it does look around


def record(folder: Path) -> RunRecord:
    return RunRecord(folder, "tiles", "digest")


def test_tiles_give_what_the_whole_map_gives(tmp_path: Path) -> None:
    """No seams, because nothing differs: tiles keep only voxels whose neighbourhood they have seen."""
    network = shaken()
    data = random_map(72, 40, 52)
    whole = torch.nn.functional.pad(torch.from_numpy(data), (network.reach,) * 6)[None, None]
    with torch.no_grad():
        expected, error = (item[0, 0, 32:-32, 32:-32, 32:-32].numpy() for item in network(whole, *TOLD))
    found = apply_network(network, data, 3.5, 2.5, how(1, 96), record(tmp_path / "t"))
    assert len(plan_tiles((72, 40, 52), network, 96)) > 4
    assert np.abs(found.density - expected).max() < 1e-4 * np.abs(expected).max()
    assert found.error is not None and np.abs(found.error / error - 1).max() < 1e-3 and not found.spread.any()


def test_a_shift_of_the_map_shifts_the_result(tmp_path: Path) -> None:
    network = shaken()
    data = random_map(24, 24, 24)
    wide = [np.zeros((48, 48, 48), np.float32) for _ in range(2)]
    wide[0][8:32, 12:36, 8:32] = data
    wide[1][16:40, 16:40, 12:36] = data
    found = [apply_network(network, item, 3.5, 2.5, how(1, 128), record(tmp_path / str(number))).density for number, item in enumerate(wide)]
    moved = np.roll(found[0], (8, 4, 4), (0, 1, 2))
    # what is compared lies far enough from the map's end, where solvent begins
    assert np.abs(moved - found[1])[16:40, 16:40, 12:36].max() < 1e-4 * np.abs(found[1]).max()


@pytest.mark.parametrize("turn", [ROTATIONS[9], ROTATIONS[22]])
def test_a_turned_map_gives_the_turned_result(tmp_path: Path, turn: tuple) -> None:
    """With all 24 orientations exactly, though the network itself prefers directions."""
    network = shaken(2)
    data = random_map(8, 12, 4)
    one = apply_network(network, data, 3.5, 2.5, how(24, 128), record(tmp_path / "a"))
    other = apply_network(network, turn_array(data, turn), 3.5, 2.5, how(24, 128), record(tmp_path / "b"))
    for first, second in ((one.density, other.density), (one.spread, other.spread), (one.error, other.error)):
        assert np.abs(turn_array(first, turn) - second).max() < 2e-4 * np.abs(second).max()
    plain = apply_network(network, data, 3.5, 2.5, how(1, 128), record(tmp_path / "c")).density
    assert np.abs(plain - one.density).max() > 1e-2 * np.abs(plain).max() and one.spread.mean() > 0


def test_killed_work_goes_on_after_the_last_tile(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    network, data = shaken(), random_map(64, 32, 32)
    whole = apply_network(network, data, 3.5, 2.5, how(1, 96), record(tmp_path / "whole"))
    calls = 0
    plain = network.forward

    def counting(*arguments: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return plain(*arguments)

    network.forward = counting  # type: ignore[method-assign]
    with pytest.raises(KeyboardInterrupt):
        apply_network(network, data, 3.5, 2.5, how(1, 96), record(tmp_path / "broken"))
    again = apply_network(network, data, 3.5, 2.5, how(1, 96), record(tmp_path / "broken"))
    assert calls == 3 and "goes on after 1/2" in capsys.readouterr().out
    assert np.array_equal(again.density, whole.density)


# ---------------------------------------------------------------- paper

def test_shapes_of_the_paper() -> None:
    network = PaperMapNetwork(64)
    shapes = {name: tuple(weight.shape) for name, weight in network.named_parameters() if weight.ndim == 5}
    down = [shapes[f"down.{level}.0.weight"][:2] for level in range(4)]
    assert down == [(64, 1), (128, 64), (256, 128), (512, 256)]
    assert [shapes[f"middle.{level}.1.weight"][:2] for level in range(4)] == [(512, 512)] * 3 + [(256, 512)]
    assert [shapes[f"up.{level}.0.weight"][:2] for level in range(3)] == [(256, 256), (512, 128), (256, 64)]
    assert shapes["last.2.weight"] == (1, 128, 4, 4, 4) and all(shape[2:] == (4, 4, 4) for shape in shapes.values())
    small = PaperMapNetwork(2).eval()
    with torch.no_grad():
        found, error = small(torch.rand(1, 1, 128, 32, 48), *TOLD)
    assert found.shape == (1, 1, 128, 32, 48) and error is None


def test_even_kernels_drift_by_no_more_than_the_last_half_voxel() -> None:
    """With equal weights, and without normalisation, an impulse's answer is centred on it but for the last even kernel's half voxel."""
    network = PaperMapNetwork(1).eval()
    for module in network.modules():
        if isinstance(module, (torch.nn.Conv3d, torch.nn.ConvTranspose3d)):
            torch.nn.init.constant_(module.weight, 0.1)
            if module.bias is not None:
                torch.nn.init.zeros_(module.bias)
        if isinstance(module, torch.nn.Sequential):
            for number, layer in enumerate(module):
                if isinstance(layer, torch.nn.InstanceNorm3d):
                    module[number] = torch.nn.Identity()
    # a box of 16 voxels on the coarsest grid, so that no phase is preferred; the bottleneck alone reaches 128 voxels
    side = 320
    x = torch.zeros(1, 1, side, 32, 32)
    x[0, 0, 160:176] = 1
    with torch.no_grad():
        answer = network(x, *TOLD)[0][0, 0].sum((1, 2)).double()
    centre = float((answer * torch.arange(side)).sum() / answer.sum())
    assert centre == pytest.approx(167.5 + 0.5, abs=0.02)  # one pad after another from the same side would make it 32 more


def test_a_trained_paper_network_is_aligned() -> None:
    """Some steps of learning its own input: the result lies on the input to a tenth of a voxel along each axis."""
    torch.manual_seed(0)
    network = PaperMapNetwork(4)
    steps = 120
    optimiser = torch.optim.Adam(network.parameters(), 5e-3, betas=(0.5, 0.999))
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1, 0, steps)  # a constant rate jumps at its end, from machine to machine
    random = np.random.default_rng(0)

    def blobs() -> torch.Tensor:
        x = torch.zeros(1, 1, 32, 32, 32)
        x[0, 0].view(-1)[torch.from_numpy(random.integers(0, 32**3, 60))] = 1
        kernel = torch.exp(-torch.linspace(-3, 3, 7).square() / 2)
        for axis in range(3):
            shape = [1] * 5
            shape[2 + axis] = 7
            pad = [0, 0, 0]
            pad[axis] = 3
            x = torch.nn.functional.conv3d(x, kernel.reshape(shape), padding=tuple(pad))
        return x

    for _ in range(steps):
        x = blobs()
        loss = dice_loss(network(x, *TOLD)[0], x).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
    x = blobs()
    with torch.no_grad():
        found = network.eval()(x, *TOLD)[0]
    assert float(dice_loss(found, x)) < 0.1
    cross = torch.fft.irfftn(torch.fft.rfftn(found[0, 0]) * torch.fft.rfftn(x[0, 0]).conj(), s=(32, 32, 32))
    assert int(cross.argmax()) == 0
    for axis in range(3):  # the peak between voxels, by a parabola
        before, at, after = (float(cross.roll(-step, axis)[0, 0, 0]) for step in (-1, 0, 1))
        assert abs((after - before) / (2 * (2 * at - before - after))) < 0.1


def test_seams_of_blended_tiles_are_no_stronger_than_the_map_elsewhere(tmp_path: Path) -> None:
    """The network that rescales each tile by its content: steps across tile borders are those of neighbouring planes."""
    torch.manual_seed(1)
    network = PaperMapNetwork(2).eval()
    data = np.abs(random_map(128, 32, 32))
    data[64:] *= 0.3  # tiles of different content
    found = apply_network(network, data, 3.5, 2.5, how(1, 96), record(tmp_path / "t")).density
    plan = plan_tiles((128, 32, 32), network, 96)
    assert plan.overlap and plan.starts[0] == (0, 32, 64)
    steps = np.square(np.diff(found, axis=0)).mean((1, 2))
    borders = [edge - 1 for start in plan.starts[0][1:] for edge in (start, start + plan.core[0]) if edge < 128]
    elsewhere = np.delete(steps, [place + off for place in borders for off in (-1, 0, 1)])
    assert max(steps[borders]) < elsewhere.max()


# ---------------------------------------------------------------- training

def config(folder: Path, name: str, **changes: object) -> MapTrainConfig:
    values = dict(
        output=str(folder / name), structures=MODELS, validation_fraction=0.5, patch_px=32, width=4, epochs=2, patches_per_epoch=8, batch=4,
        validation_patches=2, precision="32", threads=1, checkpoint_steps=1,
    )
    os.makedirs(folder / name, exist_ok=True)
    return MapTrainConfig(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("maps")
    train(config(folder, "whole"))
    return folder


def test_a_training_leaves_a_model_and_its_manifest(whole: Path) -> None:
    out = whole / "whole"
    rows = list(csv.DictReader((out / "manifest.csv").read_text().splitlines()))
    assert sorted(row["side"] for row in rows) == ["training", "validation"]
    model = TrainedMapNetwork.load(str(out / "model"), CPU)
    assert model.voxel_angst == 1.0 and (model.finest_angst, model.coarsest_angst) == (2.5, 6.0) and not model.unit
    assert len(model.description["training"]) == 1 and model.description["training"] != model.description["validation"]
    summary = json.loads((out / "summary.json").read_text())
    assert summary["steps"] == 4 and summary["patches"] == 16
    learned = list(csv.DictReader((out / "learning.csv").read_text().splitlines()))
    assert len(learned) == 2 and learned[0]["val_input_error"] == learned[1]["val_input_error"]
    for name in ("figures/learning.png", "figures/patches.png", "figures/validation_fsc.png", "validation_fsc.csv"):
        assert (out / name).exists()


def test_a_killed_training_goes_on_and_ends_the_same(whole: Path) -> None:
    broken = config(whole, "broken")
    train(broken)
    for path in sorted((whole / "broken").glob("records/training/*/step_*.ckpt"))[1:]:
        path.unlink()  # as if it had been killed after the first of the two that are kept
    train(broken)
    first, second = (load_model(str(whole / name / "model"))[0] for name in ("whole", "broken"))
    assert all(torch.allclose(first[name], second[name], atol=1e-6) for name in first)


def test_two_processes_train_the_same_network_as_one(whole: Path) -> None:
    save_config(replace(config(whole, "two")), str(whole / "two.json"))
    root = str(Path(__file__).resolve().parents[3])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])}
    command = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2", "-m", "cryolearn.engine", "map-train"]
    done = subprocess.run([sys.executable, *command, "--config", str(whole / "two.json")], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = (load_model(str(whole / name / "model"))[0] for name in ("whole", "two"))
    for name in first:  # four steps of Adam: rounding may change a tiny gradient's share of the learning rate, no more
        assert (first[name] - second[name]).abs().max() < 0.2 * 2e-3, name


def test_the_paper_preset_trains(whole: Path) -> None:
    train(config(whole, "paper", preset="paper", degradation="paper", epochs=1, width=2, voxel_angst=0.8))
    model = TrainedMapNetwork.load(str(whole / "paper" / "model"), CPU)
    assert isinstance(model.network, PaperMapNetwork) and model.unit
    rates = [float(row["learning_rate"]) for row in csv.DictReader((whole / "paper" / "learning.csv").read_text().splitlines())]
    assert rates == [pytest.approx(2e-4)]


def test_learning_helps(whole: Path) -> None:
    """A minute's part of training leaves less error on an unseen protein than the input has."""
    train(config(whole, "longer", patches_per_epoch=96, epochs=1, width=8, batch=4, validation_patches=4, learning_rate=4e-3))
    summary = json.loads((whole / "longer" / "summary.json").read_text())
    assert summary["val_error"] < summary["val_input_error"]


def test_models_of_other_methods_are_refused(whole: Path, tmp_path: Path) -> None:
    source = whole / "whole" / "model"
    described = json.loads((source / "model.json").read_text())
    (tmp_path / "weights.safetensors").write_bytes((source / "weights.safetensors").read_bytes())
    for change, message in (({"kind": "distance"}, "is not a map network"), ({"arguments": {"width": 5}}, "do not fit the network")):
        (tmp_path / "model.json").write_text(json.dumps({**described, **change}))
        with pytest.raises(InputError, match=message):
            TrainedMapNetwork.load(str(tmp_path), CPU)
    with pytest.raises(InputError, match="holds no batch"):
        train(config(tmp_path, "refused", patches_per_epoch=2))
