"""Progress lines: what Scipion's log window and a terminal show."""

from __future__ import annotations

import re

import pytest

from cryolearn.engine import progress
from cryolearn.engine.progress import Progress


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """``clock[0]`` is the time."""
    now = [100.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    return now


def test_one_line_an_interval_with_rate_and_time_left(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    report = Progress("Alignment", 1000, interval_s=10)
    for _ in range(25):  # 25 steps of 20 images, a second each: 20 images/s
        clock[0] += 1
        report.step(20, note="loss 0.5")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2
    assert lines[0] == "Alignment: 200/1000 images (20.0 %), 20 images/s, 0:00:40 left, loss 0.5"
    assert "400/1000" in lines[1]


def test_the_last_unit_is_always_reported(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    report = Progress("Maps", 2, unit="maps")
    clock[0] += 0.5
    report.step()
    report.step()
    assert capsys.readouterr().out == "Maps: 2/2 maps (100.0 %), 4 maps/s, 0:00:00 left\n"


def test_what_an_earlier_run_did_counts_as_done_but_not_for_the_rate(clock: list[float], capsys: pytest.CaptureFixture[str]) -> None:
    report = Progress("Alignment", 100, done=50, interval_s=1)
    clock[0] += 10
    report.step(10)
    first, second = capsys.readouterr().out.splitlines()
    assert "goes on after 50/100" in first
    assert "60/100" in second and " 1 images/s, 0:00:40 left" in second


def test_a_bar_on_a_terminal(clock: list[float], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    report = Progress("Alignment", 4)
    for _ in range(4):
        clock[0] += 1
        report.step()
    out = capsys.readouterr().out
    assert out.count("\n") == 1 and out.endswith("left\n")
    assert [bar.count("#") for bar in re.findall(r"\[([#-]{24})\]", out)] == [6, 12, 18, 24]
