"""Are results of before still the results? Rows of the tables in benchmarks/results, made again by their own scripts and compared with those of a git revision.

Each case runs one script as its rows tell, with the rows sent to a folder of work; numbers of the same row are compared: all those that are no times.
A row agrees when no number moved by more than its own ± (where the row states one), else by more than 5 % or one unit of its last digit.
"""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from _results import KEY, parser, record

ROOT = Path(__file__).resolve().parent.parent
MAIN = ("target", "holds", "command", "machine", "date")  # columns of the main tables that are no measurement
TIMES = re.compile(r"second|minute|cpu|memory|_s$|time|speed|an hour|MiB|GiB")
NUMBER = re.compile(r"(?<![\w.])-?\d+(?:\.\d+)?(?:e-?\d+)?(?![\w.]*\d)")
SHARE = 0.05


@dataclass(frozen=True)
class Case:
    """A script with its arguments (``{data}`` is the folder of downloaded data), and which of its tables are compared by which columns."""

    script: str
    arguments: str
    tables: dict[str, tuple[str, ...]]


CASES = (
    Case("foundation_reconstruction.py", "--work {work}", {"foundation": KEY}),
    Case("foundation_ribosome_tilts.py", "--work {work} --data {data}/particles/ribosome_tilts", {"foundation": KEY}),
    Case("orientation_fig5.py", "--work {work} --part groups", {"orientation": KEY, "orientation_fig5": ("images", "group", "noise")}),
    Case("orientation_fig5.py", "--work {work} --part alignment", {"orientation": KEY}),
    Case("superres_scores.py", "--work {work} --data {data}", {"superres": KEY, "superres_scores": ("case", "map")}),
    Case("subtomo_averaging.py", "--work {work} --data {data}/density_10A", {"subtomograms": KEY}),
    Case("gaussian_composition.py", "--work {work} --no-peers", {"gaussian": KEY}),
    Case("gaussian_slides.py", "--work {work} --no-peers", {"gaussian": KEY, "gaussian_slides_methods": ("set", "condition", "program", "scale")}),
)


def main() -> None:
    parse = parser(__doc__ or "")
    parse.add_argument("--base", default="27175a2", help="git revision to compare with")
    parse.add_argument("--data", type=Path, required=True, help="folder of the downloaded data")
    parse.add_argument("--only", nargs="*", default=[], help="scripts to run; all without it")
    options = parse.parse_args()
    for number, case in enumerate(CASES):
        if options.only and case.script not in options.only:
            continue
        folder = options.work.resolve() / "repeat" / f"{number}-{Path(case.script).stem}"
        results = folder / "results"
        results.mkdir(parents=True, exist_ok=True)
        words = case.arguments.format(work=folder, data=options.data.resolve()).split()
        code = subprocess.run([sys.executable, str(ROOT / "benchmarks" / case.script), *words], cwd=ROOT, check=False,
                              env={**os.environ, "CRYOLEARN_RESULTS": str(results)}).returncode
        for table, keys in case.tables.items():
            before = rows_of(of_revision(options.base, table), keys)
            now = rows_of((results / f"{table}.csv").read_text(encoding="utf-8") if code == 0 else "", keys)
            changes = {key: agree(before[key], row) for key, row in now.items() if key in before}
            moved = [f"{' '.join(key)}: {before[key]} -> {now[key]}" for key, same in changes.items() if not same]
            record(
                "house", f"rows of {table}.csv made again by {case.script}", f"{' '.join(case.arguments.split())}; commit {options.base}",
                "at least two, within their scatter",
                "; ".join([f"{len(changes)} rows, {len(changes) - len(moved)} within their scatter", *moved]),
                len(changes) >= 2 and not moved, options.scale,
            )


def of_revision(revision: str, table: str) -> str:
    """The text of a table at a git revision."""
    return subprocess.run(["git", "show", f"{revision}:benchmarks/results/{table}.csv"], cwd=ROOT, check=True, capture_output=True, text=True).stdout


def rows_of(text: str, keys: tuple[str, ...]) -> dict[tuple[str, ...], str]:
    """What was measured, as one text a row, by the values of the key columns."""
    found = {}
    for row in csv.DictReader(io.StringIO(text)):
        key = tuple(row[name] for name in keys)
        if not TIMES.search(" ".join(key)):
            found[key] = ", ".join(value for name, value in row.items() if name not in (*keys, *MAIN) and not TIMES.search(name))
    return found


def agree(before: str, now: str) -> bool:
    """Do the numbers of two texts agree, in number and in size?"""
    first, second = ([text for text in re.split(r"[,;]", words) if not TIMES.search(text)] for words in (before, now))
    if len(first) != len(second):
        return False
    for old, new in zip(first, second):
        was, became = NUMBER.findall(old), NUMBER.findall(new)
        if len(was) != len(became):
            return False
        given = re.search(r"± (\d+(?:\.\d+)?)", old)
        for one, other in zip(was, became):
            digits = len(one.partition(".")[2]) if "e" not in one else 0
            unit = 10.0**-digits if "e" not in one else 0.0
            allowed = max(float(given.group(1)) if given else 0.0, SHARE * abs(float(one)), 1.01 * unit)
            if abs(float(one) - float(other)) > allowed:
                return False
    return True


if __name__ == "__main__":
    main()
