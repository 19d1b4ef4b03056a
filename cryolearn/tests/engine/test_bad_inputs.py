"""A part of the table of bad inputs: each fault of each kind of input once, and each command with some (benchmarks/silence.py tries all of them)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.common.atomic import write_json
from cryolearn.engine.commands import COMMANDS
from cryolearn.engine.config import RunConfig
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.training.plan import TrainingPlan
from cryolearn.engine.training.task import Blocks, Task
from cryolearn.engine.training.trainer import train

from .bad_input_sets import make_sets
from .bad_inputs import RIGHT, Case, all_cases, judged, run_case

CASES = {
    "elastic-align": [
        "modes: missing", "modes: truncated", "modes: text", "modes: eigenvectors NaN", "modes: sigma_angst NaN", "modes: atoms of unlike number",
        "modes: pickled", "mode_numbers: a mode that is not there", "particles: zero items", "particles: image beyond the stack",
        "particles: image without a number", "particles: rlnAnglePsi infinite", "particles: rlnImagePixelSize nan", "particles: rlnVoltage 0",
        "particles: rlnAmplitudeContrast 10", "particles: rlnDefocusU NaN", "particles: stack empty", "particles: stack of another box",
        "particles: one image NaN", "particles: all images constant", "particles: one image blank", "modes: weights of zeros",
    ],
    "simulate-particles": [
        "modes: empty", "modes: folder", "modes: modes of zeros", "modes: no eigenvectors", "modes: numbers twice", "volumes: voxel size nan Å",
        "modes: coordinates 1e300",
    ],
    "import-modes": [
        "structure: missing", "structure: coordinate NaN", "structure: text for a coordinate", "collectivity_threshold: infinite", "mode_files: missing",
        "mode_files: empty", "mode_files: truncated", "mode_files: a mode cut short", "mode_files: no modes", "mode_files: modes of another structure",
    ],
    "normal-modes": [
        "structure: empty", "structure: coordinate of asterisks", "structure: all atoms at one place", "cutoff_angst: 1e400",
    ],
    "subtomogram-simulate": [
        "structures: no atoms", "volumes: map one section", "volumes: map blank",
    ],
    "volume-to-gaussians": [
        "volume: missing", "volume: empty", "volume: truncated", "volume: map NaN", "volume: voxel size 0 Å", "volume: voxel size -2.5 Å",
        "volume: map constant", "mask: mask blank", "mask: mask x 1e30", "mask: mask of another box", "volume: map x 1e30",
    ],
    "reconstruct": [
        "padding: below its range", "padding: above its range", "padding: NaN", "wiener: no choice of it", "mask: missing", "mask: empty",
        "mask: truncated", "mask: mask NaN", "mask: mask inverted", "particles: rlnImagePixelSize 0", "particles: rlnAmplitudeContrast nan",
        "particles: rlnDefocusU infinite", "particles: stack truncated", "particles: no image names", "particles: one image infinite",
        "particles: all images NaN", "particles: all images blank", "particles: one item only", "symmetry: no point group", "particles: one image x 1e30",
        "mask: mask of another voxel size",
    ],
    "convert-particles": [
        "threads: half a number", "threads: negative", "use_gpu: text for true or false", "colour: unknown option", "particles: missing",
        "particles: empty", "particles: truncated", "particles: folder", "particles: text", "particles: same id twice", "particles: text for a number",
        "particles: rlnAnglePsi NaN", "particles: rlnOriginXAngst NaN", "particles: rlnVoltage nan", "particles: items without group",
        "particles: stack missing", "particles: stack folder", "particles: half a CTF",
    ],
    "elastic-train": ["colour: unknown option"],
    "elastic-predict": ["colour: unknown option"],
    "elastic-errors": ["colour: unknown option"],
    "cluster-landscape": ["colour: unknown option"],
    "select-landscape": ["colour: unknown option"],
    "trajectory": ["colour: unknown option"],
    "gaussian-heterogeneity": ["colour: unknown option"],
    "distance-train": ["source: no choice of it"],
    "orientation-recover": ["particles: one image NaN"],
    "orientation-compare": ["particles: rlnAnglePsi NaN"],
    "subtomogram-train": ["subtomograms: one subtomogram blank"],
    "subtomogram-classify": ["subtomograms: missing"],
    "subtomogram-subdivide": ["colour: unknown option"],
    "subtomogram-average": ["subtomograms: one subtomogram saturated"],
    "validate-map": ["volume: map constant"],
    "map-train": ["structures: no atoms"],
    "map-enhance": ["colour: unknown option"],
    "fsc": ["map1: map constant"],
}
NAMES = [f"{command}, {fault}" for command, faults in CASES.items() for fault in faults]


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Case]]:
    sets = make_sets(tmp_path_factory.mktemp("sets"))
    return sets, {case.name: case for case in all_cases(sets)}


@pytest.mark.parametrize("name", NAMES)
def test_a_bad_input_is_named_and_nothing_is_lost(cases: tuple[Path, dict[str, Case]], tmp_path: Path, name: str) -> None:
    sets, known = cases
    verdict, said = judged(known[name], run_case(known[name], sets, tmp_path / "case"))
    assert verdict == RIGHT, said


def test_every_command_has_a_case() -> None:
    assert set(CASES) == set(COMMANDS)


class _Lost(Task):
    """A loss that is not a number from the third step on."""

    def __init__(self) -> None:
        self.network, self.step = torch.nn.Linear(1, 1), 0

    def training_loss(self, blocks: Blocks) -> torch.Tensor:
        self.step += 1
        return self.network(torch.ones(1, 1)).sum() * (float("nan") if self.step == 3 else 1.0)

    def validation_sums(self, blocks: Blocks) -> dict[str, torch.Tensor]:
        return {"loss": torch.ones(2)}


def test_a_loss_that_is_not_a_number_stops_the_training(tmp_path: Path) -> None:
    plan = TrainingPlan(digest="x", seed=1, epochs=1, images_per_epoch=160, batch=16, learning_rate=1e-3, weight_decay=0.0, schedule="cosine", patience=0,
                        checkpoint_steps=4, validation_images=16)
    with pytest.raises(InputError, match="The loss in step 3 is not a number"):
        train(_Lost(), plan, RunConfig(output=str(tmp_path)))


def test_json_holds_null_where_a_value_is_not_finite(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"a": [1.5, float("nan")], "b": np.float64("inf"), "c": "NaN"})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    1.5,\n    null\n  ],\n  "b": null,\n  "c": "NaN"\n}\n'
