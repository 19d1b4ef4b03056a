"""The one mechanism by which runs are continued: what is read again, what is made anew, and what is never mistaken for a run's own."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import numpy as np
import pytest

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io import record_stage
from cryolearn.engine.io.recorded_array import RecordedArray
from cryolearn.engine.io.records import Columns, RunRecord, Stage, is_whole_npz, remove_records


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


def test_a_stage_is_read_back_bit_for_bit(tmp_path: Path) -> None:
    arrays = {"a": np.random.default_rng(1).normal(size=(3, 4)).astype(np.float32), "empty": np.zeros((0, 2)), "flag": np.array([True, False])}
    values = {"done": 3, "history": [0.1 + 0.2, -1e-300], "name": "é", "none": None, "nan": float("nan")}
    stage = RunRecord(tmp_path, "alignment", "d").stage("one")
    assert not stage.exists() and stage.read() is None
    stage.write(arrays, values)
    found = RunRecord(tmp_path, "alignment", "d").stage("one").read()
    assert found is not None and stage.exists()
    assert set(found[0]) == set(arrays)
    for name, array in arrays.items():
        assert found[0][name].dtype == array.dtype and np.array_equal(found[0][name], array)
    assert np.isnan(found[1].pop("nan")) and {key: values[key] for key in found[1]} == found[1] and len(found[1]) == 4


def test_records_of_another_digest_are_not_seen_and_a_sentence_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    RunRecord(tmp_path, "alignment", "first").stage("one").write({"a": np.ones(1)})
    assert not capsys.readouterr().out
    assert RunRecord(tmp_path, "alignment", "second").stage("one").read() is None
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "belong to other parameters or inputs: the run starts anew" in said
    assert RunRecord(tmp_path, "alignment", "first").stage("one").read() is not None  # going back to the first goes on from its records
    assert RunRecord(tmp_path, "prediction", "second") and not capsys.readouterr().out  # another kind of run in the same folder


@pytest.mark.parametrize(("name", "left"), [
    ("alignment", "chunks/1a2b_500/chunk_0000000.npz"), ("prediction", "chunks/1a2b_500/chunk_0000000.npz"), ("features", "chunks/1a2b_9/chunk_0000000.npz"),
    ("recovery", "stages/1a2b_matched.npz"), ("heterogeneity", "stages/1a2b/round_0/curve_all.npz"), ("averaging", "rounds/1a2b/c3/round_001.npz"),
    ("tiles", "tiles/1a2b/values.f32"), ("simulation", "progress.json"), ("alignment", "records/alignment/0_1a2b/one.npz"),
])
def test_records_of_another_layout_are_recognised(tmp_path: Path, name: str, left: str, capsys: pytest.CaptureFixture[str]) -> None:
    """A project folder that another version left: one sentence, nothing of it is read, and it is gone when the run is."""
    (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / left).write_text("what another version wrote")
    record = RunRecord(tmp_path, name, "1a2b")
    said = capsys.readouterr().out
    assert said.count("\n") == 1 and "of another version of this software and cannot be continued: the run starts anew" in said
    assert record.stage("one").read() is None and record.newest("round") is None and not record.checkpoints()
    assert (tmp_path / left).exists()
    record.stage("one").write({"a": np.ones(1)})
    assert RunRecord(tmp_path, name, "1a2b").stage("one").exists() and not capsys.readouterr().out  # said once
    record.remove()
    assert not tree(tmp_path) and not (tmp_path / "records").exists()


def test_only_records_of_the_same_name_are_removed(tmp_path: Path) -> None:
    for name, digest in (("alignment", "1"), ("alignment", "2"), ("training", "3")):
        RunRecord(tmp_path, name, digest).stage("one").write({})
    (tmp_path / "result.npz").touch()
    remove_records(tmp_path, "alignment")
    assert tree(tmp_path) == ["records/training/1_3/one.npz", "result.npz"]


def test_records_of_others_are_forgotten_where_they_would_lie(tmp_path: Path) -> None:
    """A stack in the output folder is that of one run only: another's record of how far it had come must not outlive it."""
    (tmp_path / "progress.json").write_text('{"digest": "1", "done": 5}')
    RunRecord(tmp_path, "simulation", "1").stage("progress").write({}, {"done": 5})
    second = RunRecord(tmp_path, "simulation", "2")
    second.stage("progress").write({}, {"done": 1})
    second.remove_others()
    assert tree(tmp_path) == ["records/simulation/1_2/progress.npz"]
    RunRecord(tmp_path / "new", "simulation", "1").remove_others()
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 cut short", pickle.dumps({"a": 1}), None], ids=["empty", "cut short", "pickle", "half"])
def test_a_damaged_stage_is_made_anew(tmp_path: Path, content: bytes | None, capsys: pytest.CaptureFixture[str]) -> None:
    stage = Stage(tmp_path / "round_002.npz")
    stage.write({"a": np.arange(1000)})
    stage.path.write_bytes(stage.path.read_bytes()[:500] if content is None else content)
    assert not stage.exists() and stage.read() is None
    assert "cannot be read and is made anew" in capsys.readouterr().out


class Evil:
    def __reduce__(self):  # type: ignore[no-untyped-def]
        return (os.system, ("touch evil",))


def test_nothing_is_unpickled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    stage = Stage(tmp_path / "a.npz")
    with pytest.raises(ValueError, match="Python objects"):
        stage.write({"a": np.array([Evil()], dtype=object)})
    assert not stage.path.exists()
    np.savez(stage.path, a=np.array([Evil()], dtype=object), values=np.array("{}"))
    assert stage.read() is None
    np.save(tmp_path / "b.npy", np.array([Evil()], dtype=object), allow_pickle=True)
    RecordedArray(tmp_path / "b.npy", (1,), np.float32)
    assert not (tmp_path / "evil").exists()


def test_the_newest_stage_that_can_be_read(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, "averaging", "d").part("class")
    for number in range(3):
        record.stage(f"round_{number:03d}").write({}, {"done": number})
    (record.path / "round_002.npz").write_bytes(b"cut")
    record.stage("roundabout").write({})
    newest = record.newest("round")
    assert newest is not None and newest.read() == ({}, {"done": 1})
    assert record.part("other").newest("round") is None


def test_rows_of_an_array_are_recorded(tmp_path: Path) -> None:
    record = RunRecord(tmp_path, "tiles", "d")
    array = record.array("tiles", (4, 2), np.float32)
    assert not array.finished.any()
    array.write(2, [1.5, 2.5])
    array.write(slice(0, 1), [[7, 8]])
    again = record.array("tiles", (4, 2), np.float32)
    assert again.finished.tolist() == [True, False, True, False]
    assert again.read(2).tolist() == [1.5, 2.5] and again.read(slice(0, 2)).tolist() == [[7, 8], [0, 0]]


@pytest.mark.parametrize("change", ["shape", "dtype", "values", "marks", "cut"])
def test_an_array_that_does_not_fit_starts_empty(tmp_path: Path, change: str) -> None:
    """Values and marks belong together: neither is believed without the other."""
    record = RunRecord(tmp_path, "tiles", "d")
    record.array("tiles", (4, 2), np.float32).write(2, [1.5, 2.5])
    if change == "values":
        (record.path / "tiles.npy").unlink()
    elif change == "marks":
        (record.path / "tiles_finished.npy").unlink()
    elif change == "cut":
        os.truncate(record.path / "tiles.npy", 140)
    again = record.array("tiles", (4, 3) if change == "shape" else (4, 2), np.float64 if change == "dtype" else np.float32)
    assert not again.finished.any() and not np.any(again.read(slice(None)))


def test_a_damaged_file_that_all_processes_read_is_made_anew(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record = RunRecord(tmp_path, "alignment", "d")
    made: list[Path] = []

    def make(path: Path) -> None:
        made.append(path)
        np.savez(path, a=np.arange(100))

    for content in (None, b"", b"cut", None):
        path = record.once("calibration.npz", make, is_whole_npz)
        if content is not None:
            path.write_bytes(content)
    assert len(made) == 3 and capsys.readouterr().out.count("calibration.npz' cannot be read and is made anew") == 2
    half = path.read_bytes()
    path.write_bytes(half[: len(half) // 2])
    assert not is_whole_npz(path)
    path.write_bytes(half[:300] + b"\xff" + half[301:])  # whole by its directory, not by its checksum
    assert not is_whole_npz(path) and not Stage(path).exists()


IDS = np.array([5, 3, 9, 1, 7, 100, 2])


def doubled(calls: list[list[int]], fail_at: int = -1):  # type: ignore[no-untyped-def]
    def work(rows: np.ndarray) -> Columns:
        if len(calls) == fail_at:
            raise KeyboardInterrupt
        calls.append(rows.tolist())
        return {"twice": IDS[rows] * 2.0, "pair": np.stack([rows, rows], 1)}

    return work


def test_chunks_are_continued_and_gathered_in_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    record, calls = RunRecord(tmp_path, "alignment", "d"), []  # type: ignore[var-annotated]
    with pytest.raises(KeyboardInterrupt):
        record.in_chunks(IDS, 3, doubled(calls, 3), "work", 2)
    assert calls == [[0, 1], [2], [3, 4]]
    calls.clear()
    found = record.in_chunks(IDS, 3, doubled(calls), "work", 2)
    assert calls == [[3, 4], [5], [6]]  # a chunk is recorded whole, so its first batch is done again
    assert "goes on after 3/7" in capsys.readouterr().out
    assert found is not None and found["id"].tolist() == IDS.tolist() and found["twice"].tolist() == (IDS * 2).tolist() and found["pair"].shape == (7, 2)
    calls.clear()
    damaged = record.path / "chunks_3" / "chunk_0000001.npz"
    damaged.write_bytes(damaged.read_bytes()[:100])
    capsys.readouterr()
    again = record.in_chunks(IDS, 3, doubled(calls), "work", 2)
    assert f"The record '{damaged}' cannot be read and is made anew." in capsys.readouterr().out
    assert calls == [[3, 4], [5]] and again is not None and np.array_equal(again["twice"], found["twice"])
    with pytest.raises(InputError, match="belong to other particles"):
        record.in_chunks(IDS[::-1].copy(), 3, doubled(calls), "work", 2)


def test_processes_share_the_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "torchrun")
    monkeypatch.setenv("WORLD_SIZE", "2")
    calls: list[list[int]] = []
    for rank in ("1", "0"):  # the first process gathers, so it comes last
        monkeypatch.setenv("RANK", rank)
        record = RunRecord(tmp_path, "alignment", "d")
        path = record.once("noise.txt", lambda path: path.write_text("made")) if rank == "0" else None
        found = record.in_chunks(IDS, 2, doubled(calls), "work", 2)
        assert (found is None) == (rank == "1")
    assert calls == [[2, 3], [6], [0, 1], [4, 5]]
    assert path is not None and path.read_text() == "made"
    monkeypatch.setenv("RANK", "1")
    record.once("noise.txt", lambda path: pytest.fail("the first process makes it"))


def test_a_process_that_never_writes_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(record_stage, "_SILENCE_S", 0.05)
    monkeypatch.setattr(record_stage, "_POLL_S", 0.01)
    monkeypatch.setenv("TORCHELASTIC_RUN_ID", "torchrun")
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    with pytest.raises(InputError, match=r"Another process never wrote '.*chunk_0000001\.npz'"):
        RunRecord(tmp_path, "alignment", "d").in_chunks(IDS, 4, doubled([]), "work", 4)
