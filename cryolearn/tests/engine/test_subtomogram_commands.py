"""Train, classify, subdivide on small molecules: what is learned, what goes on after a kill, what is rejected, what memory it takes."""

from __future__ import annotations

import csv
import dataclasses
import json
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.models import load_model
from cryolearn.engine.io.subtomograms import read_subtomograms, write_subtomograms
from cryolearn.engine.io.tables import read_table
from cryolearn.engine.simulate.config import SubtomogramSimulateConfig
from cryolearn.engine.simulate.subtomograms_command import run as simulate
from cryolearn.engine.subtomogram.classify_command import run as classify
from cryolearn.engine.subtomogram.config import SubtomogramClassifyConfig, SubtomogramSubdivideConfig, SubtomogramTrainConfig
from cryolearn.engine.subtomogram.networks.confidence_calibration import KnownClasses, calibration_error, fit_temperature, probabilities
from cryolearn.engine.subtomogram.networks.labelled_subtomograms import CachedVolumes, class_weights, read_labels
from cryolearn.engine.subtomogram.networks.streamed_prediction import measure
from cryolearn.engine.subtomogram.networks.trained_model import SubtomogramModel
from cryolearn.engine.subtomogram.partition.clustering import divide
from cryolearn.engine.subtomogram.subdivide_command import run as subdivide
from cryolearn.engine.subtomogram.train_command import run as train
from cryolearn.tests.engine.subtomogram_cases import blob_maps

BOX, PER_CLASS, KNOWN = 16, 60, 3


@dataclasses.dataclass
class Made:
    folder: Path
    known: str  # three classes
    every: str  # and a fourth that no network learns


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    folder = tmp_path_factory.mktemp("subtomograms")
    simulate(SubtomogramSimulateConfig(
        volumes=blob_maps(folder, KNOWN + 1), per_class=PER_CLASS, box=BOX, pixel_size_angst=14.0, tilt_step_deg=3.0, snr=20.0, shift_angst=10.0,
        apply_ctf=False, output=str(folder / "simulated"), threads=1,
    ))
    every = str(folder / "simulated" / "subtomograms.star")
    table = read_subtomograms(every)
    assert table.class_name is not None
    known = table.subset(np.array([name != f"blob{KNOWN}" for name in table.class_name]))
    write_subtomograms(str(folder / "known.star"), known)
    return Made(folder, str(folder / "known.star"), every)


@pytest.fixture(scope="module")
def trained(made: Made) -> SubtomogramTrainConfig:
    config = SubtomogramTrainConfig(
        subtomograms=made.known, width=8, embedding=8, epochs=9, batch=16, validation_fraction=0.3, threads=1,
        output=str(made.folder / "network"), precision="32",
    )
    train(config)
    return config


def test_a_network_learns_what_it_says(made: Made, trained: SubtomogramTrainConfig) -> None:
    out = Path(trained.output)
    summary = json.loads((out / "summary.json").read_text())
    columns, meta = read_table(str(out / "validation.npz"))
    count = len(columns["id"])
    assert count == KNOWN * round(0.3 * PER_CLASS) and (np.bincount(columns["true_class"])[1:] == count // KNOWN).all()
    accuracy = (columns["class"] == columns["true_class"]).mean()
    assert summary["validation_accuracy"] == pytest.approx(accuracy, abs=1e-4)
    assert accuracy > 1 / KNOWN + 5 * np.sqrt(1 / KNOWN * (1 - 1 / KNOWN) / count)  # five standard deviations above guessing
    np.testing.assert_allclose(columns["probability"].sum(1), 1, atol=1e-5)
    assert meta["class_names"] == ["blob0", "blob1", "blob2"]
    rows = list(csv.DictReader((out / "confusion.csv").read_text().splitlines()))
    assert sum(int(row[row["true_class"]]) for row in rows) == round(accuracy * count)
    _, description = load_model(str(out / "model"))
    assert description["architecture"] == "residual3d" and description["classes"] == meta["class_names"] and description["box"] == BOX
    for name in ("learning", "confusion", "reliability"):
        assert (out / "figures" / f"{name}.png").stat().st_size > 5000


def test_a_killed_training_ends_the_same(made: Made, trained: SubtomogramTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from cryolearn.engine.subtomogram.networks.training_task import ClassTask

    short = dataclasses.replace(trained, epochs=2, output=str(tmp_path / "whole"), checkpoint_steps=4)
    train(short)
    killed = dataclasses.replace(short, output=str(tmp_path / "killed"))
    steps, whole = [0], ClassTask.training_loss

    def fail(self: ClassTask, blocks: list[tuple[int, int]]) -> torch.Tensor:
        steps[0] += 1
        if steps[0] == 12:
            raise RuntimeError("killed")
        return whole(self, blocks)

    monkeypatch.setattr(ClassTask, "training_loss", fail)
    with pytest.raises(RuntimeError, match="killed"):
        train(killed)
    steps[0] = 100
    train(killed)
    assert steps[0] < 100 + 14  # not from the start
    one, other = (load_model(str(tmp_path / name / "model"))[0] for name in ("whole", "killed"))
    for name, values in one.items():
        torch.testing.assert_close(values, other[name], rtol=1e-5, atol=1e-6, msg=name)


@pytest.mark.parametrize(("network", "epochs"), [("rif_svm", 1), ("dsrf3d", 1)])
def test_every_network_has_the_same_interface(made: Made, network: str, epochs: int, tmp_path: Path) -> None:
    train(SubtomogramTrainConfig(subtomograms=made.known, network=network, epochs=epochs, batch=16, threads=1, output=str(tmp_path / "t"), precision="32"))
    model = str(tmp_path / "t" / "model")
    classify(SubtomogramClassifyConfig(subtomograms=made.known, model=model, output=str(tmp_path / "c"), threads=1, reject_fraction=0.0))
    columns, _ = read_table(str(tmp_path / "c" / "classes.npz"))
    validation, _ = read_table(str(tmp_path / "t" / "validation.npz"))
    assert (columns["class"] > 0).all() and columns["features"].shape[1] == KNOWN
    at = np.searchsorted(columns["id"], validation["id"])
    np.testing.assert_allclose(columns["probability"][at], validation["probability"], atol=1e-4)
    if network == "dsrf3d":  # the paper's rate, which falls by a millionth a step
        curve = np.genfromtxt(tmp_path / "t" / "learning.csv", delimiter=",", names=True)
        assert curve["step"] == KNOWN * round(0.8 * PER_CLASS) // 16
        assert curve["learning_rate"] == pytest.approx(0.01 / (1 + 1e-6 * curve["step"]), rel=2e-7)
    if network == "rif_svm":
        assert (columns["best_class"] == columns["true_class"]).mean() > 0.8  # most of these it has learned from


def test_unknown_molecules_are_rejected_more(made: Made, trained: SubtomogramTrainConfig, tmp_path: Path) -> None:
    model = str(Path(trained.output) / "model")
    classify(SubtomogramClassifyConfig(subtomograms=made.every, model=model, output=str(tmp_path), threads=1, reject_fraction=0.1, chunk=50))
    columns, meta = read_table(str(tmp_path / "classes.npz"))
    table = read_subtomograms(str(tmp_path / "subtomograms.star"))
    assert table.ids.tolist() == columns["id"].tolist() and not (tmp_path / "records").exists()
    assert table.class_name == [(["rejected", *meta["class_names"]])[number] for number in columns["class"]]
    assert table.extra["rlnClassNumber"].tolist() == columns["class"].tolist()
    unknown = columns["true_class"] == KNOWN + 1
    assert unknown.sum() == PER_CLASS and meta["true_class_names"] == [*meta["class_names"], "blob3"]
    assert np.median(columns["novelty"][unknown]) > np.median(columns["novelty"][~unknown])
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["rejected_of_unknown"] >= summary["rejected_of_known"]
    assert summary["subtomograms"] == (KNOWN + 1) * PER_CLASS


@pytest.mark.parametrize("method", ["kmeans", "gmm", "hdbscan"])
def test_subdivision_reports_every_group(made: Made, trained: SubtomogramTrainConfig, method: str, tmp_path: Path) -> None:
    model = str(Path(trained.output) / "model")
    subdivide(SubtomogramSubdivideConfig(subtomograms=made.every, model=model, method=method, clusters=8, smallest=4, output=str(tmp_path), threads=1))
    columns, _ = read_table(str(tmp_path / "clusters.npz"))
    report = list(csv.DictReader((tmp_path / "clusters.csv").read_text().splitlines()))
    sizes = np.bincount(columns["class"], minlength=len(report) + 1)
    assert [int(row["subtomograms"]) for row in report] == sizes[1:].tolist() == sorted(sizes[1:], reverse=True)
    summary = json.loads((tmp_path / "summary.json").read_text())
    assert summary["groups"] == len(report) and summary["left_out"] == sizes[0] and (method == "hdbscan" or sizes[0] == 0)
    assert 1 / (KNOWN + 1) < summary["purity"] <= 1 and columns["reduced"].shape == (len(columns["id"]), 2)
    for row in report:
        here = columns["class"] == int(row["class"])
        counts = np.bincount(columns["true_class"][here])
        assert float(row["purity"]) == pytest.approx(counts.max() / here.sum(), abs=1e-4)


def test_groups_of_separate_features_are_found() -> None:
    generator = np.random.default_rng(0)
    true = np.repeat(np.arange(4), (400, 300, 200, 100))
    features = (10 * generator.normal(size=(4, 6))[true] + generator.normal(size=(1000, 6))).astype(np.float32)
    for method in ("kmeans", "gmm", "hdbscan"):
        groups = divide(features, method, 4 if method == "kmeans" else 12, 20, 1)
        inside = groups.number > 0
        assert inside.mean() > 0.9
        assert (groups.number[inside] == true[inside] + 1).all(), method  # numbered by size
        if method == "gmm":
            assert min(groups.scores[1], key=lambda number: groups.scores[1][number]) == 4
    with pytest.raises(InputError, match="1000 subtomograms cannot be divided into 2000"):
        divide(features, "kmeans", 2000, 20, 1)


def test_memory_does_not_grow_with_the_set(made: Made, trained: SubtomogramTrainConfig, tmp_path: Path) -> None:
    """Beside what the module's text allows for each subtomogram, ten times as many take no more memory."""
    model = SubtomogramModel.load(str(Path(trained.output) / "model"), torch.device("cpu"))
    table = read_subtomograms(made.known)
    peaks = []
    for count in (200, 2000):
        rows = np.arange(count) % len(table)
        many = dataclasses.replace(table.subset(rows), ids=np.arange(1, count + 1))
        tracemalloc.start()
        found = measure(model, many, tmp_path / str(count), 20, 100)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert found is not None and len(found["id"]) == count
    columns = KNOWN + 8  # classes and features
    table_bytes = 600  # paths, ids, tilts and what the digest is taken of
    assert peaks[1] - peaks[0] < 1800 * (4 * columns + table_bytes)
    assert peaks[1] - peaks[0] < 0.1 * 1800 * 4 * BOX**3  # far from holding the volumes


def test_labels_split_within_each_class_and_weigh_rare_ones(made: Made) -> None:
    table = read_subtomograms(made.known)
    assert table.class_name is not None
    few = table.subset([row for row, name in enumerate(table.class_name) if name != "blob1" or row % 5 == 0])
    labels = read_labels(few, 0.25)
    assert labels.names == ["blob0", "blob1", "blob2"] and not set(labels.training) & set(labels.validation)
    counts = np.bincount(labels.number)
    assert np.bincount(labels.number[labels.validation]).tolist() == [round(0.25 * count) for count in counts]
    shuffled = few.subset(np.random.default_rng(1).permutation(len(few)))
    again = read_labels(shuffled, 0.25)
    assert set(shuffled.ids[again.validation]) == set(few.ids[labels.validation])
    weight = class_weights(labels, True).numpy() * np.bincount(labels.number[labels.training])
    np.testing.assert_allclose(weight, weight[0])
    for names, words in ((None, "no classes"), (["a"] * len(few), "nothing to tell apart"), (["a"] * (len(few) - 1) + ["b"], "a single subtomogram")):
        with pytest.raises(InputError, match=words):
            read_labels(dataclasses.replace(few, class_name=names), 0.25)


def test_a_full_cache_gives_the_same_volumes() -> None:
    class Stack:
        box = 40

        def __len__(self) -> int:
            return 30

        def read(self, rows: np.ndarray) -> np.ndarray:
            return np.broadcast_to(np.asarray(rows, np.float32)[:, None, None, None], (len(rows), 40, 40, 40))

    volumes = CachedVolumes(Stack(), 2)  # type: ignore[arg-type]  # room for eight
    generator = np.random.default_rng(0)
    for _ in range(10):
        rows = generator.integers(30, size=7)
        np.testing.assert_array_equal(volumes.read(rows)[:, 0, 0, 0], rows)
    assert volumes._used == 8


def test_wrong_sets_and_models_are_refused(made: Made, trained: SubtomogramTrainConfig, tmp_path: Path) -> None:
    model = str(Path(trained.output) / "model")
    table = read_subtomograms(made.known)

    def attempt(**values: object) -> None:
        path = str(tmp_path / "other.star")
        write_subtomograms(path, dataclasses.replace(table, optics={}, **values))  # type: ignore[arg-type]
        classify(SubtomogramClassifyConfig(subtomograms=path, model=model, output=str(tmp_path), threads=1))

    with pytest.raises(InputError, match="trained for 14"):
        attempt(pixel_size_angst=9.2)
    with pytest.raises(InputError, match="a box of 20 voxels, but the network was trained for 16"):
        attempt(box=20)
    with pytest.raises(InputError, match="not a trained model"):
        classify(SubtomogramClassifyConfig(subtomograms=made.known, model=str(tmp_path), output=str(tmp_path), threads=1))
    with pytest.raises(InputError, match="only 'residual3d' can"):
        train(dataclasses.replace(trained, network="dsrf3d", wedge_channel=True))


def test_temperature_and_distances_are_those_of_theory() -> None:
    """Logits three times too large get temperature 3; whitened distances of normal features have mean square 1."""
    generator = np.random.default_rng(0)
    true_logits = 1.5 * generator.normal(size=(4000, 5))
    number = np.array([generator.choice(5, p=row) for row in probabilities(true_logits)])
    found = fit_temperature(3 * true_logits, number)
    assert found == pytest.approx(3, rel=0.1)
    right = true_logits.argmax(1) == number
    assert calibration_error(probabilities(3 * true_logits, found).max(1), right) < 0.03 < calibration_error(probabilities(3 * true_logits).max(1), right)
    mixing = generator.normal(size=(4, 4))
    label = np.arange(3000) % 3
    centres = 20 * generator.normal(size=(3, 4))
    features = (centres[label] + generator.normal(size=(3000, 4)) @ mixing).astype(np.float32)
    known = KnownClasses.fit(features[:1500], label[:1500], 3)
    distances = known.distances(features[1500:])
    assert known.discriminants == 2
    assert (distances.argmin(1) == label[1500:]).all()
    assert np.square(distances.min(1)).mean() == pytest.approx(1, rel=0.1)


@pytest.mark.parametrize("seed", range(4))
def test_novelty_looks_where_the_classes_differ(seed: int) -> None:
    """A fourth class between three known ones, in two of fifty dimensions: five standard deviations from each, so nearly all of it is stranger than they.

    Distances that take all dimensions alike drown it: their squares differ by 25 beside a chi-square of standard deviation sqrt(2 * 50) = 10.
    """
    generator = np.random.default_rng(seed)
    mixing = generator.normal(size=(50, 50))
    places = np.zeros((4, 50))
    places[:3, :2] = [[0, 5], [5 * np.sqrt(0.75), -2.5], [-5 * np.sqrt(0.75), -2.5]]  # the fourth is their middle
    label = np.arange(4000) % 4
    values = ((places[label] + generator.normal(size=(4000, 50))) @ mixing).astype(np.float32)
    learned, unseen = np.flatnonzero(label[:2000] < 3), np.arange(2000, 4000)
    distances = KnownClasses.fit(values[learned], label[learned], 3).distances(values[unseen]).min(1)
    limit = np.percentile(distances[label[unseen] < 3], 95)
    assert (distances[label[unseen] == 3] > limit).mean() > 0.9


def test_the_wedge_can_be_told(made: Made, tmp_path: Path) -> None:
    train(SubtomogramTrainConfig(
        subtomograms=made.known, wedge_channel=True, width=8, embedding=4, epochs=1, batch=16, threads=1, output=str(tmp_path), precision="32",
    ))
    model = SubtomogramModel.load(str(tmp_path / "model"), torch.device("cpu"))
    volumes = np.random.default_rng(0).normal(size=(2, BOX, BOX, BOX)).astype(np.float32)
    wide, narrow = (model.look(volumes, np.tile([-tilt, tilt], (2, 1)))["logits"] for tilt in (60.0, 30.0))
    assert np.abs(wide - narrow).max() > 1e-4

