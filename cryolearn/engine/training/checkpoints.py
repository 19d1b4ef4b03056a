"""Checkpoints of a training run: written whole or not at all, found again by digest, read without unpickling."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import Any

import lightning as L
import torch

DIGEST = "cryolearn_digest"
_KEPT = 2

__all__ = ["DIGEST", "Checkpointing", "find_checkpoint"]


class Checkpointing(L.Callback):
    """Writes ``step_NNNNNNNN.ckpt`` every so many steps and at the end of each epoch, and keeps the last two."""

    def __init__(self, folder: Path, every_steps: int) -> None:
        self._folder, self._every = folder, every_steps

    def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int) -> None:
        # the last step of an epoch is recorded after its validation
        if trainer.global_step % self._every == 0 and not trainer.is_last_batch:
            self._write(trainer)

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._write(trainer)

    def _write(self, trainer: L.Trainer) -> None:
        path = self._folder / f"step_{trainer.global_step:08d}.ckpt"
        part = path.with_suffix(".part")
        trainer.save_checkpoint(part)  # every process takes part in this
        if trainer.is_global_zero:
            os.replace(part, path)
            for old in sorted(self._folder.glob("step_*.ckpt"))[:-_KEPT]:
                old.unlink()
        trainer.strategy.barrier("checkpoint")


def find_checkpoint(folder: Path, digest: str, rank: int = 0) -> Path | None:
    """Newest readable checkpoint of this digest.

    Checkpoints of another digest are moved to ``set_aside/`` (by rank 0, which says so in one line); a damaged one is passed over.
    """
    for path in sorted(folder.glob("step_*.ckpt"), reverse=True):
        found = _digest_of(path)
        if found == digest:
            return path
        if rank == 0:
            if found is None:
                print(f"checkpoint '{path.name}' cannot be read and is passed over", flush=True)
                continue
            aside = folder / "set_aside"
            aside.mkdir(exist_ok=True)
            os.replace(path, aside / f"{found}_{path.name}")
            print(f"checkpoint '{path.name}' belongs to other parameters or inputs and is set aside; training starts anew", flush=True)
    return None


def _digest_of(path: Path) -> str | None:
    try:
        return str(torch.load(path, map_location="cpu", weights_only=True, mmap=True)[DIGEST])
    except (OSError, RuntimeError, KeyError, ValueError, EOFError, pickle.UnpicklingError):
        return None  # cut short, not a checkpoint, or holding what weights_only refuses
