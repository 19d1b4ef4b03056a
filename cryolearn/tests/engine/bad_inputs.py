"""The table of bad inputs: every command of the engine with each fault of each of its inputs, and what the outcome is worth.

Right is an exit code that is not 0 with one ``ERROR:`` sentence that names the item and nothing written under a final name, or exit code 0 with the fault named
in a ``WARNING:`` or ``NOTE:``, or flagged in the result table, and all results finite or flagged.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import json
import os
import re
import shutil
import traceback
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mrcfile
import numpy as np

from cryolearn.engine.__main__ import main
from cryolearn.engine.commands import COMMANDS as PLACES
from cryolearn.engine.config import default_of, fields_of, types_of

from .bad_input_files import Fault
from .bad_input_kinds import KINDS
from .bad_input_sets import COMMANDS, INPUTS, place, words_of

__all__ = ["VERDICTS", "Case", "Outcome", "all_cases", "judged", "run_case"]

RIGHT, UNCLEAR, TRACEBACK, WRONG = VERDICTS = ("right", "unclear", "traceback", "wrong or lost at exit 0")
_GOOD = {
    "map": "@map",
    "mask": "@mask",
    "small map": "@small map",
    "small mask": "@small mask",
    "classes": "@clusters",
    "motion": "@motion",
    "features": "@features",
    "structure": "@structure",
    "model": "@distance model",
}  # of optional parameters, which a quick run of the command leaves out
# parameters that go with another one, or in the place of it
_TOGETHER: dict[tuple[str, str], dict[str, object]] = {
    ("simulate-particles", "structure"): {"modes": None},
    ("simulate-particles", "volumes"): {"modes": None},
    ("subtomogram-simulate", "volumes"): {"structures": None},
    ("trajectory", "motion"): {"modes": None, "table": "@conformations"},
    ("distance-train", "volumes"): {"structures": None, "particles": None},
    ("subtomogram-average", "references"): {"start": "reference"},
    ("subtomogram-average", "features"): {"known_features": "@features"},
    ("validate-map", "half1"): {"half2": "@half2"},
    ("map-train", "input_maps"): {"structures": None, "target_maps": ["@map", "@half1"]},
    ("orientation-recover", "model"): {"start": "network", "restarts": 1, "gauge_candidates": 100, "second_start": False},
}
_LONG = ("gaussian-heterogeneity", "elastic-train", "distance-train", "orientation-recover", "subtomogram-average", "map-train", "map-enhance")
_OF_SIDE_CHAINS = ("chi1_deg", "peak_deg_map", "peak_sd_map", "rotameric_map")  # not known of residues without one
_RECORDS = re.compile(r"(^|/)(records|checkpoints|chunks|stages|lightning_logs)(/|$)|\.part$")


@dataclass
class Case:
    """One command with one fault.

    Attributes
    ----------
    command, parameter, what : the command, its faulty parameter, and the fault
    options : options beside the faulty parameter; None takes one out
    make : writes the faulty value into a folder and returns it
    names : texts of which the sentence has one
    harmless : a result without any sentence is right too
    """

    command: str
    parameter: str
    what: str
    options: dict[str, object]
    make: Callable[[Path], object]
    names: tuple[str, ...]
    harmless: bool = False
    more: list[str] = field(default_factory=list)

    @property
    def name(self) -> str:
        """Command, parameter and fault."""
        return f"{self.command}, {self.parameter}: {self.what}"


@dataclass
class Outcome:
    """How a command ended: exit code (None: it was stopped), what it printed, and the folder it wrote."""

    code: int | None
    text: str
    folder: Path

    def lines(self, start: str) -> list[str]:
        """Lines of the log that begin so."""
        return [line for line in self.text.splitlines() if line.startswith(start)]


def all_cases(sets: Path) -> list[Case]:
    """Every command with every fault; ``sets`` holds the sound inputs."""
    found: list[Case] = []
    for command in PLACES:
        for parameter, kind in INPUTS[command].items():
            faults = KINDS[kind]
            if command in _LONG:  # what the readers say, other commands show as well
                faults = [
                    fault
                    for number, fault in enumerate(faults)
                    if " image" in fault.what or "one sub" in fault.what or number % 4 == _LONG.index(command) % 4
                ]
            found += [_case_of_file(command, parameter, kind, fault, sets) for fault in faults]
        found += _cases_of_parameters(command)
    return found


def _case_of_file(command: str, parameter: str, kind: str, fault: Fault, sets: Path) -> Case:
    options = {**COMMANDS[command], **_TOGETHER.get((command, parameter), {})}
    given = options.get(parameter) or _GOOD[kind]
    is_list = isinstance(default_of(_config_class(command), parameter), list)
    first, *rest = given if isinstance(given, list) else [given]
    if (command, parameter) == ("map-train", "input_maps"):
        rest = ["@half2"]

    def make(folder: Path) -> object:
        bad = str(fault.make(Path(str(place(first, sets))), folder))
        return [bad, *rest] if is_list else bad

    return Case(command, parameter, fault.what, options, make, fault.names or (parameter, "bad_", os.path.basename(str(place(first, sets)))), fault.harmless)


def _config_class(command: str) -> Any:
    module, name = PLACES[command].config.split(":")
    return getattr(importlib.import_module(module), name)


def _cases_of_parameters(command: str) -> Iterator[Case]:
    """Values of parameters that no command can use."""
    config, types = _config_class(command), types_of(_config_class(command))
    fields = {name: part for name, part in fields_of(config).items() if name not in ("output", "gpu_list")}

    def case(name: str, what: str, value: object, names: tuple[str, ...] = ()) -> Case:
        options = dict(COMMANDS[command])
        return Case(command, name, what, options, lambda folder: value, names or (name,))

    numbers = [name for name in fields if types[name] in (int, float) and name != "threads"]
    low = next((name for name in numbers if fields[name].metadata.get("low") is not None), None)
    high = next((name for name in numbers if fields[name].metadata.get("high") is not None), None)
    real = next((name for name in numbers if types[name] is float), None)
    whole = next((name for name in numbers if types[name] is int), "threads")
    choice = next((name for name in fields if fields[name].metadata.get("choices")), None)
    flag = next((name for name in fields if types[name] is bool), None)
    if low:
        yield case(low, "below its range", types[low](fields[low].metadata["low"] - 1))
    if high:
        yield case(high, "above its range", types[high](fields[high].metadata["high"] * 2 + 1))
    for what, value in (("NaN", "nan"), ("text", "many"), ("infinite", "inf"), ("1e400", "1e400")):
        if real:
            yield case(real, what, value)
    yield case(whole, "half a number", 2.5)
    yield case(whole, "a list", [1, 2])
    yield case("threads", "negative", -1)
    if choice:
        yield case(choice, "no choice of it", "nonsense")
    if flag:
        yield case(flag, "text for true or false", "maybe")
    yield case("colour", "unknown option", "red")
    needed = next(iter(INPUTS[command]))
    if needed in COMMANDS[command] and command != "distance-train":  # which learns from structures too
        yield case(needed, "no value", [] if isinstance(default_of(config, needed), list) else "", (needed, "structure", "volumes", "maps", "models", "map"))
    if "mode_numbers" in COMMANDS[command]:
        yield case("mode_numbers", "a rigid mode", [3], ("Mode 3", "modes are named"))
        yield case("mode_numbers", "a mode that is not there", [7, 999], ("999", "mode_numbers"))
        yield case("mode_numbers", "a mode twice", [7, 7], ("Mode 7", "[7, 7]"))
    if "symmetry" in fields:
        yield case("symmetry", "no point group", "Q7", ("Q7", "symmetry"))
    yield Case(command, "output", "a file in its place", dict(COMMANDS[command]), _file_in_the_way, ("output", "occupied"))


def _file_in_the_way(folder: Path) -> object:
    path = folder / "occupied"
    path.write_text("a file\n")
    return str(path)


def run_case(case: Case, sets: Path, folder: Path) -> Outcome:
    """Run the command of a case in this process, into ``folder/out``."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    options = {name: value for name, value in {**case.options, case.parameter: case.make(folder)}.items() if value is not None}
    out = Path(str(options.pop("output", folder / "out")))
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        try:
            code: int | None = main(words_of(case.command, out, options, sets))
        except BaseException:
            traceback.print_exc()
            code = None
    return Outcome(code, text.getvalue(), out)


def judged(case: Case, outcome: Outcome) -> tuple[str, str]:
    """Verdict on a case, and the evidence in a few words."""
    errors = outcome.lines("ERROR: ")
    said = " | ".join(errors) or "no error"
    if outcome.code in (None, 1) or "Traceback (most recent call last)" in outcome.text:
        return TRACEBACK, said
    left = _results(outcome.folder)
    if outcome.code:
        if len(errors) != 1 or not _names(errors[0], case):
            return UNCLEAR, said
        return (WRONG, f"{said}, but left {', '.join(left[:4])}") if left else (RIGHT, said)
    odd = _not_finite(outcome.folder, left)
    if odd:
        return WRONG, f"exit code 0, {odd}"
    warned = [line for line in (*outcome.lines("WARNING: "), *outcome.lines("NOTE: ")) if _names(line, case)]
    if warned or case.harmless or _flagged(outcome.folder):
        return RIGHT, warned[0] if warned else "exit code 0, flagged or harmless"
    return WRONG, f"exit code 0, nothing said of it: {' | '.join(outcome.lines('WARNING: ')) or 'no warning'}"


def _names(sentence: str, case: Case) -> bool:
    return any(name in sentence for name in case.names)


def _results(folder: Path) -> list[str]:
    """Files under their final names below an output folder; records of unfinished work are none."""
    if not folder.is_dir():
        return []
    files = (str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
    return sorted(name for name in files if not _RECORDS.search(name))


def _flagged(folder: Path, bad: int = 7) -> bool:
    """Whether a result table flags the bad item, or gives it no class."""
    for path in folder.glob("*.npz"):
        with np.load(path) as table:
            if "id" in table.files and bad in table["id"]:
                row = int(np.flatnonzero(table["id"] == bad)[0])
                if "flags" in table.files and table["flags"][row] >= 8:
                    return True
    return False


def _not_finite(folder: Path, names: list[str]) -> str:
    """The first result that is not finite and not flagged."""
    for name in names:
        path = folder / name
        if path.suffix == ".json":
            with contextlib.suppress(UnicodeDecodeError):
                try:
                    json.loads(path.read_text(), parse_constant=_refuse)
                except ValueError as error:
                    return f"{name} is not JSON: {error}"
        elif path.suffix in (".mrc", ".mrcs"):
            with mrcfile.open(path, permissive=True) as handle:
                if not np.isfinite(handle.data).all():
                    return f"{name} is not finite"
        elif path.suffix == ".npz" and zipfile.is_zipfile(path):
            odd = _odd_column(path)
            if odd:
                return f"{name}: {odd} is not finite"
        elif path.suffix == ".star" and re.search(r"\s[-+]?(nan|inf)\s", path.read_text(), re.IGNORECASE):
            return f"{name} holds NaN"
    return ""


def _odd_column(path: Path) -> str:
    with np.load(path) as table:
        fine = np.ones(1, bool)
        if "flags" in table.files:
            fine = table["flags"] == 0
        elif "class" in table.files:
            fine = table["class"] > 0  # the others belong to none
        for name in table.files:
            values = np.minimum(table[name], 0) if name == "margin" else table[name]  # infinite where no other solution was found
            if name in _OF_SIDE_CHAINS:
                continue
            if values.dtype.kind == "f" and not np.isfinite(values[fine] if len(fine) == len(values) else values).all():
                return name
    return ""


def _refuse(text: str) -> Any:
    raise ValueError(text)
