"""Particles of a RELION 3.1+ STAR file as Scipion's objects."""

from __future__ import annotations

import io
import os
from typing import Any, Iterator

from pwem.objects import Acquisition, Coordinate, CTFModel
from pyworkflow.object import Integer, ObjectWrap

from .particles import CTF_LABELS, OWN_LABELS, TYPES
from .star_rows import StarReader, quoted


class StarParticles(StarReader):
    """Particles of a STAR file, with their set's properties.

    ``box``, ``pixelSize``, ``hasCtf`` and ``hasPoses`` are known after opening; iterating gives ``(id, row)``.
    """

    def __init__(self, starFile: str) -> None:
        super().__init__(starFile, TYPES, origins=2)
        self.hasCtf = set(CTF_LABELS) <= set(self.names)
        self._extra = [label for label in self.names if label not in OWN_LABELS]

    def __iter__(self) -> Iterator[Any]:
        return self.rows()

    def acquisition(self) -> Any:
        """Acquisition of the first optics group; the groups themselves are kept as text, as scipion-em-relion does."""
        acquisition = Acquisition(magnification=10000, **self.microscope())
        text = io.StringIO()
        quoted(self.optics).writeStar(text, tableName='optics')
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
        particle.setLocation(int(index), self.fileOf(name))
        if self.hasCtf:
            particle.setCTF(_ctfOf(row))
        self.setPose(particle, row)
        if row.get('rlnCoordinateX') is not None:
            particle.setCoordinate(_coordinateOf(row))
        for label in self._extra:
            setattr(particle, '_' + label, ObjectWrap(getattr(row, label)))
        particle._rlnOpticsGroup = Integer(row.get('rlnOpticsGroup', 1))


def _coordinateOf(row: Any) -> Any:
    coordinate = Coordinate()
    coordinate.setPosition(row.rlnCoordinateX, row.rlnCoordinateY)
    coordinate.setMicName(os.path.basename(row.get('rlnMicrographName', '') or ''))
    return coordinate


def _ctfOf(row: Any) -> Any:
    ctf = CTFModel()
    ctf.setDefocusU(row.rlnDefocusU)
    ctf.setDefocusV(row.rlnDefocusV)
    ctf.setDefocusAngle(row.rlnDefocusAngle)
    if row.get('rlnPhaseShift') is not None:
        ctf.setPhaseShift(row.rlnPhaseShift)
    ctf.standardize()
    return ctf
