"""What the benchmarks of the networks for subtomograms share: sets, trainings of all methods on the same split, accuracy on subtomograms apart."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _results import machine, parser, record
from _run import Usage, engine
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


def arguments(description: str) -> argparse.Namespace:
    """``--scale``, ``--work``, ``--data``, ``--use_gpu``, ``--threads``."""
    made = parser(description)
    made.add_argument("--data", type=Path, required=True, help="folder of maps of complexes, one each (density_10A)")
    made.add_argument("--use_gpu", action="store_true", help="compute on a GPU")
    made.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes all")
    return made.parse_args()


def make_set(options: argparse.Namespace, name: str, classes: list[str] | None, train: int, test: int, **simulation: object) -> LabelledSet:
    """Simulate ``train`` and ``test`` subtomograms of each class; a finished set is not made again."""
    folder = options.work / "subtomograms" / name
    made = LabelledSet(folder / "train.star", folder / "test.star")
    if not made.test.exists():
        engine("subtomogram-simulate", folder, volumes=maps_of(options.data, classes), per_class=train + test, threads=options.threads,
               use_gpu=options.use_gpu, **simulation)
        table = read_subtomograms(str(folder / "subtomograms.star"))
        seen = dict.fromkeys(table.class_name or [], 0)
        first = np.zeros(len(table), bool)
        for row, label in enumerate(table.class_name or []):
            first[row] = seen[label] < train
            seen[label] += 1
        write_subtomograms(str(made.train), table.subset(first))
        write_subtomograms(str(made.test), table.subset(~first))
    return made


def train_method(options: argparse.Namespace, made: LabelledSet, method: str, seed: int, **others: object) -> tuple[Path, Usage | None]:
    """Train; the run's folder, and what it took when it was not finished before."""
    out = made.train.parent / f"{method}_{seed}"
    if (out / "summary.json").exists():
        return out, None
    return out, engine("subtomogram-train", out, subtomograms=made.train, network=method, seed=seed, use_gpu=options.use_gpu, threads=options.threads,
                       **others)


def test_accuracy(options: argparse.Namespace, made: LabelledSet, trained: Path) -> float:
    """Part of the test subtomograms whose class is found; nothing is rejected."""
    out = trained / "test"
    if not (out / "summary.json").exists():
        engine("subtomogram-classify", out, subtomograms=made.test, model=trained / "model", reject_fraction=0, use_gpu=options.use_gpu,
               threads=options.threads)
    columns, _ = read_table(str(out / "classes.npz"))
    return float((columns["best_class"] == columns["true_class"]).mean())


def spread(values: list[float]) -> str:
    """Mean and standard deviation."""
    return f"{np.mean(values):.3f} ± {np.std(values, ddof=1):.3f}" if len(values) > 1 else f"{values[0]:.3f}"


def is_above(ours: list[float], theirs: list[float]) -> bool:
    """Is the mean difference over the same seeds larger than its own scatter?"""
    difference = np.array(ours) - np.array(theirs)
    return bool(difference.mean() > (difference.std(ddof=1) if len(difference) > 1 else 0.0))


def weights_of(trained: Path) -> int:
    return int(json.loads((trained / "summary.json").read_text())["weights"])


def target(options: argparse.Namespace, what: str, condition: str, aim: str, measured: str, holds: bool) -> None:
    record("subtomograms", what, condition, aim, measured, holds, options.scale)


__all__ = [
    "LAPTOP_CLASSES", "METHODS", "LabelledSet", "arguments", "is_above", "machine", "make_set", "spread", "target", "test_accuracy", "train_method",
    "weights_of",
]
