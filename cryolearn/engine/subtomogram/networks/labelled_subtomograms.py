"""Labelled subtomograms as training samples: who trains and who validates, read once where memory allows, moved as augmentation wants."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...exceptions import InputError
from ...io.subtomograms import SubtomogramTable
from ...training.plan import BLOCK, block_generator, scattered, shuffled_rows
from ..usable_subtomograms import UsableSubtomograms
from .network_input import keep_wedge, move_volumes, network_input
from .on_the_fly_simulation import DrawnSubtomograms

__all__ = ["CachedVolumes", "LabelledSubtomograms", "Labels", "class_weights", "read_labels"]

_NULL = "NULL"  # comes last
_FEWEST = 2


@dataclass
class Labels:
    """Classes of a set.

    Attributes
    ----------
    names : of the classes, number 0 first
    number : (n,) int
    training, validation : rows of the table
    """

    names: list[str]
    number: NDArray[np.int64]
    training: NDArray[np.int64]
    validation: NDArray[np.int64]


def read_labels(table: SubtomogramTable, validation_fraction: float) -> Labels:
    """Classes of a table, and which of its subtomograms are kept for validation: the same part of each class, by a hash of the id.

    Raises
    ------
    InputError
        when there are no labels, one class only, or a class with a single subtomogram.
    """
    if table.class_name is None:
        raise InputError("The subtomograms have no classes to learn from: give a STAR file with the column rlnClassName.")
    unnamed = next((row for row, name in enumerate(table.class_name) if name in ("", "None")), None)
    if unnamed is not None:
        raise InputError(f"The {table.name(unnamed)} has no class: name one, or leave it out.")
    names = sorted(set(table.class_name), key=lambda name: (name == _NULL, name))
    if len(names) < 2:
        raise InputError(f"All subtomograms are of the class '{names[0]}': there is nothing to tell apart.")
    lookup = {name: number for number, name in enumerate(names)}
    number = np.array([lookup[name] for name in table.class_name])
    rank = scattered(table.ids)
    kept = []
    for index, name in enumerate(names):
        here = np.flatnonzero(number == index)
        if len(here) < _FEWEST:
            raise InputError(f"The class '{name}' has a single subtomogram: {_FEWEST} at least are needed, one of them for validation.")
        count = int(np.clip(round(validation_fraction * len(here)), 1, len(here) - 1))
        kept.append(here[np.argsort(rank[here], kind="stable")[:count]])
    validation = np.sort(np.concatenate(kept))
    return Labels(names, number, np.setdiff1d(np.arange(len(table)), validation), validation)


def class_weights(labels: Labels, balance: bool) -> Tensor:
    """Weight of each class in the loss, such that every class counts the same and the mean over training is 1."""
    count = np.bincount(labels.number[labels.training], minlength=len(labels.names))
    weight = len(labels.training) / (len(labels.names) * count) if balance else np.ones(len(labels.names))
    return torch.as_tensor(weight, dtype=torch.float32)


class CachedVolumes:
    """Volumes of a set, of which the first ones that are asked for stay in memory, up to ``limit_mib``.

    Of simulated ones, those beyond the set are never kept.
    """

    def __init__(self, stack: UsableSubtomograms | DrawnSubtomograms, limit_mib: int) -> None:
        self.stack = stack
        room = min(len(stack), (limit_mib << 20) // (4 * stack.box**3))
        self._kept = np.empty((room, *(stack.box,) * 3), np.float32)  # pages are taken when they are written
        self._place = np.full(len(stack), -1, np.int64)
        self._used = 0

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Volumes (n, z, y, x)."""
        if rows.max(initial=0) >= len(self.stack):
            return self.stack.read(rows)
        fresh = np.unique(rows[self._place[rows] < 0])
        volumes = np.empty((len(rows), *self._kept.shape[1:]), np.float32)
        if len(fresh):
            found = self.stack.read(fresh)
            keep = min(len(fresh), len(self._kept) - self._used)
            here = np.searchsorted(fresh, rows)
            here = np.where(fresh[np.minimum(here, len(fresh) - 1)] == rows, here, -1)
            volumes[here >= 0] = found[here[here >= 0]]
            known = here < 0
            volumes[known] = self._kept[self._place[rows[known]]]
            self._kept[self._used : self._used + keep] = found[:keep]
            self._place[fresh[:keep]] = np.arange(self._used, self._used + keep)
            self._used += keep
            return volumes
        return self._kept[self._place[rows]]


class LabelledSubtomograms:
    """Draws blocks of labelled subtomograms, in an order that depends on the seed and the block's number only.

    Parameters
    ----------
    augment_shift_px
        Subtomograms are turned by half turns that keep their wedge and moved by up to this; None shows them as they are.
    new_each_epoch
        Training goes on to other simulated subtomograms each time it has gone through the set.
    """

    def __init__(
        self, volumes: CachedVolumes, labels: Labels, wedge_channel: bool, augment_shift_px: int | None, seed: int, device: torch.device,
        new_each_epoch: bool = False,
    ) -> None:
        self.volumes, self.table, self.labels, self._wedge_channel = volumes, volumes.stack.table, labels, wedge_channel
        self._shift_px, self._seed, self.device = augment_shift_px, seed, device
        self._new = new_each_epoch
        self._number = torch.from_numpy(labels.number)

    def training_rows(self, first: int, count: int) -> NDArray[np.int64]:
        """Rows of the samples ``first ... first + count - 1``: the training set, shuffled anew each time it has been gone through.

        Rows beyond the set are new subtomograms of the same classes.
        """
        total = len(self.labels.training)
        rows = self.labels.training[shuffled_rows(self._seed, first, count, total)]
        return rows + np.arange(first, first + count) // total * len(self._number) if self._new else rows

    def draw(self, blocks: list[tuple[int, int]]) -> tuple[Tensor, Tensor]:
        """Training samples (n, channels, z, y, x) and their classes (n,)."""
        rows = np.concatenate([self.training_rows(BLOCK * number, count) for number, count in blocks])
        seen, number = self.read(rows)
        if self._shift_px is None:
            return seen, number
        turns, shifts = [], []
        for block, count in blocks:
            generator = block_generator(self._seed, block)
            turns.append(torch.randint(4, (count,), generator=generator).numpy())
            shifts.append(torch.randint(-self._shift_px, self._shift_px + 1, (count, 3), generator=generator).numpy())
        turn = keep_wedge(self.volumes.stack.tilt_deg(rows), np.concatenate(turns))
        return move_volumes(seen, turn, np.concatenate(shifts)), number

    def read(self, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
        """Subtomograms as they are, and their classes."""
        volumes = torch.from_numpy(self.volumes.read(rows)).to(self.device)
        number = self._number[torch.from_numpy(rows % len(self._number))].to(self.device)
        return network_input(volumes, self.volumes.stack.tilt_deg(rows), self._wedge_channel), number
