"""What a training run leaves: the model with its calibration, the learned distances of unseen pairs, a summary and figures."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ....common.figures.orientations import draw_distances
from ...figures import new_figure, save_figure
from ...io.models import save_model
from ...io.summary import write_summary
from ...io.tables import write_table
from ...training.learning_curve import Row
from ...training.plan import TrainingPlan
from ...training.training_run import count_weights, curve_summary
from ..config import DistanceTrainConfig
from ..distance_network.distance_calibration import Calibration, fit_calibration
from ..distance_network.pair_sampling import block_pairs
from ..distance_network.training_task import DistanceTask

__all__ = ["UnseenPairs", "plateau_plot", "unseen_pairs", "write_model"]

_BLOCKS = (64, 512)  # least and most blocks of unseen images, half of them for the calibration
_SHARE = 0.1  # of the images of training
_FIRST = 10_000  # far from the blocks of the learning curve's validation
_AT_ONCE = 16
_FAR_RAD = 2.9


@dataclass
class UnseenPairs:
    """All pairs within blocks of unseen images; arrays (n,), blocks one after another.

    ``first`` and ``second`` count images through all blocks, ``spread`` is the predicted variance, ``weight`` makes every
    distance count the same.
    """

    first: np.ndarray
    second: np.ndarray
    true_rad: np.ndarray
    learned_rad: np.ndarray
    similarity: np.ndarray
    spread: np.ndarray
    weight: np.ndarray

    def __getitem__(self, rows: slice) -> UnseenPairs:
        return UnseenPairs(**{name: values[rows] for name, values in vars(self).items()})


@torch.no_grad()
def unseen_pairs(task: DistanceTask, block: int, blocks: int) -> UnseenPairs:
    """Distances that a network reads from images that it never saw."""
    found: dict[str, list[torch.Tensor]] = {name: [] for name in UnseenPairs.__dataclass_fields__}
    task.network.eval()
    device = next(task.network.parameters()).device
    one, other = block_pairs(block, device)
    for start in range(0, blocks, _AT_ONCE):
        numbers = [(-_FIRST - start - index, block) for index in range(min(_AT_ONCE, blocks - start))]
        similarity, variance, rotation = task.similarities(numbers)
        true = task.kernel.distance_rad(rotation[:, one], rotation[:, other])
        similarity, variance = similarity[:, one, other], variance[:, one, other]
        offset = (start + torch.arange(len(numbers), device=device))[:, None] * block
        values = {
            "first": offset + one, "second": offset + other, "true_rad": true, "learned_rad": task.readout.distance_rad(similarity),
            "similarity": similarity, "spread": variance, "weight": task.weights(true),
        }
        for name, part in values.items():
            found[name].append(part.flatten().cpu())
    return UnseenPairs(**{name: torch.cat(parts).numpy() for name, parts in found.items()})


def write_model(
    config: DistanceTrainConfig, task: DistanceTask, plan: TrainingPlan, description: dict[str, Any], history: list[Row],
) -> None:
    """Write ``model/``, ``validation.npz``, ``summary.json`` and the figures of a finished training."""
    out = Path(config.output)
    blocks = int(np.clip(_SHARE * plan.steps * plan.batch / plan.block, *_BLOCKS)) // 2 * 2
    pairs = unseen_pairs(task, plan.block, blocks)
    half = len(pairs.true_rad) // 2  # whole blocks: no image is on both sides
    known, judged = pairs[:half], pairs[half:]
    calibration = fit_calibration(known.similarity, known.spread, known.true_rad, task.weights.largest_rad)
    calibrated, weight = _calibrate(calibration, judged)
    errors = {
        "distance_error_rad": float(np.average(np.abs(judged.learned_rad - judged.true_rad), weights=judged.weight)),
        "calibrated_error_rad": float(np.average(np.abs(calibrated - judged.true_rad), weights=judged.weight)),
    }
    save_model(str(out / "model"), task.network.state_dict(), {**description, "calibration": calibration.to_dict(), **errors})
    columns = {"id": np.arange(1, len(judged.true_rad) + 1), "first": judged.first, "second": judged.second, "true_rad": judged.true_rad}
    columns |= {"learned_rad": judged.learned_rad, "calibrated_rad": calibrated, "weight": weight, "even_weight": judged.weight}
    write_table(str(out / "validation.npz"), columns, {"digest": plan.digest, "preset": config.preset, "symmetry": config.symmetry})
    far = judged.true_rad > _FAR_RAD / np.pi * task.weights.largest_rad
    summary = curve_summary(plan, history, "images") | {"weights": count_weights(task.network)}
    summary |= {name: round(value, 5) for name, value in errors.items()}
    # a read-out that cannot reach the largest distances stays below them here
    summary["mean_learned_of_farthest_rad"] = round(float(judged.learned_rad[far].mean()), 5) if far.any() else None
    summary["mean_true_of_farthest_rad"] = round(float(judged.true_rad[far].mean()), 5) if far.any() else None
    summary["constant_answer_error_rad"] = round(task.weights.largest_rad / 4, 5)
    write_summary(out, summary)
    figure = plateau_plot(judged.true_rad, {"as read": judged.learned_rad, "calibrated": calibrated})
    save_figure(figure, str(out / "figures" / "distances.png"))
    print(
        f"trained {plan.steps} steps in {summary['seconds']} s; mean absolute error of the distance on unseen pairs, uniform in distance: "
        f"{errors['distance_error_rad']:.4f} rad, calibrated {errors['calibrated_error_rad']:.4f} rad", flush=True,
    )


def plateau_plot(true_rad: np.ndarray, learned: dict[str, np.ndarray]) -> Figure:
    """Learned against true distance, a panel for each way of reading it; a plateau is where the median stops rising."""
    figure = new_figure(4.8 * len(learned) + 0.4, 4.8)
    for axes, (name, values) in zip(np.atleast_1d(figure.subplots(1, len(learned))), learned.items()):
        draw_distances(axes, np.degrees(true_rad), np.degrees(values), title=f"Unseen images, {name}")
    return figure


def _calibrate(calibration: Calibration, pairs: UnseenPairs) -> tuple[np.ndarray, np.ndarray]:
    distance, weight = calibration.apply(torch.from_numpy(pairs.similarity), torch.from_numpy(pairs.spread))
    return distance.numpy(), weight.numpy()
