"""Landscapes: result tables of the engine <-> particles with flexibility, joined by id."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from pwem.objects import ParticleFlex, Transform
from pyworkflow.object import Float, Integer, String

from .bulk import appendCopies
from .motions import describeMotion
from .tables import ResultTable
from .tilt_particles import isTiltSeries, middleImage, noteSource

PROGRAM = 'CryoLearn'
STAR = 'particles.star'  # beside a result table: the particles with their poses
# Columns of the table that become columns of the set: attribute, table's name, type.
QUALITY = (('_elasticCorrelation', 'correlation', Float), ('_elasticMargin', 'margin', Float),
           ('_elasticPoseSigma', 'pose_sigma_deg', Float), ('_elasticFlags', 'flags', Integer))
GAUSSIAN_QUALITY = (('_gaussianGain', 'gain', Float), ('_gaussianLogLikelihood', 'log_likelihood', Float), ('_gaussianFlags', 'flags', Integer))
ERROR_ATTRIBUTE = '_cryolearnLatentError%d'
MODES_ATTRIBUTE = '_elasticModes'  # on the set: which modes the amplitudes belong to, '7 8 9'
MOTION_ATTRIBUTE = '_gaussianMotion'  # on the set: the motion model that its latent vectors belong to


def appendAligned(particles: Any, output: Any, tableFile: str) -> None:
    """Fill a new SetOfParticlesFlex with the input's particles, their amplitudes and poses.

    Parameters
    ----------
    particles : SetOfParticles
        The particles that the engine was given.
    output : SetOfParticlesFlex
        New, empty set. Gets the input's properties, a projection alignment and the mode numbers.
    tableFile : str
        Result table with ``id``, ``amplitudes``, ``rotation``, ``shift_angst``; other known columns come along.

    Raises
    ------
    ValueError
        naming the first particle without a row.
    """
    table = ResultTable(tableFile)
    copyProperties(particles, output)
    output.setAlignmentProj()
    setModeNumbers(output, table.meta.get('mode_numbers', []))
    setMotion(output, None)
    _appendPlaced(particles, output, table, _placing(particles, table, QUALITY, posed=True))


def _appendPlaced(particles: Any, output: Any, table: ResultTable, update: Any, reads: Any = ()) -> None:
    itemOf = (lambda particle: tiltItem(particle, table)) if isTiltSeries(particles) else flexItem
    appendCopies(particles, output, itemOf, update, reads=reads)


def _placing(particles: Any, table: ResultTable, kinds: Any, posed: bool) -> Any:
    """What gives an item its latent vector, quality and, when ``posed``, pose from its row of a table."""
    posed = posed or isTiltSeries(particles)
    pixelSize = particles.getSamplingRate()

    def update(item: Any) -> None:
        item.setZFlex(np.ravel(table.columns['amplitudes'][table.rowOf(item)]).tolist())
        if posed:
            item.setTransform(Transform(matrix=table.transform(item, pixelSize)))
        table.setAttributes(item, kinds)
    return update


def appendReduced(particles: Any, output: Any, reducedById: Any) -> None:
    """Fill a new SetOfParticlesFlex with the input's particles and their reduced coordinates (``{id: vector}``)."""
    copyProperties(particles, output)

    def update(item: Any) -> None:
        reduced = reducedById.get(item.getObjId())
        if reduced is not None:
            item.setZRed(list(reduced))
    appendCopies(particles, output, flexItem, update, reads=['_zRed'])


def appendSubset(particles: Any, output: Any, ids: Any) -> Any:
    """Fill a new SetOfParticlesFlex with those of the input's particles whose id is in ``ids``; all must be there."""
    copyProperties(particles, output)
    missing = appendCopies(particles, output, flexItem, keep=ids)
    if missing:
        raise ValueError('Particle %d was selected, but it is not in the input set.' % min(missing))


def appendConformations(
    particles: Any, output: Any, tableFile: str, motionFile: str, labels: dict[int, dict[str, Any]] | None = None, refined: bool = False
) -> Any:
    """Fill a new SetOfParticlesFlex with the input's particles and their places in a Gaussian model's motion.

    Parameters
    ----------
    particles : SetOfParticles
        The particles that the engine was given.
    output : SetOfParticlesFlex
        New, empty set; it notes the motion model.
    tableFile : str
        Result table with ``id``, ``amplitudes``, ``amplitude_sigma``, ``half``; ``rotation`` and ``shift_angst`` are taken when the poses
        were ``refined``.
    motionFile : str
        The motion model.
    labels : dict, optional
        ``{id: {name: number}}`` of further columns.

    Raises
    ------
    ValueError
        naming the first particle without a row.
    """
    table = ResultTable(tableFile)
    copyProperties(particles, output)
    setModeNumbers(output, [])
    setMotion(output, motionFile)
    output.setAlignmentProj()
    place = _placing(particles, table, GAUSSIAN_QUALITY, posed=refined)

    def update(item: Any) -> None:
        place(item)
        item.setZRed([])  # of another landscape
        for number, value in enumerate(np.ravel(table.columns['amplitude_sigma'][table.rowOf(item)]).tolist(), start=1):
            setattr(item, ERROR_ATTRIBUTE % number, Float(value))
        for name, value in (labels or {}).get(item.getObjId(), {}).items():
            setattr(item, '_' + name, Float(value) if isinstance(value, float) else Integer(value))
        if item.getAttributeValue('_rlnRandomSubset') is None:  # so that the halves stay apart in whatever follows
            table.setAttributes(item, [('_rlnRandomSubset', 'half', Integer)])
    _appendPlaced(particles, output, table, update, reads=['_rlnRandomSubset'])


def flexItem(particle: Any) -> Any:
    """A ParticleFlex with everything that ``particle`` has, its id included."""
    item = ParticleFlex(progName=PROGRAM)
    item.copyInfo(particle)
    item.setObjId(particle.getObjId())
    item.getFlexInfo().setProgName(PROGRAM)
    return item


def tiltItem(particle: Any, table: ResultTable) -> Any:
    """A ParticleFlex of a tilt-series particle, shown by the middle image of its stack; what its images were made with is in the STAR beside the table."""
    item = ParticleFlex(progName=PROGRAM)
    item.setObjId(particle.getObjId())
    item.setLocation(middleImage(particle))
    item.setSamplingRate(particle.getSamplingRate())
    noteSource(item, os.path.join(os.path.dirname(table.path), STAR), particle.getObjId())
    return item


def copyProperties(particles: Any, output: Any) -> None:
    """Give a SetOfParticlesFlex the properties of any set of particles."""
    output.copyInfo(particles)
    output.setHasCTF(particles.hasCTF() and not isTiltSeries(particles))
    output.getFlexInfo().setProgName(PROGRAM)
    if particles.getAttributeValue(MODES_ATTRIBUTE):
        setModeNumbers(output, modeNumbers(particles))
    if motionFile(particles):
        setMotion(output, motionFile(particles))


def setModeNumbers(particles: Any, numbers: Any) -> None:
    """Note on a set which modes its amplitudes belong to."""
    setattr(particles, MODES_ATTRIBUTE, String(' '.join(str(int(number)) for number in numbers)))


def modeNumbers(particles: Any) -> list[int]:
    """Modes that a set's amplitudes belong to; empty when the set does not say."""
    return [int(number) for number in (particles.getAttributeValue(MODES_ATTRIBUTE) or '').split()]


def setMotion(particles: Any, path: str | None) -> None:
    """Note on a set the motion model that its latent vectors belong to; None says that they belong to none."""
    if path or motionFile(particles):
        setattr(particles, MOTION_ATTRIBUTE, String(path or ''))


def motionFile(particles: Any) -> Any:
    """Motion model (motion.npz) that a set's latent vectors belong to; '' when they belong to none."""
    return particles.getAttributeValue(MOTION_ATTRIBUTE) or ''


def latentNames(path: str, count: int | None = None) -> list[str]:
    """Names of ``count`` latents of a motion model (its own number by default), those of each subunit where there are more; none when the model is gone."""
    try:
        about = describeMotion(path)
    except ValueError:
        return []
    names = list(about.get('latent_names') or ['latent %d' % number for number in range(1, about['latents'] + 1)])
    units = (count or len(names)) // len(names)
    return names if units < 2 else ['%s, subunit %d' % (name, unit) for unit in range(1, units + 1) for name in names]


def qualityColumns(particles: Any) -> Any:
    """Attributes and columns that say how sure a set's latent vectors are: those of the method that made them."""
    return GAUSSIAN_QUALITY if motionFile(particles) else QUALITY


def latentColumns(particles: Any) -> Any:
    """Names of the columns that :func:`writeLatents` would write for a set, as its first item tells."""
    first = particles.getFirstItem()
    names = {'id'} | {column for attribute, column, _ in qualityColumns(particles) if first.getAttributeValue(attribute) is not None}
    names |= {'amplitude_sigma'} if motionFile(particles) and first.getAttributeValue(ERROR_ATTRIBUTE % 1) is not None else set()
    names |= {'amplitudes'} if len(_csv(first._zFlex)) else set()
    names |= {'reduced'} if len(_csv(first._zRed)) else set()
    return names | ({'rotation', 'shift_angst'} if particles.hasAlignmentProj() else set())


def latentLength(particles: Any) -> Any:
    """Length of the latent vectors of a set (0 when its first item has none)."""
    return len(_csv(particles.getFirstItem()._zFlex))


def _csv(values: Any) -> Any:
    return [float(value) for value in values]
