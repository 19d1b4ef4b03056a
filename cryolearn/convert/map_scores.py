"""Scores of maps against models: the engine's tables -> text, rows and FSC objects for Scipion."""

from __future__ import annotations

import os
from typing import Any, Dict, List, Tuple

from pwem.objects import Transform

from ..common.fsc import curve_names, read_curve
from .files import fileOf
from .fsc import fscOf
from .tables import readRows
from .volumes import readHeader, writeVolume

SCORES_TABLE, RESIDUES_TABLE, EMRINGER_TABLE, FSC_TABLE = 'scores.csv', 'residues.csv', 'emringer.csv', 'fsc.csv'
MODEL, HALVES, CROSS = 'map and model', 'half maps', 'half after, other half before'
_MRC = ('.mrc', '.map', '.ccp4')


def writePlacedVolume(volume: Any, path: str) -> Any:
    """Write a volume as MRC; without an origin of its own in Scipion it keeps the one in its file's header, if that says anything."""
    fileName = fileOf(volume)
    if not volume.hasOrigin() and fileName.lower().endswith(_MRC):
        _, origin = readHeader(fileName)
        if any(origin):
            volume = volume.clone()
            place = Transform()
            place.setShifts(*origin)
            volume.setOrigin(place)
    return writeVolume(volume, path)


def halfMapFiles(volume: Any) -> Any:
    """Files of a volume's two half maps, or an empty list."""
    names = volume.getHalfMaps(asList=True) if volume is not None and volume.hasHalfMaps() else []
    return [name.strip() for name in names if name.strip()]


def writeHalfMaps(volume: Any, stem: str) -> Any:
    """Write both half maps as ``stem1.mrc`` and ``stem2.mrc``, with the origin and sampling rate of their map."""
    written = []
    for number, name in enumerate(halfMapFiles(volume), 1):
        half = volume.clone()
        half.setFileName(name)
        written.append(writePlacedVolume(half, '%s%d.mrc' % (stem, number)))
    return written


def readScores(folder: str) -> Tuple[List[str], List[Dict[str, Any]]]:
    """Rows of the table of scores: names of the maps, and ``[{column: text or number or None}]``."""
    rows = readRows(os.path.join(folder, SCORES_TABLE), text=('score', 'label'))
    return [name[:-len('_low')] for name in (rows[0] if rows else ()) if name.endswith('_low') and name != 'change_low'], rows


def readResidues(folder: str) -> list[dict[str, Any]]:
    """Rows of the table of residues: ``[{column: text or number or None}]``."""
    return readRows(os.path.join(folder, RESIDUES_TABLE), text=('chain', 'insertion_code', 'residue_name'))


def readEmringerCurves(folder: str) -> dict[tuple[str, str], dict[str, list[Any]]]:
    """``{(map, votes): {column: [numbers]}}`` of the curves over the density threshold."""
    curves: Dict[Tuple[str, str], Dict[str, List[Any]]] = {}
    for row in readRows(os.path.join(folder, EMRINGER_TABLE), text=('map', 'votes')):
        curve = curves.setdefault((row['map'], row['votes']), {})
        for name in ('step', 'threshold', 'score', 'rotameric_share', 'count'):
            curve.setdefault(name, []).append(float('nan') if row[name] is None else row[name])
    return curves


def readFscCurves(folder: str) -> list[tuple[str, str, list[float], list[float]]]:
    """``[(kind, label, frequency, values)]`` of the curves: map and model, half maps, half after with the other half before."""
    path = os.path.join(folder, FSC_TABLE)
    curves = []
    for name in curve_names(path):
        kind = CROSS if name.startswith('cross') else HALVES if '_halves' in name else MODEL
        masked = name.endswith('_masked')
        first = 'cross' if kind == CROSS else name[:-len('_masked')].rsplit('_', 1)[0] if masked else name.rsplit('_', 1)[0]
        curves.append((kind, first + (', masked' if masked else ''), *read_curve(path, name)))
    return curves


def makeFscs(folder: str) -> list[Any]:
    """An FSC object of every curve, labelled by what it compares."""
    return [fscOf('%s: %s' % (kind, label), frequency, values) for kind, label, frequency, values in readFscCurves(folder)]


def scoreText(row: Any, names: Any) -> str:
    """One line of a summary: 'Q-score (sigma 0.4 Å): before 0.51 (0.50 to 0.53), after 0.55 (...), change +0.04 (+0.03 to +0.05)'."""
    parts = []
    for name in names:
        value = 'none' if row[name] is None else '%.3g' % row[name] + _interval(row, name, '%.3g')
        parts.append(value if len(names) == 1 else '%s %s' % (name, value))
    if row.get('change') is not None:
        parts.append('change %+.3g%s' % (row['change'], _interval(row, 'change', '%+.3g')))
    return '%s: %s' % (row['label'], ', '.join(parts))


def _interval(row: Any, name: str, form: str) -> str:
    low, high = row[name + '_low'], row[name + '_high']
    return '' if low is None else ' (%s to %s)' % (form % low, form % high)
