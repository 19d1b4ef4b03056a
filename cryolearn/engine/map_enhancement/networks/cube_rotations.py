"""The 24 turns that map a cube onto itself, as turns of arrays, and their subgroups."""

from __future__ import annotations

from itertools import permutations, product
from typing import NamedTuple, TypeVar

import numpy as np
import torch

__all__ = ["GROUPS", "ROTATIONS", "Turn", "turn_array", "turn_back"]

T = TypeVar("T", np.ndarray, torch.Tensor)


class Turn(NamedTuple):
    """Axes in their new order, then the axes (of the result, -3 to -1) that are reversed."""

    order: tuple[int, int, int]
    flipped: tuple[int, ...]


def _turns() -> tuple[Turn, ...]:
    found = []
    for order in permutations(range(3)):
        sign = round(np.linalg.det(np.eye(3)[list(order)]))
        for signs in product((1, -1), repeat=3):
            if sign * np.prod(signs) == 1:  # turns only: a mirror image of a protein is none
                found.append(Turn((order[0], order[1], order[2]), tuple(axis - 3 for axis in range(3) if signs[axis] < 0)))
    return tuple(sorted(found, key=lambda turn: (turn.order != (0, 1, 2), turn)))


ROTATIONS = _turns()
_TWOFOLD = tuple(turn for turn in ROTATIONS if turn.order == (0, 1, 2))
_EVEN = tuple(turn for turn in ROTATIONS if turn.order in ((0, 1, 2), (1, 2, 0), (2, 0, 1)))
GROUPS: dict[int, tuple[Turn, ...]] = {1: ROTATIONS[:1], 4: _TWOFOLD, 12: _EVEN, 24: ROTATIONS}


def turn_array(data: T, turn: Turn) -> T:
    """Turn the last three axes; the result is contiguous."""
    lead = tuple(range(data.ndim - 3))
    order = lead + tuple(axis + data.ndim - 3 for axis in turn.order)
    if isinstance(data, torch.Tensor):
        return data.permute(order).flip(turn.flipped) if turn.flipped else data.permute(order)
    moved = data.transpose(order)
    return np.ascontiguousarray(np.flip(moved, turn.flipped) if turn.flipped else moved)


def turn_back(data: T, turn: Turn) -> T:
    """Inverse of :func:`turn_array`."""
    base = data.ndim - 3
    inverse = tuple(range(base)) + tuple(base + turn.order.index(axis) for axis in range(3))
    if isinstance(data, torch.Tensor):
        return (data.flip(turn.flipped) if turn.flipped else data).permute(inverse)
    return np.ascontiguousarray((np.flip(data, turn.flipped) if turn.flipped else data).transpose(inverse))
