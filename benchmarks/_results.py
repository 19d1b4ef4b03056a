"""The one place that writes benchmarks/results/<method>.csv: a row a target, with what was measured, how and where."""

from __future__ import annotations

import argparse
import csv
import datetime
import os
import platform
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(os.environ.get("CRYOLEARN_RESULTS", Path(__file__).resolve().parent / "results"))  # house_repeat.py sends its rows elsewhere
COLUMNS = ("what", "condition", "target", "measured", "holds", "scale", "command", "machine", "date")
KEY = ("what", "condition", "scale")


class Row(NamedTuple):
    """A row of a table: what, under which condition, the value aimed at, the value measured, and whether it holds."""

    what: str
    condition: str
    target: str
    measured: str
    holds: bool


def record_rows(method: str, rows: Iterable[Row], scale: str) -> None:
    """Record rows as they come."""
    for row in rows:
        record(method, **row._asdict(), scale=scale)


def parser(description: str) -> argparse.ArgumentParser:
    """Arguments that every benchmark has: ``--scale`` and ``--work``."""
    made = argparse.ArgumentParser(description=description)
    made.add_argument("--scale", choices=("laptop", "paper"), default="laptop", help="laptop finishes in minutes on two cores")
    made.add_argument("--work", type=Path, default=Path("benchmark-work"), help="folder for data that can be thrown away")
    return made


def machine() -> str:
    """Processor, cores that may be used, and GPU."""
    name = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        models = [line.split(":", 1)[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        name = models[0] if models else name
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    text = f"{name}, {cores} cores"
    try:
        import torch

        if torch.cuda.is_available():
            text += f", {torch.cuda.get_device_name(0)}"
    except ImportError:
        pass
    return text


def command() -> str:
    """The command line as a reader would type it, without the places of this machine."""
    words = ["python", f"benchmarks/{Path(sys.argv[0]).name}"]
    for word in sys.argv[1:]:
        words.append("DIR" if os.path.isabs(word) else word)
    return " ".join(words)


def record(method: str, what: str, condition: str, target: str, measured: str, holds: bool, scale: str) -> None:
    """Add a row, or replace the one of the same what, condition and scale; a missed target stays, with ``holds`` false."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{method}.csv"
    rows = []
    if path.exists():
        with open(path, newline="", encoding="utf-8") as handle:
            rows = list(csv.DictReader(handle))
    row = dict(zip(COLUMNS, (
        what, condition, target, measured, str(bool(holds)).lower(), scale, command(), machine(), datetime.date.today().isoformat(),
    )))
    rows = [old for old in rows if any(old[name] != row[name] for name in KEY)] + [row]
    rows.sort(key=lambda item: tuple(item[name] for name in KEY))
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.DictWriter(handle, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    print(f"{'holds' if holds else 'MISSED':<7} {what} [{condition}]: {measured} (target {target})", flush=True)
