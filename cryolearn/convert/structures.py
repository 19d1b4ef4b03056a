"""Conformations: the engine's frames -> Scipion's sets of structures and maps with latent vectors."""

from __future__ import annotations

import os
from typing import Any

from pwem.objects import AtomStructFlex, VolumeFlex

from ..common.tables import read_table
from .flex import PROGRAM
from .volumes import makeVolume

TRAJECTORY_TABLE = 'trajectory.npz'


def readFrames(folder: str) -> list[Any]:
    """``[(number, latent vector)]`` of the frames of a trajectory."""
    columns, _ = read_table(os.path.join(folder, TRAJECTORY_TABLE))
    return [(int(number), vector.tolist()) for number, vector in zip(columns['id'], columns['vectors'])]


def modelsFile(folder: str, stem: str = 'trajectory') -> str:
    """File of a model, or of all frames: PDB for atoms, mmCIF for those that the PDB format cannot hold and for Gaussian models."""
    pdb, cif = os.path.join(folder, stem + '.pdb'), os.path.join(folder, stem + '.cif')
    return cif if os.path.exists(cif) and not os.path.exists(pdb) else pdb


def fillStructures(structures: Any, folder: str) -> None:
    """Fill a new SetOfAtomStructFlex with the frames' models."""
    structures.getFlexInfo().setProgName(PROGRAM)
    for number, vector in readFrames(folder):
        item = AtomStructFlex(progName=PROGRAM, filename=modelsFile(folder, 'frame_%03d' % number))
        item.setObjId(number)
        item.setZFlex(vector)
        structures.append(item)


def fillVolumes(volumes: Any, folder: str) -> None:
    """Fill a new SetOfVolumesFlex with the frames' maps."""
    volumes.getFlexInfo().setProgName(PROGRAM)
    for number, vector in readFrames(folder):
        item = makeVolume(os.path.join(folder, 'frame_%03d.mrc' % number), volumeClass=VolumeFlex, progName=PROGRAM)
        item.setObjId(number)
        item.setZFlex(vector)
        volumes.setSamplingRate(item.getSamplingRate())
        volumes.append(item)
