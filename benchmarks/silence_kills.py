"""Killed runs end as undisturbed ones: kill -9 at random moments of each resumable command, and records as a power cut leaves them, empty or half.

Results are compared in all that they say but times: arrays, maps, weights, tables and summaries. A record is damaged in a copy of a run that was killed after
two thirds of its time, one record after the other. The bits are those of one machine and one number of threads.
"""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from _results import parser, record
from _run import engine_words
from _silence_commands import COMMANDS, options_of

HALF_DONE = 2 / 3
_POLL_S = 0.02
_TIMES = ("seconds", "time", "date")
_MRC_HEADER = 1024  # holds the time of writing


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--only", choices=COMMANDS, nargs="*", default=list(COMMANDS), help="commands to try")
    arguments.add_argument("--kills", type=int, default=10, help="random moments for each command; 0 leaves them out")
    arguments.add_argument("--records", type=int, default=0, help="records to damage for each command, drawn at random; 0 takes all, -1 none")
    arguments.add_argument("--threads", type=int, default=1)
    options = arguments.parse_args()
    for command in options.only:
        Case(command, options.work.resolve() / "kills", options.threads).rows(options.kills, options.records, options.scale)


class Case:
    """A command in a folder of its own: ``run`` is where it works each time, ``whole`` what an undisturbed run left, ``half`` one that was killed."""

    def __init__(self, command: str, work: Path, threads: int) -> None:
        inputs = work / "inputs"
        inputs.mkdir(parents=True, exist_ok=True)
        self.command, self.options = command, options_of(command, inputs)  # type: str, Options
        self.options["threads"] = threads
        self.folder = work / command
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir()
        self.run, self.whole, self.half = (self.folder / name for name in ("run", "whole", "half"))

    def rows(self, kills: int, records: int, scale: str) -> None:
        start = time.monotonic()
        self.finish()
        seconds = time.monotonic() - start
        self.run.rename(self.whole)
        if kills:
            draw = random.Random(1)
            wrong = [wrong for _ in range(kills) if (wrong := self.killed(draw.uniform(0, 1) * seconds))]
            measured = f"{kills - len(wrong)} of {kills}" + (f"; {wrong[0]}" if wrong else "")
            record("silence", "killed runs end as undisturbed ones", condition=f"{self.command}, kill -9 at random moments", target=f"{kills} of {kills}",
                   measured=measured, holds=not wrong, scale=scale)
        if records >= 0:
            count, wrong = self.damaged(HALF_DONE * seconds, records)
            measured = f"{count - len(wrong)} of {count}" + (f"; {wrong[0]}" if wrong else "")
            record("silence", "records that a power cut left are made anew", condition=f"{self.command}, each record empty or half",
                   target=f"{count} of {count}", measured=measured, holds=count > 0 and not wrong, scale=scale)

    def started(self) -> subprocess.Popen[bytes]:
        log = open(self.folder / "log", "ab")
        return subprocess.Popen(engine_words(self.command, self.run, **self.options), stdout=log, stderr=subprocess.STDOUT)

    def finish(self) -> str:
        """Run to the end; what went wrong, or nothing."""
        code = self.started().wait()
        return "" if code == 0 else f"exit code {code}"

    def kill_after(self, seconds: float) -> None:
        process, end = self.started(), time.monotonic() + seconds
        while process.poll() is None and time.monotonic() < end:
            time.sleep(_POLL_S)
        process.kill()
        process.wait()

    def killed(self, seconds: float) -> str:
        """Kill a run, start it again; what went wrong, or nothing."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.kill_after(seconds)
        wrong = self.finish() or differs(self.whole, self.run)
        print(f"{self.command}: killed after {seconds:.1f} s: {wrong or 'the same'}", flush=True)
        return wrong

    def damaged(self, seconds: float, most: int) -> tuple[int, list[str]]:
        """Number of damages tried, and what went wrong."""
        shutil.rmtree(self.run, ignore_errors=True)
        self.kill_after(seconds)
        shutil.rmtree(self.half, ignore_errors=True)
        self.run.rename(self.half)
        names = sorted(str(path.relative_to(self.half)) for path in self.half.rglob("*") if path.is_file() and is_record(path, self.half))
        if most:
            names = sorted(random.Random(1).sample(names, min(most, len(names))))
        tried, wrong = 0, []
        for name in names:
            for part in (0.0, 0.5):
                shutil.rmtree(self.run, ignore_errors=True)
                shutil.copytree(self.half, self.run, symlinks=True)
                os.truncate(self.run / name, int(part * (self.run / name).stat().st_size))
                found = self.finish() or differs(self.whole, self.run)
                print(f"{self.command}: {name} {'empty' if part == 0 else 'half'}: {found or 'the same'}", flush=True)
                wrong += [f"{name}: {found}"] if found else []
                tried += 1
        return tried, wrong


def is_record(path: Path, folder: Path) -> bool:
    """A file that a continued run reads: its records, stacks that grow, and volumes that are written one by one."""
    return path.relative_to(folder).parts[0] in ("records", "subtomograms") or path.suffix == ".part"


def differs(whole: Path, other: Path) -> str:
    """The first file of results that says something else, or is missing; empty when there is none."""
    names = set(results(whole)) | set(results(other))
    for name in sorted(names):
        if not (whole / name).exists() or not (other / name).exists():
            return f"{name} is in one of them only"
        if content(whole / name) != content(other / name):
            return f"{name} differs"
    return ""


def results(folder: Path) -> Iterator[str]:
    for path in folder.rglob("*"):
        name = path.relative_to(folder)
        if path.is_file() and name.parts[0] not in ("records", "checkpoints", "figures") and path.suffix != ".png":
            yield str(name)


def content(path: Path) -> object:
    """What a file says, without times."""
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: (archive[name].dtype.str, archive[name].shape, archive[name].tobytes()) for name in archive.files}
    if path.suffix in (".mrc", ".mrcs"):
        return path.read_bytes()[_MRC_HEADER:]
    if path.suffix == ".json":
        return without_times(json.loads(path.read_text()))
    if path.suffix == ".csv":
        with open(path, newline="", encoding="utf-8") as handle:
            return [without_times(dict(row)) for row in csv.DictReader(handle)]
    return path.read_bytes()


def without_times(value: object) -> object:
    if isinstance(value, dict):
        return {name: without_times(item) for name, item in value.items() if not any(word in str(name) for word in _TIMES)}
    return [without_times(item) for item in value] if isinstance(value, list) else value


if __name__ == "__main__":
    main()
