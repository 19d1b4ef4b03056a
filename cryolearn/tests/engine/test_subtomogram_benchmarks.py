"""The judges of the benchmarks of networks for subtomograms."""

from __future__ import annotations

import argparse
import dataclasses
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
    import _subtomo

    names = ["a", "b", "b", "a", "a", "b"]
    files = []
    for number in range(6):
        files.append(str(tmp_path / f"{number}.mrc"))
        Path(files[-1]).touch()

    def engine(command: str, output: Path, **options: object) -> None:
        output.mkdir(parents=True, exist_ok=True)
        if command == "subtomogram-simulate":
            assert options["per_class"] == 3
            write_subtomograms(str(output / "subtomograms.star"), SubtomogramTable(
                ids=np.arange(1, 7), file=files, pixel_size_angst=9.2, box=8, tilt_min_deg=np.full(6, -60.0), tilt_max_deg=np.full(6, 60.0), class_name=names))
        else:
            assert options["reject_fraction"] == 0 and str(options["subtomograms"]).endswith("test.star")
            write_table(str(output / "classes.npz"), {"id": [1, 2, 3, 4], "best_class": [1, 2, 2, 1], "true_class": [1, 2, 1, 1]})

    monkeypatch.setattr(_subtomo, "engine", engine)
    monkeypatch.setattr(_subtomo, "maps_of", lambda *_: [])
    options = argparse.Namespace(work=tmp_path, data=tmp_path, threads=1, use_gpu=False)
    made = _subtomo.make_set(options, "set", ["a", "b"], 1, 2, snr=0.1)
    train, test = read_subtomograms(str(made.train)), read_subtomograms(str(made.test))
    assert train.class_name == ["a", "b"] and test.class_name == ["b", "a", "a", "b"] and not set(train.ids) & set(test.ids)
    assert _subtomo.test_accuracy(options, made, tmp_path / "trained") == 0.75
    assert dataclasses.astuple(made) == (tmp_path / "subtomograms" / "set" / "train.star", tmp_path / "subtomograms" / "set" / "test.star")
