"""What is drawn of a structure: its backbone, read from PDB files with numpy alone."""

import numpy as np

TRACE_ATOMS = {'CA': 'C', 'P': 'P'}  # of proteins and nucleic acids, with their element (a calcium is 'CA' too)
LONGEST_LINK_ANGST = 8.0  # neighbours in a chain that are farther apart are not joined


class Backbone:
    """Rows of a structure's atoms that make its trace, and which neighbours among them are joined.

    Attributes
    ----------
    rows : (n,) int
        Atoms of the trace, counted in the file's order.
    coordinates : (n, 3)
        Å.
    linked : (n - 1,) bool
        Whether atom i and i + 1 of the trace are neighbours in a chain.
    """

    def __init__(self, rows, coordinates, chains):
        self.rows, self.coordinates = rows, coordinates
        step = np.linalg.norm(np.diff(coordinates, axis=0), axis=1)
        self.linked = (chains[1:] == chains[:-1]) & (step < LONGEST_LINK_ANGST)


def readModels(path):
    """Coordinates of every model of a PDB file, and its backbone: ``([(N, 3)], Backbone)``."""
    models, atoms, traced, chains = [], [], [], []
    with open(path) as handle:
        for line in handle:
            if line.startswith(('ATOM', 'HETATM')):
                atoms.append((float(line[30:38]), float(line[38:46]), float(line[46:54])))
                if not models:
                    element = TRACE_ATOMS.get(line[12:16].strip())
                    traced.append(element is not None and line[76:78].strip() in (element, ''))
                    chains.append(line[21])
            elif line.startswith('ENDMDL') and atoms:
                models.append(np.array(atoms))
                atoms = []
    if atoms:
        models.append(np.array(atoms))
    if not models:
        raise ValueError("'%s' holds no atoms." % path)
    return models, _backbone(models[0], np.array(traced), np.array(chains))


def _backbone(coordinates, traced, chains):
    rows = np.flatnonzero(traced)
    if len(rows) < 2:  # pseudo-atoms: every one of them, not joined
        rows = np.arange(len(coordinates))
        return Backbone(rows, coordinates[rows], np.arange(len(rows)).astype(str))
    return Backbone(rows, coordinates[rows], chains[rows])
