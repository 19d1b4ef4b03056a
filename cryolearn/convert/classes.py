"""Groups of particles: the engine's clusters.npz <-> SetOfClassesFlex."""

from __future__ import annotations

from typing import Any, Dict, Iterator

import numpy as np
from pwem.objects import VolumeFlex

from ..common.tables import write_table
from .bulk import distribute
from .flex import PROGRAM
from .tables import ResultTable


def fillClasses(classes: Any, clustersFile: str, representatives: Any) -> None:
    """Distribute the images of a new SetOfClassesFlex by the class column of ``clustersFile``, joined by id.

    Particles of class 0 are in no class. A particle without a row is an error.

    Parameters
    ----------
    classes : SetOfClassesFlex
        Its images (``setImages``) are the particles that were clustered.
    clustersFile : str
        Result table with ``id`` and ``class``.
    representatives : dict
        ``{class: function that fills the class's VolumeFlex}``.
    """
    table, images = ResultTable(clustersFile), classes.getImages()
    numbers = table.columns['class']
    found: Dict[int, Any] = {}

    def setRepresentative(item: Any) -> None:
        found[item.getObjId()] = item
        item.setAlignmentProj()
        representative = VolumeFlex(progName=PROGRAM)
        representative.setSamplingRate(images.getSamplingRate())
        if item.getObjId() in representatives:
            representatives[item.getObjId()](representative)
        item.setRepresentative(representative)

    def classify(wanted: Any) -> Dict[int, Any]:
        classes.classifyItems(updateItemCallback=lambda particle, _: particle.setClassId(int(table.value(particle, 'class'))),
                              updateClassCallback=setRepresentative, iterParams={'rowFilter': lambda row: wanted(row['id'])})
        return found

    def numbersOf(ids: Any, enabled: Any, _: Any) -> Any:
        """Classes of rows; 0 for disabled ones too."""
        members = np.array(enabled, dtype=bool)
        found = np.zeros(len(members), dtype=int)
        found[members] = numbers[table.rowsOf(np.array(ids)[members])]
        return found
    distribute(images, classes, numbersOf, classify)


def iterMembers(classes: Any) -> Iterator[tuple[int, Any]]:
    """``(class id, particle)`` of all enabled particles of all enabled classes; a particle in two classes is an error."""
    seen: Dict[int, int] = {}
    for item in classes.iterItems():
        if not item.isEnabled():
            continue
        number = item.getObjId()
        for particle in item:
            objId = particle.getObjId()
            if objId in seen:
                raise ValueError('Particle %d is in classes %d and %d.' % (objId, seen[objId], number))
            seen[objId] = number
            yield number, particle


def particlesOf(classes: Any, members: Dict[int, int]) -> Iterator[Any]:
    """The particles of :func:`iterMembers`, while ``members`` is filled with ``{id: class}``."""
    for number, particle in iterMembers(classes):
        members[particle.getObjId()] = number
        yield particle


def writeClasses(members: Any, tableFile: str) -> None:
    """Write ``{id: class}`` as the engine's table of classes."""
    ids = sorted(members)
    write_table(tableFile, {'id': np.array(ids, dtype=np.int64),
                           'class': np.array([members[objId] for objId in ids], dtype=np.int32)})


def meanLatents(classes: Any) -> dict[int, Any]:
    """``{class id: mean latent vector}`` of the classes whose particles have one."""
    means = {}
    for item in classes.iterItems():
        vectors = [[float(value) for value in particle._zFlex] for particle in item if len(particle._zFlex)]
        if vectors:
            means[item.getObjId()] = np.mean(vectors, axis=0).tolist()
    return means
