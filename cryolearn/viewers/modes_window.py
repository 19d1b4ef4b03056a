"""Normal modes: a table with collectivity and score, and each mode's motion as arrows or animated."""

import numpy as np

from ..common.figures.surface import finish_axes, view_of
from . import scene
from .animate_mixin import Playing
from .landscape_data import traceOfModes
from .rotate_mixin import Turning
from .table import RowsTable
from .window import FigureWindow, addButton, addCheck, addNote, addSlider

COLUMNS = (('mode', 'mode', 50), ('collectivity', 'collectivity', 100), ('score', 'score', 65), ('frequency', 'frequency', 90))
MOST_ARROWS = 70
FRONT = np.eye(3)


class ModesTable(RowsTable):
    """Table of modes; several can be selected.

    Parameters
    ----------
    rows : list of dict
        ``mode``, ``collectivity``, ``score``, ``frequency``, ``selected`` (whether it passed the collectivity threshold).
    """

    def __init__(self, parent, rows, command, multiple=True, height=18):
        RowsTable.__init__(self, parent, COLUMNS, [row for row in rows if row['mode'] > 6], command=command, multiple=multiple, height=height,
                           descending=('collectivity',))


def modeRows(modes):
    """Rows of the table from a SetOfNormalModes."""
    rows = []
    for mode in modes.iterItems():
        rows.append(dict(mode=int(mode.getObjId()), collectivity=mode.getCollectivity(), score=mode.getScore(),
                         frequency=mode.getAttributeValue('_frequency', None), selected=mode.isEnabled()))
    return rows


class ModeMotion:
    """Draws one mode: the backbone displaced, and arrows."""

    def __init__(self, path):
        self.trace, self.linked, self.vectors, self.atoms = traceOfModes(path)
        self.view = view_of(self.trace, 1.15)

    def draw(self, axes, mode, amplitude, phase=0., rotation=FRONT, arrows=True):
        """``phase`` from -1 to 1 times the amplitude is how far the backbone is displaced."""
        vector = self.vectors[mode]
        scene.drawTrace(axes, self.trace + phase * amplitude * vector, self.linked, rotation)
        if arrows:
            rows = np.linspace(0, len(self.trace) - 1, min(MOST_ARROWS, len(self.trace))).astype(int)
            scene.drawArrows(axes, self.trace[rows], amplitude * vector[rows], rotation)
        finish_axes(axes, self.view[0], self.view[1], rotation)
        axes.set_title('mode %d, amplitude %.0f: RMSD %.1f Å' % (mode, amplitude, amplitude / np.sqrt(self.atoms)))


class ModesWindow(Playing, Turning, FigureWindow):
    """Table of modes at the left, the motion of the selected one at the right."""

    def __init__(self, rows, path, title='Normal modes', parent=None):
        FigureWindow.__init__(self, title, parent, size=(6.4, 6.2))
        self.motion = ModeMotion(path)
        self.rows = [row for row in rows if row['mode'] in self.motion.vectors]

    def makeControls(self, frame):
        self.table = ModesTable(frame, self.rows, self.refresh, multiple=False, height=14)
        self.table.pack(fill='both', expand=True)
        reach = 3.0 * np.sqrt(self.motion.atoms)  # an RMSD of 3 Å
        self.amplitude = addSlider(frame, 'Amplitude', 0, round(2 * reach), round(reach), self.refresh)
        self.arrows = addCheck(frame, 'Arrows', self.refresh)
        self.playButton = addButton(frame, 'Play', self.togglePlay)
        addNote(frame, 'Grey modes are below the collectivity threshold. Click a heading to sort. Drag the picture to turn it.', 270)
        if self.table.rows:
            self.table.select([self.table.rows[0]['mode']])
        self.turnByDragging()

    def draw(self, figure):
        modes = self.table.selected()
        if modes:
            self.motion.draw(figure.subplots(), modes[0], self.amplitude.get(), self.phase, self.rotation, self.arrows.get())
