"""Landscapes: result tables of the engine <-> particles with flexibility, joined by id."""

from __future__ import annotations

import os
from typing import Any, Dict, Iterator, List

import numpy as np
from pwem.objects import ParticleFlex, Transform
from pyworkflow.object import Float, Integer, String

from ..common.tables import write_table
from .motions import describeMotion
from .poses import posesFromTransforms
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
    for item in _placedItems(particles, table, QUALITY, posed=True):
        output.append(item)


def _placedItems(particles: Any, table: ResultTable, kinds: Any, posed: bool) -> Iterator[Any]:
    """Flexible copies of ``particles`` with latent vector, quality and, when ``posed``, pose from their rows of a table."""
    tilts = isTiltSeries(particles)
    transforms = table.transforms(particles.getSamplingRate()) if posed or tilts else None
    for particle in particles.iterItems():
        row, item = table.rowOf(particle), tiltItem(particle, table) if tilts else flexItem(particle)
        item.setZFlex(np.ravel(table.columns['amplitudes'][row]).tolist())
        if transforms is not None:
            item.setTransform(Transform(matrix=transforms[row]))
        table.setAttributes(item, kinds)
        yield item


def appendReduced(particles: Any, output: Any, reducedById: Any) -> None:
    """Fill a new SetOfParticlesFlex with the input's particles and their reduced coordinates (``{id: vector}``)."""
    copyProperties(particles, output)
    for particle in particles.iterItems():
        item = flexItem(particle)
        reduced = reducedById.get(particle.getObjId())
        if reduced is not None:
            item.setZRed(list(reduced))
        output.append(item)


def appendSubset(particles: Any, output: Any, ids: Any) -> Any:
    """Fill a new SetOfParticlesFlex with those of the input's particles whose id is in ``ids``; all must be there."""
    wanted = {int(value) for value in ids}
    copyProperties(particles, output)
    for particle in particles.iterItems():
        if particle.getObjId() in wanted:
            wanted.discard(particle.getObjId())
            output.append(flexItem(particle))
    if wanted:
        raise ValueError('Particle %d was selected, but it is not in the input set.' % min(wanted))


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
    for item in _placedItems(particles, table, GAUSSIAN_QUALITY, posed=refined):
        item.setZRed([])  # of another landscape
        for number, value in enumerate(np.ravel(table.columns['amplitude_sigma'][table.rowOf(item)]).tolist(), start=1):
            setattr(item, ERROR_ATTRIBUTE % number, Float(value))
        for name, value in (labels or {}).get(item.getObjId(), {}).items():
            setattr(item, '_' + name, Float(value) if isinstance(value, float) else Integer(value))
        if item.getAttributeValue('_rlnRandomSubset') is None:  # so that the halves stay apart in whatever follows
            table.setAttributes(item, [('_rlnRandomSubset', 'half', Integer)])
        output.append(item)


def writeLatents(particles: Any, tableFile: str, box: int | None = None, subunit: int | None = None, items: Any = None) -> int:
    """Write the landscape of a SetOfParticlesFlex, or of ``items`` that have its properties, as a result table.

    Columns: ``id``, ``amplitudes`` (from zFlex); ``reduced`` (zRed), ``rotation`` and ``shift_angst``, the quality columns and the error
    bars of the latents when the set has them. With ``subunit`` (latents of one subunit), a particle of several has a row for each, and
    the rows are numbered anew.

    Raises
    ------
    ValueError
        naming a particle without a latent vector or with one of another length.
    """
    vectors: List[Any] = []
    ids, reduced, transforms, sigma = [], [], [], []
    quality: Dict[str, List[Any]] = {}
    hasPoses = particles.hasAlignmentProj()
    kinds = qualityColumns(particles)
    for item in particles.iterItems() if items is None else items:
        ids.append(item.getObjId())
        vectors.append(_vector(item, len(vectors[0]) if vectors else None))
        reduced.append(_csv(item._zRed))
        if hasPoses:
            transforms.append(item.getTransform().getMatrix())
        sigma.append([item.getAttributeValue(ERROR_ATTRIBUTE % number) for number in range(1, len(vectors[0]) + 1)])
        for name, column, _ in kinds:
            value = item.getAttributeValue(name)
            if value is not None:
                quality.setdefault(column, []).append(value)
    columns = {'id': np.array(ids, dtype=np.int64), 'amplitudes': np.array(vectors)}
    if reduced and reduced[0] and all(len(vector) == len(reduced[0]) for vector in reduced):
        columns['reduced'] = np.array(reduced)
    if hasPoses:
        rotations, shifts = posesFromTransforms(np.array(transforms), particles.getSamplingRate(), ids)
        columns['rotation'], columns['shift_angst'] = rotations, shifts[:, :2]
    if motionFile(particles) and all(None not in values for values in sigma):
        columns['amplitude_sigma'] = np.array(sigma)
    columns.update((name, np.array(values)) for name, values in quality.items() if len(values) == len(ids))
    meta = {'mode_numbers': modeNumbers(particles), 'pixel_size_angst': particles.getSamplingRate()}
    if motionFile(particles):
        meta['latent_names'] = latentNames(motionFile(particles), subunit or len(vectors[0]) if vectors else None)
    if box:
        meta['box'] = int(box)
    write_table(tableFile, _bySubunit(columns, subunit), meta)
    return len(ids)


def _bySubunit(columns: Any, latents: int | None) -> dict[str, Any]:
    """Columns with one row for each subunit, of which each has so many latents; the same columns where there is one."""
    units = columns['amplitudes'].shape[1] // latents if latents else 1
    if units == 1:
        return columns
    divided = {name: np.repeat(values, units, axis=0) for name, values in columns.items()}
    for name in {'amplitudes', 'amplitude_sigma'} & set(columns):
        divided[name] = columns[name].reshape(-1, latents)
    divided['id'] = np.arange(1, len(divided['amplitudes']) + 1)
    return divided


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


def _vector(item: Any, length: int | None) -> Any:
    vector = _csv(item._zFlex)
    if not vector:
        raise ValueError('Particle %d has no latent vector: align or predict it first.' % item.getObjId())
    if length is not None and len(vector) != length:
        raise ValueError('Particle %d has %d latent values where the others have %d.' % (item.getObjId(), len(vector), length))
    return vector
