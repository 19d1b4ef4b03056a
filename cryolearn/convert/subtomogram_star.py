"""Scipion's sets of subtomograms as a STAR file and one MRC file each, and rows of such a file as Scipion's subtomograms.

The identity of a subtomogram is its object id, which travels as ``rlnImageId``; nothing is ever joined by row. A subtomogram's ``Transform`` has
the convention of a particle's: it holds ``inv([A | s])``, where ``A`` (RELION's rotation of rot, tilt, psi) turns the reference into the
subtomogram, and ``s = -rlnOrigin`` in pixels is where the reference's origin lies in it. That is tomo's definition,
``subtomogram(r) = reference(M r)``, and what its conversion to RELION gives.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from typing import Any, Dict, Iterator

import numpy as np
from pwem.constants import ALIGN_3D, ALIGN_NONE
from pyworkflow.object import Integer, String
from tomo.objects import SubTomogram, TomoAcquisition

from ..common.limits import same_pixel_size
from .star_rows import ANGLE_LABELS, ORIGIN_LABELS, StarReader, opticsOf, withImages, writeStar
from .subtomogram_files import SubtomogramFiles
from .subtomograms import CLASS_ATTRIBUTE, MAGNIFICATION, acquisitionOf, checkItem, imagesOf, iterSubtomograms, tiltRange

TILT_LABELS = ('rlnTomoTiltAngleMin', 'rlnTomoTiltAngleMax')
CLASS_LABEL = 'rlnClassName'
_FLOATS = ('rlnVoltage', 'rlnSphericalAberration', 'rlnAmplitudeContrast', 'rlnImagePixelSize')
TYPES: Dict[str, type] = dict.fromkeys(ANGLE_LABELS + ORIGIN_LABELS + TILT_LABELS + _FLOATS, float)
TYPES.update({'rlnImageId': int, 'rlnImageSize': int, 'rlnRandomSubset': int, 'rlnImageName': str, CLASS_LABEL: str})


def writeSubtomograms(inputSet: Any, starFile: str, poses: bool = True, classes: bool = False) -> Any:
    """Write a set of subtomograms, or classes of them, as a STAR file.

    Parameters
    ----------
    inputSet : SetOfSubTomograms or SetOfClassesSubTomograms
        Poses are written when the set has an alignment.
    starFile : str
        File to write. Paths in it are those of the set: relative to the project.
    poses : bool
        False leaves the poses out.
    classes : bool
        Write the class of each subtomogram; one without a class is an error.

    Returns
    -------
    int
        Number of subtomograms written.

    Raises
    ------
    ValueError
        naming the subtomogram that cannot be used.
    """
    images = imagesOf(inputSet)
    entries = ((item.getObjId(), item, images, name) for item, _, name in iterSubtomograms(inputSet))
    return _write(entries, images, starFile, poses and images.hasAlignment(), classes)


def writeLabelledSets(inputSets: Any, starFile: str) -> Any:
    """Write several sets of one sampling rate as one STAR file of labelled subtomograms, numbered anew.

    Parameters
    ----------
    inputSets : list of (SetOfSubTomograms or SetOfClassesSubTomograms, str)
        With the name that the subtomograms of a set get that have no class of their own.

    Returns
    -------
    int
        Number of subtomograms written.

    Raises
    ------
    ValueError
        naming the set or the subtomogram that cannot be used.
    """
    first, firstName = inputSets[0]
    pixelSize, box = imagesOf(first).getSamplingRate(), imagesOf(first).getXDim()
    for inputSet, name in inputSets[1:]:
        problem = checkAlike(imagesOf(inputSet), pixelSize, box, "'%s'" % name, "'%s'" % firstName)
        if problem:
            raise ValueError(problem)

    def entries() -> Iterator[Any]:
        number = 0
        for inputSet, ownName in inputSets:
            for item, _, name in iterSubtomograms(inputSet):
                number += 1
                yield number, item, imagesOf(inputSet), name or ownName
    return _write(entries(), imagesOf(first), starFile, False, True)


def checkAlike(subtomograms: Any, pixelSize: float, box: int, name: str, otherName: str) -> Any:
    """A sentence about a set whose sampling rate or box is not that of another set; None when they are alike."""
    if not same_pixel_size(subtomograms.getSamplingRate(), pixelSize):
        return "%s has %g Å/px, but %s has %g Å/px: bring all to one sampling rate first." % (name, subtomograms.getSamplingRate(), otherName, pixelSize)
    if subtomograms.getXDim() != box:
        return "%s has a box of %d px, but %s has %d px: extract all in one box." % (name, subtomograms.getXDim(), otherName, box)
    return None


def _write(entries: Any, properties: Any, starFile: str, poses: bool, classes: Any) -> Any:
    """Write ``(id, subtomogram, its set, name of its class)`` with the sampling rate and acquisition of the set ``properties``."""
    acquisition = acquisitionOf(properties.getFirstItem().getAcquisition() if properties.getSize() else None, properties.getAcquisition())
    rows = _rows(entries, SubtomogramFiles(os.path.splitext(starFile)[0]), properties.getSamplingRate(), poses, classes)
    return writeStar(starFile, [withImages(opticsOf(acquisition), properties, 3)], rows, properties.getSamplingRate(), 3, 'set of subtomograms')


def _rows(entries: Any, fileOf: SubtomogramFiles, pixelSize: float, poses: bool, classes: Any) -> Iterator[Any]:
    hasHalves, names = None, StarNames()
    for objId, item, owner, name in entries:
        problem = checkItem(item, owner)
        if problem:
            raise ValueError(problem)
        row = OrderedDict(rlnImageId=objId, rlnImageName=fileOf(item, pixelSize, objId), rlnOpticsGroup=1)
        row.update(zip(TILT_LABELS, tiltRange(item, owner)))
        if classes:
            if not name:
                raise ValueError("Subtomogram %s ('%s') has no class: give labelled subtomograms, or classes of them." % (objId, item.getFileName()))
            row[CLASS_LABEL] = names(name)
        half = item.getAttributeValue('_rlnRandomSubset')
        hasHalves = half is not None if hasHalves is None else hasHalves
        if hasHalves:
            row['rlnRandomSubset'] = int(half)
        yield row, _matrix(item) if poses else None


class StarNames:
    """Names of classes as STAR can hold them: without white space."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}

    def __call__(self, name: str) -> Any:
        short = '_'.join(name.split())
        other = self._known.setdefault(short, name)
        if other != name:
            raise ValueError("The classes '%s' and '%s' have the same name but for white space: rename one of them." % tuple(sorted((other, name))))
        return short


def _matrix(item: Any) -> Any:
    transform = item.getTransform() if item.hasTransform() else None
    return np.eye(4) if transform is None else transform.getMatrix()


# ------------------------------------------------------ reading --------------------------------------------------------
class StarSubtomograms(StarReader):
    """Subtomograms of a STAR file; iterating gives SubTomograms with acquisition, class and pose.

    ``classNames`` are those of the classes, number 1 first; ``microscope`` are values of the acquisition that the file does not give (voltage in kV,
    sphericalAberration in mm, amplitudeContrast, step in degrees).
    """

    def __init__(self, starFile: str, classNames: Any = None, **microscope: Any) -> None:
        super().__init__(starFile, TYPES, origins=3)
        self._microscope = microscope
        self.classNames = list(classNames or []) if CLASS_LABEL in self.names else []

    def acquisition(self, tilt: Any) -> Any:
        values = dict(self.microscope(), **self._microscope)
        return TomoAcquisition(angleMin=tilt[0], angleMax=tilt[1], magnification=MAGNIFICATION, **values)

    def __iter__(self) -> Iterator[Any]:
        for objId, row in self.rows():
            item = SubTomogram()
            item.setObjId(objId)
            item.setFileName(self.fileOf(row.rlnImageName))
            item.setSamplingRate(self.pixelSize)
            item.setAcquisition(self.acquisition([row.get(label) for label in TILT_LABELS]))
            if self.classNames:
                name = getattr(row, CLASS_LABEL)
                item.setClassId(self.classNames.index(name) + 1)
                setattr(item, CLASS_ATTRIBUTE, String(name))
            self.setPose(item, row)
            if row.get('rlnRandomSubset') is not None:
                item._rlnRandomSubset = Integer(row.rlnRandomSubset)
            yield item

    def fillSet(self, subtomograms: Any) -> None:
        """Fill a new set."""
        subtomograms.setSamplingRate(self.pixelSize)
        for item in self:
            if subtomograms.isEmpty():
                subtomograms.setAcquisition(acquisitionOf(item.getAcquisition()))
            subtomograms.append(item)
        subtomograms.setAlignment(ALIGN_3D if self.hasPoses else ALIGN_NONE)
