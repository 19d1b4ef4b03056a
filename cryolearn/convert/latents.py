"""The landscape of a set of particles as a result table, read from the set's file in chunks, so that a million particles need no objects."""

from __future__ import annotations

import json
from typing import Any, Dict, List

import numpy as np

from ..common.tables import write_table
from .bulk import columnChunks
from .flex import ERROR_ATTRIBUTE, latentNames, modeNumbers, motionFile, qualityColumns
from .poses import posesFromTransforms


def writeLatents(particles: Any, tableFile: str, box: int | None = None, subunit: int | None = None, items: Any = None) -> int:
    """Write the landscape of a SetOfParticlesFlex, or of ``items`` that have its properties, as a result table.

    Columns: ``id``, ``amplitudes`` (from zFlex); ``reduced`` (zRed), ``rotation`` and ``shift_angst``, the quality columns and the error
    bars of the latents when the set has them. With ``subunit`` (latents of one subunit), a particle of several has a row for each, and
    the rows are numbered anew.

    Raises
    ------
    ValueError
        naming a particle without a latent vector or with one of another length.
    """
    kinds, motion = qualityColumns(particles), motionFile(particles)
    parts: Dict[str, List[Any]] = {}
    unlike = set()  # columns that some particles do not have
    length = None
    for ids, cells in columnChunks(particles, items):
        made: Dict[str, Any] = {'id': np.array(ids, dtype=np.int64), 'amplitudes': _vectors(ids, cells('_zFlex'), length)}
        length = made['amplitudes'].shape[1]
        made['reduced'] = _numbers(cells('_zRed'))
        if particles.hasAlignmentProj():
            made['rotation'], made['shift_angst'] = _poses(ids, cells('_transform._matrix'), particles.getSamplingRate())
        if motion:
            errors = [cells(ERROR_ATTRIBUTE % number) for number in range(1, length + 1)]
            made['amplitude_sigma'] = None if any(None in values for values in errors) else np.array(errors, dtype=float).T
        for name, column, _ in kinds:
            values = cells(name)
            made[column] = None if None in values else np.array(values)
        for name, values in made.items():
            if values is None or (name in parts and parts[name][0].shape[1:] != values.shape[1:]):
                unlike.add(name)
            elif name not in unlike:
                parts.setdefault(name, []).append(values)
    columns: Dict[str, Any] = {'id': np.zeros(0, dtype=np.int64), 'amplitudes': np.zeros((0, 0))}
    columns.update((name, np.concatenate(parts.pop(name))) for name in list(parts) if name not in unlike)
    meta = {'mode_numbers': modeNumbers(particles), 'pixel_size_angst': particles.getSamplingRate()}
    if motion:
        meta['latent_names'] = latentNames(motion, subunit or length)
    if box:
        meta['box'] = int(box)
    count = len(columns['id'])
    write_table(tableFile, _bySubunit(columns, subunit), meta)
    return count


def _bySubunit(columns: Any, latents: int | None) -> dict[str, Any]:
    """Columns with one row for each subunit, of which each has so many latents; the same columns where there is one."""
    units = columns['amplitudes'].shape[1] // latents if latents else 1
    if units == 1:
        return columns
    divided = {name: np.repeat(values, units, axis=0) for name, values in columns.items()}
    for name in {'amplitudes', 'amplitude_sigma'} & set(columns):
        divided[name] = columns[name].reshape(-1, latents)
    divided['id'] = np.arange(1, len(divided['amplitudes']) + 1)
    return divided


def _vectors(ids: Any, texts: Any, length: int | None) -> Any:
    """Latent vectors (n, length) of particles, all of one length, which is that of the first where none is said."""
    for objId, text in zip(ids, texts):
        if not text:
            raise ValueError('Particle %d has no latent vector: align or predict it first.' % objId)
        found = text.count(',') + 1
        length = length or found
        if found != length:
            raise ValueError('Particle %d has %d latent values where the others have %d.' % (objId, found, length))
    return _numbers(texts)


def _numbers(texts: Any) -> Any:
    """Numbers (n, length) of texts as a CsvList is stored; None where there are none, or not as many in each."""
    if not all(texts) or len({text.count(',') for text in texts}) > 1:
        return None
    return np.array([float(word) for word in ','.join(texts).split(',')]).reshape(len(texts), -1)


def _poses(ids: Any, texts: Any, pixelSize: float) -> tuple[Any, Any]:
    """Rotations (n, 3, 3) and shifts (n, 2) in Å of matrices as they are stored."""
    for objId, text in zip(ids, texts):
        if text is None:
            raise ValueError('Particle %d has no pose, although its set says so: align it first.' % objId)
    rotations, shifts = posesFromTransforms(np.array(json.loads('[%s]' % ','.join(texts))), pixelSize, ids)
    return rotations, shifts[:, :2]
