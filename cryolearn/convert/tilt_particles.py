"""Tilt-series particles, each a stack of tilt images: 2D stacks of scipion-em-reliontomo and what the engine made of them, as STAR for the engine.

What the images were made with (tilts, CTF, dose) is in the STAR files that the particles are from. Their rows are copied, so that nothing is lost that a set of
Scipion does not hold. Items of ours say which row of which file they are, whatever subset or union they come in; those of reliontomo say it by their
``rlnTomoParticleName``.
"""

from __future__ import annotations

import importlib.util
import os
import struct
from typing import Any, Dict, Iterator, List, Tuple

from emtable import Table
from pyworkflow.object import Integer, String

from ..common.atomic import open_whole
from .star_rows import ANGLE_LABELS, ORIGIN_LABELS, namedFile

RELION_SET = 'RelionSetOfPseudoSubtomograms'
STAR_ATTRIBUTE, ID_ATTRIBUTE = '_cryolearnTiltStar', '_cryolearnTiltId'  # of an item: file of tilt-series particles, and rlnImageId there
_ID, _NAME = 'rlnImageId', 'rlnTomoParticleName'
_IMAGES, _SUBSET = 'rlnImageName', 'rlnRandomSubset'
_PARTICLES_FILE, _TOMOGRAMS_FILE = 'rlnTomoParticlesFile', 'rlnTomoTomogramsFile'


def particleClasses(*classes: str) -> str:
    """Classes of objects that a form takes, with the particles of scipion-em-reliontomo where it is installed (Scipion refuses classes that nobody defines)."""
    return ','.join(classes + ((RELION_SET,) if importlib.util.find_spec('reliontomo') else ()))


def isTiltSeries(particles: Any) -> bool:
    """Are the items of a set tilt-series particles? Its first one tells."""
    if particles.getClassName() == RELION_SET:
        return True
    return particles.getSize() > 0 and bool(particles.getFirstItem().getAttributeValue(STAR_ATTRIBUTE))


def tiltErrors(particles: Any, alignment: bool) -> List[str]:
    """Sentences about tilt-series particles that cannot be used."""
    if particles.getClassName() == RELION_SET and particles.getAttributeValue('_are2dStacks') is False:
        return ['The particles are pseudo-subtomograms (volumes), not stacks of tilt images: extract them as 2D stacks.']
    star, tomograms = next(_sources(particles))[:2]
    for name in (star, tomograms):
        if not os.path.exists(name):
            return ["The file '%s' that the tilt-series particles are from does not exist." % name]
    if alignment and not set(ANGLE_LABELS) <= set(_reader(star).getColumnNames()):
        return ["The tilt-series particles have no poses (%s in '%s'): align them first." % (ANGLE_LABELS[0], star)]
    return []


def noteSource(item: Any, star: str, particleId: int) -> None:
    """Note on an item which row of which file of tilt-series particles it is."""
    setattr(item, STAR_ATTRIBUTE, String(star))
    setattr(item, ID_ATTRIBUTE, Integer(particleId))


def middleImage(item: Any) -> Tuple[int, str]:
    """Location of the middle image of an item's stack, which shows the particle best: tilts are sorted by their angle."""
    name = item.getFileName()
    with open(name, 'rb') as handle:
        count = struct.unpack('<i', handle.read(12)[8:])[0]
    return count // 2 + 1, name


def writeTiltParticles(particles: Any, starFile: str, poses: bool = True, items: Any = None) -> int:
    """Write tilt-series particles as an optimisation set ``starFile`` that names ``*_tilts.star`` beside it and their tomograms table.

    Parameters
    ----------
    particles, starFile, poses, items
        As of ``writeParticles``.

    Returns
    -------
    int
        Number of particles written.

    Raises
    ------
    ValueError
        naming the first particle that the files do not have, or when the particles are from several tomograms tables or have unlike columns.
    """
    wanted: Dict[str, Dict[Any, Any]] = {}
    tables = set()
    for star, tomograms, key, item in _sources(particles, items):
        wanted.setdefault(star, {})[key] = (item.getObjId(), item.getAttributeValue('_' + _SUBSET))
        tables.add(tomograms)
    if not wanted:
        raise ValueError("The set of tilt-series particles is empty: there is nothing to write to '%s'." % starFile)
    if len(tables) > 1:
        raise ValueError('The particles are from several tomograms tables (%s): give those of one at a time.' % ', '.join(sorted(tables)))
    tiltStar = os.path.splitext(starFile)[0] + '_tilts.star'
    count = _writeRows(tiltStar, wanted, () if poses else ANGLE_LABELS + ORIGIN_LABELS)
    with open_whole(starFile) as handle:
        table = Table(columns=[Table.Column(label, type=str) for label in (_PARTICLES_FILE, _TOMOGRAMS_FILE)])
        table.addRow(_named(tiltStar), _named(tables.pop()))
        table.writeStar(handle, tableName='')
    return count


def _writeRows(starFile: str, wanted: Any, without: Any) -> int:
    labels, optics, count = None, None, 0
    with open_whole(starFile) as handle:
        writer = Table.Writer(handle)
        for star, ids in wanted.items():
            reader = _reader(star)
            if labels is None:
                labels = [label for label in reader.getColumnNames() if label not in (*without, _ID, _SUBSET)]
                halves = [_SUBSET] if _SUBSET in reader.getColumnNames() or all(half is not None for _, half in ids.values()) else []
                optics = _text(star, 'optics')
                handle.write('# Written by scipion-em-cryolearn\n\ndata_general\n\n_rlnTomoSubTomosAre2DStacks 1\n\n%s\n' % optics)
                writer.writeTableName('particles')
                writer.writeHeader([Table.Column(label, type=str) for label in [*labels, *halves, _ID]])
            elif not set(labels) <= set(reader.getColumnNames()) or _text(star, 'optics') != optics:
                raise ValueError("The tilt-series particles of '%s' have other columns or optics groups than the others: give those of one file." % star)
            for key, row in _rowsByKey(star, reader, ids):
                objId, half = ids.pop(key)
                values = {**row, _IMAGES: _named(namedFile(star, row[_IMAGES])), _ID: str(objId), _SUBSET: row.get(_SUBSET) if half is None else str(half)}
                writer.writeRowValues([values[label] for label in [*labels, *halves, _ID]])
                count += 1
            if ids:
                raise ValueError("'%s' does not have the tilt-series particle %s of the set." % (star, next(iter(ids.values()))[0]))
    return count


def _rowsByKey(star: str, reader: Any, ids: Any) -> Iterator[Any]:
    """``(key, row)`` of the rows that are wanted."""
    column = _NAME if isinstance(next(iter(ids)), str) else _ID
    for number, row in enumerate(reader, start=1):
        row = row._asdict()
        key = row.get(column) if column == _NAME else int(row.get(_ID, number))
        if key in ids:
            yield key, row


def _sources(particles: Any, items: Any = None) -> Iterator[Tuple[str, str, Any, Any]]:
    """``(STAR of particles, tomograms table, key of the row, item)`` of each item: keys are names (text) or ids (numbers)."""
    star = particles.getAttributeValue('_particles') if particles.getClassName() == RELION_SET else None
    tomograms = particles.getAttributeValue('_tomograms') if star else None
    beside: Dict[str, str] = {}
    for number, item in enumerate(particles.iterItems() if items is None else items, start=1):
        if star:  # the name, else the row's number
            yield star, tomograms or '', item.getAttributeValue('_relionParticleName') or number, item
            continue
        own = item.getAttributeValue(STAR_ATTRIBUTE)
        if not own:
            raise ValueError('Particle %s is a single image, but others of its set are tilt-series particles: do not join them.' % item.getObjId())
        if own not in beside:
            beside[own] = _tomogramsOf(own)
        yield own, beside[own], item.getAttributeValue(ID_ATTRIBUTE), item


def _tomogramsOf(star: str) -> str:
    """Tomograms table of a file of particles, by the optimisation set that lies beside it."""
    master = os.path.splitext(star)[0] + '_optimisation_set.star'
    for row in Table.Reader(master, tableName='', guessType=False):
        return namedFile(master, getattr(row, _TOMOGRAMS_FILE))
    raise ValueError("The optimisation set '%s' is empty." % master)


def _reader(star: str) -> Any:
    return Table.Reader(star, tableName='particles', guessType=False)


def _text(star: str, block: str) -> str:
    """A block as it stands in a file, without comments."""
    lines: List[str] = []
    with open(star, encoding='utf-8') as handle:
        for line in handle:
            if line.startswith('data_'):
                if lines:
                    break
                if line.strip() != 'data_' + block:
                    continue
            elif not lines or line.startswith('#'):
                continue
            lines.append(line)
    return ''.join(lines)


def _named(path: str) -> str:
    """Name of a file in STAR, relative to the project where it is inside; RELION reads no quotes."""
    name = os.path.relpath(path) if os.path.abspath(path).startswith(os.path.join(os.getcwd(), '')) else os.path.abspath(path)
    if len(name.split()) > 1:
        raise ValueError("The path '%s' has a blank, which STAR files cannot hold: move the file." % name)
    return name
