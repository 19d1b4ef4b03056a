"""Normal modes: a table with collectivity and score, and each mode's motion as arrows or animated."""

from tkinter import ttk

import numpy as np

from . import scene
from .landscape_data import traceOfModes
from .window import FigureWindow, addButton, addCheck, addNote, addSlider

COLUMNS = (('mode', 'mode', 50), ('collectivity', 'collectivity', 100), ('score', 'score', 65), ('frequency', 'frequency', 90))
MOST_ARROWS = 70
STEPS = 24  # of one period of the animation


class ModesTable(ttk.Frame):
    """Table of modes; several can be selected.

    Parameters
    ----------
    rows : list of dict
        ``mode``, ``collectivity``, ``score``, ``frequency``, ``selected`` (whether it passed the collectivity threshold).
    """

    def __init__(self, parent, rows, command, multiple=True, height=18):
        ttk.Frame.__init__(self, parent)
        self.tree = ttk.Treeview(self, columns=[name for name, _, _ in COLUMNS], show='headings', height=height,
                                 selectmode='extended' if multiple else 'browse')
        for name, label, width in COLUMNS:
            self.tree.heading(name, text=label, command=lambda name=name: self.sort(name))
            self.tree.column(name, width=width, anchor='e')
        self.tree.tag_configure('weak', foreground='#999999')
        bar = ttk.Scrollbar(self, command=self.tree.yview)
        self.tree.configure(yscrollcommand=bar.set)
        self.tree.pack(side='left', fill='both', expand=True)
        bar.pack(side='right', fill='y')
        self.rows = [row for row in rows if row['mode'] > 6]
        for row in self.rows:
            values = ['%d' % row['mode']] + [_short(row.get(name)) for name, _, _ in COLUMNS[1:]]
            self.tree.insert('', 'end', iid=str(row['mode']), values=values, tags=() if row.get('selected', True) else ('weak',))
        self.tree.bind('<<TreeviewSelect>>', lambda event: command())

    def sort(self, name):
        """Order by a column; collectivity starts with the largest, the others with the smallest."""
        worst = float('inf')
        rows = sorted(self.rows, key=lambda row: worst if row.get(name) is None else row[name] * (-1 if name == 'collectivity' else 1))
        for place, row in enumerate(rows):
            self.tree.move(str(row['mode']), '', place)

    def select(self, modes):
        wanted = [str(mode) for mode in modes if self.tree.exists(str(mode))]
        self.tree.selection_set(wanted)
        if wanted:
            self.tree.see(wanted[0])

    def selected(self):
        return sorted(int(item) for item in self.tree.selection())


def _short(value):
    return '' if value is None or value != value else '%.3g' % value


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
        self.view = scene.viewOf(self.trace, 1.15)
        self.rotation = np.eye(3)

    def draw(self, axes, mode, amplitude, phase, arrows=True):
        """``phase`` from -1 to 1 times the amplitude is how far the backbone is displaced."""
        vector = self.vectors[mode]
        scene.drawTrace(axes, self.trace + phase * amplitude * vector, self.linked, self.rotation)
        if arrows:
            rows = np.linspace(0, len(self.trace) - 1, min(MOST_ARROWS, len(self.trace))).astype(int)
            scene.drawArrows(axes, self.trace[rows], amplitude * vector[rows], self.rotation)
        scene.finishAxes(axes, self.view[0], self.view[1], self.rotation)
        axes.set_title('mode %d, amplitude %.0f: RMSD %.1f Å' % (mode, amplitude, amplitude / np.sqrt(self.atoms)))


class ModesWindow(FigureWindow):
    """Table of modes at the left, the motion of the selected one at the right."""

    def __init__(self, rows, path, title='Normal modes', parent=None):
        FigureWindow.__init__(self, title, parent, size=(6.4, 6.2))
        self.motion = ModeMotion(path)
        self.rows = [row for row in rows if row['mode'] in self.motion.vectors]
        self._press, self._timer, self._step = None, None, 0

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
        self.canvas.mpl_connect('button_press_event', lambda event: setattr(self, '_press', (event.x, event.y)))
        self.canvas.mpl_connect('button_release_event', lambda event: setattr(self, '_press', None))
        self.canvas.mpl_connect('motion_notify_event', self._onMove)

    def draw(self, figure):
        modes = self.table.selected()
        if modes:
            phase = np.sin(2 * np.pi * self._step / STEPS)
            self.motion.draw(figure.subplots(), modes[0], self.amplitude.get(), phase, self.arrows.get())

    def _onMove(self, event):
        if self._press is not None:
            self.motion.rotation = scene.turn(self.motion.rotation, 0.4 * (event.x - self._press[0]), 0.4 * (event.y - self._press[1]))
            self._press = event.x, event.y
            self.refresh()

    def togglePlay(self):
        if self._timer is not None:
            self.onClose()
            self._step = 0
            self.playButton.config(text='Play')
            self.refresh()
            return
        self.playButton.config(text='Stop')
        self._advance()

    def _advance(self):
        self._step = (self._step + 1) % STEPS
        self.refresh()
        self._timer = self.window.root.after(60, self._advance)

    def onClose(self):
        if self._timer is not None:
            self.window.root.after_cancel(self._timer)
            self._timer = None


