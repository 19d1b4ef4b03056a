"""The columns of a landscape as axes to choose from, read from the tables that the runs wrote."""

import os

import numpy as np

from ..common.axis_labels import axis_label
from ..common.tables import read_table
from ..convert.flex import motionFile
from ..convert.latents import writeLatents
from ..convert.modes import engineModes, structureFile
from ..convert.motions import MOTION_FILE, describeMotion

HIDDEN = ('id', 'rotation', 'state_weight')
CLASSES = ('class', 'true_class', 'best_class', 'nearest_class')  # numbers of classes, which have names
CATEGORIES = (*CLASSES, 'state', 'flags', 'half')
NEIGHBOURS = 50  # particles whose mean gives the coordinates that are not on the two axes


class Landscape:
    """A table of particles with latent vectors.

    Attributes
    ----------
    columns : dict of arrays, one row a particle
    meta : dict
    tables : list of str
        Files that the columns come from.
    axes : dict
        ``{label: 'column:component'}`` of everything that can be an axis or a colour.
    """

    def __init__(self, columns, meta, tables=()):
        self.columns, self.meta, self.tables = columns, meta, list(tables)
        self.axes = {}
        for name in sorted(columns, key=_rank):
            values = columns[name]
            if name in HIDDEN or values.dtype.kind not in 'fiub' or values.ndim > 2:
                continue
            for component in range(values.shape[1]) if values.ndim == 2 else (None,):
                part = values if component is None else values[:, component]
                if name != 'class' and len(part) and ((part == part[0]) | (part != part)).all():
                    continue  # nothing to see
                spec = name if component is None else '%s:%d' % (name, component)
                self.axes[axis_label(spec, meta)] = spec

    def __len__(self):
        return len(self.columns['id'])

    def values(self, label):
        """One axis ``(n,)``, by its label."""
        name, _, component = self.axes[label].partition(':')
        values = self.columns[name]
        return values.astype(float) if not component else values[:, int(component)].astype(float)

    def isCategory(self, label):
        return self.axes[label] in CATEGORIES

    def namesOf(self, label):
        """Names of the classes of a category by number, where they have any."""
        kind = self.axes[label]
        own = self.meta.get({'true_class': 'true_class_names', 'nearest_class': 'known_names'}.get(kind, ''))
        return own or self.meta.get('class_names') if kind in CLASSES else None

    def tableWith(self, names):
        """One file that holds all these columns.

        Raises
        ------
        ValueError
            when they stand in different files.
        """
        for path in self.tables:
            if set(names) <= set(read_table(path)[0]):
                return path
        raise ValueError('%s are not in one table: choose two axes of the same kind.' % ' and '.join(sorted(names)))

    def vectorLabels(self):
        """Labels of the latent vectors' own coordinates."""
        return [label for label, spec in self.axes.items() if spec.partition(':')[0] == 'amplitudes']

    def liftPoints(self, xLabel, yLabel, points):
        """Latent vectors of places ``(m, 2)`` clicked on two axes.

        A coordinate that is an axis is taken as clicked; the others are means over the particles nearest to the place.
        """
        vectors = np.atleast_2d(self.columns['amplitudes'].astype(float))
        x, y = self.values(xLabel), self.values(yLabel)
        scale = (np.ptp(x[np.isfinite(x)]) or 1.0), (np.ptp(y[np.isfinite(y)]) or 1.0)
        lifted = []
        for px, py in points:
            distance = ((x - px) / scale[0]) ** 2 + ((y - py) / scale[1]) ** 2
            count = min(NEIGHBOURS, len(x))
            nearest = np.argpartition(np.where(np.isfinite(distance), distance, np.inf), count - 1)[:count]
            vector = vectors[nearest].mean(axis=0)
            for label, value in ((xLabel, px), (yLabel, py)):
                name, _, component = self.axes[label].partition(':')
                if name == 'amplitudes':
                    vector[int(component or 0)] = value
            lifted.append(vector)
        return np.array(lifted)


def _rank(name):
    order = ('reduced', 'amplitudes', 'features', 'class', 'state', 'correlation', 'margin', 'gain', 'log_likelihood', 'pose_sigma_deg', 'flags',
             'amplitude_sigma')
    return (order.index(name) if name in order else len(order), name)


def readLandscape(path, *more):
    """A table, joined by particle id with further tables where these exist."""
    columns, meta = read_table(path)
    columns, meta, tables = dict(columns), dict(meta), [path]
    for other in more:
        if not other or not os.path.exists(other):
            continue
        added, notes = read_table(other)
        order = np.argsort(added['id'], kind='stable')
        place = np.minimum(np.searchsorted(added['id'][order], columns['id']), len(order) - 1)
        rows = order[place]
        if (added['id'][rows] == columns['id']).all():
            columns.update((name, values[rows]) for name, values in added.items() if name != 'id')
            meta.update((name, value) for name, value in notes.items() if value is not None)
            tables.append(other)
    return Landscape(columns, meta, tables)


TABLES = ('alignment.npz', 'conformations.npz', 'input_landscape.npz', 'truth.npz')  # of a run that has a landscape, first that exists


def landscapeOfRun(protocol):
    """Landscape of one of our runs, or None when it has none (yet)."""
    for name in TABLES:
        path = protocol._getExtraPath(name)
        if os.path.exists(path):
            return readLandscape(path, protocol._getExtraPath('clusters.npz'))
    return None


def landscapeOfSet(particles, protocol, folder):
    """Landscape of a set of particles: the table of the run that made it where that is whole, else read from the set.

    A set that is a part of its run's table (a subset) takes its own rows of it.
    """
    landscape = landscapeOfRun(protocol) if protocol is not None and hasattr(protocol, '_getExtraPath') else None
    if landscape is not None:
        if len(landscape) == particles.getSize():
            return landscape
        wanted = np.array(sorted(particles.getIdSet()))
        kept = np.isin(landscape.columns['id'], wanted)
        if kept.sum() == len(wanted):
            return Landscape({name: values[kept] for name, values in landscape.columns.items()}, landscape.meta, landscape.tables)
    path = os.path.join(folder, 'landscape_%s.npz' % particles.strId())
    writeLatents(particles, path)
    return readLandscape(path)


def findModes(protocol, depth=6):
    """The SetOfNormalModes behind a run: its own input, or that of the runs that made its input. None when there is none."""
    if protocol is None or depth == 0:
        return None
    modes = getattr(protocol, 'inputModes', None)
    if modes is not None and modes.get() is not None:
        return modes.get()
    for name in ('inputParticles', 'inputSet', 'inputModel'):
        pointer = getattr(protocol, name, None)
        parent = pointer.getObjValue() if pointer is not None and hasattr(pointer, 'getObjValue') else None
        if parent is not None and not hasattr(parent, '_getExtraPath'):
            parent = _protocolOf(protocol.getProject(), parent)
        found = findModes(parent, depth - 1)
        if found is not None:
            return found
    return None


def _protocolOf(project, item):
    """The run that made an object."""
    parentId = item.getObjParentId() if item is not None else None
    return project.getProtocol(int(parentId)) if project is not None and parentId else None


def findMotion(protocol, particles=None):
    """Motion of the Gaussian model behind a run or a set of particles: (path, number of latents), or (None, 0) when there is none."""
    own = protocol._getExtraPath(MOTION_FILE) if protocol is not None and hasattr(protocol, '_getExtraPath') else ''
    path = own if own and os.path.exists(own) else motionFile(particles) if particles is not None else ''
    try:
        return (path, describeMotion(path)['latents']) if path else (None, 0)
    except ValueError:
        return None, 0


def modesFile(modes, protocol=None):
    """The engine's modes.npz of a set of modes, or the one that a run made of another program's modes; None when there is none."""
    if modes is None or not modes.getSize():
        return None
    path = engineModes(modes)
    if path is None and hasattr(protocol, 'getModesFile') and getattr(protocol, 'inputModes', None) is not None and protocol.inputModes.get():
        path = protocol.getModesFile()
    return path if path and os.path.exists(path) else None


def traceOfModes(path):
    """What is needed to draw conformations: ``(trace (n, 3), linked, {mode: (n, 3)}, number of atoms)`` of a modes.npz."""
    from .backbone import readModels
    with np.load(path, allow_pickle=False) as data:
        coordinates, vectors, numbers = data['coordinates'], data['eigenvectors'], data['mode_numbers']
    _, backbone = readModels(structureFile(path))
    rows = backbone.rows
    return coordinates[rows], backbone.linked, {int(k): v[rows] for k, v in zip(numbers, vectors)}, len(coordinates)
