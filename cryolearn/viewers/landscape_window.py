"""The landscape: density and points on two axes of choice, a lasso that makes subsets, a path that becomes conformations."""

from tkinter import ttk

import numpy as np
from matplotlib.path import Path
from matplotlib.widgets import LassoSelector

from ..common.figures.landscape import draw_density, draw_error_bars, draw_points
from ..common.figures.palette import COLOURS
from .window import FigureWindow, addButton, addCheck, addChoice, addNote

LOOK, LASSO, PATH = 'look and zoom', 'lasso: draw around points', 'path: click points'
NO_COLOUR = 'none'
LARGEST_OUTLINE = 200  # corners that a drawn outline is thinned to


class LandscapeWindow(FigureWindow):
    """Interactive landscape.

    Parameters
    ----------
    landscape : Landscape
    onSelect : callable, optional
        Called with ``(x axis spec, y axis spec, corners (m, 2))`` to make a subset.
    onPath, onShow : callable, optional
        Called with latent vectors ``(m, k)`` of the path's points: run a trajectory, or show conformations at once.
    plotTitle, items : str
        What the plot shows, and what its points are.
    """

    def __init__(self, landscape, title='Conformational landscape', parent=None, onSelect=None, onPath=None, onShow=None,
                 plotTitle='Conformational landscape', items='particles'):
        FigureWindow.__init__(self, title, parent, size=(7.6, 6.0))
        self.landscape, self.onSelect, self.onPath, self.onShow = landscape, onSelect, onPath, onShow
        self.plotTitle, self.items = plotTitle, items
        self.corners, self.points, self._lasso, self._overlay = None, [], None, []

    # ------------------------------------------------- controls -----------------------------------------------
    def makeControls(self, frame):
        labels = list(self.landscape.axes)
        first, second = startAxes(self.landscape)
        self.xAxis = addChoice(frame, 'Horizontal axis', labels, self._newAxes, first)
        self.yAxis = addChoice(frame, 'Vertical axis', labels, self._newAxes, second)
        colour = next((label for label, spec in self.landscape.axes.items() if spec in ('class', 'true_class', 'correlation')), NO_COLOUR)
        self.colour = addChoice(frame, 'Colour of the points', [NO_COLOUR, *labels], self.refresh, colour)
        self.showDensity = addCheck(frame, 'Density', self.refresh)
        self.showPoints = addCheck(frame, 'Points', self.refresh)
        self.showErrors = addCheck(frame, 'Error bars', self.refresh, False) if 'amplitude_sigma' in self.landscape.columns else None
        ttk.Separator(frame).pack(fill='x', pady=8)
        hasPaths = 'amplitudes' in self.landscape.columns
        self.tool = addChoice(frame, 'Mouse', [LOOK, LASSO, PATH] if hasPaths else [LOOK, LASSO], self._newTool, LOOK)
        if self.onSelect:
            self.subsetButton = addButton(frame, 'Make a subset of the outlined', self.makeSubset)
        if self.onShow:
            addButton(frame, 'Show conformations of the path', self.showPath)
        if self.onPath:
            addButton(frame, 'Run a trajectory along the path', self.runPath)
        addButton(frame, 'Clear outline and path' if hasPaths else 'Clear outline', self.clear)
        self.note = addNote(frame)
        self.canvas.mpl_connect('button_press_event', self._onClick)

    def _newAxes(self):
        self.corners, self.points = None, []
        self.refresh()

    def _newTool(self):
        self._setLasso()
        self.note.set({LASSO: 'Draw around %s with the left button.' % self.items, LOOK: '',
                       PATH: 'Click the points of the path in their order.'}[self.tool.get()])

    def clear(self):
        self.corners, self.points = None, []
        self.note.set('')
        self.drawOverlay()

    # ------------------------------------------------- drawing ------------------------------------------------
    def draw(self, figure):
        axes = self.axes = figure.subplots()
        data = self.landscape
        x, y = data.values(self.xAxis.get()), data.values(self.yAxis.get())
        shown = np.flatnonzero(np.isfinite(x) & np.isfinite(y))
        drawn = 0
        if self.showDensity.get():
            draw_density(axes, x[shown], y[shown])
        if self.showPoints.get():
            label = self.colour.get()
            colour = None if label == NO_COLOUR else data.values(label)[shown]
            categorical = label != NO_COLOUR and data.isCategory(label)
            drawn = len(draw_points(figure, axes, x[shown], y[shown], colour, '%s (%s)' % (label, self.items) if categorical else label,
                                    categorical=categorical, names=data.namesOf(label) if categorical else None))
        if self.showErrors is not None and self.showErrors.get():
            draw_error_bars(axes, x[shown], y[shown], *[self._errors(axis.get(), shown) for axis in (self.xAxis, self.yAxis)])
        count = '%d %s%s' % (len(data), self.items, ', %d points drawn' % drawn if 0 < drawn < len(data) else '')
        axes.set(xlabel=self.xAxis.get(), ylabel=self.yAxis.get(), title='%s (%s)' % (self.plotTitle, count))
        self._overlay = []
        self.drawOverlay()
        self._setLasso()

    def _errors(self, label, rows):
        """Error bars of an axis, None where it has none."""
        name, _, component = self.landscape.axes[label].partition(':')
        return self.landscape.columns['amplitude_sigma'][rows, int(component or 0)] if name == 'amplitudes' else None

    def drawOverlay(self):
        """Outline and path over the points, which are not drawn again: the view that the user zoomed to stays."""
        for artist in self._overlay:
            artist.remove()
        view = self.axes.get_xlim(), self.axes.get_ylim()
        self._overlay = []
        if self.corners is not None:
            closed = np.concatenate([self.corners, self.corners[:1]])
            self._overlay += self.axes.plot(closed[:, 0], closed[:, 1], '-', color=COLOURS[4], linewidth=2)
        if self.points:
            line = np.array(self.points)
            self._overlay += self.axes.plot(line[:, 0], line[:, 1], '-o', color='black', markerfacecolor='white', markersize=6, linewidth=1.5)
        self.axes.set(xlim=view[0], ylim=view[1])
        self.canvas.draw_idle()

    def _setLasso(self):
        self._lasso = LassoSelector(self.axes, self.setOutline) if self.tool.get() == LASSO else None

    # ------------------------------------------------- outline ------------------------------------------------
    def setOutline(self, corners):
        """Outline drawn by hand, thinned, and how many particles it holds."""
        corners = np.asarray(corners, dtype=float)
        if len(corners) < 3:
            return
        self.corners = corners[:: max(1, -(-len(corners) // LARGEST_OUTLINE))]
        self.note.set('%d of %d %s are inside the outline.' % (len(self.insideOutline()), len(self.landscape), self.items))
        self.drawOverlay()

    def insideOutline(self):
        """Ids of the particles inside the outline."""
        if self.corners is None:
            return np.array([], dtype=int)
        x, y = self.landscape.values(self.xAxis.get()), self.landscape.values(self.yAxis.get())
        return self.landscape.columns['id'][Path(self.corners).contains_points(np.column_stack([x, y]))]

    def makeSubset(self):
        if not len(self.insideOutline()):
            self.showError('Nothing is outlined: choose the lasso and draw around some points first.')
            return
        axes = self.landscape.axes
        self.note.set(self.onSelect(axes[self.xAxis.get()], axes[self.yAxis.get()], self.corners) or '')

    # -------------------------------------------------- path --------------------------------------------------
    def _onClick(self, event):
        if self.tool.get() == PATH and event.inaxes is self.axes and event.button == 1 and not str(self.toolbar.mode):
            self.addPoint(event.xdata, event.ydata)

    def addPoint(self, x, y):
        self.points.append((x, y))
        self.note.set('%d points in the path.' % len(self.points))
        self.drawOverlay()

    def pathVectors(self):
        return self.landscape.liftPoints(self.xAxis.get(), self.yAxis.get(), self.points)

    def showPath(self):
        if not self.points:
            self.showError('The path is empty: choose the tool "path" and click points first.')
            return
        self.onShow(self.pathVectors())

    def runPath(self):
        if len(self.points) < 2:
            self.showError('A trajectory needs two points at least: choose the tool "path" and click them first.')
            return
        self.note.set(self.onPath(self.pathVectors()) or '')


def startAxes(landscape):
    """Labels of the axes that are shown first: reduced coordinates where there are two, else latent ones."""
    labels = list(landscape.axes)
    for column in ('reduced', 'amplitudes', 'features'):
        found = [label for label, spec in landscape.axes.items() if spec.partition(':')[0] == column]
        if len(found) > 1:
            return found[0], found[1]
    first = (landscape.vectorLabels() or labels)[0]
    latent = ('reduced', 'amplitudes', 'class')
    others = [label for label, spec in landscape.axes.items() if label != first and spec.partition(':')[0] not in latent]
    return first, (others or [label for label in labels if label != first] or [first])[0]
