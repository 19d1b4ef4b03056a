"""What a training run does at each step: which samples, which learning rate. All of it follows from numbers, none from state.

Samples are counted through the whole run and drawn in blocks of 16. A block's random numbers come from the seed and the
block's number alone, and each step's blocks are dealt out to the processes, so that any number of processes, and a
run that was killed and goes on, see the same samples at the same step.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...common.limits import TRAINING_BLOCK
from ..exceptions import InputError

BLOCK = TRAINING_BLOCK

__all__ = ["BLOCK", "BlockDraws", "TrainingPlan", "block_generator", "held_out", "scattered", "shuffled", "shuffled_rows"]


@dataclass(frozen=True)
class TrainingPlan:
    """Length, schedule and reproducibility of a training run.

    Attributes
    ----------
    digest : of all that the result depends on; checkpoints of another digest are never used
    schedule : 'cosine' (short linear rise, then half a cosine down to zero), 'plateau' (a tenth of the rate whenever
        the validation loss has not improved for ``patience`` epochs) or 'inverse' (divided by 1 + ``decay`` times the step, as Keras does)
    checkpoint_steps : steps between checkpoints, beside the one at the end of each epoch
    gradient_clip : largest norm of the gradient; 0 does not clip
    precision : Lightning's name, '32-true' or 'bf16-mixed'
    optimiser : 'adamw', 'adam', 'adam_half' (first beta 0.5), 'rmsprop' or 'nesterov' (momentum 0.9); empty takes 'adamw' with the schedule 'cosine'
        and 'adam' with 'plateau'
    block : samples that share their random numbers and stay in one process
    warnings : what the input says that is not used, for the summary
    """

    digest: str
    seed: int
    epochs: int
    images_per_epoch: int
    batch: int
    learning_rate: float
    weight_decay: float
    schedule: str = "cosine"
    patience: int = 10
    warm_up_steps: int = 50
    validation_images: int = 512
    checkpoint_steps: int = 200
    gradient_clip: float = 1.0
    precision: str = "32-true"
    optimiser: str = ""
    block: int = BLOCK
    decay: float = 0.0
    warnings: Sequence[str] = ()

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps in an epoch."""
        return max(1, self.images_per_epoch // self.batch)

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        return self.epochs * self.steps_per_epoch

    @property
    def blocks_per_step(self) -> int:
        """Blocks that a step's batch is drawn in."""
        return -(-self.batch // self.block)

    def check_processes(self, world: int) -> None:
        """Refuse a batch that cannot be dealt out evenly.

        Raises
        ------
        InputError
            naming the batch, the number of processes and what would do.
        """
        if world > 1 and self.batch % (self.block * world):
            raise InputError(
                f"A batch of {self.batch} images cannot be shared evenly by {world} processes: choose a multiple of {self.block * world}."
            )

    def blocks(self, step: int, rank: int = 0, world: int = 1) -> list[tuple[int, int]]:
        """Blocks of one step for one process, as (number of the block, images in it)."""
        first = step * self.blocks_per_step
        sizes = [min(self.block, self.batch - self.block * index) for index in range(self.blocks_per_step)]
        return [(first + index, size) for index, size in enumerate(sizes)][rank::world]

    def validation_blocks(self, rank: int = 0, world: int = 1) -> list[tuple[int, int]]:
        """Blocks of the validation set: the same in every epoch, and never those of a training step."""
        count = -(-self.validation_images // self.block)
        return [(-1 - index, self.block) for index in range(count)][rank::world]

    def rate(self, step: int) -> float:
        """Learning rate of a step as a fraction of the largest ('plateau' has the largest until the validation loss stands still)."""
        if self.schedule == "plateau":
            return 1.0
        if self.schedule == "inverse":
            return 1 / (1 + self.decay * step)
        rise = min(self.warm_up_steps, max(1, self.steps // 10))
        if step < rise:
            return (step + 1) / rise
        return 0.5 * (1 + math.cos(math.pi * (step - rise) / max(1, self.steps - rise)))


def block_generator(seed: int, block: int, device: torch.device | str = "cpu") -> torch.Generator:
    """Random numbers of one block of samples: they depend on the seed and the block's number only."""
    digest = hashlib.sha256(f"{seed}/{block}".encode()).digest()
    return torch.Generator(device=device).manual_seed(int.from_bytes(digest[:7], "little"))


class BlockDraws:
    """Random numbers of one block of samples, in the order in which they are asked for."""

    def __init__(self, seed: int, block: int, device: torch.device) -> None:
        self.generator, self._device = block_generator(seed, block, device), device

    def uniform(self, *shape: int) -> torch.Tensor:
        """Numbers between -1 and 1."""
        return torch.rand(shape, generator=self.generator, device=self._device) * 2 - 1

    def normal(self, *shape: int) -> torch.Tensor:
        """Numbers of a normal distribution of mean 0 and variance 1."""
        return torch.randn(shape, generator=self.generator, device=self._device)

    def integers(self, below: int, count: int) -> torch.Tensor:
        """Integers (count,) from 0 to ``below`` - 1."""
        return torch.randint(below, (count,), generator=self.generator, device=self._device)


def scattered(ids: np.ndarray) -> np.ndarray:
    """Ids scattered over 0 to 2^32 by a multiplicative hash (Knuth), which takes neighbours apart."""
    return ids.astype(np.uint64) * np.uint64(2654435761) % np.uint64(2**32)


def held_out(ids: np.ndarray, fraction: float) -> np.ndarray:
    """Which samples are for validation: by a hash of the id, so that a sample stays on its side whatever the set that it comes in."""
    return scattered(ids) / 2**32 < fraction


def shuffled_rows(seed: int, first: int, count: int, total: int) -> np.ndarray:
    """Rows of the samples ``first ... first + count - 1``: a set of ``total``, shuffled anew each time it has been gone through."""
    numbers = np.arange(first, first + count)
    orders = {turn: shuffled(seed, turn, total) for turn in np.unique(numbers // total).tolist()}
    return np.array([orders[number // total][number % total] for number in numbers.tolist()])


def shuffled(seed: int, round_number: int, count: int) -> np.ndarray:
    """Order (count,) in which a labelled set of ``count`` samples is gone through in its ``round_number``-th round."""
    digest = hashlib.sha256(f"order/{seed}/{round_number}".encode()).digest()
    return np.random.default_rng(int.from_bytes(digest[:8], "little")).permutation(count)
