"""Fourier shell correlation curves: files, the first shell below a threshold, and the resolution read there.

One rule: shell 0 says nothing, the first shell below the threshold counts, the crossing is interpolated linearly between shells and never
extrapolated. A curve that never falls below ends at its last shell (Nyquist); a curve whose first shell is below has no resolution.
"""

from __future__ import annotations

import csv
import math
from typing import Any, List, Optional, Protocol, Sequence, Tuple, Union

__all__ = ["HALF_MAP_THRESHOLD", "TRUTH_THRESHOLD", "crossing_shell", "curve_names", "first_shell_below", "read_curve", "resolution_at",
           "resolution_of_curve", "resolution_text"]

HALF_MAP_THRESHOLD = 0.143  # of two half maps (Rosenthal & Henderson 2003)
TRUTH_THRESHOLD = 0.5  # of a map with its truth or with a model's density
_NO_CURVES = ("shell", "frequency_inv_angst", "resolution_angst")


class _Array(Protocol):
    """A numpy array or a tensor of any device."""

    def tolist(self) -> Any: ...


Curve = Union[Sequence[float], _Array]


def first_shell_below(curve: Curve, threshold: float) -> int:
    """First shell, shell 0 aside, whose value is below ``threshold`` or not a number; ``len(curve)`` when there is none.

    Parameters
    ----------
    curve
        (n,) values at shells 0 ... n-1.
    """
    values = _floats(curve)
    return next((shell for shell in range(1, len(values)) if not values[shell] >= threshold), len(values))


def crossing_shell(curve: Curve, threshold: float) -> Optional[float]:
    """Radius in shells at which a curve (n,) first falls below ``threshold``, between two shells by linear interpolation.

    The last shell when the curve never falls below, None when its first shell is below already. A shell that is not a number ends the curve
    at the shell before it.
    """
    values = _floats(curve)
    shell = first_shell_below(values, threshold)
    if len(values) < 2 or shell == 1:
        return None
    if shell == len(values) or math.isnan(values[shell]):
        return float(shell - 1)
    high, low = values[shell - 1], values[shell]
    return shell - 1 + (high - threshold) / (high - low)


def resolution_at(curve: Curve, threshold: float, box: int, pixel_size_angst: float) -> Optional[float]:
    """Resolution in Å at which a curve (n,) of shells 0 ... n-1 of a box of ``box`` pixels first falls below ``threshold``; see :func:`crossing_shell`."""
    shell = crossing_shell(curve, threshold)
    return None if shell is None else box * pixel_size_angst / shell


def resolution_of_curve(frequency_inv_angst: Curve, values: Curve, threshold: float = HALF_MAP_THRESHOLD) -> Optional[float]:
    """Resolution in Å at which a curve as it stands in a file first falls below ``threshold``; see :func:`crossing_shell`.

    Parameters
    ----------
    frequency_inv_angst, values
        (n,) ascending frequencies in 1/Å, and the correlations there; a frequency of 0 is shell 0, else the first one is shell 1.
    """
    frequency, curve = _floats(frequency_inv_angst), _floats(values)
    if frequency[:1] != [0.0]:
        frequency, curve = [0.0, *frequency], [1.0, *curve]
    shell = crossing_shell(curve, threshold)
    if shell is None:
        return None
    below = int(shell)
    if below == len(frequency) - 1:
        return 1 / frequency[-1]
    return 1 / (frequency[below] + (shell - below) * (frequency[below + 1] - frequency[below]))


def _floats(values: Curve) -> List[float]:
    return [float(value) for value in (values if isinstance(values, Sequence) else values.tolist())]


def resolution_text(value: Optional[float]) -> str:
    """'8.30 Å', or what to say when there is no resolution."""
    return "not resolved" if value is None else "%.2f Å" % value


def curve_names(path: str) -> List[str]:
    """Names of the curves in a CSV file of the engine."""
    with open(path, newline="", encoding="utf-8") as handle:
        header = next(csv.reader(line for line in handle if not line.startswith("#")))
    return [name for name in header if name not in _NO_CURVES]


def read_curve(path: str, name: str = "fsc") -> Tuple[List[float], List[float]]:
    """Frequencies (1/Å) and correlations of one curve in a CSV file of the engine.

    Raises
    ------
    ValueError
        when the file has no such curve.
    """
    with open(path, newline="", encoding="utf-8") as handle:
        rows = list(csv.DictReader(line for line in handle if not line.startswith("#")))
    if not rows or name not in rows[0]:
        raise ValueError("'%s' holds no Fourier shell correlation." % path)
    return [float(row["frequency_inv_angst"]) for row in rows], [float(row[name]) for row in rows]
