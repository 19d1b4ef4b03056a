"""What a training leaves: the model, how it does on patches of models that it has not seen, a summary and figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure

from ...figures import fsc_curves, new_figure, save_figure
from ...imaging.half_set_maps import write_fsc_csv
from ...io.models import save_model
from ...io.summary import write_summary
from ...training.learning_curve import Row
from ...training.plan import TrainingPlan
from ...training.training_run import count_weights, curve_summary
from ..config import MapTrainConfig
from ..training.losses import patch_fsc
from ..training.training_task import MapTask

__all__ = ["patch_figure", "write_model"]

_BLOCKS = 32
_FIRST = 1_000_000  # far from the blocks of the learning curve's validation
_AT_ONCE = 4
_SHOWN = 3


@torch.no_grad()
def write_model(config: MapTrainConfig, task: MapTask, plan: TrainingPlan, description: dict[str, Any], history: list[Row]) -> None:
    """Write ``model/``, ``validation_fsc.csv``, ``summary.json`` and the figures of a finished training."""
    out = Path(config.output)
    network = task.network.eval()
    count = min(_BLOCKS, max(_SHOWN, config.validation_patches))
    curves: dict[str, list[torch.Tensor]] = {"input": [], "result": []}
    shown: list[dict[str, np.ndarray]] = []
    for start in range(0, count, _AT_ONCE):
        batch = task.sampler.draw([(-_FIRST - index, 1) for index in range(start, min(start + _AT_ONCE, count))])
        found, error = network(batch.seen, batch.resolution, batch.target_resolution)
        real = batch.target.flatten(1).square().sum(1) > 0
        curves["input"].append(patch_fsc(batch.seen, batch.target)[real].cpu())
        curves["result"].append(patch_fsc(found, batch.target)[real].cpu())
        for index in range(len(found)):
            panels = {"input": batch.seen[index, 0], "result": found[index, 0], "target": batch.target[index, 0]}
            if error is not None:
                panels["expected error"] = error[index, 0]
            if len(shown) < _SHOWN and bool(real[index]):
                shown.append({name: values.cpu().numpy() for name, values in panels.items()})
    save_model(str(out / "model"), network.state_dict(), description)
    means = {name: torch.cat(parts).mean(0) for name, parts in curves.items()}
    side, voxel = task.sampler.setting.patch_px, task.sampler.setting.voxel_angst
    write_fsc_csv(str(out / "validation_fsc.csv"), {f"fsc_{name}": curve for name, curve in means.items()}, side, voxel)
    summary = curve_summary(plan, history, "patches") | {
        "voxel_angst": voxel, "weights": count_weights(network), "training_models": len(description["training"]),
        "validation_models": len(description["validation"]), **{f"mean_fsc_of_{name}": round(float(curve[1:].mean()), 5) for name, curve in means.items()},
    }
    write_summary(out, summary)
    curves_drawn = {name: curve.numpy() for name, curve in means.items()}
    figure = fsc_curves(curves_drawn, side, voxel, (0.5,), title="Mean FSC with the molecule's density, unseen models")
    save_figure(figure, str(out / "figures" / "validation_fsc.png"))
    save_figure(patch_figure(shown, voxel), str(out / "figures" / "patches.png"))
    print(
        f"trained {plan.steps} steps in {summary['seconds']} s; mean absolute error on unseen models {summary['val_error']:.4f} "
        f"(input {summary['val_input_error']:.4f}), mean FSC {summary['mean_fsc_of_result']:.4f} (input {summary['mean_fsc_of_input']:.4f})", flush=True,
    )


def patch_figure(shown: list[dict[str, np.ndarray]], voxel_angst: float) -> Figure:
    """Central slices of patches of unseen models, a row each."""
    names = list(shown[0])
    figure = new_figure(2.3 * len(names) + 0.6, 2.2 * len(shown) + 0.5)
    grid = figure.subplots(len(shown), len(names), squeeze=False)
    for row, patch in zip(grid, shown):
        for axes, (name, values) in zip(row, patch.items()):
            plane = values[len(values) // 2]
            low, high = np.percentile(plane, (0.5, 99.7))
            side = len(plane) * voxel_angst
            picture = axes.imshow(plane, cmap="viridis" if "error" in name else "gray", vmin=low, vmax=high, origin="lower", extent=(0, side, 0, side))
            axes.tick_params(labelsize=7)
            axes.set(xlabel="x (Å)", ylabel="y (Å)")
            if row is grid[0]:
                axes.set_title(name)
            if "error" in name:
                figure.colorbar(picture, ax=axes, label="density").ax.tick_params(labelsize=6)
    figure.suptitle("Patches of unseen models (central slices)")
    return figure
