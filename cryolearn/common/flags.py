"""What a result table's ``flags`` column says of a particle; 0 is nothing against it."""

from __future__ import annotations

from enum import IntFlag
from typing import TYPE_CHECKING, Dict, Type

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

__all__ = ["AlignmentFlag", "ConformationFlag", "flag_counts"]


class AlignmentFlag(IntFlag):
    """Doubts about an elastic alignment."""

    AMBIGUOUS = 1  # another solution explains the image as well
    AMPLITUDE_AT_BOUND = 2  # of the search
    LOW_CORRELATION = 4  # no better than an image without the particle
    NOT_CONVERGED = 8
    UNUSABLE_IMAGE = 16  # constant, masked, saturated or of another grey scale


class ConformationFlag(IntFlag):
    """Doubts about a conformation of the Gaussian model."""

    HIDDEN = 1  # the view hides the motion
    AT_END = 2  # of the path
    UNLIKELY = 4  # the model does not fit the image
    UNUSABLE_IMAGE = 8  # constant, masked, saturated or of another grey scale


def flag_counts(flags: ArrayLike, kind: Type[IntFlag]) -> Dict[str, int]:
    """Particles that carry each flag of a kind, by the flag's name in small letters."""
    values = np.asarray(flags)
    return {str(flag.name).lower(): int(np.count_nonzero(values & flag.value)) for flag in kind}
