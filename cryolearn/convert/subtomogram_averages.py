"""Averages of subtomograms that the engine made, and the subtomograms as it aligned and classified them."""

from __future__ import annotations

import os
from collections import OrderedDict, namedtuple
from typing import Any

from pyworkflow.object import Float, Integer

from .poses import rotationFromAngles, transformsFromPoses
from .subtomogram_classes import ClassTable
from .subtomogram_sets import appendSubtomograms, setClass, setPose
from .subtomograms import imagesOf, iterSubtomograms
from .tables import readRows

AVERAGES_TABLE, AVERAGES_REPORT = 'averages.npz', 'classes.csv'
ATTRIBUTES = (('_rlnRandomSubset', 'half', Integer), ('_alignmentScore', 'score', Float))

Average = namedtuple('Average', 'number, name, path, halves, fsc, count, resolution, nearest, distance, outside, new')
Average.__doc__ = """An average: number and name of its class, files, number of subtomograms, resolution in Å (FSC 0.143; None: the halves do not agree), and,
where features of a network were given, the nearest training class, the distance from it, the part of the subtomograms outside of every training class,
and whether that makes the class a new structure (None where there were no features)."""


def readAverages(folder: str) -> Any:
    """``{number: Average}`` of a run, in the order of the numbers.

    Raises
    ------
    ValueError
        naming a map that is missing.
    """
    rows = readRows(os.path.join(folder, AVERAGES_REPORT))
    apart = [row['input_class'] for row in rows if row['input_class'] is not None]
    found = OrderedDict()
    for row in rows:
        stem, number = os.path.join(folder, row['name']), int(row['number'])
        files = [stem + end for end in ('.mrc', '_half1.mrc', '_half2.mrc', '_fsc.csv')]
        for path in files:
            if not os.path.exists(path):
                raise ValueError("The file '%s' of an average is missing." % path)
        found[number] = Average(number=number, name=_name(row, apart), path=files[0], halves=files[1:3], fsc=files[3], count=int(row['count']),
                                resolution=row['resolution_angst'], nearest=row.get('nearest_class'), distance=row.get('distance'),
                                outside=row.get('outside'), new={'True': True, 'False': False}.get(str(row.get('new'))))
    return found


def _name(row: Any, apart: list[Any]) -> Any:
    """Name of a class: that of the input class that was averaged apart, with a number where there are several of it."""
    number, own = int(row['number']), row['input_class']
    if own is None:
        return 'class %d' % number
    own = '%d' % own if isinstance(own, float) and own.is_integer() else str(own)
    return own if apart.count(row['input_class']) == 1 else '%s (class %d)' % (own, number)


def appendAligned(inputSet: Any, output: Any, folder: str, averages: Any) -> list[Any]:
    """Fill a new set with the subtomograms that were averaged, with pose, class, score and half set.

    Parameters
    ----------
    inputSet : SetOfSubTomograms or SetOfClassesSubTomograms
    output : SetOfSubTomograms
        New and empty.
    folder : str
        Where the run's tables are.
    averages : dict
        ``{number: Average}``.

    Returns
    -------
    list of int
        Ids of those of the input that are in no average.
    """
    table = ClassTable(os.path.join(folder, AVERAGES_TABLE))
    source, columns = imagesOf(inputSet), table.columns
    transforms = transformsFromPoses(rotationFromAngles(columns['angles_deg']), columns['shifts_angst'], source.getSamplingRate())

    def update(item: Any) -> None:
        number = table.classOf(item)
        setPose(item, transforms[table.rowOf(item)])
        setClass(item, number, averages[number].name)
        table.setAttributes(item, ATTRIBUTES)
    appendSubtomograms(source, output, update, keep=columns['id'], aligned=True)
    return sorted({item.getObjId() for item, _, _ in iterSubtomograms(inputSet)} - set(columns['id'].tolist()))


def fillAverages(volumes: Any, images: Any, averages: Any, made: Any) -> None:
    """Fill a new SetOfAverageSubTomograms with the averages ``made`` (``{number: AverageSubTomogram}``) of ``images``."""
    volumes.setSamplingRate(images.getSamplingRate())
    volumes.setAcquisition(images.getAcquisition())
    for number, average in averages.items():
        made[number].setObjId(number)
        made[number].setObjLabel(average.name)
        volumes.append(made[number])
