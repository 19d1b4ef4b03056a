"""What is drawn of a structure: its backbone, read from PDB and mmCIF files with numpy alone."""

import shlex
from typing import Any, List

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
    """Coordinates of every model of a PDB or mmCIF file, and its backbone: ``([(N, 3)], Backbone)``."""
    models, _, backbone = readModelsAndWeights(path)
    return models, backbone


def readModelsAndWeights(path):
    """As :func:`readModels` with the atoms' occupancies between the two: ``([(N, 3)], [(N,)], Backbone)``."""
    models: List[Any] = []
    number = None
    for atom in (_cifAtoms if path.endswith('.cif') else _pdbAtoms)(path):
        if atom[0] != number:
            number = atom[0]
            models.append([])
        models[-1].append(atom[1:])
    if not models:
        raise ValueError("'%s' holds no atoms." % path)
    traced = [name in TRACE_ATOMS and element in (TRACE_ATOMS[name], '') for _, _, name, element, _ in models[0]]
    coordinates = [np.array([atom[0] for atom in model]) for model in models]
    weights = [np.array([atom[1] for atom in model]) for model in models]
    return coordinates, weights, _backbone(coordinates[0], np.array(traced), np.array([atom[4] for atom in models[0]]))


def _pdbAtoms(path):
    """``(model, (x, y, z), occupancy, atom's name, element, chain)`` of each line."""
    model = 1
    with open(path) as handle:
        for line in handle:
            if line.startswith(('ATOM', 'HETATM')):
                place = float(line[30:38]), float(line[38:46]), float(line[46:54])
                yield model, place, float(line[54:60].strip() or 1), line[12:16].strip(), line[76:78].strip(), line[21]
            elif line.startswith('ENDMDL'):
                model += 1


def _cifAtoms(path):
    """The same of the loop ``_atom_site`` of an mmCIF file."""
    columns = []
    with open(path) as handle:
        for line in handle:
            if line.startswith('_atom_site.'):
                columns.append(line.split('.', 1)[1].strip())
            elif columns and (line.startswith(('#', '_', 'loop_', 'data_')) or not line.strip()):
                return
            elif columns:
                row = dict(zip(columns, shlex.split(line) if '"' in line or "'" in line else line.split()))
                place = float(row['Cartn_x']), float(row['Cartn_y']), float(row['Cartn_z'])
                yield (int(row.get('pdbx_PDB_model_num', 1)), place, float(row.get('occupancy', 1)), row['label_atom_id'],
                       row['type_symbol'], row.get('auth_asym_id', row['label_asym_id']))


def _backbone(coordinates, traced, chains):
    rows = np.flatnonzero(traced)
    if len(rows) < 2:  # pseudo-atoms: every one of them, not joined
        rows = np.arange(len(coordinates))
        return Backbone(rows, coordinates[rows], np.arange(len(rows)).astype(str))
    return Backbone(rows, coordinates[rows], chains[rows])
