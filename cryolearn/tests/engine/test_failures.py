"""What goes wrong on the machine is one sentence that names the file or the cause, and nothing is lost: disk, folders, memory, environment, processes."""

from __future__ import annotations

import errno
import io
import json
import os
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.common import atomic
from cryolearn.common.atomic import naming, remove_parts, whole_file, write_json
from cryolearn.engine import __main__ as cli
from cryolearn.engine.commands import COMMANDS, Command
from cryolearn.engine.config import RunConfig, digest_config, fields_of, param
from cryolearn.engine.cpu import cpu_threads
from cryolearn.engine.exceptions import InputError, WriteError
from cryolearn.engine.failures import explain, tolerate_encodings
from cryolearn.engine.io.recorded_array import RecordedArray
from cryolearn.engine.io.stacks import StackWriter
from cryolearn.engine.launch import how_it_ended, launch_command, process_rank

FULL = OSError(errno.ENOSPC, "No space left on device")


@dataclass
class FailConfig(RunConfig):
    """Fail, for these tests."""

    source: str = param("", "A file.", path=True)
    how: str = param("", "How to fail.")


def raise_it(error: BaseException) -> None:
    raise error


def write_on_full_disk(config: FailConfig) -> None:
    with whole_file(os.path.join(config.output, "result.npz")) as part:
        Path(part).write_bytes(b"half")
        raise FULL


WAYS: dict[str, Callable[[FailConfig], None]] = {
    "": lambda config: write_json(os.path.join(config.output, "rank.json"), process_rank()),
    "disk full": write_on_full_disk,
    "memory": lambda config: raise_it(MemoryError()),
    "numpy": lambda config: np.empty((1 << 50,), np.float64).fill(0),
    "torch": lambda config: torch.empty(1 << 55),
    "gpu": lambda config: raise_it(torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 16.00 GiB")),
    "cublas": lambda config: raise_it(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`")),
    "mapping": lambda config: raise_it(OSError(errno.ENOMEM, "Cannot allocate memory")),
    "removed": lambda config: Path(config.source).with_name("gone.mrcs").open().close(),
    "changed": lambda config: (digest_config(config), Path(config.source).write_text("other and longer"), None)[2],
    "folder": lambda config: Path(config.source, "below").mkdir(),
    "says": lambda config: print("resolution 4.2 Å, naïve 粒子"),
    "defect": lambda config: raise_it(RuntimeError("Expected all tensors to be on the same device")),
}


def run(config: FailConfig) -> None:
    """What the command does here."""
    WAYS[config.how](config)


@pytest.fixture
def fail(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., tuple[int, str]]:
    """The command ``fail``: its exit code and what it says, and that files of others stay."""
    monkeypatch.setitem(COMMANDS, "fail", Command(f"{__name__}:FailConfig", f"{__name__}:run"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "source").write_text("input")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "result.npz").write_text("of an earlier run")

    def call(how: str, *words: str) -> int:
        return cli.main(["fail", "--how", how, "--source", "source", *words, "--status", "status.json"])

    return call


@pytest.mark.parametrize(("how", "code", "named"), [
    ("disk full", 3, ["out/result.npz", "disk is full"]), ("memory", 3, ["not enough memory", "last record"]), ("numpy", 3, ["memory (8.00 PiB"]),
    ("torch", 3, ["memory (1.44e+08 GB"]), ("gpu", 3, ["memory on the GPU (20.00 GiB"]), ("cublas", 3, ["memory on the GPU"]), ("mapping", 3, ["memory"]),
    ("removed", 2, ["gone.mrcs", "removed"]), ("changed", 2, ["source", "changed while the run read it"]), ("folder", 2, ["source/below", "a file is where"]),
])
def test_a_failure_of_the_machine_is_one_sentence(
    fail: Callable[..., int], tmp_path: Path, how: str, code: int, named: list[str], capsys: pytest.CaptureFixture[str],
) -> None:
    assert fail(how) == code
    said = capsys.readouterr().err
    assert said.startswith("ERROR: ") and len(said.strip().splitlines()) == 1 and all(text in said for text in named), said
    status = json.loads((tmp_path / "status.json").read_text())
    assert status["exit_code"] == code and f"ERROR: {status['error']}" == said.strip()
    assert (tmp_path / "out" / "result.npz").read_text() == "of an earlier run"
    assert not list(tmp_path.rglob("*.part"))


def test_a_defect_keeps_its_traceback(fail: Callable[..., int], capsys: pytest.CaptureFixture[str]) -> None:
    assert fail("defect") == 1
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(("output", "named"), [
    ("source", "a file is where a folder"), ("source/out", "a file is where a folder"), ("x" * 300, "too long"),
])
def test_an_output_folder_that_cannot_be_made(fail: Callable[..., int], output: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert fail("", "--output", output) == 2
    said = capsys.readouterr().err
    assert said.startswith("ERROR: The output folder '") and named in said and len(said.strip().splitlines()) == 1


def test_a_folder_that_may_not_be_written_to(fail: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Root may write anywhere, so that the system's answer is given by hand."""
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    assert fail("") == 2
    assert "'out' may not be written to" in capsys.readouterr().err


# ------------------------------------------------------ writing ------------------------------------------------------
@pytest.mark.parametrize(("error", "named"), [
    (FULL, "the disk is full"), (OSError("1000 requested and 0 written"), "1000 requested and 0 written"), (OSError(errno.EROFS, "x"), "read-only"),
    (RuntimeError("Error while serializing: No space left on device (os error 28)"), "the disk is full"),
])
def test_errors_of_libraries_name_the_file(tmp_path: Path, error: Exception, named: str) -> None:
    with pytest.raises(WriteError, match=named) as caught, whole_file(tmp_path / "map.mrc") as part:
        Path(part).write_bytes(b"half")
        raise error
    assert f"'{tmp_path / 'map.mrc'}' cannot be written: " in str(caught.value) and isinstance(caught.value, InputError)
    assert not os.listdir(tmp_path)


def test_any_error_on_a_full_disk_is_that_of_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(atomic, "_is_full", lambda folder: True)
    with pytest.raises(WriteError, match=r"a\.ckpt' cannot be written: the disk is full") as caught, naming(tmp_path / "a.ckpt"):
        raise RuntimeError("unexpected pos 64 vs 0")
    assert caught.value.exit_code == 3


def test_an_error_of_another_file_stays_its_own(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), whole_file(tmp_path / "copy") as part:
        Path(part).write_bytes((tmp_path / "absent").read_bytes())


@pytest.mark.parametrize("make", [
    lambda folder: StackWriter(str(folder / "a.mrcs"), 4, 8, 1.0), lambda folder: RecordedArray(folder / "a.npy", (4, 8), np.float32),
], ids=["stack", "array"])
def test_room_is_taken_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: Callable[[Path], object]) -> None:
    """Writing to a mapped file on a full disk would kill the process by SIGBUS."""
    monkeypatch.setattr(os, "posix_fallocate", lambda *_: raise_it(FULL))
    with pytest.raises(WriteError, match=r"a\.(mrcs|npy)' cannot be written: the disk is full"):
        make(tmp_path)
    assert not os.listdir(tmp_path)


def test_files_and_names_are_on_the_disk_before_a_file_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    done = []
    sync, rename = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append(os.readlink(f"/proc/self/fd/{handle}")), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda old, new: (done.append("renamed"), rename(old, new)))
    write_json(tmp_path / "a.json", {})
    assert len(done) == 3 and done[0].endswith(".part") and done[1:] == ["renamed", str(tmp_path)]


def test_files_of_killed_processes_are_removed(tmp_path: Path, fail: Callable[..., int]) -> None:
    out = tmp_path / "out"
    (out / "records" / "a").mkdir(parents=True)
    here, dead = atomic._this_machine(), 1 << 22  # no process has a number above 2^22
    forgotten = [out / f".map.mrc.{here}-{dead}-0123abcd.part", out / "records" / "a" / f".chunk.npz.{here}-{dead}-0123abcd.part"]
    old = [out / f".map.mrc.{'0' * 8}-1-0123abcd.part", out / f".map.mrc.{'0' * 32}.part"]
    kept = [out / f".map.mrc.{here}-{os.getpid()}-0123abcd.part", out / f".map.mrc.{'0' * 8}-2-0123abcd.part", out / "particles.mrcs.part", out / ".a.part"]
    for path in (*forgotten, *old, *kept):
        path.touch()
    for path in old:
        os.utime(path, (1, 1))
    assert fail("") == 0
    assert all(path.exists() for path in kept) and not any(path.exists() for path in (*forgotten, *old))
    remove_parts(tmp_path / "absent")


# ---------------------------------------------------- environment ----------------------------------------------------
@pytest.mark.parametrize("left", [
    {"RANK": "1"}, {"RANK": "1", "WORLD_SIZE": "2"}, {"LOCAL_RANK": "1"}, {"RANK": "1", "WORLD_SIZE": "2", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2"},
    {"RANK": "x", "WORLD_SIZE": "y", "TORCHELASTIC_RUN_ID": "a"}, {"RANK": "5", "WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "a"},
    {"SLURM_CPUS_PER_TASK": "x"}, {"SLURM_PROCID": "1"}, {"SLURM_PROCID": "1", "SLURM_NTASKS": "4", "SLURM_LOCALID": "1"},
    {"SLURM_PROCID": "3", "SLURM_STEP_NUM_TASKS": "x"}, {"SLURM_CPUS_PER_TASK": "0", "LOCAL_WORLD_SIZE": "0"},
])
def test_variables_that_a_launcher_left(fail: Callable[..., int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: dict[str, str]) -> None:
    """The run works alone, and its libraries see none of them."""
    for name, value in left.items():
        monkeypatch.setenv(name, value)
    assert fail("") == 0
    assert json.loads((tmp_path / "out" / "rank.json").read_text()) == [0, 1, 0] and cpu_threads() >= 1
    assert "RANK" not in os.environ and "LOCAL_RANK" not in os.environ and "SLURM_PROCID" not in os.environ


@pytest.mark.parametrize("command", [name for name, place in COMMANDS.items() if place.shared])
def test_options_are_not_taken_for_those_of_torchrun(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from torch.distributed.run import parse_args

    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    words = [command, *(word for name in fields_of(cli._load(COMMANDS[command].config)) for word in (f"--{name}", "a"))]
    given = parse_args(launch_command(2, [*words, "--processes", "2"])[3:])
    assert (given.module, given.training_script, given.training_script_args, given.nproc_per_node) == (True, "cryolearn.engine", words, "2")


def test_a_stream_that_cannot_encode_a_character(fail: Callable[..., int], monkeypatch: pytest.MonkeyPatch) -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", stream)
    assert fail("says") == 0
    stream.flush()
    assert stream.buffer.getvalue() == b"resolution 4.2 \\xc5, na\\xefve \\u7c92\\u5b50\n"  # type: ignore[attr-defined]
    tolerate_encodings(None, io.StringIO())


# -------------------------------------------------- several processes --------------------------------------------------
LOST = [1, "RuntimeError: [gloo/transport/tcp/pair.cc:534] Connection closed by peer [127.0.0.1]:3456"]
STOPPED = [130, "Interrupted."]
REFUSED = [2, "The stack is truncated."]


@pytest.mark.parametrize(("said", "code", "named"), [
    ({0: STOPPED, 2: STOPPED}, 3, "Process 2 of 3 was killed from outside"), ({0: STOPPED, 2: LOST}, 3, "Process 2 of 3 was killed from outside"),
    ({1: LOST}, 3, "Processes 1 and 3 of 3 were killed"),
    ({0: STOPPED, 1: REFUSED, 2: STOPPED}, 2, "The stack is truncated."), ({1: REFUSED}, 2, "The stack is truncated."),
    ({0: STOPPED, 1: [1, "KeyError: 'a'"]}, 1, "KeyError"), ({0: STOPPED, 1: STOPPED, 2: STOPPED}, 130, "Interrupted."), ({}, 1, "None of 3 processes"),
    ({0: LOST, 1: LOST, 2: LOST}, 1, "Connection closed"),
])
def test_the_process_that_was_killed_is_named(tmp_path: Path, said: dict[int, list[object]], code: int, named: str) -> None:
    for rank, (own, text) in said.items():
        (tmp_path / f"{rank}.json").write_text(json.dumps({"exit_code": own, "error": text}))
    ending = how_it_ended(str(tmp_path), 3, 1)
    assert ending.code == code and named in (ending.error or "")
    assert ending.is_said == (named not in ("None of 3 processes",) and code != 3)


def test_an_error_that_is_no_failure_of_the_machine_is_not_explained() -> None:
    assert explain(RuntimeError("a")) is None and explain(OSError("no name")) is None and explain(KeyError("out of memory")) is None
