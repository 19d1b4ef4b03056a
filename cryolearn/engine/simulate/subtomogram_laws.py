"""What is random about a simulated subtomogram: pose, shift, tilt range, defocus and noise.

Subtomogram i of a seed is the same whatever the number of subtomograms and the order in which they are made. Classes take turns: i belongs to
class ``i % classes``.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import torch
from numpy.typing import NDArray

from ..imaging.poses import quaternion_to_matrix
from .config import SubtomogramSimulateConfig

__all__ = ["SubtomogramDraws", "draw_subtomograms", "noise_generator"]

_BLOCK = 1024
_SLOTS = 16  # uniform numbers a subtomogram
_PARAMETERS, _NOISE = 11, 12  # streams of a seed, apart from those of particles


@dataclass
class SubtomogramDraws:
    """Random quantities of n subtomograms.

    Attributes
    ----------
    number : (n,) int
        Class, from 1; the last one is noise alone when it was asked for.
    rotation : (n, 3, 3)
    shift_angst : (n, 3)
        x, y, z.
    tilt_steps : (n, 2) int
        Tilts left out at either end of the series.
    defocus_angst : (n,)
    """

    number: NDArray[np.int64]
    rotation: NDArray[np.float64]
    shift_angst: NDArray[np.float64]
    tilt_steps: NDArray[np.int64]
    defocus_angst: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.number)

    def __getitem__(self, rows: slice | NDArray[np.int64]) -> SubtomogramDraws:
        return SubtomogramDraws(*(getattr(self, item.name)[rows] for item in fields(self)))


def draw_subtomograms(config: SubtomogramSimulateConfig, rows: NDArray[np.int64], classes: int) -> SubtomogramDraws:
    """Random quantities of the subtomograms ``rows`` (counted from 0), ``classes`` of them including that of noise alone."""
    uniform = np.empty((len(rows), _SLOTS))
    for block in np.unique(rows // _BLOCK).tolist():
        seed = np.random.SeedSequence(config.seed, spawn_key=(_PARAMETERS, block))
        here = rows // _BLOCK == block
        uniform[here] = np.random.default_rng(seed).random((_BLOCK, _SLOTS))[rows[here] % _BLOCK]
    most = int(config.tilt_spread_deg / config.tilt_step_deg + 1e-9)
    return SubtomogramDraws(
        number=1 + rows % classes, rotation=_rotations(uniform[:, :3]), shift_angst=config.shift_angst * (2 * uniform[:, 3:6] - 1),
        tilt_steps=np.floor(uniform[:, 6:8] * (most + 1)).astype(np.int64),
        defocus_angst=config.defocus_angst + config.defocus_spread_angst * (2 * uniform[:, 8] - 1),
    )


def _rotations(uniform: NDArray[np.float64]) -> NDArray[np.float64]:
    """Uniform rotations (n, 3, 3) of three uniform numbers each (Shoemake, Graphics Gems III (1992) 124)."""
    first, second, third = uniform.T
    low, high = np.sqrt(1 - first), np.sqrt(first)
    a, b = 2 * np.pi * second, 2 * np.pi * third
    quaternion = np.stack((low * np.sin(a), low * np.cos(a), high * np.sin(b), high * np.cos(b)), axis=1)
    return quaternion_to_matrix(torch.from_numpy(quaternion)).numpy()


def noise_generator(seed: int, row: int, copy: int = 0) -> np.random.Generator:
    """Random numbers of the noise of one subtomogram; ``copy`` counts independent copies of it."""
    return np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_NOISE, int(row), copy)))
