"""Results of the Gaussian method: the engine's files -> labels of particles, maps of states with their FSC, pseudo-atoms."""

from __future__ import annotations

import json
import os
from typing import Any

from emtable import Table
from pwem.objects import AtomStruct, VolumeFlex

from .flex import PROGRAM
from .fsc import makeFsc
from .volumes import makeVolume

LABELS = {'cryolearnWeight': float, 'cryolearnClass': int}  # columns of the engine's STAR that the result table does not have
MAPS_FOLDER, MAPS_REPORT = 'maps', 'reconstructions.json'


def readLabels(starFile: str) -> Any:
    """``{id: {name: number}}`` of this plugin's own columns of a STAR that the engine wrote."""
    reader = Table.Reader(starFile, tableName='particles', types=dict(LABELS, rlnImageId=int))
    names = [name for name in LABELS if name in reader.getColumnNames()]
    return {int(row.rlnImageId): {name: getattr(row, name) for name in names} for row in reader} if names else {}


def readStates(folder: str) -> Any:
    """Entries of the maps along the path in the engine's folder; empty when none were made."""
    path = os.path.join(folder, MAPS_FOLDER, MAPS_REPORT)
    if not os.path.exists(path):
        return []
    with open(path, encoding='utf-8') as handle:
        return json.load(handle)['reconstructions']


def stateLatents(entry: Any) -> list[float]:
    """Latent vector of a map's state as a list."""
    latent = entry.get('latent', [])
    return [float(value) for value in (latent if isinstance(latent, (list, tuple)) else [latent])]


def fillStates(volumes: Any, fscs: Any, folder: str) -> None:
    """Fill new sets with the maps along the path (with half maps and latent vectors) and their half-map FSC curves."""
    volumes.getFlexInfo().setProgName(PROGRAM)
    for number, entry in enumerate(readStates(folder), start=1):
        path = {key: os.path.join(folder, MAPS_FOLDER, name) for key, name in entry['files'].items()}
        volume = makeVolume(path['map'], [path['half1'], path['half2']], VolumeFlex, progName=PROGRAM)
        volume.setObjId(number)
        volume.setZFlex(stateLatents(entry))
        volumes.setSamplingRate(volume.getSamplingRate())
        volumes.append(volume)
        fsc = makeFsc(path['fsc'], entry['name'])
        fsc.setObjId(number)
        fscs.append(fsc)


def makePseudoAtoms(folder: str) -> Any:
    """The Gaussians as pseudo-atoms; their table stands beside the file."""
    return AtomStruct(filename=os.path.join(folder, 'gaussians.pdb'), pseudoatoms=True)
