"""How the code is built, before and after: concepts written more than once, signatures, size (no data, no GPU; a minute).

Counts the working tree and the tree of a git revision (``--base``), by the rules of ``_house.py``. ``--list`` prints the places instead of writing rows.
"""

from __future__ import annotations

import io
import subprocess
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path

import _house
from _house import Module
from _results import parser, record

ROOT = Path(__file__).resolve().parents[1]
COUNTS: tuple[tuple[str, Callable[[list[Module]], list[str]], int, str], ...] = (
    ("definitions of a Fourier band", _house.fourier_bands, 1, "1"),
    ("slice extraction from a reference", _house.slice_extractions, 1, "1"),
    ("shift grids", _house.shift_grids, 1, "1"),
    ("EM from random starts", _house.random_starts, 1, "1"),
    ("FSC crossing of a threshold", _house.fsc_crossings, 1, "1"),
    ("pixel-size tolerances", _house.pixel_tolerances, 1, "1"),
    ("write-then-rename outside io/atomic.py", _house.renames, 0, "0"),
    ("record mechanisms of interrupted work", _house.record_mechanisms, 1, "1"),
    ("calls with over six positional arguments", _house.positional_calls, 0, "0"),
    ("public functions with over eight parameters", _house.long_signatures, 0, "0"),
    ("modules over 300 lines", _house.long_modules, 0, "0"),
    ("pairs of functions of the same shape over ten lines", _house.same_shape, 15, "<= 15"),
)
LEAST_SAVED = 0.10  # of the product's lines


def tree_of(revision: str, folder: Path) -> Path:
    """The files of a git revision, below ``folder``."""
    done = subprocess.run(["git", "archive", revision, "cryolearn"], cwd=ROOT, check=True, capture_output=True)
    with tarfile.open(fileobj=io.BytesIO(done.stdout)) as archive:
        archive.extractall(folder)
    return folder


def main() -> None:
    options = parser(__doc__ or "")
    options.add_argument("--base", default="27175a2", help="git revision to compare with")
    options.add_argument("--list", action="store_true", help="print the places of the working tree and write no rows")
    options = options.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        before = _house.modules_of(tree_of(options.base, Path(folder)))
    after = _house.modules_of(ROOT)
    trees = {f"commit {options.base}": before, "working tree": after}
    for what, count, limit, target in COUNTS:
        for condition, modules in trees.items():
            if options.list:
                if modules is after:
                    print(f"{what} (target {target})", *count(modules), sep="\n    ")
                continue
            measured = len(count(modules))
            record("house", what, condition=condition, target=target, measured=str(measured), holds=measured <= limit, scale=options.scale)
    for what, measure in (("lines of the product", _house.lines), ("lines of the product without blank lines, comments and docstrings", _house.code_lines)):
        old, new = measure(before), measure(after)
        target = f"<= {100 * (1 - LEAST_SAVED):.0f} % of commit {options.base}"
        if options.list:
            print(f"{what}: {old} before, {new} after")
        else:
            record("house", what, condition=f"commit {options.base}", target="-", measured=str(old), holds=True, scale=options.scale)
            record(
                "house",
                what,
                condition="working tree",
                target=target,
                measured=f"{new} ({100 * new / old:.1f} %)",
                holds=new <= (1 - LEAST_SAVED) * old,
                scale=options.scale,
            )


if __name__ == "__main__":
    main()
