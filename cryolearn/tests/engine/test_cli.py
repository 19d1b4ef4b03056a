"""``python -m cryolearn.engine``: help, exit codes, one sentence for bad input, nothing written before the check."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from cryolearn.engine import __main__ as cli
from cryolearn.engine.commands import COMMANDS, Command
from cryolearn.engine.config import RunConfig, fields_of, help_of, param
from cryolearn.engine.cpu import cpu_threads
from cryolearn.engine.exceptions import DeviceError, InputError
from cryolearn.engine.launch import launch_command
from cryolearn.tests.waiting import HANG_S, waitUntil


@dataclass
class PaintConfig(RunConfig):
    """Paint a file, for these tests.

    Writes ``paint.json``.
    """

    source: str = param("", "A file.", path=True)
    width_angst: float = param(2.0, "Width of the brush.", unit="Å", low=0.5, high=10)
    coats: int = param(1, "Coats.", low=1)
    colours: list[int] = param([1, 2], "Colours.")
    style: str = param("flat", "Style.", choices=("flat", "glossy"))
    fail: str = param("", "How to fail.")


def run(config: PaintConfig) -> None:
    """What a command does here: fail as asked, or write its parameters."""
    if config.fail == "input":
        raise InputError("The brush 'b' has no hair: buy another.")
    if config.fail == "device":
        raise DeviceError("GPU 7 was asked for.")
    if config.fail == "crash":
        raise RuntimeError("spilled")
    if config.fail == "interrupt":
        raise KeyboardInterrupt
    if config.fail == "hang":
        Path(config.output, "started").touch()
        time.sleep(HANG_S)
    Path(config.output, "paint.json").write_text(json.dumps(vars(config)))


@pytest.fixture
def paint(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The command ``paint`` exists, and an empty folder is the current one."""
    monkeypatch.setitem(COMMANDS, "paint", Command(f"{__name__}:PaintConfig", f"{__name__}:run"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_list_of_commands_has_each_with_its_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--help"]) == 0
    shown = capsys.readouterr().out
    for name, place in COMMANDS.items():
        doc = cli._load(place.config).__doc__.splitlines()[0]
        assert any(name in line and doc in line for line in shown.splitlines()), name


@pytest.mark.parametrize("command", sorted(COMMANDS))
def test_help_of_a_command_is_made_of_its_dataclass(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        cli.command_parser(command, cli._load(COMMANDS[command].config)).parse_args(["--help"])
    assert stop.value.code == 0
    shown = "".join(capsys.readouterr().out.split())
    for name in fields_of(cli._load(COMMANDS[command].config)):
        text = help_of(cli._load(COMMANDS[command].config), name)
        assert f"--{name}" in shown
        assert "".join(text.split()) in shown, name


def test_options_win_over_the_file_and_the_file_over_defaults(paint: Path) -> None:
    Path("p.json").write_text(json.dumps({"width_angst": 3, "coats": 4, "output": "made"}))
    assert cli.main(["paint", "--config", "p.json", "--coats", "5", "--colours", "[7, 8]"]) == 0
    done = json.loads(Path("made/paint.json").read_text())
    assert (done["width_angst"], done["coats"], done["colours"], done["style"]) == (3.0, 5, [7, 8], "flat")


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--width_angst", "11"], ["width_angst", "11", "0.5", "10"]),
        (["--width_angst", "nan"], ["width_angst", "nan"]),
        (["--coats", "0"], ["coats", "0", "at least 1"]),
        (["--coats", "1.5"], ["coats", "1.5", "whole number"]),
        (["--coats", "many"], ["coats", "many", "whole number"]),
        (["--colours", "[1, x]"], ["colours", "x", "whole number"]),
        (["--style", "matt"], ["style", "matt", "flat", "glossy"]),
        (["--source", "nowhere.mrc"], ["source", "nowhere.mrc", "not exist"]),
        (["--use_gpu", "perhaps"], ["use_gpu", "perhaps", "true or false"]),
        (["--coat", "1"], ["--coat"]),
        (["--config", "nowhere.json"], ["nowhere.json", "not exist"]),
        (["--fail", "input"], ["brush 'b'"]),
    ],
)
def test_bad_input_is_one_sentence_exit_code_2_and_no_file(
    paint: Path, words: list[str], named: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.main(["paint", *words]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("ERROR: ") and len(captured.err.strip().splitlines()) == 1
    assert "Traceback" not in captured.err
    for text in named:
        assert text in captured.err
    assert [path for path in paint.rglob("*") if path.is_file()] == []
    if words[0] != "--fail":
        assert list(paint.iterdir()) == []  # not even the output folder: the parameters were wrong


@pytest.mark.parametrize(
    ("content", "named"),
    [("{", "JSON"), ("[1]", "object"), ('{"colour": 1}', "colour"), ('{"coats": "three"}', "coats"), ('{"coats": null}', "coats")],
)
def test_bad_parameter_file(paint: Path, content: str, named: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("p.json").write_text(content)
    assert cli.main(["paint", "--config", "p.json"]) == 2
    assert named in capsys.readouterr().err
    assert not Path("out").exists()


@pytest.mark.parametrize(("fail", "code"), [("", 0), ("input", 2), ("device", 3), ("crash", 1), ("interrupt", 130)])
def test_exit_codes_and_status_file(paint: Path, fail: str, code: int, capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["paint", "--fail", fail, "--status", "s.json"]) == code
    status = json.loads(Path("s.json").read_text())
    assert status["exit_code"] == code
    error = capsys.readouterr().err
    assert (status["error"] is None) == (code == 0)
    if code:
        assert f"ERROR: {status['error']}" in error
    assert ("Traceback" in error) == (fail == "crash")


def test_an_unknown_command_names_the_known_ones(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["elastic-aline"]) == 2
    assert "elastic-align" in capsys.readouterr().err
    assert cli.main([]) == 2


def test_a_gpu_that_is_not_there_is_refused_with_exit_code_3(tmp_path: Path) -> None:
    """CUDA is hidden, so this holds with and without a GPU."""
    code = (
        "import sys; from cryolearn.engine import __main__ as cli; from cryolearn.engine.commands import COMMANDS, Command;"
        "COMMANDS['paint'] = Command('cryolearn.tests.engine.test_cli:PaintConfig', 'cryolearn.engine.device:select_device');"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    environment = {**os.environ, "CUDA_VISIBLE_DEVICES": ""}
    asked = [sys.executable, "-c", code, "paint", "--output", str(tmp_path), "--gpu_list", "1"]
    done = subprocess.run([*asked, "--use_gpu", "true"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "GPU 1" in done.stderr and "Traceback" not in done.stderr
    done = subprocess.run([*asked, "--use_gpu", "false"], env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_sigterm_is_an_interruption(tmp_path: Path) -> None:
    """A queue ends a job with SIGTERM: exit code 130 and a sentence, no traceback."""
    code = (
        "import sys; from cryolearn.engine import __main__ as cli; from cryolearn.engine.commands import COMMANDS, Command;"
        "COMMANDS['paint'] = Command('cryolearn.tests.engine.test_cli:PaintConfig', 'cryolearn.tests.engine.test_cli:run');"
        "sys.exit(cli.main(sys.argv[1:]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, "paint", "--fail", "hang", "--output", str(tmp_path), "--status", str(tmp_path / "s.json")],
        stderr=subprocess.PIPE,
        text=True,
    )
    waitUntil((tmp_path / "started").exists, alive=lambda: process.poll() is None)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate(timeout=HANG_S)
    assert process.returncode == 130
    assert error.startswith("ERROR: ") and "Traceback" not in error
    assert json.loads((tmp_path / "s.json").read_text())["exit_code"] == 130


def test_processes_are_started_by_torchrun_or_by_srun(monkeypatch: pytest.MonkeyPatch) -> None:
    words = ["elastic-train", "--config", "a.json", "--processes", "2"]
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    command = launch_command(2, words)
    assert "torch.distributed.run" in command and "--nproc-per-node=2" in command
    assert command[-4:] == ["cryolearn.engine", "elastic-train", "--config", "a.json"]
    monkeypatch.setenv("SLURM_JOB_ID", "5")
    monkeypatch.setenv("SLURM_NTASKS", "2")
    command = launch_command(2, words)
    assert command[:2] == ["srun", "--ntasks=2"] and command[-3:] == ["elastic-train", "--config", "a.json"]
    monkeypatch.setenv("SLURM_NTASKS", "1")
    assert "torch.distributed.run" in launch_command(2, words)


def test_versions_are_told_without_loading_torch() -> None:
    code = "import sys; from cryolearn.engine.__main__ import main; main(['--versions']); sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert {"cryolearn", "python", "torch"} <= set(json.loads(done.stdout))


MODEL = "ATOM      1  CA  ALA A   1       0.000   0.000   0.000  1.00  0.00           C\nEND\n"


@pytest.mark.slow
def test_what_a_worker_refuses_is_the_exit_code_of_all(tmp_path: Path) -> None:
    """Two real processes: the launcher's own exit code is 1, the engine's is the worker's 2, and the sentence is there."""
    (tmp_path / "empty.star").write_text("data_nothing\n")
    words = ["elastic-align", "--particles", "empty.star", "--modes", "empty.star", "--processes", "2"]
    done = subprocess.run(
        [sys.executable, "-m", "cryolearn.engine", *words], cwd=tmp_path, capture_output=True, text=True, check=False, timeout=HANG_S
    )
    assert done.returncode == 2, done.stderr
    assert "ERROR: " in done.stderr and "empty.star" in done.stderr


def test_a_command_that_cannot_share_its_work_refuses_more_processes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "one.pdb").write_text(MODEL)
    words = ["normal-modes", "--structure", str(tmp_path / "one.pdb"), "--output", str(tmp_path / "out"), "--processes", "2"]
    assert cli.main(words) == 2
    assert "normal-modes works in one process" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_threads_are_those_asked_for_within_those_allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(8)))
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert [cpu_threads(asked) for asked in (0, 3, 99)] == [8, 3, 8]
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    assert [cpu_threads(asked) for asked in (0, 3)] == [2, 3]
