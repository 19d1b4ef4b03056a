"""What the averaging iterations are told, and what stands after each of them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...io.records import RunRecord
from .aligner import Plan

__all__ = ["Settings", "State"]


@dataclass(kw_only=True)
class Settings:
    """What the rounds need to know besides the subtomograms.

    Attributes
    ----------
    classes, iterations, starts, seed, batch : numbers of the command
    start : 'random', 'alignment' or 'reference'
    references : (K or 1, n, n, n) maps of the start 'reference'
    initial_px : low-pass of the first maps in Fourier pixels
    plan : how finely to search; its band is that of the present round
    mask : (n, n, n)
    edge_px, floor : of the missing wedge and of the coverage
    invert : multiply the subtomograms by -1
    """

    classes: int
    iterations: int
    start: str
    starts: int
    seed: int
    batch: int
    initial_px: float
    plan: Plan
    mask: Tensor
    edge_px: float = 0.0
    floor: float = 0.05
    invert: bool = False
    references: Tensor | None = None


@dataclass(kw_only=True)
class State:
    """Where the rounds are; everything that the next one depends on.

    Attributes
    ----------
    done : rounds finished; 0 after the start
    maps : (2, K, n, n, n) references, filtered and masked
    coverage : (2, K, n, n, n // 2 + 1)
    filters : (K, shells) filter of each class's half maps
    present : (2, K) whether a class has subtomograms in a half set
    number : (n,) class from 0
    rotation, shift_px : (n, 3, 3), (n, 3), in the frame of the first half set
    score : (n, K) correlation with each class
    curves : (K, shells) FSC of the half maps
    evidence : (2, starts) mean log-likelihood of each random start
    """

    done: int
    maps: Tensor
    coverage: Tensor
    filters: Tensor
    present: Tensor
    number: Tensor
    rotation: Tensor
    shift_px: Tensor
    score: Tensor
    curves: Tensor
    evidence: Tensor

    def save(self, record: RunRecord) -> None:
        """Record the state as that after the last round."""
        arrays = {name: value.cpu().numpy() for name, value in vars(self).items() if isinstance(value, Tensor)}
        record.stage(f"round_{self.done:03d}").write(arrays, {"done": self.done})

    @classmethod
    def load(cls, record: RunRecord, device: torch.device) -> State | None:
        """The state after the last recorded round, None when there is none; what the rounds compute with goes to the device."""
        newest = record.newest("round")
        found = newest.read() if newest else None
        if found is None:
            return None
        tensors = {name: torch.from_numpy(values) for name, values in found[0].items()}
        on_device = {name: tensors.pop(name).to(device) for name in ("maps", "coverage", "filters")}
        return cls(done=int(found[1]["done"]), **on_device, **tensors)
