"""Particles of a RELION 3.1+ STAR file as Scipion's objects."""

from __future__ import annotations

import io
import os
from typing import Any, Iterator

from emtable import Table
from pwem.objects import Acquisition, Coordinate, CTFModel, Transform
from pyworkflow.object import Integer, ObjectWrap

from .particles import CTF_LABELS, OWN_LABELS, POSE_LABELS, TYPES
from .poses import transformsFromRelion


class StarParticles:
    """Particles of a STAR file, with their set's properties.

    ``box``, ``pixelSize``, ``hasCtf`` and ``hasPoses`` are known after opening; iterating gives ``(id, row)``.
    """

    def __init__(self, starFile: str) -> None:
        self._starFile = starFile
        self._stacks: dict[str, Any] = {}
        self._optics = Table(fileName=starFile, tableName='optics', types=TYPES)
        first = self._optics[0]
        self.pixelSize = first.rlnImagePixelSize
        self.box = first.rlnImageSize
        reader = Table.Reader(starFile, tableName='particles', types=TYPES)
        self.hasCtf = reader.hasAllColumns(CTF_LABELS)
        self.hasPoses = reader.hasAllColumns(POSE_LABELS)
        self._extra = [label for label in reader.getColumnNames() if label not in OWN_LABELS]

    def __iter__(self) -> Iterator[Any]:
        reader = Table.Reader(self._starFile, tableName='particles', types=TYPES)
        for number, row in enumerate(reader, start=1):
            yield row.get('rlnImageId', number), row

    def acquisition(self) -> Any:
        """Acquisition of the first optics group; the groups themselves are kept as text, as scipion-em-relion does."""
        first = self._optics[0]
        acquisition = Acquisition(voltage=first.get('rlnVoltage'), sphericalAberration=first.get('rlnSphericalAberration'),
                                  amplitudeContrast=first.get('rlnAmplitudeContrast'), magnification=10000)
        text = io.StringIO()
        self._optics.writeStar(text, tableName='optics')
        acquisition.opticsGroupInfo.set(text.getvalue())
        return acquisition

    def setProperties(self, particles: Any, phaseFlipped: bool = False) -> None:
        """Give a new set what its STAR says of all particles."""
        particles.setSamplingRate(self.pixelSize)
        particles.setAcquisition(self.acquisition())
        particles.setHasCTF(self.hasCtf)
        particles.setIsPhaseFlipped(phaseFlipped)
        if self.hasPoses:
            particles.setAlignmentProj()

    def fill(self, particle: Any, row: Any) -> None:
        """Give a particle what its row says; stacks are looked for beside the STAR, then in the current folder."""
        index, name = row.rlnImageName.split('@', 1)
        if name not in self._stacks:
            beside = os.path.join(os.path.dirname(self._starFile), name)
            self._stacks[name] = beside if os.path.exists(beside) else name
        particle.setLocation(int(index), self._stacks[name])
        if self.hasCtf:
            particle.setCTF(_ctfOf(row))
        if self.hasPoses:
            angles = [[row.rlnAngleRot, row.rlnAngleTilt, row.rlnAnglePsi]]
            origin = [[row.rlnOriginXAngst, row.rlnOriginYAngst]]
            particle.setTransform(Transform(matrix=transformsFromRelion(angles, origin, self.pixelSize)[0]))
        if row.get('rlnCoordinateX') is not None:
            coordinate = Coordinate()
            coordinate.setPosition(row.rlnCoordinateX, row.rlnCoordinateY)
            coordinate.setMicName(os.path.basename(row.get('rlnMicrographName', '') or ''))
            particle.setCoordinate(coordinate)
        for label in self._extra:
            setattr(particle, '_' + label, ObjectWrap(getattr(row, label)))
        particle._rlnOpticsGroup = Integer(row.get('rlnOpticsGroup', 1))


def _ctfOf(row: Any) -> Any:
    ctf = CTFModel()
    ctf.setDefocusU(row.rlnDefocusU)
    ctf.setDefocusV(row.rlnDefocusV)
    ctf.setDefocusAngle(row.rlnDefocusAngle)
    if row.get('rlnPhaseShift') is not None:
        ctf.setPhaseShift(row.rlnPhaseShift)
    ctf.standardize()
    return ctf
