"""Parts of a set of images: what one process works on at a time, and one file on disk.

Parts follow from the number of images alone. Batches never hold images of two parts, and sums over images are sums over parts in their order, so that the
result does not depend on the number of processes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..training.process_group import broadcast, processes

__all__ = ["batches", "is_mine", "part_rows", "summed_over_parts"]

_FEWEST = 128  # images of a part: the sums of a part are maps, which have to be added
_MOST_PARTS = 64  # and processes


def part_rows(count: int) -> list[NDArray[np.int64]]:
    """Rows of each part of ``count`` images: parts are of the same size, but for one image."""
    return np.array_split(np.arange(count), max(1, min(_MOST_PARTS, count // _FEWEST)))


def is_mine(part: Tensor) -> Tensor:
    """(n,) whether this process works on the images of parts (n,)."""
    rank, world = processes()
    return part % world == rank


def batches(part: Tensor | None, rows: Tensor, most: int) -> Iterator[Tensor]:
    """Some rows, at most so many at a time, and never of two of the parts (n,), which their images have; none is one part."""
    counts = [len(rows)] if part is None else torch.unique_consecutive(part[rows.to(part.device)], return_counts=True)[1].tolist()
    for own in rows.split(counts):
        if len(own):
            yield from own.split(most)


def summed_over_parts(part: Tensor | None, rows: Tensor, make: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
    """Sums over images, in all processes: what ``make`` gives for the rows of each part, added in the order of the parts.

    Parameters
    ----------
    part
        (n,) part of each image, ascending; none where all processes are to work on all rows.
    rows
        (n,) all rows.
    make
        Tensors of some rows, or of none.
    """
    if part is None:
        return make(rows)
    parts = rows.split(torch.unique_consecutive(part, return_counts=True)[1].tolist())
    rank, world = processes()
    sums: list[Tensor] = []
    for first in range(0, len(parts), world):
        mine = first + rank
        own = make(parts[mine] if mine < len(parts) else rows[:0])
        for source in range(min(world, len(parts) - first)):
            if not sums:
                sums = [broadcast(values if rank == source else torch.empty_like(values), source) for values in own]
                continue
            for values, whole in zip(own, sums, strict=True):
                whole += broadcast(values if rank == source else torch.empty_like(values), source)
    return sums
