"""Scipion's sets of subtomograms as a STAR file and one MRC file each (the way back: ``star_subtomograms``).

The identity of a subtomogram is its object id, which travels as ``rlnImageId``; nothing is ever joined by row. A subtomogram's ``Transform`` has
the convention of a particle's: it holds ``inv([A | s])``, where ``A`` (RELION's rotation of rot, tilt, psi) turns the reference into the
subtomogram, and ``s = -rlnOrigin`` in pixels is where the reference's origin lies in it. That is tomo's definition,
``subtomogram(r) = reference(M r)``, and what its conversion to RELION gives.
"""

import os
from collections import OrderedDict
from sqlite3 import OperationalError

import numpy as np
from emtable import Table
from tomo.objects import SetOfClassesSubTomograms

from .poses import relionFromTransforms
from .subtomogram_files import SubtomogramFiles

SAME_SAMPLING = 1e-3  # relative difference of pixel sizes that is taken as rounding in a header
CHUNK = 10000  # rows whose poses are converted at once
POSE_LABELS = ('rlnAngleRot', 'rlnAngleTilt', 'rlnAnglePsi', 'rlnOriginXAngst', 'rlnOriginYAngst', 'rlnOriginZAngst')
TILT_LABELS = ('rlnTomoTiltAngleMin', 'rlnTomoTiltAngleMax')
CLASS_LABEL = 'rlnClassName'
CHECKED = ('_acquisition._angleMin', '_acquisition._angleMax', '_samplingRate')  # what may differ from item to item
CLASS_ATTRIBUTE = '_className'  # of a subtomogram: the name of its class


# ------------------------------------------------------ properties ------------------------------------------------------
def tiltRange(item, subtomograms):
    """Tilt range ``(min, max)`` in degrees of a subtomogram: its own, else its set's; None when nobody knows it."""
    for owner in (item, subtomograms):
        acquisition = owner.getAcquisition() if owner is not None else None
        low, high = (getattr(acquisition, name, lambda: None)() for name in ('getAngleMin', 'getAngleMax'))
        if low is not None and high is not None:
            return float(low), float(high)
    return None


def checkTiltRange(item, subtomograms):
    """Tilt range of a subtomogram.

    Raises
    ------
    ValueError
        naming the subtomogram, when it is missing or empty.
    """
    found = tiltRange(item, subtomograms)
    if found is None:
        raise ValueError("Subtomogram %s ('%s') has no tilt range, and its set has none either: import the subtomograms with their acquisition "
                         'angles, or extract them from tomograms that have them.' % (item.getObjId(), item.getFileName()))
    if not -90 <= found[0] < found[1] <= 90:
        raise ValueError("Subtomogram %s ('%s') has the tilt range %g to %g degrees: the smallest angle must be below the largest, both between "
                         '-90 and 90.' % ((item.getObjId(), item.getFileName()) + found))
    return found


def checkItem(item, subtomograms):
    """Refuse a subtomogram that has no tilt range or another sampling rate than its set; a sentence, or None."""
    try:
        checkTiltRange(item, subtomograms)
    except ValueError as error:
        return str(error)
    own, common = item.getSamplingRate(), subtomograms.getSamplingRate()
    if own and common and abs(own / common - 1) > SAME_SAMPLING:
        return ("Subtomogram %s ('%s') has %g Å/px, but the set has %g Å/px: bring all to one sampling rate first."
                % (item.getObjId(), item.getFileName(), own, common))
    return None


def checkSet(inputSet):
    """Sentences about a set of subtomograms (or classes of them) that cannot be used; the first subtomogram that is wrong is named.

    The database is asked for what differs, so that a big set is not walked when all is well.
    """
    if inputSet is None:
        return []
    subtomograms = imagesOf(inputSet)
    if subtomograms is None or inputSet.getSize() == 0 or subtomograms.getSize() == 0:
        return ['The input is empty: there are no subtomograms in it.']
    if not subtomograms.getSamplingRate():
        return ['The subtomograms have no sampling rate.']
    try:
        ids = [row['MIN'] for row in subtomograms.aggregate(['MIN'], 'id', list(CHECKED))]
    except (KeyError, OperationalError):  # a set without acquisition has no such columns
        ids = [subtomograms.getFirstItem().getObjId()]
    problems = [checkItem(subtomograms[objId], subtomograms) for objId in sorted(ids)]
    return [problem for problem in problems if problem][:1]


def isClasses(inputSet):
    return isinstance(inputSet, SetOfClassesSubTomograms)


def imagesOf(inputSet):
    """The subtomograms of a set or of classes of them, which have the properties of all."""
    return inputSet.getImages() if isClasses(inputSet) else inputSet


def iterItems(subtomograms):
    """Items of a set, or of a class, each with an acquisition of its own.

    pwem gives an item without angles the very object of its set, into which it then reads the next item.
    """
    for item in subtomograms.iterItems():
        if item.getAcquisition() is subtomograms.getAcquisition():
            item.setAcquisition(item.getAcquisition().clone())
        yield item


def iterSubtomograms(inputSet):
    """``(subtomogram, class number or None, class name or None)`` of a set, or of the enabled members of classes.

    Raises
    ------
    ValueError
        naming a subtomogram that is in two classes.
    """
    if not isClasses(inputSet):
        for item in iterItems(inputSet):
            yield (item,) + classOf(item)
        return
    seen = {}
    for group in inputSet.iterItems():
        if not group.isEnabled():
            continue
        number, name = group.getObjId(), className(group)
        for item in iterItems(group):
            if not item.isEnabled():
                continue
            if item.getObjId() in seen:
                raise ValueError('Subtomogram %d is in classes %d and %d.' % (item.getObjId(), seen[item.getObjId()], number))
            seen[item.getObjId()] = number
            yield item, number, name


def className(group):
    """Name of a class: its label, else its number."""
    return (group.getObjLabel() or '').strip() or 'class %d' % group.getObjId()


def classOf(item):
    """``(number, name)`` of the class that a subtomogram says it belongs to; ``(None, None)`` when it says nothing."""
    number, name = item.getClassId(), item.getAttributeValue(CLASS_ATTRIBUTE)
    if not name:
        return (number, 'class %d' % number) if number else (None, None)
    return number, name


# -------------------------------------------------------- STAR ---------------------------------------------------------
def writeSubtomograms(inputSet, starFile, poses=True, classes=False):
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
    properties = imagesOf(inputSet)
    pixelSize = properties.getSamplingRate()
    poses = poses and properties.hasAlignment()
    fileOf = SubtomogramFiles(os.path.splitext(starFile)[0])
    count, rows, transforms, hasHalves, names = 0, [], [], None, StarNames()
    with open(starFile, 'w') as handle:
        handle.write('# Written by scipion-em-cryolearn\n')
        _writeOptics(handle, properties, pixelSize)
        handle.write('# version 30001\n')
        writer = Table.Writer(handle)
        for item, _, name in iterSubtomograms(inputSet):
            problem = checkItem(item, properties)
            if problem:
                raise ValueError(problem)
            low, high = checkTiltRange(item, properties)
            row = OrderedDict(rlnImageId=item.getObjId(), rlnImageName=fileOf(item, pixelSize), rlnOpticsGroup=1)
            row[TILT_LABELS[0]], row[TILT_LABELS[1]] = low, high
            if classes:
                if name is None:
                    raise ValueError("Subtomogram %s ('%s') has no class: give labelled subtomograms, or classes of them."
                                     % (item.getObjId(), item.getFileName()))
                row[CLASS_LABEL] = names(name)
            half = item.getAttributeValue('_rlnRandomSubset')
            hasHalves = half is not None if hasHalves is None else hasHalves
            if hasHalves:
                row['rlnRandomSubset'] = int(half)
            if poses:
                transforms.append(_matrix(item))
            rows.append(row)
            if len(rows) == CHUNK:
                count = _writeRows(writer, rows, transforms, pixelSize, count)
        if rows:
            count = _writeRows(writer, rows, transforms, pixelSize, count)
    if not count:
        raise ValueError("The set of subtomograms is empty: there is nothing to write to '%s'." % starFile)
    return count


class StarNames:
    """Names of classes as STAR can hold them: without white space."""

    def __init__(self):
        self._known = {}

    def __call__(self, name):
        short = '_'.join(name.split())
        other = self._known.setdefault(short, name)
        if other != name:
            raise ValueError("The classes '%s' and '%s' have the same name but for white space: rename one of them." % tuple(sorted((other, name))))
        return short


def _matrix(item):
    transform = item.getTransform() if item.hasTransform() else None
    return np.eye(4) if transform is None else transform.getMatrix()


def _writeRows(writer, rows, transforms, pixelSize, count):
    """Add the poses to the rows, write them, empty the lists; returns the new count."""
    if transforms:
        angles, origins = relionFromTransforms(np.array(transforms), pixelSize)
        for row, angle, origin in zip(rows, angles.tolist(), origins.tolist()):
            row.update(zip(POSE_LABELS, angle + origin))
    if count == 0:
        writer.writeTableName('particles')
        writer.writeHeader([Table.Column(label, type=type(value)) for label, value in rows[0].items()])
    for row in rows:
        writer.writeRowValues(row.values())
    count += len(rows)
    del rows[:], transforms[:]
    return count


def _writeOptics(handle, properties, pixelSize):
    acquisition = properties.getAcquisition()
    values = OrderedDict([('rlnOpticsGroup', 1), ('rlnOpticsGroupName', 'opticsGroup1'), ('rlnVoltage', acquisition.getVoltage() or 300.),
                          ('rlnSphericalAberration', acquisition.getSphericalAberration() or 0.),
                          ('rlnAmplitudeContrast', acquisition.getAmplitudeContrast() or 0.), ('rlnImagePixelSize', float(pixelSize)),
                          ('rlnImageSize', int(properties.getXDim())), ('rlnImageDimensionality', 3)])
    table = Table(columns=[Table.Column(label, type=type(value)) for label, value in values.items()])
    table.addRow(**values)
    handle.write('\n# version 30001\n')
    table.writeStar(handle, tableName='optics')
