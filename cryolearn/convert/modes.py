"""Normal modes: Scipion's SetOfNormalModes <-> the engine's modes.npz."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from pwem.objects import AtomStruct, NormalMode
from pyworkflow.object import Float

from .structures import modelsFile
from .tables import readRows

RIGID_MODES = 6
MODES_FILE, MODES_FOLDER, STRUCTURE, TABLE_FILE = 'modes.npz', 'modes', 'structure', 'modes.csv'


def fillModes(modes: Any, folder: str) -> None:
    """Fill a new SetOfNormalModes from the engine's folder. A mode's object id is its number, counted from 1.

    Rigid modes and those below the collectivity threshold are there, but disabled.
    """
    for row in readRows(os.path.join(folder, TABLE_FILE)):
        number = int(row['mode'])
        mode = NormalMode(modeFile=os.path.join(folder, MODES_FOLDER, 'vec.%d' % number), collectivity=row['collectivity'], score=row['score'])
        mode._frequency = Float(row['frequency'])
        mode.setObjId(number)
        mode.setEnabled(row['selected'] == 1)
        modes.append(mode)


def structureFile(modesFile: str) -> str:
    """The atoms beside a modes.npz: PDB, or mmCIF where that format could not hold them."""
    return modelsFile(os.path.dirname(modesFile), STRUCTURE)


def makeStructure(folder: str) -> Any:
    """The atoms that the modes of the engine's folder belong to."""
    return AtomStruct(filename=modelsFile(folder, STRUCTURE))


def engineModes(modes: Any) -> Any:
    """Path of the engine's modes.npz behind a set of modes (or a subset of it); None for modes of other programs."""
    modeFile = modes.getFirstItem().getModeFile()
    candidate = os.path.join(os.path.dirname(os.path.dirname(modeFile)), MODES_FILE)
    isOurs = os.path.exists(candidate) and os.path.exists(structureFile(candidate))
    return candidate if isOurs else None


def modeFiles(modes: Any) -> tuple[dict[int, str], Any]:
    """``({number: text file of the vector}, structure file)`` of any set of modes."""
    files = {mode.getObjId(): mode.getModeFile() for mode in modes.iterItems()}
    structure = modes.getPdb()
    return files, structure.getFileName() if structure is not None else None


def numbersOf(modes: Any) -> list[int]:
    """Numbers of a set's modes, the disabled ones included."""
    return sorted(modes.getIdSet()) if hasattr(modes, 'getIdSet') else sorted(mode.getObjId() for mode in modes.iterItems())


def checkModeNumbers(modes: Any, numbers: Any) -> list[str]:
    """Sentences about mode numbers that a set does not have or that are rigid; empty when all can be used."""
    if not numbers:
        return ['No mode is chosen: give numbers such as 7-9.']
    rigid = [number for number in numbers if number <= RIGID_MODES]
    if rigid:
        return ['Mode %d cannot be used: modes 1 to %d move the structure as a rigid body.' % (rigid[0], RIGID_MODES)]
    present = numbersOf(modes)
    missing = [number for number in numbers if number not in present]
    if missing:
        return ['Mode %d is not in the set of normal modes, which has %s.' % (missing[0], _listed(present))]
    return []


def diameter(modesFile: str) -> float:
    """Largest diameter (Å) about the centre of projections of the structure behind a modes.npz."""
    with np.load(modesFile, allow_pickle=False) as data:
        return 2 * float(np.linalg.norm(data['coordinates'] - data['origin_angst'], axis=1).max())


def _listed(numbers: Any) -> str:
    return 'modes %d to %d' % (numbers[0], numbers[-1]) if len(numbers) > 1 else 'mode %s' % ''.join(map(str, numbers))
