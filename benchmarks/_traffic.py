"""Arithmetic and memory traffic of what PyTorch is asked to do: a bound on what any device can do with the same operations.

Every operation reads its inputs and writes its outputs once; views move nothing. Arithmetic is counted by PyTorch's formulas for products and convolutions,
``5 n log2 n`` for a transform of ``n`` points, and one operation an element for all else.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

H200_BYTES_A_SECOND, H200_FLOP_A_SECOND = 4.8e12, 67e12  # memory and float32 arithmetic, by its datasheet
LAUNCH_SECONDS = 5e-6


class Traffic(TorchDispatchMode):
    """Counts within its ``with`` block.

    Attributes
    ----------
    bytes, flop, operations
        Sums over all operations that are no views.
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes = self.flop = self.operations = 0.0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        if not function.is_view and "empty" not in function.__name__:
            read = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)]
            written = [leaf for leaf in tree_leaves(result) if isinstance(leaf, torch.Tensor)]
            self.operations += 1
            self.bytes += sum(_bytes(tensor) for tensor in (*read, *written))
            self.flop += _flop(function, args, kwargs or {}, result, written)
        return result

    def h200_seconds(self) -> float:
        """What one H200 takes at best: the slower of its memory and its arithmetic."""
        return max(self.bytes / H200_BYTES_A_SECOND, self.flop / H200_FLOP_A_SECOND)


def _bytes(tensor: torch.Tensor) -> float:
    """What an operation moves of a tensor: an expanded one is read once."""
    return tensor.element_size() * math.prod(size for size, stride in zip(tensor.shape, tensor.stride()) if stride or size == 1)


def _flop(function: Any, args: Any, kwargs: Any, result: Any, written: list[torch.Tensor]) -> float:
    formula = flop_registry.get(function.overloadpacket)
    if formula is not None:
        return float(formula(*args, **kwargs, out_val=result))
    elements = float(sum(tensor.numel() for tensor in written))
    if function.__name__.startswith("_fft"):
        tensor = next(leaf for leaf in tree_leaves(args) if isinstance(leaf, torch.Tensor))
        points = math.prod(tensor.shape[axis] for axis in args[1])
        return 5 * tensor.numel() * math.log2(max(points, 2))
    return elements
