"""What holds for a map that is enhanced, and the result on the network's grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...imaging.map_resampling import GridPlan
from ...imaging.map_shells import Shells
from .data_consistency import DataWeight
from .solvent import Solvent

__all__ = ["EnhancedMap", "Setting"]

Array = NDArray[np.float32]


@dataclass(kw_only=True)
class Setting:
    """What holds for a map and its half maps: grids, resolutions, the molecule."""

    plan: GridPlan
    shells: Shells
    solvent: Solvent
    mask: Array
    resolution_angst: float
    target_angst: float
    share: NDArray[np.float64]
    power: NDArray[np.float64]  # mean power of the map in each shell


@dataclass(kw_only=True)
class EnhancedMap:
    """Result (z, y, x) on the network's grid, in units of the density's spread inside the molecule; the input beside it."""

    seen: Array
    density: Array
    spread: Array
    error: Array | None
    held: DataWeight
    level: float
    scale: float
