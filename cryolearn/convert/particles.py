"""Scipion's sets of particles as RELION 3.1+ STAR files (the way back: ``star_particles``).

The identity of a particle is its object id, which travels as ``rlnImageId``; nothing is ever joined by row.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any, Dict

from pwem.constants import ALIGN_PROJ
from pyworkflow.object import Scalar

from .files import plainName, unpackedName
from .optics_groups import OpticsGroups
from .star_rows import ANGLE_LABELS, ORIGIN_LABELS, writeStar
from .tilt_particles import isTiltSeries, writeTiltParticles

MRC_EXTENSIONS = ('.mrc', '.mrcs')
POSE_LABELS = ANGLE_LABELS + ORIGIN_LABELS[:2]
CTF_LABELS = ('rlnDefocusU', 'rlnDefocusV', 'rlnDefocusAngle')
# What a row's own columns say already, so that it is not kept a second time as an extra attribute.
OWN_LABELS = frozenset(POSE_LABELS + CTF_LABELS + (
    'rlnImageId', 'rlnImageName', 'rlnOriginZAngst', 'rlnPhaseShift', 'rlnCtfAstigmatism', 'rlnCtfMaxResolution',
    'rlnCtfFigureOfMerit', 'rlnOpticsGroup', 'rlnMicrographName', 'rlnCoordinateX', 'rlnCoordinateY'))
# Columns whose first value may look like an integer although the column is not.
_FLOATS = POSE_LABELS + CTF_LABELS + (
    'rlnOriginZAngst', 'rlnPhaseShift', 'rlnCtfAstigmatism', 'rlnCtfMaxResolution', 'rlnCtfFigureOfMerit', 'rlnCoordinateX',
    'rlnCoordinateY', 'rlnVoltage', 'rlnSphericalAberration', 'rlnAmplitudeContrast', 'rlnImagePixelSize', 'rlnCtfBfactor',
    'rlnCtfScalefactor')
TYPES: Dict[str, type] = dict.fromkeys(_FLOATS, float)
TYPES.update({'rlnImageId': int, 'rlnImageSize': int, 'rlnOpticsGroup': int, 'rlnImageDimensionality': int,
               'rlnRandomSubset': int, 'rlnClassNumber': int, 'rlnMicrographName': str, 'rlnImageName': str,
               'rlnOpticsGroupName': str, 'rlnGroupName': str})


def writeParticles(particles: Any, starFile: str, stackFolder: str | None = None, poses: bool = True, names: Any = None, items: Any = None) -> int:
    """Write a set as STAR; tilt-series particles as :func:`.tilt_particles.writeTiltParticles` does.

    Parameters
    ----------
    particles : SetOfParticles
        Poses are written when the set has a projection alignment, CTF when it has one.
    starFile : str
        File to write. Image paths in it are those of the set: relative to the project.
    stackFolder : str, optional
        Where stacks in formats other than MRC are converted to; the folder of the STAR by default.
    poses : bool
        False leaves the poses out.
    names : StackNames, optional
        Says the names of image files, the same one for sets that share files.
    items : iterable of Particle, optional
        These instead of the set's own, with the properties of the set.

    Returns
    -------
    int
        Number of particles written.
    """
    if isTiltSeries(particles):
        return writeTiltParticles(particles, starFile, poses, items)
    hasPoses = poses and particles.getAlignment() == ALIGN_PROJ
    optics = OpticsGroups(particles, TYPES)
    toRow = _RowMaker(particles.hasCTF(), names or StackNames(stackFolder or os.path.dirname(starFile)), optics)
    rows = ((toRow(particle), particle.getTransform().getMatrix() if hasPoses else None) for particle in (particles.iterItems() if items is None else items))
    return writeStar(starFile, optics.rows, rows, particles.getSamplingRate(), origins=2, what='particle set', poseUnits=optics.poseUnits)


def acquisitionContradiction(particles: Any) -> str:
    """A sentence where the acquisition of a set with a CTF contradicts the optics groups that its import kept, else an empty one."""
    if isTiltSeries(particles) or not particles.hasCTF() or not particles.getSize():
        return ''
    return OpticsGroups(particles, TYPES).contradiction()


def realName(name: str) -> str:
    """A file's own name, relative to the project when it is in it, whatever links lead to it."""
    real, here = os.path.realpath(plainName(name)), os.path.realpath('.')
    return os.path.relpath(real, here) if real.startswith(here + os.sep) else real


class StackNames:
    """Image names for the STAR; stacks that are not MRC are converted, each file once.

    RELION reads no quotes in STAR: a stack with a space in its path gets a link without one. With ``followLinks`` a file has one name, whatever links
    lead to it.
    """

    def __init__(self, folder: str, followLinks: bool = False) -> None:
        self._folder, self._followLinks = folder, followLinks
        self._names: dict[str, str] = {}

    def __call__(self, location: Any) -> str:
        index, name = location
        if name not in self._names:
            real = realName(name) if self._followLinks else name
            if real not in self._names:
                self._names[real] = self._mrcName(real)
            self._names[name] = self._names[real]
        return '%06d@%s' % (max(index, 1), self._names[name])

    def _mrcName(self, name: str) -> str:
        plain = plainName(name)
        if os.path.splitext(plain)[1].lower() in MRC_EXTENSIONS:
            return plain if len(plain.split()) == 1 else self._link(plain)
        if unpackedName(plain) != plain:
            raise ValueError("The stack '%s' is compressed, and single images cannot be read from it: unpack it (gunzip, bunzip2) and import it again." % plain)
        from pwem.emlib.image import ImageHandler
        converted = os.path.join(self._folder, 'converted_%03d.mrcs' % (len(self._names) + 1))
        ImageHandler().convertStack(plain, converted)
        return converted

    def _link(self, name: str) -> str:
        link = os.path.join(self._folder, 'stack_%03d%s' % (len(self._names) + 1, os.path.splitext(name)[1]))
        if os.path.lexists(link):
            os.remove(link)
        os.symlink(os.path.abspath(name), link)
        return link


class _RowMaker:
    """Row of a particle, without its pose. The columns are those of the first particle."""

    def __init__(self, hasCtf: bool, stackName: Any, opticsGroup: Any) -> None:
        self._hasCtf, self._stackName, self._opticsGroup = hasCtf, stackName, opticsGroup
        self._extra: Any = None

    def __call__(self, particle: Any) -> Any:
        if self._extra is None:
            self._inspect(particle)
        row = OrderedDict(rlnImageId=particle.getObjId(), rlnImageName=self._stackName(particle.getLocation()))
        row['rlnOpticsGroup'] = self._opticsGroup(particle)
        if self._hasCtf:
            ctf = particle.getCTF()
            defocus = [float(value) for value in (ctf.getDefocus() if ctf is not None else ()) if value is not None]
            if len(defocus) < len(CTF_LABELS):  # what is no number comes as None out of Scipion's files
                raise ValueError('The CTF of particle %s is not a number: estimate it again, or leave that particle out.' % particle.getObjId())
            row.update(zip(CTF_LABELS, defocus))
            if self._hasPhaseShift:
                row['rlnPhaseShift'] = float(ctf.getPhaseShift() or 0)
        if self._hasCoordinate:
            coordinate = particle.getCoordinate()
            x, y = coordinate.getPosition()
            row['rlnCoordinateX'], row['rlnCoordinateY'] = float(x), float(y)
            row['rlnMicrographName'] = (coordinate.getMicName() or str(coordinate.getMicId())).replace(' ', '')
        for label in self._extra:
            row[label] = particle.getAttributeValue('_' + label)
        return row

    def _inspect(self, particle: Any) -> None:
        if self._hasCtf and particle.getCTF() is None:
            raise ValueError('Particle %s has no CTF although its set says so: estimate or import the CTF first.' % particle.getObjId())
        self._hasPhaseShift = self._hasCtf and particle.getCTF().getPhaseShift() is not None
        self._hasCoordinate = particle.hasCoordinate() and particle.getCoordinate().getPosition()[0] is not None
        self._extra = [name[1:] for name, attribute in particle.getAttributes()
                       if name.startswith('_rln') and name[1:] not in OWN_LABELS and isinstance(attribute, Scalar)
                       and attribute.get() is not None]
