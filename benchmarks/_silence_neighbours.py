"""One bad image in a set: whether the results of the other particles are what they are without it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import mrcfile
import numpy as np
from _results import Row
from _silence_bad_inputs import load_engine

from cryolearn.tests.engine.bad_input_files import BAD, VALUES, changed_star, edited_images
from cryolearn.tests.engine.bad_input_sets import COMMANDS, make_sets
from cryolearn.tests.engine.bad_inputs import Case, Outcome, run_case

__all__ = ["rows"]

_FAULTS = ("blank", "constant", "masked", "saturated", "x 1e30", "x 1e4", "hot pixel")
_SAME = 0.02  # relative: sums in another order, and particles in other batches


def _without(source: Path, folder: Path) -> Path:
    def drop(labels: list[str], rows: list[list[str]]) -> None:
        del rows[BAD - 1]
    return changed_star(source, folder, drop)


def _alignment(clean: Path, dirty: Path) -> tuple[str, bool]:
    """Error bars and amplitudes of the others, from two alignments."""
    with np.load(clean / "alignment.npz") as first, np.load(dirty / "alignment.npz") as second:
        kept = second["id"] != BAD
        bars = np.median(second["amplitude_sigma"][kept] / first["amplitude_sigma"]) - 1
        moved = np.median(np.abs(second["amplitudes"][kept] - first["amplitudes"]) / first["amplitude_sigma"])
    return f"error bars of the others {100 * bars:+.2f} %, amplitudes off by {moved:.3f} of an error bar", abs(bars) < _SAME and moved < 0.1


def _conformations(clean: Path, dirty: Path) -> tuple[str, bool]:
    """Rank correlation of the latents of the others, from two runs."""
    with np.load(clean / "conformations.npz") as first, np.load(dirty / "conformations.npz") as second:
        kept = second["id"] != BAD
        ranks = [np.argsort(np.argsort(table)) for table in (first["amplitudes"][:, 0], second["amplitudes"][kept, 0])]
    found = abs(float(np.corrcoef(*ranks)[0, 1]))
    return f"|Spearman| of the others' latents {found:.3f}", found > 0.9


def _maps(clean: Path, dirty: Path) -> tuple[str, bool]:
    """Correlation of two maps, and their FSC curves."""
    with mrcfile.open(clean / "map.mrc") as first, mrcfile.open(dirty / "map.mrc") as second:
        correlation = float(np.corrcoef(first.data.ravel(), second.data.ravel())[0, 1])
    curves = [np.genfromtxt(folder / "map_fsc.csv", delimiter=",", names=True)["fsc"] for folder in (clean, dirty)]
    off = float(np.abs(curves[0] - curves[1]).max())
    return f"correlation of the maps {correlation:.5f}, FSC off by {off:.4f} at most", correlation > 0.999 and off < _SAME


JUDGES: dict[str, Callable[[Path, Path], tuple[str, bool]]] = {
    "elastic-align": _alignment, "elastic-predict": _alignment, "reconstruct": _maps, "gaussian-heterogeneity": _conformations,
}


def rows(work: Path) -> Iterator[Row]:
    """A row a command: the largest difference over the kinds of bad images."""
    load_engine()
    sets = make_sets(work / "sets", whole=True)
    for command, judge in JUDGES.items():
        clean = _run(command, "without", _without, sets, work)
        said, right = [], clean.code == 0
        for how in _FAULTS:
            dirty = _run(command, how, partial(edited_images, how), sets, work)
            measured, holds = judge(clean.folder, dirty.folder) if dirty.code == clean.code == 0 else (f"exit code {dirty.code}", False)
            said.append(f"{how}: {measured}")
            right &= holds
        yield Row("one bad image among 25", command, "the others' results as without it", "; ".join(said), right)


def _run(command: str, what: str, make: Callable[[Path, Path], Path], sets: Path, work: Path) -> Outcome:
    assert what in VALUES or what == "without"
    case = Case(command, "particles", what, dict(COMMANDS[command]), lambda folder: str(make(sets / "few.star", folder)), ())
    return run_case(case, sets, work / "neighbours" / f"{command}-{what.replace(' ', '_')}-{os.getpid()}")
