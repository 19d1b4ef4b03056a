"""Choices by name, and the checks that forms and engine make alike."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest

import cryolearn.engine
from cryolearn.common import checks
from cryolearn.common.choices import choice_index, choices_of
from cryolearn.common.exceptions import InputError
from cryolearn.common.limits import BOX_MULTIPLES
from cryolearn.engine.commands import COMMANDS
from cryolearn.engine.config import fields_of
from cryolearn.engine.exceptions import InputError as EngineInputError
from cryolearn.engine.gaussian.config import GaussianHeterogeneityConfig
from cryolearn.engine.landscape.config import TrajectoryConfig
from cryolearn.engine.subtomogram.config import SubtomogramTrainConfig


def test_a_choice_is_found_by_its_name() -> None:
    assert choices_of(TrajectoryConfig, "path") == ("pca", "points", "clusters", "frames")
    assert choice_index(TrajectoryConfig, "path", "points") == 1
    assert choice_index(GaussianHeterogeneityConfig, "method", "autoencoder") == 4
    with pytest.raises(KeyError, match="TrajectoryConfig.path cannot be 'spiral': it is one of pca, points"):
        choice_index(TrajectoryConfig, "path", "spiral")
    for field in ("frames", "absent"):
        with pytest.raises(KeyError, match=f"TrajectoryConfig.{field} is no choice"):
            choices_of(TrajectoryConfig, field)


def test_every_choice_of_every_command_is_found_again() -> None:
    folder = Path(cryolearn.engine.__file__).parent
    configs = [value for path in sorted(folder.glob("*/config.py"))
               for value in vars(importlib.import_module(f"cryolearn.engine.{path.parent.name}.config")).values()
               if isinstance(value, type) and value.__name__.endswith("Config")]
    assert len(configs) >= len(COMMANDS) // 2
    found = [(config, name, field.metadata["choices"]) for config in configs for name, field in fields_of(config).items() if field.metadata.get("choices")]
    assert len(found) > 20
    for config, name, choices in found:
        assert [choice_index(config, name, choice) for choice in choices] == list(range(len(choices)))


def test_both_sides_refuse_with_one_exception() -> None:
    assert EngineInputError is InputError and issubclass(InputError, ValueError) and InputError.exit_code == 2


@pytest.mark.parametrize(("check", "good", "bad", "words"), [
    (checks.check_map_of_particles, ("map", (32, 32, 32), 2.5, 32, 2.504), ("map", (32, 32, 30), 2.5, 32, 2.5), "32 x 32 x 30 voxels: it must be a cube"),
    (checks.check_map_of_particles, ("map", (32,) * 3, 2.5, 32, 2.5), ("map", (24,) * 3, 2.5, 32, 2.5), "box of 24 px, but the particles have a box of 32 px"),
    (checks.check_map_of_particles, ("map", (32,) * 3, 2.5, 32, 2.5), ("map", (32,) * 3, 2.45, 32, 2.5), "size of 2.45 Å, but the particles have 2.5 Å"),
    (checks.check_trained_for, ("particles", 64, 4.0, 64, 4.0), ("particles", 64, 4.0, 64, 3.9), "4 Å/px, but the network was trained for 3.9 Å/px"),
    (checks.check_trained_for, ("subtomograms", 16, 9.2, 16, 9.2), ("subtomograms", 20, 9.2, 16, 9.2), "20 voxels, but the network was trained for 16 voxels"),
    (checks.check_trained_for, ("particles", 72, 4.0, 64, 4.0, True), ("particles", 60, 4.0, 64, 4.0, True), "trained for 64 px or more"),
    (checks.check_components, (3, 4), (4, 4), "4 components are asked for, but there are only 4 particles"),
    (checks.check_resolutions, ([40.0, 20.0], 4.0), ([20.0, 40.0], 4.0), "must become finer"),
    (checks.check_resolutions, ([], 4.0), ([20.0, 20.0], 4.0), "must become finer"),
    (checks.check_resolutions, ([8.4], 4.0), ([8.3], 4.0), "8.3 Å is finer than the pixels of the particles hold"),
    (checks.check_gaussian_numbers, ([1, 200], 200), ([0, 5], 200), "Gaussian 0 of the focus does not exist: they are numbered from 1 to 200"),
    (checks.check_gaussian_numbers, ([], 200), ([201], 200), "Gaussian 201"),
    (checks.check_network_box, ("dsrf3d", 16), ("dsrf3d", 18), "box of 18 px, but the network 'dsrf3d' wants a multiple of 4, 16 at least"),
    (checks.check_network_box, ("residual3d", 17), ("residual3d", 15), "16 at least"),
    (checks.check_average_box, (16,), (25,), "an even box of at least 16"),
    (checks.check_multiple, ("Parameter width", 16, 8), ("Parameter width", 9, 8), "Parameter width is 9: it must be a multiple of 8"),
    (checks.check_epoch, ("images", 64, 64), ("images", 64, 128), "An epoch of 64 images holds no batch of 128"),
    (checks.check_references, (1, 3), (2, 3), "2 references for 3 classes"),
    (checks.check_resolution_range, (3.0, 6.0), (6.0, 3.0), "6 Å.*coarser than the coarsest"),
    (checks.check_count, ("subtomograms", 10, 10), ("subtomograms", 9, 10), "There are only 9 subtomograms: at least 10 are needed"),
])
def test_checks(check: object, good: tuple[object, ...], bad: tuple[object, ...], words: str) -> None:
    assert callable(check)
    check(*good)
    with pytest.raises(InputError, match=words):
        check(*bad)


def test_every_network_of_subtomograms_says_its_box() -> None:
    assert set(BOX_MULTIPLES) == set(choices_of(SubtomogramTrainConfig, "network"))
