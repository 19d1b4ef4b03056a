"""Checkpoints of a training run: written whole or not at all, read without unpickling."""

from __future__ import annotations

import pickle
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import lightning as L
import torch

from ..io.atomic import whole_file
from ..io.records import RunRecord

DIGEST = "cryolearn_digest"
_KEPT = 2

__all__ = ["DIGEST", "Checkpointing", "find_checkpoint"]


class Checkpointing(L.Callback):
    """Writes ``step_NNNNNNNN.ckpt`` every so many steps and at the end of each epoch, and keeps the last two."""

    def __init__(self, record: RunRecord, every_steps: int) -> None:
        self._record, self._every = record, every_steps

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Write a checkpoint when one is due."""
        # the last step of an epoch is recorded after its validation
        if trainer.global_step % self._every == 0 and not trainer.is_last_batch:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        """Write a checkpoint."""
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        path = self._record.checkpoint(trainer.global_step)
        with whole_file(path) if trainer.is_global_zero else nullcontext(path) as part:
            trainer.save_checkpoint(part)  # every process takes part in this, the first one writes
        if trainer.is_global_zero:
            for old in self._record.checkpoints()[_KEPT:]:
                old.unlink()
        trainer.strategy.barrier("checkpoint")


def find_checkpoint(record: RunRecord, rank: int = 0) -> Path | None:
    """Newest checkpoint of a run that can be read; those that cannot are passed over, which rank 0 says in one line each.

    Earlier versions kept checkpoints of all digests in ``checkpoints/`` of the output folder: training that they began is continued from there.
    """
    earlier = sorted((record.folder / "checkpoints").glob("step_*.ckpt"), reverse=True)
    for path in [*record.checkpoints(), *earlier]:
        found = _digest_of(path)
        if found == record.digest:
            return path
        if found is None and rank == 0:
            print(f"checkpoint '{path.name}' cannot be read and is passed over", flush=True)
    if earlier and rank == 0:
        print(f"The checkpoints in '{record.folder / 'checkpoints'}' belong to other parameters, inputs or versions: training starts anew.", flush=True)
    return None


def _digest_of(path: Path) -> str | None:
    try:
        return str(torch.load(path, map_location="cpu", weights_only=True, mmap=True)[DIGEST])
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError):
        return None  # cut short, not a checkpoint, or holding what weights_only refuses
