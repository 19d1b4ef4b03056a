"""The course of every training command: plan, announcement, training, summary."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import torch
from torch import nn

from ..config import RunConfig
from ..launch import is_first_process
from .learning_curve import Row
from .plan import TrainingPlan
from .processes import choose_precision
from .task import Task
from .trainer import train

__all__ = ["Training", "count_weights", "curve_summary", "plan_training", "run_training", "seeded"]

N = TypeVar("N", bound=nn.Module)


class TrainingOptions(Protocol):
    """Parameters that all training commands have."""

    seed: int
    epochs: int
    batch: int
    learning_rate: float
    weight_decay: float
    checkpoint_steps: int
    precision: str


@dataclass(frozen=True, kw_only=True)
class Training:
    """A training that is ready to begin.

    Attributes
    ----------
    task, plan : what is learned, and how
    name, sees : the network's name and its input in a few words (' on 64 px at 4.00 Å'), for the log
    unit : what a step's samples are
    finish : writes what the training leaves, from the learning curve
    """

    task: Task
    plan: TrainingPlan
    name: str
    sees: str = ""
    unit: str
    finish: Callable[[list[Row]], None]


def plan_training(
    config: TrainingOptions, device: torch.device, *, digest: str, samples_per_epoch: int, rate: float, paper: bool = False, **special: Any,
) -> TrainingPlan:
    """Plan with a command's parameters.

    Parameters
    ----------
    config
        Parameters that all training commands have.
    device
        Where the network is trained; it decides what precision 'auto' is.
    digest
        Of all that the result depends on; checkpoints of another digest are never used.
    samples_per_epoch
        Samples, not batches, of an epoch.
    rate
        Learning rate where the parameter is 0.
    paper
        As a published network was trained, without weight decay and with gradients as they are.
    **special
        Fields of the plan that are not those of the parameters.
    """
    if paper:
        special = {"weight_decay": 0.0, "gradient_clip": 0.0, **special}
    fields = {"epochs": config.epochs, "batch": config.batch, "weight_decay": config.weight_decay, **special}
    return TrainingPlan(
        digest=digest, seed=config.seed, images_per_epoch=samples_per_epoch, learning_rate=config.learning_rate or rate,
        checkpoint_steps=config.checkpoint_steps, precision=choose_precision(config.precision, device), **fields,
    )


def run_training(training: Training, config: RunConfig) -> None:
    """Train, going on from the last checkpoint; all processes share each batch, and the first one writes the results."""
    plan = training.plan
    if is_first_process():
        print(
            f"network '{training.name}' of {count_weights(training.task.network)} weights{training.sees}; {plan.steps} steps of {plan.batch} "
            f"{training.unit}, precision {plan.precision}", flush=True,
        )
    history = train(training.task, plan, config)
    if is_first_process():
        training.finish(history)


def seeded(build: Callable[[], N], seed: int, device: torch.device) -> N:
    """A network whose first weights follow from the seed, equal in all processes."""
    torch.manual_seed(seed)
    return build().to(device)


def count_weights(network: nn.Module) -> int:
    """Number of values that are learned."""
    return sum(weight.numel() for weight in network.parameters())


def curve_summary(plan: TrainingPlan, history: list[Row], unit: str) -> dict[str, Any]:
    """What every training's ``summary.json`` says: its length, the last losses and errors, the time, and what is not used of its input."""
    last = {name: round(float(value), 5) for name, value in history[-1].items() if name.startswith(("train_", "val_"))}
    seconds = round(sum(row["seconds"] for row in history), 1)
    said = {"warnings": list(plan.warnings)} if plan.warnings else {}
    return {"epochs": plan.epochs, "steps": plan.steps, unit: plan.steps * plan.batch, **last, "seconds": seconds, **said}
