"""Sums over all processes of a training, through which gradients pass: what looks at a whole batch is then the same for any number of processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..launch import process_rank
from .plan import block_generator
from .process_group import processes

__all__ = ["BlockDropout", "SharedBatchNorm", "of_all_processes", "sum_of_processes"]


class _Sum(torch.autograd.Function):
    """Sum over processes; its gradient is the sum of theirs."""

    @staticmethod
    def forward(ctx: Any, values: Tensor) -> Tensor:
        total = values.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        return _Sum.apply(gradients[0])


def sum_of_processes(values: Tensor) -> Tensor:
    """Sum of a tensor over all processes, which all hold one of its shape; the tensor itself when there is one process."""
    if processes()[1] == 1:
        return values
    total: Tensor = _Sum.apply(values)  # type: ignore[no-untyped-call]
    return total


def of_all_processes(values: Tensor) -> tuple[Tensor, int]:
    """Rows (processes * n, ...) of all processes, which hold n each, and the place of this process's first row."""
    world, count = processes()[1], len(values)
    if world == 1:
        return values, 0
    first = process_rank()[0] * count
    before, after = values.new_zeros(first, *values.shape[1:]), values.new_zeros((world - 1) * count - first, *values.shape[1:])
    return sum_of_processes(torch.cat((before, values, after))), first


class SharedBatchNorm(_BatchNorm):
    """Batch normalisation over the samples of all processes, in any number of dimensions, on CPUs too (PyTorch's own ``SyncBatchNorm`` is for GPUs).

    Named values of its state are those of :class:`torch.nn.BatchNorm3d`. All processes must hold as many samples.
    """

    def _check_input_dim(self, input: Tensor) -> None:
        if input.dim() < 2:
            raise ValueError(f"Values of {input.dim()} dimensions have no channels.")

    def forward(self, input: Tensor) -> Tensor:
        """(n, channels, ...), normalised."""
        world = processes()[1]
        if not self.training or world == 1:
            return super().forward(input)
        values = input.float()
        axes, shape = [0, *range(2, input.dim())], [1, -1] + [1] * (input.dim() - 2)
        count = world * values.numel() // values.shape[1]
        mean = sum_of_processes(values.sum(axes)) / count
        centred = values - mean.view(shape)
        variance = sum_of_processes(centred.square().sum(axes)) / count
        with torch.no_grad():
            assert self.running_mean is not None and self.running_var is not None and self.momentum is not None and self.num_batches_tracked is not None
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * (count / max(count - 1, 1)), self.momentum)
            self.num_batches_tracked.add_(1)
        scaled = centred * ((variance + self.eps).rsqrt() * self.weight).view(shape) + self.bias.view(shape)
        return scaled.to(input.dtype)


class BlockDropout(nn.Module):
    """Dropout whose masks follow from the numbers of the samples' blocks (:mod:`.plan`), whichever process has them.

    :meth:`show` names the blocks of the samples that come next; without it the masks are PyTorch's.
    """

    def __init__(self, part: float) -> None:
        super().__init__()
        self.part = part
        self._blocks: list[tuple[int, int]] = []
        self._seed = 0

    def forward(self, values: Tensor) -> Tensor:
        """(n, ...), of which a part is 0 while training and the rest larger for it."""
        if not self.training or not self.part:
            return values
        if not self._blocks:
            return nn.functional.dropout(values, self.part)
        drawn = [
            torch.rand((count, *values.shape[1:]), generator=block_generator(self._seed, number, values.device), device=values.device)
            for number, count in self._blocks
        ]
        return values * ((torch.cat(drawn) >= self.part) / (1 - self.part)).to(values.dtype)

    @staticmethod
    def show(network: nn.Module, seed: int, blocks: list[tuple[int, int]]) -> None:
        """Tell all of a network's layers the blocks, as (number, samples in it), of the next batch."""
        for layer in network.modules():
            if isinstance(layer, BlockDropout):
                layer._seed, layer._blocks = seed, blocks
