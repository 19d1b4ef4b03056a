"""Which classes were taken for which: counts, tables, a picture."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import ArrayLike, NDArray

from ....common.figures.bars import draw_confusion
from ...figures import new_figure
from ...io.atomic import write_csv

__all__ = ["confusion_counts", "confusion_plot", "write_class_table", "write_confusion"]


def confusion_counts(true: ArrayLike, found: ArrayLike, rows: int, columns: int) -> NDArray[np.int64]:
    """(rows, columns): subtomograms of each true class, from 0, that were given each class, from 0."""
    return np.bincount(np.asarray(true, np.int64) * columns + np.asarray(found, np.int64), minlength=rows * columns).reshape(rows, columns)


def write_confusion(path: Path, counts: NDArray[np.int64], true_names: list[str], names: list[str]) -> None:
    """Counts as CSV, true classes in rows."""
    write_csv(path, ["true_class", *names], ([name, *row] for name, row in zip(true_names, counts.tolist())))


def write_class_table(path: Path, counts: NDArray[np.int64], names: list[str]) -> None:
    """Of each class: subtomograms, part of them that was recognised, part of those given to it that belong to it."""
    totals = zip(names, counts.diagonal().tolist(), counts.sum(1).tolist(), counts.sum(0).tolist())
    write_csv(path, ["class", "name", "subtomograms", "accuracy", "precision"], (
        [number, name, own, f"{right / max(own, 1):.4f}", f"{right / max(given, 1):.4f}"] for number, (name, right, own, given) in enumerate(totals, 1)
    ))


def confusion_plot(counts: NDArray[np.int64], true_names: list[str], names: list[str], title: str) -> Figure:
    """Part of each true class (rows) that was given each class (columns)."""
    rows, columns = counts.shape
    figure = new_figure(2.4 + max(0.42 * columns, 3.4), 1.8 + max(0.36 * rows, 2.6))
    draw_confusion(figure, counts, true_names, title, names)
    return figure
