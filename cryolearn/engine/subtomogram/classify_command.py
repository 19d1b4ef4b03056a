"""Command ``subtomogram-classify``: classes of subtomograms, how sure they are, and which subtomograms are none of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.figures.palette import COLOURS
from ..config import check_config, digest_config, require
from ..device import select_device
from ..figures import bar_chart, new_figure, save_figure
from ..io.atomic import write_csv
from ..io.records import remove_records
from ..io.subtomograms import SubtomogramTable, read_subtomograms, write_subtomograms
from ..io.summary import ClassificationSummary, write_summary
from ..io.tables import write_table
from .config import SubtomogramClassifyConfig
from .networks.streamed_prediction import FEATURES, measure
from .networks.trained_model import SubtomogramModel
from .report.confusion import confusion_counts, confusion_plot, write_confusion
from .usable_subtomograms import say_unusable

__all__ = ["REJECTED", "label_numbers", "run"]

REJECTED = "rejected"


def run(config: SubtomogramClassifyConfig) -> None:
    """Classify as ``config`` says; every subtomogram of the input is in the results. A killed run goes on after its last record."""
    check_config(config)
    require(config, "subtomograms", "model")
    device = select_device(config)
    model = SubtomogramModel.load(config.model, device)
    table = read_subtomograms(config.subtomograms, config.datadir)
    out = Path(config.output)
    found = measure(model, table, out, config.batch, config.chunk, config.invert_contrast)
    if found is None:  # another process gathers
        return
    answer = model.answer(found["logits"], found["class_distance"])
    rejected = (answer["novelty"] > model.novelty_limit(config.reject_fraction)) | (answer["confidence"] < config.least_confidence)
    rejected |= found["unusable"]
    number = np.where(rejected, 0, answer["best_class"]).astype(np.int32)
    answer["confidence"][found["unusable"]] = 0
    warnings = say_unusable(table, found["unusable"])
    columns: dict[str, Any] = {"id": table.ids, "class": number, **answer, "features": found["features"]}
    true, true_names = label_numbers(table, model.names)
    if true is not None:
        columns["true_class"] = true
    limit = model.novelty_limit(config.reject_fraction)
    notes = {
        "class_names": model.names, "true_class_names": true_names, "digest": digest_config(config), "novelty_limit": limit if np.isfinite(limit) else None,
    }
    write_table(str(out / "classes.npz"), columns, notes)
    names = np.array([REJECTED, *model.names], dtype=object)[number]
    extra = {**table.extra, "rlnClassNumber": number, "rlnMaxValueProbDistribution": answer["confidence"]}
    write_subtomograms(str(out / "subtomograms.star"), replace(table, class_name=names.tolist(), extra=extra))
    counts = np.bincount(number, minlength=len(model.names) + 1)
    rows = []
    for index, name in enumerate([REJECTED, *model.names]):
        here = number == index
        means = [f"{values[here].mean():.4f}" if here.any() else "" for values in (answer["confidence"], answer["novelty"])]
        rows.append([index, name, int(counts[index]), *means])
    write_csv(out / "classes.csv", ["class", "name", "subtomograms", "mean_confidence", "mean_novelty"], rows)
    summary = ClassificationSummary(
        subtomograms=len(table), classes=len(model.names), rejected=int(counts[0]), mean_confidence=round(float(answer["confidence"].mean()), 5),
        network=model.description["architecture"],
    )
    write_summary(out, summary, None if true is None else _judge(out, model, true, true_names, number, answer["best_class"]), warnings)
    _draw(out, model, counts, answer, config.reject_fraction)
    remove_records(out, FEATURES)
    print(f"{len(table)} subtomograms in {int((counts[1:] > 0).sum())} classes, {int(counts[0])} rejected as none of them", flush=True)


def label_numbers(table: SubtomogramTable, names: list[str]) -> tuple[NDArray[np.int32] | None, list[str]]:
    """Numbers (from 1) of the labels of a table, and their names: those of the network first, then those that it does not know."""
    if table.class_name is None:
        return None, []
    unknown = sorted(set(table.class_name) - set(names))
    every = [*names, *unknown]
    lookup = {name: number for number, name in enumerate(every, 1)}
    return np.array([lookup[name] for name in table.class_name], np.int32), every


def _judge(
    out: Path, model: SubtomogramModel, true: NDArray[np.int32], true_names: list[str], number: NDArray[np.int32], best: NDArray[np.int32]
) -> dict[str, float | None]:
    """Confusion of labelled input; returns the key numbers."""
    columns = [REJECTED, *model.names]
    counts = confusion_counts(true - 1, number, len(true_names), len(columns))
    used = counts.sum(1) > 0
    shown_names = [name for name, there in zip(true_names, used) if there]
    write_confusion(out / "confusion.csv", counts[used], shown_names, columns)
    save_figure(confusion_plot(counts[used], shown_names, columns, "Confusion"), str(out / "figures" / "confusion.png"))
    known = true <= len(model.names)
    return {
        "accuracy_of_known": float((best[known] == true[known]).mean()) if known.any() else None,
        "rejected_of_known": float((number[known] == 0).mean()) if known.any() else None,
        "rejected_of_unknown": float((number[~known] == 0).mean()) if (~known).any() else None,
    }


def _draw(out: Path, model: SubtomogramModel, counts: NDArray[np.int64], answer: dict[str, NDArray[Any]], reject_fraction: float) -> None:
    sizes = bar_chart([REJECTED, *model.names], counts, "subtomograms", "Sizes of the classes", "class")
    save_figure(sizes, str(out / "figures" / "sizes.png"))
    figure = new_figure(8.4, 3.6)
    left, right = figure.subplots(1, 2)
    left.hist(answer["confidence"], bins=np.linspace(0, 1, 41), color=COLOURS[5])
    left.set(xlabel="confidence (calibrated probability of the class)", ylabel="subtomograms", title="How sure")
    limit, end = model.novelty_limit(reject_fraction), float(np.percentile(answer["novelty"], 99.5))
    right.hist(np.minimum(answer["novelty"], end), bins=40, color=COLOURS[5])
    if np.isfinite(limit):
        right.axvline(min(limit, end), color="black", linestyle="--", label=f"rejected beyond {limit:.2f}")
        right.legend(frameon=False, fontsize=8)
    right.set(xlabel="novelty (s. d. to the nearest known class)", title="How strange")
    save_figure(figure, str(out / "figures" / "confidence.png"))
