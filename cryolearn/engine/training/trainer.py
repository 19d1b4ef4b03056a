"""The training loop, on Lightning: one task, any number of processes, resumable at any step."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch.utils.data import DataLoader

from ..config import RunConfig
from ..exceptions import require_finite
from ..io.records import RunRecord
from ..launch import process_rank
from ..progress import Progress
from .checkpoints import DIGEST, Checkpointing, find_checkpoint
from .learning_curve import Row, write_learning_curve
from .plan import TrainingPlan
from .processes import quieten, trainer_arguments
from .task import Blocks, Task

__all__ = ["train"]

_OPTIMISERS: dict[str, Any] = {
    "adamw": torch.optim.AdamW, "adam": torch.optim.Adam, "adam_half": partial(torch.optim.Adam, betas=(0.5, 0.999)),
    "nesterov": partial(torch.optim.SGD, momentum=0.9, nesterov=True),
    "rmsprop": partial(torch.optim.RMSprop, alpha=0.9, eps=1e-7),  # Keras' values, which published networks were trained with
}


_LOWER = "lower the learning rate (parameter learning_rate), or look for extreme values in what is learned from"


class _Learner(L.LightningModule):
    """Lightning's view of a task. The samples of a step follow from ``global_step``, so loaders carry no data."""

    def __init__(self, task: Task, plan: TrainingPlan) -> None:
        super().__init__()
        self.task, self.network, self.plan = task, task.network, plan
        self.history: list[Row] = []
        self._sums = [0.0, 0.0, 0.0]  # loss, steps and seconds of the epoch so far
        self._clock = time.monotonic()

    def _blocks(self, step: int) -> Blocks:
        return self.plan.blocks(step, self.trainer.global_rank, self.trainer.world_size)

    def training_step(self, batch: int, batch_idx: int) -> torch.Tensor:
        loss = self.task.training_loss(self._blocks(self.trainer.global_step))
        self._sums[0] += require_finite(float(loss.detach()), f"The loss in step {self.trainer.global_step + 1}", _LOWER)
        self._sums[1] += 1
        return loss

    def on_train_epoch_start(self) -> None:
        self._clock = time.monotonic()

    def validation_step(self, batch: int, batch_idx: int) -> None:
        trainer = self.trainer
        sums = self.task.validation_sums(self.plan.validation_blocks(trainer.global_rank, trainer.world_size))
        names = sorted(sums)
        own = torch.tensor([self._sums[:2]], dtype=torch.float64)
        values = torch.cat([own, torch.stack([sums[name].double().cpu() for name in names])]).to(self.device)
        total = trainer.strategy.reduce(values, reduce_op="sum")
        assert isinstance(total, torch.Tensor)
        means = (total[:, 0] / total[:, 1].clamp_min(1)).tolist()
        found = dict(zip(["train", *names], means, strict=True))
        require_finite(found["loss"], f"The loss of the validation after epoch {trainer.current_epoch + 1}", _LOWER)
        row: Row = {
            "epoch": trainer.current_epoch + 1, "step": trainer.global_step,
            "train_loss": found.pop("train"), "val_loss": found.pop("loss"),
        }
        row |= {f"val_{name}": value for name, value in found.items()}
        row["learning_rate"] = float(trainer.optimizers[0].param_groups[0]["lr"])
        row["seconds"] = self._sums[2] + time.monotonic() - self._clock
        self.history.append(row)
        self._sums = [0.0, 0.0, 0.0]
        self.log("val_loss", row["val_loss"], batch_size=1)  # equal in all processes already
        if trainer.is_global_zero:
            write_learning_curve(Path(trainer.default_root_dir), self.history)

    def configure_optimizers(self) -> Any:
        plan = self.plan
        kind = _OPTIMISERS[plan.optimiser or ("adamw" if plan.schedule == "cosine" else "adam")]
        optimizer = kind(self.network.parameters(), lr=plan.learning_rate, weight_decay=plan.weight_decay)
        if plan.schedule in ("cosine", "inverse"):  # made here only: it changes the optimiser's rate as soon as it exists
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": torch.optim.lr_scheduler.LambdaLR(optimizer, plan.rate), "interval": "step"}}
        plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer, factor=0.1, patience=plan.patience)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": plateau, "monitor": "val_loss", "interval": "epoch"}}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        seconds = self._sums[2] + time.monotonic() - self._clock if self._sums[1] else 0.0
        checkpoint |= {DIGEST: self.plan.digest, "history": self.history, "sums": [*self._sums[:2], seconds]}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        self.history, self._sums = list(checkpoint["history"]), list(checkpoint["sums"])


class _Reporter(L.Callback):
    """Progress lines of the first process."""

    def __init__(self, plan: TrainingPlan) -> None:
        self._plan, self._progress, self._loss = plan, None, 0.0  # type: TrainingPlan, Progress | None, float

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero:
            batch = self._plan.batch
            self._progress = Progress("training", self._plan.steps * batch, done=trainer.global_step * batch)

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self._progress is not None:
            loss = float(outputs["loss"])
            self._loss = loss if self._loss == 0 else 0.95 * self._loss + 0.05 * loss
            self._progress.step(self._plan.batch, f"epoch {trainer.current_epoch + 1}/{self._plan.epochs}, loss {self._loss:.4g}")


def train(task: Task, plan: TrainingPlan, config: RunConfig) -> list[Row]:
    """Train ``task.network``, going on from the last checkpoint of the same digest.

    Returns
    -------
    rows of the learning curve; the network holds the weights of the last step

    Raises
    ------
    InputError
        when the batch cannot be shared by the processes.
    """
    quieten()
    rank, world, _ = process_rank()
    plan.check_processes(world)
    out = Path(config.output)
    out.mkdir(parents=True, exist_ok=True)
    record = RunRecord(out, "training", plan.digest)
    found = find_checkpoint(record, rank)
    device = next(task.network.parameters()).device
    learner = _Learner(task, plan)
    trainer = L.Trainer(
        **trainer_arguments(config), max_epochs=plan.epochs, precision=plan.precision,  # type: ignore[arg-type]
        callbacks=[_Reporter(plan), Checkpointing(record, plan.checkpoint_steps)], default_root_dir=out,
        logger=False, enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
        num_sanity_val_steps=0, gradient_clip_val=plan.gradient_clip or None, use_distributed_sampler=False,
    )
    steps: DataLoader[int] = DataLoader(range(plan.steps_per_epoch), batch_size=None)  # type: ignore[arg-type]
    once: DataLoader[int] = DataLoader(range(1), batch_size=None)  # type: ignore[arg-type]
    try:
        trainer.fit(learner, steps, once, ckpt_path=found, weights_only=True)
    except SystemExit as stop:  # Lightning's answer to an interrupt; the command line has its own
        raise KeyboardInterrupt from stop
    task.network.to(device)  # Lightning leaves it on the CPU
    if rank == 0:
        write_learning_curve(out, learner.history)
    return learner.history
