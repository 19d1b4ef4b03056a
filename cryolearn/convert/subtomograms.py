"""What Scipion's sets of subtomograms say of their items: tilt ranges, acquisition, classes; and whether they can be used."""

from __future__ import annotations

from sqlite3 import OperationalError
from typing import Any, Dict, Iterator

from pyworkflow.object import Scalar
from tomo.objects import SetOfClassesSubTomograms, TomoAcquisition

from ..common.limits import same_pixel_size
from .bulk import iterItems
from .tilt_particles import RELION_SET

CHECKED = ('_acquisition._angleMin', '_acquisition._angleMax', '_samplingRate')  # what may differ from item to item
MAGNIFICATION = 10000  # pwem takes an acquisition without one for none
CLASS_ATTRIBUTE = '_className'  # of a subtomogram: the name of its class
FEATURES_ATTRIBUTE, KNOWN_FEATURES_ATTRIBUTE = '_cryolearnFeatures', '_cryolearnKnownFeatures'  # of classes: tables of features of a network


# ------------------------------------------------------ properties ------------------------------------------------------
def acquisitionOf(*sources: Any) -> Any:
    """A new acquisition with the values of several, the last one that has a value wins."""
    acquisition = TomoAcquisition(magnification=MAGNIFICATION)
    for source in sources:
        for name, value in source.getAttributes() if source is not None else ():
            if isinstance(value, Scalar) and value.hasValue() and hasattr(acquisition, name):
                getattr(acquisition, name).set(value.get())
    return acquisition


def tiltRange(item: Any, subtomograms: Any) -> Any:
    """Tilt range ``(min, max)`` in degrees of a subtomogram: its own, else its set's; None when nobody knows it."""
    for owner in (item, subtomograms):
        acquisition = owner.getAcquisition() if owner is not None else None
        low, high = (getattr(acquisition, name, lambda: None)() for name in ('getAngleMin', 'getAngleMax'))
        if low is not None and high is not None:
            return float(low), float(high)
    return None


def checkTiltRange(item: Any, subtomograms: Any) -> Any:
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


def checkItem(item: Any, subtomograms: Any) -> Any:
    """Refuse a subtomogram that has no tilt range or another sampling rate than its set; a sentence, or None."""
    try:
        checkTiltRange(item, subtomograms)
    except ValueError as error:
        return str(error)
    own, common = item.getSamplingRate(), subtomograms.getSamplingRate()
    if own and common and not same_pixel_size(own, common):
        return ("Subtomogram %s ('%s') has %g Å/px, but the set has %g Å/px: bring all to one sampling rate first."
                % (item.getObjId(), item.getFileName(), own, common))
    return None


def checkSet(inputSet: Any) -> Any:
    """Sentences about a set of subtomograms (or classes of them) that cannot be used; the first subtomogram that is wrong is named.

    The database is asked for what differs, so that a big set is not walked when all is well.
    """
    if inputSet is None:
        return []
    subtomograms = imagesOf(inputSet)
    if subtomograms is None or inputSet.getSize() == 0 or subtomograms.getSize() == 0:
        return ['The input is empty: there are no subtomograms in it.']
    if subtomograms.getClassName() == RELION_SET:
        return ['The subtomograms are pseudo-subtomograms or tilt stacks of RELION (tilt images multiplied by their CTF): give subtomograms that were cut from '
                'reconstructed tomograms.']
    if not subtomograms.getSamplingRate():
        return ['The subtomograms have no sampling rate.']
    try:
        ids = [row['MIN'] for row in subtomograms.aggregate(['MIN'], 'id', list(CHECKED))]
    except (KeyError, OperationalError):  # a set without acquisition has no such columns
        ids = [subtomograms.getFirstItem().getObjId()]
    problems = [checkItem(subtomograms[objId], subtomograms) for objId in sorted(ids)]
    return [problem for problem in problems if problem][:1]


def isClasses(inputSet: Any) -> Any:
    return isinstance(inputSet, SetOfClassesSubTomograms)


def imagesOf(inputSet: Any) -> Any:
    """The subtomograms of a set or of classes of them, which have the properties of all."""
    return inputSet.getImages() if isClasses(inputSet) else inputSet


def iterSubtomograms(inputSet: Any) -> Iterator[Any]:
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
    seen: Dict[int, int] = {}
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


def classNames(inputSet: Any) -> Any:
    """Names of the classes of a set, without walking it: none when it is not labelled."""
    if isClasses(inputSet):
        return [className(group) for group in inputSet.iterItems() if group.isEnabled()]
    first = inputSet.getFirstItem()
    if first is None or classOf(first)[1] is None:
        return []
    labels = ['_classId', CLASS_ATTRIBUTE] if first.hasAttribute(CLASS_ATTRIBUTE) else ['_classId']
    names = [row.get(CLASS_ATTRIBUTE) or 'class %s' % row['_classId'] for row in inputSet.aggregate(['COUNT'], 'id', labels)]
    return list(dict.fromkeys(names))


def className(group: Any) -> Any:
    """Name of a class: its label, else its number."""
    return (group.getObjLabel() or '').strip() or 'class %d' % group.getObjId()


def classOf(item: Any) -> Any:
    """``(number, name)`` of the class that a subtomogram says it belongs to; ``(None, None)`` when it says nothing."""
    number, name = item.getClassId(), item.getAttributeValue(CLASS_ATTRIBUTE)
    if not name:
        return (number, 'class %d' % number) if number else (None, None)
    return number, name
