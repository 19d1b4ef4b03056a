"""Orientations: the engine's result tables -> sets of particles with projection alignment, joined by id, and the tables that the viewers draw."""

from __future__ import annotations

import math
import os
from typing import Any

import numpy as np
from pwem.objects import Particle, Transform
from pyworkflow.object import Float, Integer

from ..common.tables import read_table
from .bulk import appendCopies
from .particles import StackNames, realName, writeParticles
from .tables import ResultTable, readRows

PARTICLES_TABLE, ERRORS_TABLE, ERRORS_SUMMARY = 'orientations.npz', 'errors.npz', 'errors.csv'
VALIDATION_TABLE, DISTANCES_TABLE = 'validation.npz', 'distances.npz'
DEGREES = math.degrees(1)
ERROR_KINDS = {'physical': 'physical error', 'o4': 'O(4) error'}


def appendRecovered(particles: Any, output: Any, tableFile: str) -> None:
    """Fill a new SetOfParticles with the input's particles, the orientations found, and how sure they are.

    Parameters
    ----------
    particles : SetOfParticles
        The particles that the engine was given.
    output : SetOfParticles
        New, empty set. Gets the input's properties and a projection alignment.
    tableFile : str
        Result table with ``id``, ``rotation``, ``shift_angst``; other known columns come along.

    Raises
    ------
    ValueError
        naming the first particle without a row.
    """
    _append(particles, output, tableFile, RECOVERED)


def appendCompared(particles: Any, output: Any, tableFile: str) -> None:
    """As :func:`appendRecovered`, for orientations that were aligned to others: each particle has its errors in degrees.

    A particle that is not among the others has no error (an empty cell in the set's table).
    """
    _append(particles, output, tableFile, COMPARED)


def _append(particles: Any, output: Any, tableFile: str, kinds: Any) -> None:
    table = ResultTable(tableFile)
    output.copyInfo(particles)
    output.setHasCTF(particles.hasCTF())
    output.setAlignmentProj()

    def update(item: Any) -> None:
        item.setTransform(Transform(matrix=table.transform(item, particles.getSamplingRate())))
        table.setAttributes(item, kinds)
    appendCopies(particles, output, _plainItem, update, enabled=True)


def _number(factor: float) -> Any:
    """Float of a value times ``factor``; an empty one where there is no value."""
    return lambda value: Float(value * factor if np.isfinite(value) else None)


def _plainItem(particle: Any) -> Any:
    """A Particle with all that ``particle`` has, its id included, but for the latent vectors of a flexible one."""
    item = Particle()
    item.copy(particle, ignoreAttrs=['_flexInfo', '_zFlex', '_zRed'])
    item.setEnabled(particle.isEnabled())
    return item


# Columns of the tables that become columns of the sets: attribute, table's name, type. Half sets come along, so that they stay apart in whatever follows.
_HALF = ('_rlnRandomSubset', 'half', Integer)
RECOVERED = (('_orientationConfidence', 'confidence', _number(1.)), ('_orientationResidualDeg', 'residual_rad', _number(DEGREES)),
             ('_orientationLogLikelihood', 'log_likelihood', _number(1.)), _HALF)
COMPARED = (('_orientationErrorDeg', 'error_rad', _number(DEGREES)), ('_orientationPhysicalErrorDeg', 'physical_rad', _number(DEGREES)),
            ('_orientationO4ErrorDeg', 'o4_rad', _number(DEGREES)), _HALF)


def writeBoth(reference: Any, particles: Any, folder: str) -> Any:
    """Write two sets of the same images as ``input_reference.star`` and ``input_particles.star`` in which one image has one name.

    Links are followed and stacks that must be converted are converted once for both, so that the images of two imports of the same files are
    the same.
    """
    names = StackNames(folder, followLinks=True)
    paths = [os.path.join(folder, 'input_%s.star' % what) for what in ('reference', 'particles')]
    for item, path in zip((reference, particles), paths):
        writeParticles(item, path, names=names)
    return paths


def shareFiles(first: Any, second: Any) -> bool:
    """Is an image file of one set a file of the other? Quick for sets of any size."""
    one, other = ({realName(name) for name in particles.getFiles()} for particles in (first, second))
    return bool(one & other)


# --------------------------------------------------- for the viewers --------------------------------------------------
def readErrors(folder: str) -> tuple[dict[str, Any], Any]:
    """Errors and reference orientations of a comparison, particles that both sets have.

    Returns
    -------
    errors : dict
        ``{kind: (n,) degrees}``, the one of the alignment asked for first.
    rotations : array (n, 3, 3)
        Orientations of the reference.
    """
    columns, about = read_table(os.path.join(folder, ERRORS_TABLE))
    both = np.isfinite(columns['error_rad'])
    kinds = sorted(ERROR_KINDS, key=lambda kind: kind != about['alignment'])
    return {ERROR_KINDS[kind]: DEGREES * columns[kind + '_rad'][both] for kind in kinds}, columns['reference'][both]


def readErrorSummary(folder: str) -> list[dict[str, Any]]:
    """Rows of errors.csv: ``[{'kind': ..., 'mean_rad': ...}]`` with numbers."""
    return readRows(os.path.join(folder, ERRORS_SUMMARY), text=['kind'])


def readDistances(path: str) -> Any:
    """Distances of pairs that a network learned, beside the known ones.

    Returns
    -------
    known : array (n,), degrees
        The true distance (of validation pairs), or that of the recovered orientations.
    learned : dict
        ``{how it was read: (n,) degrees}``.
    weights : array (n,) or None
        With them each known distance counts the same.
    """
    columns, _ = read_table(path)
    known = columns['true_rad' if 'true_rad' in columns else 'recovered_rad']
    learned = {'calibrated' if name == 'calibrated_rad' else 'as read': DEGREES * columns[name]
               for name in ('calibrated_rad', 'learned_rad') if name in columns}
    return DEGREES * known, learned, columns.get('even_weight')


def readRecovered(folder: str) -> tuple[Any, dict[str, Any]]:
    """Rotations (n, 3, 3) and what is known of each: ``{label: (n,)}``, without what this run did not find out."""
    columns, _ = read_table(os.path.join(folder, PARTICLES_TABLE))
    known = (('confidence', 'confidence', 1.), ('residual_rad', 'distance residual (degrees)', DEGREES),
             ('log_likelihood', 'log-likelihood', 1.))
    found = {label: factor * columns[name] for name, label, factor in known if name in columns}
    return columns['rotation'], {label: values for label, values in found.items() if np.isfinite(values).all() and np.ptp(values) > 0}
