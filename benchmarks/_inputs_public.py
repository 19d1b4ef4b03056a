"""Troubles that people reported in public with other programs, each made again small and given to the command."""

from __future__ import annotations

import contextlib
import io
import json
import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from _results import Row

from cryolearn.engine.__main__ import main

__all__ = ["Case", "Outcome", "named", "refused", "rows", "run"]


class Outcome(NamedTuple):
    """How a command ended: exit code, what it printed, and the folder it wrote."""

    code: int
    text: str
    folder: Path

    def lines(self, start: str) -> list[str]:
        """Lines of the log that begin so."""
        return [line for line in self.text.splitlines() if line.startswith(start)]


class Case(NamedTuple):
    """A report and its small likeness.

    Attributes
    ----------
    reference : repository and number of the thread
    what : the trouble
    target : what is right
    measure : makes the input in a folder and runs the command; returns what was measured and whether that is the target
    """

    reference: str
    what: str
    target: str
    measure: Callable[[Path], tuple[str, bool]]


def run(command: str, folder: Path, **values: object) -> Outcome:
    """Run a command as the command line does, in this process, into ``folder/out``."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    words = [command, "--output", str(out), "--threads", "1"]
    for name, value in values.items():
        words += [f"--{name}", json.dumps(value) if isinstance(value, (bool, list)) else str(value)]
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = main(words)
    return Outcome(code, text.getvalue(), out)


def _short(text: str, folder: Path) -> str:
    return re.sub(r"\s+", " ", text.replace(str(folder), "DIR")).strip()[:300]


def refused(outcome: Outcome, *words: str) -> tuple[str, bool]:
    """Whether a command ended with code 2 and one sentence that has these words, and left no result."""
    errors = outcome.lines("ERROR: ")
    error = errors[0] if errors else "no error"
    left = sorted(path.name for path in outcome.folder.glob("*")) if outcome.folder.exists() else []
    holds = outcome.code == 2 and len(errors) == 1 and all(word in error for word in words) and "Traceback" not in outcome.text and not left
    return f"exit code {outcome.code}, {_short(error, outcome.folder.parent)}" + (f"; files written: {', '.join(left)}" if left else ""), holds


def named(outcome: Outcome, *words: str, start: str = "WARNING: ") -> tuple[str, bool]:
    """Whether a command finished and said one sentence that has these words; warnings must be in its summary too."""
    said = outcome.lines(start)
    matching = [line for line in said if all(word in line for word in words)]
    found = f"exit code {outcome.code}, {len(said)} sentence(s): {_short(said[0], outcome.folder.parent) if said else 'none'}"
    holds = outcome.code == 0 and len(said) == len(matching) == 1
    if start == "WARNING: " and holds:
        summary = json.loads((outcome.folder / "summary.json").read_text())
        holds = any(words[0] in text for text in summary.get("warnings", []))
        found += "; in summary.json too" if holds else "; NOT in summary.json"
    return found, holds


def rows(folder: Path, cases: Callable[[Path], list[Case]]) -> Iterator[Row]:
    """One row a case, measured in a folder of its own."""
    for number, case in enumerate(cases(folder), 1):
        place = folder / f"{number:02d}"
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        measured, holds = case.measure(place)
        yield Row("trouble reported in public", f"{case.reference}: {case.what}", case.target, measured, holds)


def correlation(first: np.ndarray, second: np.ndarray) -> float:
    """Correlation of two maps of one size."""
    return float(np.corrcoef(first.ravel(), second.ravel())[0, 1]) if first.shape == second.shape else 0.0
