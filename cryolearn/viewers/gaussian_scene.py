"""Gaussians in three dimensions: colours, and picking a region with the mouse. Shared by the viewer and the wizard."""

import os
from tkinter import ttk
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_rgb
from matplotlib.path import Path
from matplotlib.widgets import LassoSelector

from ..common.figures.palette import COLOURS
from ..common.figures.surface import finish_axes, view_of
from ..common.tables import read_table
from ..convert.motions import EIGEN_FILE, GAUSSIANS_FILE
from ..protocols.config_params import rangeText, wholeNumbers
from . import scene
from .rotate_mixin import Turning
from .window import addChoice, addEntry, addSlider

TURN, PICK, LASSO = 'turn the picture', 'pick: click Gaussians', 'lasso: draw around Gaussians'
DISC_OF_SIGMA = 0.6  # radius that is drawn: neighbours touch, but do not hide one another
PLAIN = COLOURS[5]


class GaussianModel:
    """Gaussians of a run's folder, with what is known of each.

    Attributes
    ----------
    numbers : (M,) int
        From 1, as the focus list takes them.
    positions : (M, 3)
        Å.
    radius : (M,)
        Å, for drawing.
    values : dict
        ``{label: (M,)}`` of what can colour them.
    moves : (M,) bool
        Those that could move in the run.
    vectors : dict
        ``{eigen-motion: (M, 3)}`` or ``(M, 1)`` for amplitudes.
    motions : list of dict
        Rows of the table of eigen-motions.
    """

    def __init__(self, folder):
        columns, _ = read_table(os.path.join(folder, GAUSSIANS_FILE))
        self.folder = folder
        self.numbers, self.positions = columns['id'].astype(int), columns['position_angst'].astype(float)
        self.radius = DISC_OF_SIGMA * columns['sigma_angst'].astype(float)
        known = (('flexibility', 'flexibility (mean 1)'), ('excursion_angst', 'length of the path (Å)'), ('weight', 'weight'))
        self.values = {label: columns[name].astype(float) for name, label in known if name in columns}
        self.moves = columns['moves'].astype(bool) if 'moves' in columns else np.ones(len(self.numbers), bool)
        self.vectors, self.motions = {}, []
        path = os.path.join(folder, EIGEN_FILE)
        if os.path.exists(path):
            self._readMotions(read_table(path)[0])
        self.view = view_of(self.positions, 1.2)

    def _readMotions(self, columns):
        for row, number in enumerate(columns['id'].tolist()):
            vector = columns['vector'][row].astype(float)
            self.vectors[number] = vector.reshape(len(self.numbers), -1)
            self.motions.append(dict(
                motion=int(number), explained=100 * float(columns['explained'][row]), null=100 * float(columns['null'][row]),
                std=float(columns['std_angst'][row]), selected=bool(columns['significant'][row])))

    def __len__(self):
        return len(self.numbers)


class GaussianScene(Turning):
    """A scene of Gaussians that can be turned and picked; a part of a window that has ``canvas``, ``refresh`` and ``toolbar`` or none."""

    _lasso: Any = None
    _axes: Any = None

    def setUpScene(self, model, selected=()):
        self.model = model
        self.picked = np.isin(model.numbers, list(selected))

    def makePickControls(self, frame):
        self.tool = addChoice(frame, 'Mouse', [TURN, PICK, LASSO], self.refresh, TURN)
        reach = float(np.ceil(self.model.view[1]))
        self.reach = addSlider(frame, 'Pick together all within (Å)', 0, reach, 0, lambda: None)
        self.focusText = addEntry(frame, 'Gaussians in focus', '', self.readFocus)
        row = ttk.Frame(frame)
        row.pack(fill='x', pady=2)
        for label, action in (('Clear', self.clearFocus), ('Invert', self.invertFocus)):
            ttk.Button(row, text=label, command=action).pack(side='left', expand=True, fill='x')
        self._showFocus()

    # ------------------------------------------------- focus --------------------------------------------------
    def focus(self):
        """Numbers of the picked Gaussians."""
        return self.model.numbers[self.picked].tolist()

    def setFocus(self, picked):
        self.picked = np.asarray(picked, bool)
        self._showFocus()
        self.refresh()

    def clearFocus(self):
        self.setFocus(np.zeros(len(self.model), bool))

    def invertFocus(self):
        self.setFocus(~self.picked)

    def readFocus(self):
        """Take the numbers that were typed; what is no number changes nothing."""
        try:
            self.setFocus(np.isin(self.model.numbers, wholeNumbers(self.focusText.get())))
        except ValueError:
            self._showFocus()

    def _showFocus(self):
        self.focusText.set(rangeText(self.focus()))

    def pickAt(self, x, y):
        """Pick or release the Gaussian in front at a place of the picture (Å), with all within the chosen distance of it."""
        points = self.model.positions.dot(self.rotation.T)
        distance = np.hypot(points[:, 0] - x, points[:, 1] - y)
        under = np.flatnonzero(distance <= np.maximum(self.model.radius, 0.02 * self.model.view[1]))
        if not len(under):
            return
        hit = under[np.argmax(points[under, 2])]
        near = np.linalg.norm(self.model.positions - self.model.positions[hit], axis=1) <= self.reach.get()
        near[hit] = True
        picked = self.picked.copy()
        picked[near] = not self.picked[hit]
        self.setFocus(picked)

    def pickInside(self, corners):
        """Pick all Gaussians inside an outline drawn on the picture, front and back."""
        if len(corners) > 2:
            points = self.model.positions.dot(self.rotation.T)
            self.setFocus(self.picked | Path(corners).contains_points(points[:, :2]))

    # ------------------------------------------------- mouse --------------------------------------------------
    def _onPress(self, event):
        tool = self.tool.get() if hasattr(self, 'tool') else TURN
        if tool == TURN:
            super()._onPress(event)
        elif tool == PICK and self._isFree(event):
            self.pickAt(event.xdata, event.ydata)

    def _isFree(self, event):
        return super()._isFree(event) and event.inaxes is self._axes

    # ------------------------------------------------- drawing ------------------------------------------------
    def drawScene(self, axes, positions=None, colour=None):
        """The Gaussians; those that are picked have a thick rim."""
        self._axes = axes
        drawModel(axes, self.model, self.rotation, positions=positions, colour=colour, marked=self.picked)
        finish_axes(axes, self.model.view[0], self.model.view[1], self.rotation)
        lasso = hasattr(self, 'tool') and self.tool.get() == LASSO
        self._lasso = LassoSelector(axes, self.pickInside) if lasso else None


def drawModel(axes, model, rotation, positions=None, weights=None, colour=None, marked=None):
    """A Gaussian model, at other ``positions`` (M, 3) than its own where these are given.

    ``weights`` (M,), relative to the model's own, change the discs' size: a Gaussian that is absent is not seen. ``colour`` is
    ``(label of the scale, values (M,) or None)``; ``marked`` (M,) bool are those with a thick rim.
    """
    label, values = colour or (None, None)
    if values is None:
        colours = np.tile(to_rgb(PLAIN), (len(model), 1))
    else:
        scale = Normalize(min(0.0, float(values.min())), max(float(np.percentile(values, 99)), 1e-9))
        colours = colormaps['YlOrRd'](scale(values))[:, :3]
        bar = axes.figure.colorbar(ScalarMappable(scale, 'YlOrRd'), ax=axes, label=label, shrink=0.6, pad=0.02)
        bar.outline.set_visible(False)
    radius = model.radius if weights is None else model.radius * np.cbrt(np.clip(weights, 0, None))
    scene.drawGaussians(axes, model.positions if positions is None else positions, rotation, radius, colours, marked)
