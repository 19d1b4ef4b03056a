"""Simulated subtomograms in the place of files: each is made when it is looked at, from the seed and its number, and never stored."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import fields, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ...io.subtomograms import SubtomogramTable
from ...simulate.config import SubtomogramSimulateConfig, SubtomogramSimulation
from ...simulate.decoys import decoy_densities
from ...simulate.subtomogram_simulator import SubtomogramSimulator
from ...simulate.subtomograms_command import simulated_table
from ..config import SubtomogramTrainConfig

__all__ = ["DECOY", "DrawnSubtomograms", "simulation_of"]

DECOY = "decoy of shape"  # and its number; no class has blanks in its name
_AT_ONCE = 32


def simulation_of(config: SubtomogramTrainConfig) -> SubtomogramSimulateConfig:
    """What ``subtomogram-simulate`` would have to be told to write the subtomograms that a training draws."""
    told = {item.name: getattr(config, item.name) for item in fields(SubtomogramSimulation)}
    return SubtomogramSimulateConfig(**told, seed=config.seed, output=config.output)


class DrawnSubtomograms:
    """Reads simulated subtomograms as :class:`cryolearn.engine.io.subtomograms.SubtomogramStack` reads files.

    Row i is the same whatever else is made. Rows beyond the set are new subtomograms: i and i + len(self) are of one class. Those of the classes come first,
    then as many of decoys, each of which is a class of its own whose name begins with ``DECOY``.

    Attributes
    ----------
    table : of the set; files have no names
    box : side in voxels
    simulator : of the classes

    Memory: the densities of classes and decoys, and one batch.
    """

    def __init__(self, config: SubtomogramTrainConfig, device: torch.device) -> None:
        self.simulator = SubtomogramSimulator(simulation_of(config), device)
        self.table, self.box = simulated_table(self.simulator, [""] * self.simulator.count), config.box
        self._decoys: SubtomogramSimulator | None = None
        if config.decoys and config.network == "residual3d":
            self._decoys = self._simulator_of_decoys(config.decoys, config.seed + 1)
            self.table = _joined(self.table, simulated_table(self._decoys, [""] * max(config.decoys, self.simulator.count)))

    def __len__(self) -> int:
        return len(self.table)

    def read(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Volumes (n, z, y, x)."""
        at = np.atleast_1d(np.asarray(rows, np.int64))
        volumes = np.empty((len(at), *(self.box,) * 3), np.float32)
        for simulator, here, own in self._parts(at):
            volumes[here] = _made(simulator, own)
        return volumes

    def tilt_deg(self, rows: ArrayLike) -> NDArray[np.float64]:
        """First and last tilt (n, 2)."""
        at = np.atleast_1d(np.asarray(rows, np.int64))
        tilts = np.empty((len(at), 2))
        for simulator, here, own in self._parts(at):
            tilts[here] = simulator.tilt_range(simulator.draws(own))
        return tilts

    def unseen_decoys(self, shapes: int, copies: int) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
        """Subtomograms (n, z, y, x) of shapes that are not among those to learn from, and their first and last tilts (n, 2)."""
        simulator, rows = self._simulator_of_decoys(shapes, self.simulator.config.seed + 2), np.arange(shapes * copies)
        return _made(simulator, rows), simulator.tilt_range(simulator.draws(rows))

    def _simulator_of_decoys(self, count: int, seed: int) -> SubtomogramSimulator:
        known, told = self.simulator, replace(self.simulator.config, null_class=False, seed=seed)
        shapes = decoy_densities(count, known.densities, told.pixel_size_angst, known.room_angst, seed, known.device)
        return SubtomogramSimulator(told, known.device, shapes)

    def _parts(self, rows: NDArray[np.int64]) -> Iterator[tuple[SubtomogramSimulator, NDArray[np.int64], NDArray[np.int64]]]:
        """Each simulator that makes some of the rows, which of them, and their rows in its own counting."""
        turn, row = np.divmod(rows, len(self))
        first = self.simulator.count
        own, decoy = np.flatnonzero(row < first), np.flatnonzero(row >= first)
        if len(own):
            yield self.simulator, own, turn[own] * first + row[own]
        if len(decoy) and self._decoys is not None:
            yield self._decoys, decoy, turn[decoy] * (len(self) - first) + row[decoy] - first


def _made(simulator: SubtomogramSimulator, rows: NDArray[np.int64]) -> NDArray[np.float32]:
    parts = np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE))
    return np.concatenate([simulator.make(part).noisy.float().cpu().numpy() for part in parts])


def _joined(classes: SubtomogramTable, decoys: SubtomogramTable) -> SubtomogramTable:
    """What is known of the subtomograms of both, one after the other; poses and CTF are not asked for."""
    assert classes.class_name is not None and decoys.class_name is not None
    return replace(
        classes, ids=np.arange(1, len(classes) + len(decoys) + 1), file=classes.file + decoys.file,
        class_name=classes.class_name + [f"{DECOY} {name}" for name in decoys.class_name],
        tilt_min_deg=np.append(classes.tilt_min_deg, decoys.tilt_min_deg), tilt_max_deg=np.append(classes.tilt_max_deg, decoys.tilt_max_deg),
        optics_group=None, angles_deg=None, shifts_angst=None, random_subset=None, extra={},
    )
