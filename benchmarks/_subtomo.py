"""What the benchmarks of the networks for subtomograms share: sets, trainings of all methods on the same split, accuracy on subtomograms apart."""

from __future__ import annotations

import argparse
import csv
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from _results import parser, record
from _run import Outcome, kept_engine
from _subtomo_average import maps_of

from cryolearn.engine.io.subtomograms import read_subtomograms, write_subtomograms
from cryolearn.engine.io.tables import read_table

METHODS = ("residual3d", "inception3d", "dsrf3d", "rif_svm")
LAPTOP_CLASSES = ["1bxn", "1f4a", "1qvr", "2cg9", "3cf3", "3d2f", "4v4r_30S", "6utj"]  # of the middle sizes, which are hard to tell apart


@dataclass
class LabelledSet:
    """Subtomograms to learn from, and others to judge by."""

    train: Path
    test: Path


def arguments(description: str, others: dict[str, dict[str, Any]] | None = None) -> argparse.Namespace:
    """``--scale``, ``--work``, ``--data``, ``--use_gpu``, ``--threads``, ``--keep``, ``--tiny``, and ``others`` with what ``add_argument`` takes."""
    made = parser(description)
    made.add_argument("--data", type=Path, required=True, help="folder of maps of complexes, one each (density_10A)")
    made.add_argument("--use_gpu", action="store_true", help="compute on a GPU")
    made.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes all")
    made.add_argument("--keep", action="store_true", help="judge engine results of the same settings that lie in the work folder, and go on with killed ones")
    made.add_argument("--tiny", action="store_true", help="see whether it runs: nothing is recorded")
    for name, settings in (others or {}).items():
        made.add_argument(name, **settings)
    options = made.parse_args()
    options.work = options.work.resolve()
    return options


def run_engine(options: argparse.Namespace, command: str, name: str, **settings: object) -> Outcome:
    """Run a command in a folder of its own settings."""
    hardware: dict[str, object] = {"use_gpu": options.use_gpu, "threads": options.threads}
    return kept_engine(options.work / "subtomograms" / "runs", options.keep, command, name, hardware, **settings)


def make_set(options: argparse.Namespace, name: str, classes: list[str] | None, train: int, test: int, **simulation: object) -> LabelledSet:
    """Simulate ``train`` and ``test`` subtomograms of each class."""
    folder = run_engine(options, "subtomogram-simulate", f"set-{name}", volumes=maps_of(options.data, classes), per_class=train + test, **simulation).folder
    made = LabelledSet(folder / f"train_{train}.star", folder / f"test_{train}.star")
    table = read_subtomograms(str(folder / "subtomograms.star"))
    seen = dict.fromkeys(table.class_name or [], 0)
    first = np.zeros(len(table), bool)
    for row, label in enumerate(table.class_name or []):
        first[row] = seen[label] < train
        seen[label] += 1
    write_subtomograms(str(made.train), table.subset(first))
    write_subtomograms(str(made.test), table.subset(~first))
    return made


def train_method(options: argparse.Namespace, made: LabelledSet, method: str, seed: int, **others: object) -> Outcome:
    """Train a network, or a support vector machine."""
    return run_engine(options, "subtomogram-train", method, subtomograms=made.train, network=method, seed=seed, **others)


def test_accuracy(options: argparse.Namespace, made: LabelledSet, trained: Outcome) -> float:
    """Part of the test subtomograms whose class is found; nothing is rejected."""
    found = run_engine(options, "subtomogram-classify", "test", subtomograms=made.test, model=trained.folder / "model", reject_fraction=0)
    columns, _ = read_table(str(found.folder / "classes.npz"))
    return float((columns["best_class"] == columns["true_class"]).mean())


def losses(trained: Outcome, column: str) -> list[float]:
    """A column of a training's learning curve."""
    with open(trained.folder / "learning.csv", newline="", encoding="utf-8") as handle:
        return [float(row[column]) for row in csv.DictReader(handle)]


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def is_above(ours: list[float], theirs: list[float]) -> bool:
    """Is the mean difference over the same seeds larger than its own scatter?"""
    difference = np.array(ours) - np.array(theirs)
    return bool(difference.mean() > (difference.std(ddof=1) if len(difference) > 1 else 0.0))


def target(options: argparse.Namespace, what: str, condition: str, aim: str, measured: str, holds: bool) -> None:
    """One row of benchmarks/results/subtomograms.csv."""
    if options.tiny:
        print(f"not recorded: {what} [{condition}]: {measured} (target {aim})", flush=True)
    else:
        record("subtomograms", what, condition=condition, target=aim, measured=measured, holds=holds, scale=options.scale)
