"""Every command of the engine with each kind of bad input: what it says, how it ends, and whether anything is lost."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import re
import signal
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import torch
from _results import Row

import cryolearn.engine
from cryolearn.tests.engine.bad_input_sets import make_sets
from cryolearn.tests.engine.bad_inputs import VERDICTS, Case, all_cases, judged, run_case

__all__ = ["bad_input_row", "forked", "load_engine", "rows"]

_LIMIT_S = 600
_FEWEST = 300
_SHOWN = 12


def load_engine() -> None:
    """Import all of the engine once, so that a forked case does not have to."""
    torch.set_num_threads(1)
    for module in pkgutil.walk_packages(cryolearn.engine.__path__, "cryolearn.engine."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)


def forked(case: Case, sets: Path, folder: Path) -> tuple[str, str]:
    """Verdict on a case and its evidence, in a process of its own that is stopped after ten minutes."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        os.close(reader)
        signal.alarm(_LIMIT_S)
        try:
            answer = judged(case, run_case(case, sets, folder))
        except BaseException as error:
            answer = "no verdict", f"{type(error).__name__}: {error}"
        os.write(writer, json.dumps(answer).encode()[:60_000])
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as handle:
        content = handle.read()
    os.waitpid(child, 0)
    verdict, said = json.loads(content) if content else (VERDICTS[2], f"stopped, or killed after {_LIMIT_S} s")
    return verdict, re.sub(r"\s+", " ", said.replace(str(folder), "DIR").replace(str(sets), "SETS"))


def rows(work: Path) -> Iterator[Row]:
    """A row a command with the counts of the four verdicts and the cases that are not right, and one of all of them."""
    load_engine()
    sets = make_sets(work / "sets", whole=True)
    counts: dict[str, Counter[str]] = {}
    failures: dict[str, list[str]] = {}
    with open(work / "bad_inputs.txt", "w", encoding="utf-8") as log:
        for number, case in enumerate(all_cases(sets)):
            start = time.monotonic()
            verdict, said = forked(case, sets, work / "cases" / f"{number:04d}")
            print(f"{number:04d} {time.monotonic() - start:6.2f} s  {verdict}: {case.name}: {said}", file=log, flush=True)
            counts.setdefault(case.command, Counter())[verdict] += 1
            if verdict != VERDICTS[0]:
                failures.setdefault(case.command, []).append(f"{case.parameter}: {case.what} ({verdict})")
    for command, found in counts.items():
        yield bad_input_row(command, found, failures.get(command, []))
    whole = sum(counts.values(), Counter())
    yield bad_input_row("all commands", whole, [], fewest=_FEWEST)


def bad_input_row(condition: str, found: Counter[str], failures: list[str], fewest: int = 0) -> Row:
    """Row of the table: counts of the verdicts, and the cases that are not right."""
    measured = f"{sum(found.values())} cases: " + ", ".join(f"{found[name]} {name}" for name in VERDICTS)
    if failures:
        measured += "; " + "; ".join(failures[:_SHOWN]) + (f"; and {len(failures) - _SHOWN} more" if len(failures) > _SHOWN else "")
    target = (f"at least {fewest} cases, " if fewest else "") + ", ".join(f"{name} 0" for name in VERDICTS[1:])
    holds = found[VERDICTS[0]] == sum(found.values()) >= fewest
    return Row("bad inputs", condition, target, measured, holds)
