"""What a training leaves: the model with its calibration, its answers on subtomograms it has not seen, tables and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import nn

from ...figures import new_figure, save_figure
from ...io.summary import write_summary
from ...io.tables import write_table
from ...progress import Progress
from ...training.learning_curve import Row
from ...training.training_run import count_weights
from ..config import SubtomogramTrainConfig
from ..networks.confidence_calibration import KnownClasses, calibration_error, fit_temperature, probabilities, reliability
from ..networks.labelled_subtomograms import CachedVolumes, LabelledSubtomograms
from ..networks.trained_model import SubtomogramModel
from .confusion import confusion_counts, confusion_plot, write_class_table, write_confusion

__all__ = ["reliability_plot", "write_model"]

_AT_ONCE = 64
_CENTRES_FROM = 8192  # training subtomograms that say where the classes lie


def write_model(
    config: SubtomogramTrainConfig, network: nn.Module, data: LabelledSubtomograms, description: dict[str, Any], history: list[Row],
) -> None:
    """Write ``model/``, ``validation.npz``, tables, ``summary.json`` and figures of a finished training."""
    out = Path(config.output)
    volumes, labels = data.volumes, data.labels
    classes = len(labels.names)
    nothing = KnownClasses(centres=np.zeros((classes, 1), np.float32), whitening=np.eye(1, dtype=np.float32))
    model = SubtomogramModel(network, nothing, {**description, "temperature": 1.0, "novelty_quantiles": [0.0] * 101}, data.device)
    some = labels.training[:: -(-len(labels.training) // _CENTRES_FROM)]
    some = np.union1d(some, [labels.training[labels.number[labels.training] == number][0] for number in range(classes)])
    learned = _look(model, volumes, some, "training subtomograms")
    unseen = _look(model, volumes, labels.validation, "validation")
    number = labels.number[labels.validation]
    fitted, split_error = _temperature(unseen["logits"], number)
    model.temperature = fitted
    model.known = KnownClasses.fit(learned["representation"], labels.number[some], classes)
    answer = model.answer(unseen["logits"], model.known.distances(unseen["representation"]))
    model.description |= {
        "temperature": fitted, "novelty_discriminants": model.known.discriminants,
        "novelty_quantiles": np.percentile(answer["novelty"], np.arange(101)).round(6).tolist(),
    }
    model.save(str(out / "model"))
    table = data.table
    write_table(str(out / "validation.npz"), {
        "id": table.ids[labels.validation], "true_class": number + 1, "class": answer["best_class"], "confidence": answer["confidence"],
        "novelty": answer["novelty"], "probability": answer["probability"], "features": unseen["features"],
    }, {"class_names": labels.names, "digest": description["digest"], "architecture": description["architecture"]})
    counts = confusion_counts(number, answer["best_class"] - 1, classes, classes)
    write_confusion(out / "confusion.csv", counts, labels.names, labels.names)
    write_class_table(out / "classes.csv", counts, labels.names)
    right = answer["best_class"] - 1 == number
    save_figure(confusion_plot(counts, labels.names, labels.names, "Confusion of unseen subtomograms"), str(out / "figures" / "confusion.png"))
    before = probabilities(unseen["logits"]).max(1)
    save_figure(reliability_plot({"as the network says": before, "calibrated": answer["confidence"].astype(np.float64)}, right),
                str(out / "figures" / "reliability.png"))
    accuracy = counts.diagonal() / np.maximum(counts.sum(1), 1)
    summary: dict[str, Any] = {
        "network": config.network, "weights": count_weights(network), "classes": classes, "training_subtomograms": len(labels.training),
        "validation_subtomograms": len(labels.validation), "validation_accuracy": float(right.mean()), "mean_class_accuracy": float(accuracy.mean()),
        "chance_accuracy": 1 / classes, "temperature": fitted, "calibration_error_before": calibration_error(before, right), "calibration_error": split_error,
        "training_accuracy": float((learned["logits"].argmax(1) == labels.number[some]).mean()), "epochs": len(history),
        "seconds": round(sum(row["seconds"] for row in history), 1),
    }
    summary |= {name: float(value) for name, value in (history[-1] if history else {}).items() if name.startswith(("train_", "val_"))}
    write_summary(out, {name: round(value, 5) if isinstance(value, float) else value for name, value in summary.items()})
    print(
        f"accuracy on {len(number)} unseen subtomograms {summary['validation_accuracy']:.3f} (mean of classes {summary['mean_class_accuracy']:.3f}, chance "
        f"{1 / classes:.3f}); on those learned from {summary['training_accuracy']:.3f}", flush=True,
    )


def _look(model: SubtomogramModel, volumes: CachedVolumes, rows: NDArray[np.int64], what: str) -> dict[str, NDArray[np.float32]]:
    """Logits, features and representation of some subtomograms."""
    progress = Progress(what, len(rows), "subtomograms")
    parts = []
    for start in range(0, len(rows), _AT_ONCE):
        at = rows[start : start + _AT_ONCE]
        parts.append(model.represent(volumes.read(at), volumes.stack.tilt_deg(at)))
        progress.step(len(at))
    return {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}


def _temperature(logits: NDArray[np.float32], number: NDArray[np.int64]) -> tuple[float, float]:
    """Temperature from all unseen subtomograms, and the calibration error of either half with the temperature of the other half."""
    confidence, right = np.zeros(len(number)), logits.argmax(1) == number
    for half in range(2):
        fit, judged = np.arange(len(number)) % 2 == half, np.arange(len(number)) % 2 != half
        if fit.any() and judged.any():
            confidence[judged] = probabilities(logits[judged], fit_temperature(logits[fit], number[fit])).max(1)
    return fit_temperature(logits, number), calibration_error(confidence, right)


def reliability_plot(confidence: dict[str, NDArray[np.float64]], right: NDArray[np.bool_]) -> Figure:
    """Part of right answers over confidence, in bins; bars below say how many subtomograms a bin holds."""
    figure = new_figure(5.2, 5.2)
    above, below = figure.subplots(2, 1, height_ratios=(3, 1), sharex=True)
    for name, values in confidence.items():
        said, true, count = reliability(values, right)
        used = count > 0
        above.plot(said[used], true[used], "o-", label=f"{name}: error {calibration_error(values, right):.3f}")
        below.step(np.linspace(0, 1, len(count) + 1), np.append(count, count[-1]), where="post")
    above.plot([0, 1], [0, 1], "k--", linewidth=1)
    above.set(ylabel="part of right answers", title="Is the confidence right?", ylim=(0, 1.02))
    above.legend(frameon=False, fontsize=8)
    above.grid(alpha=0.3)
    below.set(xlabel="confidence", ylabel="subtomograms", xlim=(0, 1))
    below.grid(alpha=0.3)
    return figure
