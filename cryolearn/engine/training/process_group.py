"""What the processes of one run tell one another while they share its work: tensors, by way of the CPU, whatever the work is done on.

Alone, or outside of :func:`process_group`, each function returns what it was given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

import torch
from torch import Tensor, distributed

from ..launch import is_torchrun, process_rank

__all__ = ["broadcast", "process_group", "processes", "total"]

_PATIENCE = timedelta(days=1)  # one process may do a long step while the others wait


@contextmanager
def process_group() -> Iterator[None]:
    """Connect the processes that torchrun or srun started, until the block ends."""
    rank, world, _ = process_rank()
    if world == 1:
        yield
        return
    method = "env://"
    if not is_torchrun():
        from lightning.fabric.plugins.environments import SLURMEnvironment  # slow to import

        place = SLURMEnvironment(auto_requeue=False)
        method = f"tcp://{place.main_address}:{place.main_port}"
    distributed.init_process_group("gloo", init_method=method, rank=rank, world_size=world, timeout=_PATIENCE)
    try:
        yield
    finally:
        distributed.destroy_process_group()


def processes() -> tuple[int, int]:
    """Rank and number of the processes that are connected."""
    if distributed.is_available() and distributed.is_initialized():
        return distributed.get_rank(), distributed.get_world_size()
    return 0, 1


def broadcast(values: Tensor, source: int = 0) -> Tensor:
    """A tensor of one process, in all of them; the others give one of its shape and type."""
    if processes()[1] == 1:
        return values
    sent = _on_cpu(values)
    distributed.broadcast(torch.view_as_real(sent) if sent.is_complex() else sent, source)
    return sent.to(values.device)


def total(values: Tensor) -> Tensor:
    """Sum of a real tensor over the processes; exact where all but one of them hold 0."""
    if processes()[1] == 1:
        return values
    sent = _on_cpu(values)
    distributed.all_reduce(sent)
    return sent.to(values.device)


def _on_cpu(values: Tensor) -> Tensor:
    return values.detach().to("cpu", memory_format=torch.contiguous_format, copy=True)
