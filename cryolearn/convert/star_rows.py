"""Rows of the block data_particles, written as they come."""

from __future__ import annotations

from typing import Any

import numpy as np
from emtable import Table

from .poses import relionFromTransforms


def writeRows(writer: Any, rows: Any, transforms: Any, pixelSize: float, count: int, poseLabels: Any) -> Any:
    """Add the poses to the rows, write them, empty the lists; returns the new count.

    Parameters
    ----------
    rows : list of OrderedDict
    transforms : list of (4, 4)
        One a row, or none at all.
    count : int
        Rows written so far; the header is written before the first.
    poseLabels : tuple of str
        Columns of rot, tilt, psi and of as many origins as are wanted.
    """
    if transforms:
        angles, origins = relionFromTransforms(np.array(transforms), pixelSize)
        for row, angle, origin in zip(rows, angles.tolist(), origins.tolist()):
            row.update(zip(poseLabels, angle + origin))
    if count == 0:
        writer.writeTableName('particles')
        writer.writeHeader([Table.Column(label, type=type(value)) for label, value in rows[0].items()])
    for row in rows:
        writer.writeRowValues(row.values())
    count += len(rows)
    del rows[:], transforms[:]
    return count
