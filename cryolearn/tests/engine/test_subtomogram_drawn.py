"""Learning from subtomograms that are drawn when they are looked at: they are those that the simulation writes, and later epochs bring others."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.models import load_model
from cryolearn.engine.io.subtomograms import SubtomogramStack, read_subtomograms
from cryolearn.engine.simulate.config import SubtomogramSimulateConfig
from cryolearn.engine.simulate.subtomograms_command import run as simulate
from cryolearn.engine.subtomogram.config import SubtomogramTrainConfig
from cryolearn.engine.subtomogram.networks.labelled_subtomograms import CachedVolumes, LabelledSubtomograms, read_labels
from cryolearn.engine.subtomogram.networks.on_the_fly_simulation import DrawnSubtomograms, simulation_of
from cryolearn.engine.subtomogram.train_command import run as train
from cryolearn.tests.engine.subtomogram_cases import blob_maps

CLASSES, PER_CLASS = 3, 16  # two maps, and noise alone
EVERY = CLASSES * PER_CLASS


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> SubtomogramTrainConfig:
    folder = tmp_path_factory.mktemp("drawn")
    return SubtomogramTrainConfig(
        source="simulation", volumes=blob_maps(folder, CLASSES - 1), null_class=True, per_class=PER_CLASS, box=16, pixel_size_angst=14.0, tilt_step_deg=3.0,
        tilt_spread_deg=9.0, snr=1.0, shift_angst=10.0, width=8, embedding=8, epochs=2, batch=16, seed=4, threads=1, precision="32", output=str(folder / "t"),
    )


@pytest.fixture(scope="module")
def written(config: SubtomogramTrainConfig, tmp_path_factory: pytest.TempPathFactory) -> SubtomogramStack:
    """The set that the command for simulation writes with the same parameters and seed."""
    told = simulation_of(config)
    assert isinstance(told, SubtomogramSimulateConfig)
    told.output = str(tmp_path_factory.mktemp("written"))
    simulate(told)
    return SubtomogramStack(read_subtomograms(told.output + "/subtomograms.star"))


def test_the_drawn_set_is_the_written_one(config: SubtomogramTrainConfig, written: SubtomogramStack) -> None:
    drawn = DrawnSubtomograms(config, torch.device("cpu"))
    assert len(drawn) == len(written) == EVERY and drawn.table.class_name == written.table.class_name
    assert drawn.table.ids.tolist() == written.table.ids.tolist()
    rows = np.random.default_rng(0).permutation(EVERY)  # in another order, and so in other batches, than they were written
    seen, expected = drawn.read(rows), written.read(rows)
    np.testing.assert_allclose(seen, expected, atol=1e-5 * float(expected.std()))
    np.testing.assert_allclose(drawn.tilt_deg(rows), written.tilt_deg(rows))
    assert len(np.unique(drawn.tilt_deg(rows), axis=0)) > CLASSES


def test_training_on_drawn_ones_is_training_on_the_written_ones(config: SubtomogramTrainConfig, written: SubtomogramStack, tmp_path: Path) -> None:
    one_step = dict(epochs=1, batch=32, new_each_epoch=False)  # of 39 to learn from; more steps of Adam blow roundings up
    train(dataclasses.replace(config, output=str(tmp_path / "drawn"), **one_step))
    star = str(Path(written.table.file[0]).parents[2] / "subtomograms.star")
    train(dataclasses.replace(config, source="subtomograms", subtomograms=star, volumes=[], output=str(tmp_path / "written"), **one_step))
    (drawn, said), (files, _) = (load_model(str(tmp_path / name / "model")) for name in ("drawn", "written"))
    assert said["classes"] == ["blob0", "blob1", "NULL"] and said["source"] == "simulation" and said["box"] == 16
    for name, values in files.items():
        if name.startswith("network.") and "running" in name:  # statistics of the volumes that were seen
            torch.testing.assert_close(drawn[name], values, rtol=1e-4, atol=1e-5, msg=name)
    assert not list((tmp_path / "drawn").rglob("*.mrc")) and (tmp_path / "drawn" / "figures" / "examples.png").stat().st_size > 5000


def test_later_epochs_bring_other_subtomograms_of_the_same_classes(config: SubtomogramTrainConfig) -> None:
    stack = DrawnSubtomograms(config, torch.device("cpu"))
    volumes = CachedVolumes(stack, 64)
    labels = read_labels(stack.table, 0.25)
    made = {new: LabelledSubtomograms(volumes, labels, False, None, 1, torch.device("cpu"), new) for new in (True, False)}
    count = len(labels.training)
    first, later, again = made[True].training_rows(0, count), made[True].training_rows(count, count), made[False].training_rows(count, count)
    assert sorted(first) == sorted(again) == sorted(labels.training) and (later >= EVERY).all()
    assert not set(later % EVERY) & set(labels.validation)
    names = np.array(stack.table.class_name)
    drawn = stack.simulator.draws(later).number - 1
    assert [stack.simulator.names[number] for number in drawn] == names[later % EVERY].tolist()
    seen, number = made[True].read(later[:8])
    assert [labels.names[index] for index in number.tolist()] == names[later[:8] % EVERY].tolist()
    assert float((seen - made[True].read(later[:8] % EVERY)[0]).abs().mean()) > 0.1
    np.testing.assert_array_equal(seen.numpy(), made[True].read(later[:8])[0].numpy())  # and the same whenever they are drawn


def test_contradictions_are_refused(config: SubtomogramTrainConfig) -> None:
    for values, words in (
        (dict(subtomograms=config.volumes[0]), "the source is 'simulation'"),
        (dict(source="subtomograms", subtomograms=config.volumes[0]), "choose the source"),
        (dict(volumes=[]), "nothing to simulate"), (dict(invert_contrast=True), "white"), (dict(box=18, network="dsrf3d"), "multiple of 4"),
        (dict(source="subtomograms", volumes=[]), "Parameter subtomograms is needed"),
    ):
        with pytest.raises(InputError, match=words):
            train(dataclasses.replace(config, **values))
