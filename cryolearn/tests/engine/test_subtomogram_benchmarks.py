"""The judges of the benchmarks of networks for subtomograms."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pytest

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"
if not (FOLDER / "_subtomo.py").exists():
    pytest.skip("benchmarks are not part of the wheel", allow_module_level=True)

from cryolearn.engine.io.subtomograms import SubtomogramTable, read_subtomograms, write_subtomograms  # noqa: E402
from cryolearn.engine.io.tables import write_table  # noqa: E402


def test_a_method_is_above_when_its_lead_is_larger_than_the_scatter_of_the_lead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    from _subtomo import is_above, spread

    assert is_above([0.90, 0.80, 0.85], [0.86, 0.77, 0.80])  # seeds differ, the lead hardly does
    assert not is_above([0.90, 0.50], [0.60, 0.70])
    assert not is_above([0.8, 0.8], [0.8, 0.8]) and not is_above([0.7, 0.7], [0.8, 0.8])
    assert spread([0.8, 0.9]) == "0.850 ± 0.071" and spread([0.8]) == "0.800"


def test_a_set_is_split_within_each_class_and_judged_by_the_other_part(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import _run
    import _subtomo

    names = ["a", "b", "b", "a", "a", "b"]
    files = []
    for number in range(6):
        files.append(str(tmp_path / f"{number}.mrc"))
        Path(files[-1]).touch()

    calls = []

    def engine(command: str, output: Path, **options: object) -> _run.Usage:
        calls.append(command)
        output.mkdir(parents=True, exist_ok=True)
        if command == "subtomogram-simulate":
            assert options["per_class"] == 3
            write_subtomograms(str(output / "subtomograms.star"), SubtomogramTable(
                ids=np.arange(1, 7), file=files, pixel_size_angst=9.2, box=8, tilt_min_deg=np.full(6, -60.0), tilt_max_deg=np.full(6, 60.0), class_name=names))
        else:
            assert options["reject_fraction"] == 0 and str(options["subtomograms"]).endswith("test_1.star")
            write_table(str(output / "classes.npz"), {"id": [1, 2, 3, 4], "best_class": [1, 2, 2, 1], "true_class": [1, 2, 1, 1]})
        return _run.Usage(1.0, 2.0, 3.0)

    monkeypatch.setattr(_run, "engine", engine)
    monkeypatch.setattr(_subtomo, "maps_of", lambda *_: [])
    options = argparse.Namespace(work=tmp_path, data=tmp_path, threads=1, use_gpu=False, keep=False)
    made = _subtomo.make_set(options, "set", ["a", "b"], 1, 2, snr=0.1)
    train, test = read_subtomograms(str(made.train)), read_subtomograms(str(made.test))
    assert train.class_name == ["a", "b"] and test.class_name == ["b", "a", "a", "b"] and not set(train.ids) & set(test.ids)
    trained = _run.Outcome(tmp_path / "trained", _run.Usage(0, 0))
    assert _subtomo.test_accuracy(options, made, trained) == 0.75
    # a run that goes on takes what was finished with the same settings, and nothing else
    options.keep, options.threads = True, 2
    assert _subtomo.make_set(options, "set", ["a", "b"], 1, 2, snr=0.1) == made and _subtomo.test_accuracy(options, made, trained) == 0.75
    assert calls == ["subtomogram-simulate", "subtomogram-classify"]
    assert _subtomo.make_set(options, "set", ["a", "b"], 1, 2, snr=0.05) != made and len(calls) == 3
    (made.train.parent / "benchmark.json").unlink()  # killed before it had finished
    assert _subtomo.make_set(options, "set", ["a", "b"], 1, 2, snr=0.1) == made and len(calls) == 4


def test_table_2_judges_every_cell_and_says_whether_the_rivals_were_trained_to_the_end(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import subtomo_table2 as table2

    accuracy = {"residual3d": 0.95, "inception3d": 0.80, "dsrf3d": 0.85, "rif_svm": 0.90}
    asked, rows = [], []

    def train(options: argparse.Namespace, made: str, method: str, seed: int, **settings: object) -> str:
        asked.append((made, method, seed, settings))
        return method

    monkeypatch.setattr(table2, "RESULTS", tmp_path)
    monkeypatch.setattr(table2, "make_set", lambda options, name, classes, train, test, **others: (name, others["seed"]))
    monkeypatch.setattr(table2, "train_method", train)
    monkeypatch.setattr(table2, "test_accuracy", lambda options, made, trained: accuracy[trained] - 0.01 * made[1])
    monkeypatch.setattr(table2, "losses", lambda trained, column: [2.0, 0.05 if trained == "dsrf3d" else 1.0])
    monkeypatch.setattr(table2, "target", lambda options, *row: rows.append(row))
    monkeypatch.setattr("sys.argv", ["subtomo_table2.py", "--data", str(tmp_path), "--work", str(tmp_path)])
    table2.main()
    epochs = {method: {settings.get("epochs") for _, asked_for, _, settings in asked if asked_for == method} for method in accuracy}
    assert len(asked) == 2 * 2 * 5 and epochs == {"residual3d": {None}, "inception3d": {20}, "dsrf3d": {40}, "rif_svm": {None}}
    assert sum(settings.get("dropout") == 0.3 for *_, settings in asked) == 2 * 2  # as the paper's text says it
    assert [row[-1] for row in rows] == [True, False] * 2  # far above all, but one rival has not been trained to the end
    assert "residual3d 0.935 ± 0.007" in rows[0][-2] and "dsrf3d 0.024 ± 0.000" in rows[1][-2]
    written = (tmp_path / "subtomo_table2.csv").read_text().splitlines()
    assert len(written) == 1 + 2 * 5 and (tmp_path / "subtomo_table2_laptop.png").stat().st_size > 5000
