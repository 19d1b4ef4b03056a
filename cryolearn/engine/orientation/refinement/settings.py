"""What all searches for poses need to know of the particle, and what they find."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

__all__ = ["Matched", "MatchingSettings"]


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


@dataclass(kw_only=True)
class Matched:
    """Poses after matching.

    Attributes
    ----------
    rotation, shift_angst : (n, 3, 3), (n, 2)
    confidence : (n,) posterior of the neighbourhood of the pose among all poses, given the last map of the other half set
    log_likelihood : (n,) against noise alone
    curve : FSC of the half maps in the last round, of the matching band's box
    """

    rotation: Tensor
    shift_angst: Tensor
    confidence: Tensor
    log_likelihood: Tensor
    curve: Tensor
