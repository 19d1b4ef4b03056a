"""How many of a kind are worked on together: what a GPU's free memory holds, or what the processor's caches do best with.

The size is the device's decision, so that an algorithm is written once, for a batch of any size. A GPU wants few large batches, because starting work on it
takes as long for one image as for a thousand; a processor wants small ones, whose arrays stay in its caches.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from .failures import is_no_memory

__all__ = ["BatchPlan", "free_bytes", "print_plans", "to_host"]

_SHARE = 0.4  # of the free memory; the rest is left to what is held beside a batch, and to other processes on the same GPU
_MOST = 1 << 20  # more together do not make a GPU faster

Result = TypeVar("Result")


@dataclass
class BatchPlan:
    """How many are worked on at a time; :meth:`fitting` makes it for a device.

    Attributes
    ----------
    what : name of many of them
    at_once : how many are worked on together
    bytes_each : memory that one of them takes
    """

    what: str
    at_once: int
    bytes_each: int

    @classmethod
    def fitting(cls, what: str, bytes_each: int, device: torch.device, on_cpu: int) -> BatchPlan:
        """Plan for a device.

        Parameters
        ----------
        what
            Name of many of them, for the line that says the plan.
        bytes_each
            Memory that one of them takes while it is worked on.
        device
            Where the work is done: on a GPU the plan takes two fifths of the memory that is free now.
        on_cpu
            How many there are at a time on the CPU.
        """
        if device.type == "cpu":
            return cls(what, max(1, on_cpu), bytes_each)
        return cls(what, max(1, min(_MOST, int(_SHARE * free_bytes(device)) // max(1, bytes_each))), bytes_each)

    def __str__(self) -> str:
        return f"{self.at_once} {self.what} at a time ({self.at_once * self.bytes_each / 2**20:.0f} MiB)"

    def run(self, count: int, work: Callable[[slice], Result], each: int = 1) -> list[Result]:
        """Results of ``work`` on parts of ``count`` things, in their order.

        When memory runs out, the part is begun again with half as many, and so is all that follows in this run of the command.

        Parameters
        ----------
        count
            How many there are.
        work
            Takes a part, and leaves nothing behind when it fails.
        each
            How many of what is planned for each of them stands for: the tilt images of a particle, say.

        Raises
        ------
        RuntimeError, MemoryError
            when memory does not suffice for one of them.
        """
        found, first = [], 0
        while first < count:
            step = max(1, self.at_once // each)
            result = self._try(work, slice(first, min(count, first + step)))
            if result is None:
                continue
            found.append(result[0])
            first += step
        return found

    def _try(self, work: Callable[[slice], Result], part: slice) -> tuple[Result] | None:
        """The result of a part; None when memory ran out, and fewer are to be tried."""
        try:
            return (work(part),)
        except (RuntimeError, MemoryError) as error:
            number = part.stop - part.start
            if number == 1 or not is_no_memory(error):
                raise
        # out here, where the error no longer holds the arrays of the part that failed
        self.at_once = max(1, min(self.at_once, self.at_once * ((number + 1) // 2) // number))
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        print(f"not enough memory: from now on {self}", flush=True)
        return None


def free_bytes(device: torch.device) -> int:
    """Memory of a GPU that this process can still take, what PyTorch keeps for reuse included."""
    module = torch.get_device_module(device)
    return int(module.mem_get_info(device)[0] + module.memory_reserved(device) - module.memory_allocated(device))


def print_plans(plans: Iterable[BatchPlan]) -> None:
    """Say, before the work begins, how many of what are worked on at a time and what memory they take."""
    print(f"at once: {', '.join(map(str, plans))}", flush=True)


def to_host(columns: dict[str, torch.Tensor]) -> dict[str, NDArray[Any]]:
    """Arrays of tensors (b, ...) of one batch; from a GPU in one copy, since the host waits for each.

    Whole numbers must be below 2^24, as they travel as float32.
    """
    first = next(iter(columns.values()))
    if first.device.type == "cpu":
        return {name: values.numpy() for name, values in columns.items()}
    flat = [values.reshape(len(values), -1) for values in columns.values()]
    packed = torch.cat([part.to(torch.float32) for part in flat], 1).cpu().numpy()
    parts = np.split(packed, np.cumsum([part.shape[1] for part in flat])[:-1], axis=1)
    types = {name: torch.empty(0, dtype=values.dtype).numpy().dtype for name, values in columns.items()}
    return {name: np.ascontiguousarray(part, types[name]).reshape(values.shape) for (name, values), part in zip(columns.items(), parts, strict=True)}
