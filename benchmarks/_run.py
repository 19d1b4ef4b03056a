"""What the benchmarks of several methods share: processes with what they took, engine commands, and tables beside the pictures."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Usage:
    """What a process took: time on the clock, time of the processor (which other programs on the machine change less), memory."""

    seconds: float
    memory_mib: float
    cpu_seconds: float = 0.0


def run_process(words: list[str], **settings: object) -> Usage:
    start = time.monotonic()
    process = subprocess.Popen(words, **settings)  # type: ignore[call-overload]
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if status:
        sys.exit(f"ERROR: '{' '.join(words[:6])} ...' failed.")
    return Usage(time.monotonic() - start, usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime)


def engine_words(command: str, output: Path, **options: object) -> list[str]:
    """Command line of an engine command."""
    words = [sys.executable, "-m", "cryolearn.engine", command, "--output", str(output)]
    for name, value in options.items():
        words += [f"--{name}", json.dumps(value) if isinstance(value, (list, bool)) else str(value)]
    return words


def engine(command: str, output: Path, **options: object) -> Usage:
    """Run an engine command; what it took."""
    return run_process(engine_words(command, output, **options))


@dataclass
class Outcome:
    """Folder of an engine command's outputs, and what the command took."""

    folder: Path
    usage: Usage

    def summary(self) -> dict[str, object]:
        return dict(json.loads((self.folder / "summary.json").read_text(encoding="utf-8")))


def short_digest(settings: object) -> str:
    return hashlib.sha256(json.dumps(settings, sort_keys=True, default=str).encode()).hexdigest()[:10]


def kept_engine(
    runs: Path, keep: bool, command: str, name: str, /, hardware: dict[str, object] | None = None, **settings: object,
) -> Outcome:
    """Run a command in a folder of its own settings; with ``keep`` a finished one is used again and a killed one goes on.

    ``hardware`` are settings that no result depends on.
    """
    folder = runs / f"{name}-{short_digest([command, settings])}"
    note = folder / "benchmark.json"
    if keep and note.exists():
        return Outcome(folder, Usage(**json.loads(note.read_text())))
    if folder.exists() and not keep:
        shutil.rmtree(folder)
    usage = engine(command, folder, **settings, **(hardware or {}))
    note.write_text(json.dumps(vars(usage)))
    return Outcome(folder, usage)


def merge_table(path: Path, rows: list[dict[str, object]], keys: tuple[str, ...]) -> None:
    """Write rows into a table, in the place of those with the same keys."""
    old: list[dict[str, object]] = []
    if path.exists():
        with open(path, newline="", encoding="utf-8") as handle:
            old = [dict(row) for row in csv.DictReader(handle)]
    rounded = [{name: f"{value:.4g}" if isinstance(value, float) else value for name, value in row.items()} for row in rows]
    new = {tuple(str(row[key]) for key in keys) for row in rounded}
    write_table_of(path, [row for row in old if tuple(str(row[key]) for key in keys) not in new] + rounded)


def write_table_of(path: Path, rows: list[dict[str, object]]) -> None:
    """A small table beside the pictures, for numbers that have no target."""
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
