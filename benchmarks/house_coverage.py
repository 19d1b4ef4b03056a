"""Lines of the package that the tests run, in all of its processes: engines that tests, Scipion and SLURM start included.

Needs coverage.py, which ``make coverage`` installs into an environment of its own beside .venv. What is named on the command line goes to pytest; rows are
written for all tests only. A process that is killed on purpose loses what it has counted.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

from _results import parser, record

ROOT = Path(__file__).resolve().parents[1]
SIDES = {
    "engine": ("cryolearn/engine/",),
    "what both sides share": ("cryolearn/common/",),
    "Scipion's side": ("cryolearn/",),  # all the rest
}
AS_MAKE_TEST = ("-n", "auto", "--maxprocesses", "4", "--dist", "loadscope")
SETTINGS = """[run]
source = {root}/cryolearn
omit = {root}/cryolearn/tests/*
data_file = {work}/data
parallel = true
patch = subprocess, _exit
sigterm = true
disable_warnings = no-data-collected
"""


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("tests", nargs="*", help="files and options of pytest; all tests without them")
    options = options.parse_args()
    work = (options.work / "coverage").resolve()
    work.mkdir(parents=True, exist_ok=True)
    for old in work.glob("data*"):
        old.unlink()
    settings = work / "coveragerc"
    settings.write_text(SETTINGS.format(root=ROOT, work=work), encoding="utf-8")
    coverage = [sys.executable, "-m", "coverage"]
    rc = [f"--rcfile={settings}"]
    tests = subprocess.run([*coverage, "run", *rc, "-m", "pytest", "-q", *(options.tests or AS_MAKE_TEST)], cwd=ROOT, check=False,
                           env={**os.environ, "CRYOLEARN_TESTS_COLD": "1"})  # coverage.py enters processes at their start
    subprocess.run([*coverage, "combine", *rc, "--quiet", str(work)], cwd=ROOT, check=True)
    subprocess.run([*coverage, "json", *rc, "--quiet", "-o", str(work / "coverage.json")], cwd=ROOT, check=True)
    counts = {name: (one["summary"]["covered_lines"], one["summary"]["num_statements"])
              for name, one in json.loads((work / "coverage.json").read_text())["files"].items()}
    whole = not options.tests and tests.returncode == 0
    remaining = dict(counts)
    for side, folders in SIDES.items():
        names = [name for name in remaining if name.startswith(folders)]
        _told(side, [remaining.pop(name) for name in names], options.scale, whole)
    _told("the whole package", list(counts.values()), options.scale, whole)
    for name, (covered, lines) in sorted(counts.items(), key=lambda item: item[1][0] / max(1, item[1][1])):
        if lines and covered < 0.8 * lines:
            print(f"{100 * covered / lines:5.1f} % of {lines:4d}  {name}")
    idle = sorted(name for name, (covered, lines) in counts.items() if lines and not covered)
    if whole:
        record("house", "modules that no test runs", condition="cryolearn, without its tests", target="0", measured=", ".join(idle) or "0", holds=not idle,
               scale=options.scale)
    sys.exit(tests.returncode)


def _told(side: str, counts: list[tuple[int, int]], scale: str, whole: bool) -> None:
    """Print, or record, the share of lines that ran."""
    covered, lines = (sum(column) for column in zip(*counts, strict=True))
    share = f"{100 * covered / max(1, lines):.1f} % of {lines} lines"
    if whole:
        record("house", "coverage by the tests", condition=side, target="told", measured=share, holds=True, scale=scale)
    else:
        print(f"{side}: {share} (some tests only: not recorded)")


if __name__ == "__main__":
    main()
