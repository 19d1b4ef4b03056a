"""What a training is given. Apart from the loop, so that commands that only predict do not wait for Lightning's import."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import nn

__all__ = ["Blocks", "Task"]

Blocks = list[tuple[int, int]]


class Task(ABC):
    """What is learned: a network, and losses on blocks of samples (see :mod:`.plan`).

    All random numbers of a block must come from :func:`.plan.block_generator`; blocks of validation have negative numbers.
    """

    network: nn.Module

    @abstractmethod
    def training_loss(self, blocks: Blocks) -> torch.Tensor:
        """Mean loss over the samples of these blocks."""

    @abstractmethod
    def validation_sums(self, blocks: Blocks) -> dict[str, torch.Tensor]:
        """Sum over samples and number of samples, (2,), by name: these blocks, and what else the task validates on.

        'loss' is needed; the names are the same in all processes.
        """
