"""What all searches for poses need to know of the particle."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["MatchingSettings"]


@dataclass(frozen=True, kw_only=True)
class MatchingSettings:
    """Particle and search ranges.

    Attributes
    ----------
    diameter_angst : diameter of the particle
    shift_range_angst : largest shift
    seed : of all that is drawn at random
    symmetry : (g, 3, 3) rotations of the particle's point group; None is C1
    """

    diameter_angst: float
    shift_range_angst: float
    seed: int
    symmetry: Tensor | None = None
