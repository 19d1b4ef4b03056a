"""Simulated subtomograms in the place of files: each is made when it is looked at, from the seed and its number, and never stored."""

from __future__ import annotations

from dataclasses import fields

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ...simulate.config import SubtomogramSimulateConfig, SubtomogramSimulation
from ...simulate.subtomogram_simulator import SubtomogramSimulator
from ...simulate.subtomograms_command import simulated_table
from ..config import SubtomogramTrainConfig

__all__ = ["DrawnSubtomograms", "simulation_of"]

_AT_ONCE = 32


def simulation_of(config: SubtomogramTrainConfig) -> SubtomogramSimulateConfig:
    """What ``subtomogram-simulate`` would have to be told to write the subtomograms that a training draws."""
    told = {item.name: getattr(config, item.name) for item in fields(SubtomogramSimulation)}
    return SubtomogramSimulateConfig(**told, seed=config.seed, output=config.output)


class DrawnSubtomograms:
    """Reads simulated subtomograms as :class:`cryolearn.engine.io.subtomograms.SubtomogramStack` reads files.

    Row i is the same whatever else is made. Rows beyond the set are new subtomograms: i and i + len(self) are of one class.

    Attributes
    ----------
    table : of the set; files have no names
    box : side in voxels

    Memory: the classes' densities, and one batch.
    """

    def __init__(self, config: SubtomogramTrainConfig, device: torch.device) -> None:
        self.simulator = SubtomogramSimulator(simulation_of(config), device)
        self.table = simulated_table(self.simulator, [""] * self.simulator.count)
        self.box = config.box

    def __len__(self) -> int:
        return len(self.table)

    def read(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Volumes (n, z, y, x)."""
        at = np.atleast_1d(np.asarray(rows, np.int64))
        parts = np.split(at, range(_AT_ONCE, len(at), _AT_ONCE))
        return np.concatenate([self.simulator.make(part).noisy.float().cpu().numpy() for part in parts])

    def tilt_deg(self, rows: ArrayLike) -> NDArray[np.float64]:
        """First and last tilt (n, 2)."""
        return self.simulator.tilt_range(self.simulator.draws(np.asarray(rows, np.int64)))
