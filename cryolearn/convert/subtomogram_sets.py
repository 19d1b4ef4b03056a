"""Result tables of the engine -> sets, classes and averages of subtomograms, as scipion-em-tomo and its plugins expect them.

tomo guesses the alignment of a set from its first item and keeps no acquisition of its own, so both are said here explicitly: acquisition on
each item and on the set, alignment of the set and of each class. Coordinates and whatever else an input item has are carried over.
"""

from __future__ import annotations

from typing import Any, Dict

import numpy as np
from pwem.constants import ALIGN_3D, ALIGN_NONE
from pwem.objects import Transform
from pyworkflow.object import Float, String
from tomo.objects import AverageSubTomogram, ClassSubTomogram, SubTomogram

from .bulk import appendCopies, distribute, iterItems
from .subtomograms import CLASS_ATTRIBUTE, acquisitionOf

CONFIDENCE_ATTRIBUTE = '_classConfidence'
NO_CLASS = 0  # class number of what belongs to none


def setAcquisition(item: Any, subtomograms: Any) -> None:
    """Give an item an acquisition with all that is known: its own values, else its set's."""
    item.setAcquisition(acquisitionOf(subtomograms.getAcquisition(), item.getAcquisition()))


def copyProperties(source: Any, output: Any) -> None:
    """Give a new set what holds for all subtomograms of another; the acquisition is that of the first item where the set has none."""
    output.copyInfo(source)
    first = source.getFirstItem()
    output.setAcquisition(acquisitionOf(first.getAcquisition() if first is not None else None, source.getAcquisition()))


def appendSubtomograms(
    source: Any, output: Any, update: Any = None, keep: Any = None, aligned: bool | None = None
) -> None:
    """Fill a new set with subtomograms of another.

    Parameters
    ----------
    source, output : SetOfSubTomograms
        ``output`` is new and empty.
    update : callable, optional
        ``update(item)`` changes a copy before it is appended, as in :func:`.bulk.appendCopies`.
    keep : set of int, optional
        Ids of those to take; all must be there.
    aligned : bool, optional
        Do the items have poses afterwards? As those of ``source`` when not said.

    Raises
    ------
    ValueError
        naming an id of ``keep`` that the source does not have.
    """
    copyProperties(source, output)

    def itemOf(item: Any) -> Any:
        copy = item.clone()
        setAcquisition(copy, source)
        return copy
    missing = appendCopies(source, output, itemOf, update, keep)
    if missing:
        raise ValueError('Subtomogram %d was selected, but it is not in the input set.' % min(missing))
    output.setAlignment(alignmentOf(source, aligned))


def alignmentOf(source: Any, aligned: bool | None = None) -> Any:
    return source.getAlignment() if aligned is None else ALIGN_3D if aligned else ALIGN_NONE


def setPose(item: Any, matrix: Any) -> None:
    """Give a subtomogram its pose, Scipion's matrix (4, 4)."""
    item.setTransform(Transform(matrix=np.asarray(matrix, dtype=float)))


def setClass(item: Any, number: int, name: str = '', confidence: float | None = None) -> None:
    """Give a subtomogram its class: number (0: none), name, and how sure that is (0 to 1)."""
    item.setClassId(int(number))
    setattr(item, CLASS_ATTRIBUTE, String(name))
    if confidence is not None:
        setattr(item, CONFIDENCE_ATTRIBUTE, Float(float(confidence)))


def fillClasses(classes: Any, numberOf: Any, nameOf: Any = None, representativeOf: Any = None) -> None:
    """Distribute the images of a new SetOfClassesSubTomograms.

    Parameters
    ----------
    classes : SetOfClassesSubTomograms
        Its images (``setImages``) are the subtomograms that were classified.
    numberOf : callable
        ``numberOf(item)`` is the number of its class, by its id and class id; items of class 0 are in no class.
    nameOf : callable, optional
        ``nameOf(number)`` is the label of a class.
    representativeOf : callable, optional
        ``representativeOf(number)`` is its AverageSubTomogram, or None.
    """
    images = classes.getImages()
    if images.hasCoordinates3D():
        classes.setCoordinates3D(images.getCoordinates3D(asPointer=True))
    found: Dict[int, Any] = {}
    stand = SubTomogram()

    def numbersOf(ids: Any, _: Any, own: Any) -> Any:
        numbers = []
        for objId, number in zip(ids, own):
            stand.setObjId(objId)
            stand.setClassId(number)
            numbers.append(int(numberOf(stand)))
        return np.array(numbers)

    def classify(wanted: Any) -> Dict[int, Any]:
        for item in iterItems(images, rowFilter=lambda row: wanted(row['id'])):
            number = int(numberOf(item))
            if number == NO_CLASS:
                continue
            if number not in found:
                found[number] = _newClass(classes, images, number, nameOf, representativeOf)
            item = item.clone()
            setAcquisition(item, images)
            item.setClassId(number)
            found[number].append(item)
        for group in found.values():
            group.setAlignment(images.getAlignment())
            classes.update(group)
        return found
    distribute(images, classes, numbersOf, classify)


def _newClass(classes: Any, images: Any, number: int, nameOf: Any, representativeOf: Any) -> Any:
    group = ClassSubTomogram(objId=number)
    average = representativeOf(number) if representativeOf is not None else None
    group.setRepresentative(average if average is not None else _nothing(images))
    group.copyInfo(images)
    group.setAcquisition(images.getAcquisition())
    if nameOf is not None:
        group.setObjLabel(nameOf(number))
    classes.append(group)
    return group


def _nothing(images: Any) -> Any:
    """Representative of a class that was not averaged."""
    average = AverageSubTomogram()
    average.setSamplingRate(images.getSamplingRate())
    average.setAcquisition(acquisitionOf(images.getAcquisition()))
    return average


def makeAverage(path: str, images: Any, halfMaps: Any = ()) -> Any:
    """Average of subtomograms with the properties of the set that it comes from."""
    average = AverageSubTomogram()
    average.setFileName(path)
    average.setSamplingRate(images.getSamplingRate())
    average.setAcquisition(acquisitionOf(images.getAcquisition()))
    if halfMaps:
        average.setHalfMaps(list(halfMaps))
    return average
