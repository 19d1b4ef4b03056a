"""Fourier shell correlations: the engine's CSV -> Scipion's FSC objects, and a resolution that is never extrapolated."""

from __future__ import annotations

import csv
from typing import Any, List, Tuple

from pwem.objects import FSC


def makeFsc(path: str, label: str = '') -> FSC:
    """FSC object (frequency in 1/Å) of a curve that the engine wrote."""
    frequency, correlation = readCurve(path)
    fsc = FSC()
    fsc.setData(frequency, correlation)
    fsc.setObjLabel(label)
    return fsc


def readCurve(path: str, column: str = 'fsc') -> Tuple[List[float], List[float]]:
    """Frequencies (1/Å) and correlations of a curve: two lists."""
    with open(path, newline='') as handle:
        rows = list(csv.DictReader(line for line in handle if not line.startswith('#')))
    if not rows or column not in rows[0]:
        raise ValueError("'%s' holds no Fourier shell correlation." % path)
    frequencyColumn = next(name for name in rows[0] if name.startswith('frequency'))
    return [float(row[frequencyColumn]) for row in rows], [float(row[column]) for row in rows]


def resolution(frequency: Any, correlation: Any, threshold: float = 0.143) -> float | None:
    """Resolution (Å) at the first crossing by linear interpolation.

    No crossing gives the last shell's resolution, a first shell below the threshold gives None.
    """
    if not correlation or correlation[0] < threshold:
        return None
    for index in range(1, len(correlation)):
        if correlation[index] < threshold:
            above, below = correlation[index - 1], correlation[index]
            fraction = (above - threshold) / (above - below)
            return 1.0 / (frequency[index - 1] + fraction * (frequency[index] - frequency[index - 1]))
    return 1.0 / frequency[-1]


def resolutionText(value: Any) -> str:
    """'8.3 Å', or what to say when there is none."""
    return 'not resolved' if value is None else '%.2f Å' % value
