"""STAR files as RELION 3.1+ reads them: optics groups, and particles or subtomograms one row each, written and read as they come."""

from __future__ import annotations

import os
import shlex
import shutil
import tempfile
from collections import OrderedDict
from typing import Any, Iterable, Iterator

import numpy as np
from emtable import Table
from pwem.objects import Transform

from ..common.atomic import open_whole
from ..common.star_words import star_word
from .poses import relionFromTransforms, transformsFromRelion

CHUNK = 10000  # rows whose poses are converted at once
ANGLE_LABELS = ('rlnAngleRot', 'rlnAngleTilt', 'rlnAnglePsi')
ORIGIN_LABELS = ('rlnOriginXAngst', 'rlnOriginYAngst', 'rlnOriginZAngst')


def writeStar(starFile: str, optics: Any, rows: Iterable[Any], pixelSize: float, origins: int, what: str, poseUnits: Any = None) -> int:
    """Write a STAR file whole or not at all; returns the number of rows.

    Parameters
    ----------
    optics : list of OrderedDict
        Optics groups; looked at after all rows, which may add to it.
    rows : iterable of (OrderedDict, matrix (4, 4) or None)
        Columns of a row, those of the first one hold for all, and its pose, whose shift is in pixels of the row's optics group.
    pixelSize : float
        Å, of optics groups that say none.
    origins : int
        Origins of a pose: 2 of an image, 3 of a volume.
    what : str
        What the rows are, as in "particle set".
    poseUnits : dict, optional
        Å of a pixel of the poses by optics group, where it is not that of the images.

    Raises
    ------
    ValueError
        when there is no row, or an item's alignment is no rotation and shift.
    """
    labels, count = ANGLE_LABELS + ORIGIN_LABELS[:origins], 0
    with open_whole(starFile) as handle, tempfile.TemporaryFile('w+', encoding='utf-8') as body:
        writer = Table.Writer(body)
        for chunk in _chunks(rows):
            if chunk[0][1] is not None:
                pixels = {group['rlnOpticsGroup']: group.get('rlnImagePixelSize', pixelSize) for group in optics}
                pixels.update(poseUnits or {})
                ids = [row.get('rlnImageId') for row, _ in chunk]
                angles, shifts = relionFromTransforms(np.array([matrix for _, matrix in chunk]), 1., ids, 'particles' if origins == 2 else 'subtomograms')
                shifts = shifts * np.array([pixels.get(row.get('rlnOpticsGroup'), pixelSize) for row, _ in chunk])[:, None]
                for (row, _), angle, shift in zip(chunk, angles.tolist(), shifts.tolist()):
                    row.update(zip(labels, angle + shift))
            if count == 0:
                writer.writeTableName('particles')
                writer.writeHeader(_columnsOf(chunk[0][0]))
            for row, _ in chunk:
                writer.writeRowValues(words(row.values()))
            count += len(chunk)
        if not count:
            raise ValueError("The %s is empty: there is nothing to write to '%s'." % (what, starFile))
        handle.write('# Written by scipion-em-cryolearn\n\n# version 30001\n')
        columns = OrderedDict((label, value) for group in reversed(optics) for label, value in group.items())
        table = Table(columns=_columnsOf(OrderedDict((label, columns[label]) for label in [*optics[0], *columns])))
        for group in optics:
            table.addRow(**dict(zip(columns, words(group.get(label, _missing(label, value)) for label, value in columns.items()))))
        table.writeStar(handle, tableName='optics')
        handle.write('# version 30001\n')
        body.seek(0)
        shutil.copyfileobj(body, handle)
    return count


def words(values: Iterable[Any]) -> list[Any]:
    """Values of a row with text as words of a STAR file: in quotes where it has blanks or would mean something else."""
    return [star_word(value) if isinstance(value, str) else value for value in values]


def quoted(table: Any) -> Any:
    """The same table with text as words of a STAR file."""
    made = Table(columns=[Table.Column(column.getName(), type=column.getType()) for column in table.getColumns()])
    for row in table:
        values = row._asdict()
        made.addRow(**dict(zip(values, words(values.values()))))
    return made


def _missing(label: str, value: Any) -> Any:
    """What an optics group has in a column that only other groups say: what has no effect."""
    if label in ('rlnMagMat00', 'rlnMagMat11', 'rlnCtfScalefactor'):
        return 1.
    return '[]' if isinstance(value, str) else type(value)(0)


def _chunks(rows: Iterable[Any]) -> Iterator[Any]:
    chunk = []
    for row in rows:
        chunk.append(row)
        if len(chunk) == CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _columnsOf(row: Any) -> list[Any]:
    return [Table.Column(label, type=type(value)) for label, value in row.items()]


def opticsOf(acquisition: Any) -> Any:
    """The one optics group of images with this acquisition."""
    return OrderedDict([('rlnOpticsGroup', 1), ('rlnOpticsGroupName', 'opticsGroup1'), ('rlnVoltage', acquisition.getVoltage() or 300.),
                        ('rlnSphericalAberration', acquisition.getSphericalAberration() or 0.),
                        ('rlnAmplitudeContrast', acquisition.getAmplitudeContrast() or 0.)])


def withImages(group: Any, properties: Any, dimensions: int) -> Any:
    """An optics group with the pixel and image size of a set."""
    group.update(rlnImagePixelSize=float(properties.getSamplingRate()), rlnImageSize=int(properties.getXDim()), rlnImageDimensionality=dimensions)
    return group


def _wordsOf(line: str) -> list[str]:
    return shlex.split(line) if '"' in line else line.split()


def namedFile(starFile: str, name: str) -> str:
    """A file named in a STAR file: beside it where it is there, else as it is named, from the current folder."""
    beside = os.path.join(os.path.dirname(starFile), name)
    return beside if os.path.exists(beside) else name


class StarReader:
    """A STAR file of particles or subtomograms: ``optics`` (a Table), ``pixelSize``, ``box``, ``hasPoses`` and ``names`` of the columns."""

    def __init__(self, starFile: str, types: Any, origins: int) -> None:
        self._starFile, self._types, self._origins = starFile, types, ORIGIN_LABELS[:origins]
        self.optics = Table(fileName=starFile, tableName='optics', types=types)
        self.pixelSize, self.box = self.optics[0].rlnImagePixelSize, self.optics[0].rlnImageSize
        self.names = list(self._reader().getColumnNames())
        self.hasPoses = {*ANGLE_LABELS, *self._origins} <= set(self.names)
        self._beside: dict[str, str] = {}

    def _reader(self) -> Any:
        reader = Table.Reader(self._starFile, tableName='particles', types=self._types)
        reader._split = _wordsOf  # emtable looks for quotes in the first row only
        return reader

    def rows(self) -> Iterator[Any]:
        """``(id, row)``, ids counted where the file has none."""
        for number, row in enumerate(self._reader(), start=1):
            yield row.get('rlnImageId', number), row

    def microscope(self) -> dict[str, Any]:
        """Values of an acquisition that the first optics group says."""
        labels = dict(voltage='rlnVoltage', sphericalAberration='rlnSphericalAberration', amplitudeContrast='rlnAmplitudeContrast')
        return {name: self.optics[0].get(label) for name, label in labels.items()}

    def fileOf(self, name: str) -> str:
        """A file named in the STAR: looked for beside the STAR, then in the current folder."""
        if name not in self._beside:
            self._beside[name] = namedFile(self._starFile, name)
        return self._beside[name]

    def setPose(self, item: Any, row: Any) -> None:
        """Give an item the pose of its row as Scipion's Transform, where the file has poses."""
        if self.hasPoses:
            angles, origin = ([[getattr(row, label) for label in labels]] for labels in (ANGLE_LABELS, self._origins))
            item.setTransform(Transform(matrix=transformsFromRelion(angles, origin, self.pixelSize)[0]))
