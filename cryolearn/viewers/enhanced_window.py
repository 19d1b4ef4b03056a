"""Windows on an enhanced map beside its input: slices with one cursor for all, and surfaces that turn together."""

from functools import partial

import numpy as np

from ..common.figures.palette import COLOURS
from ..common.figures.surface import draw_surface, finish_axes
from . import scene
from .rotate_mixin import Turning
from .slices_window import readMap
from .window import FigureWindow, addChoice, addLevel, addNote, addSlider

AXES = {'xy (along z)': 0, 'xz (along y)': 1, 'yz (along x)': 2}
ACROSS = (('x', 'y'), ('x', 'z'), ('y', 'z'))  # axes to the right and up of a slice along z, y, x
ALL_OTHERS = ((2, 1), (2, 0), (1, 0))


class LinkedSlicesWindow(FigureWindow):
    """The same slice of several maps side by side; the cursor over one of them is drawn in all, with their values, and a click moves the slices there.

    Parameters
    ----------
    maps : dict
        ``{label: path}`` on one grid, the input and the result first.
    """

    def __init__(self, title, maps, parent=None):
        FigureWindow.__init__(self, title, parent, size=(10.4, 4.4))
        self.maps = {label: readMap(path) for label, path in maps.items()}
        self.place = [side // 2 for side in next(iter(self.maps.values()))[0].shape]
        self.lines, self.panels = [], {}

    def makeControls(self, frame):
        self.along = addChoice(frame, 'Slice', list(AXES), self.refresh)
        others = list(self.maps)[2:]
        self.third = addChoice(frame, 'Third map', others, self.refresh) if others else None
        self.height = addSlider(frame, 'Height (%)', 0, 100, 50, self._newHeight)
        self.note = addNote(frame, 'Move over a slice: the same place is marked in all. A click makes it the place through which the other slices go.')
        self.values = addNote(frame)
        self.canvas.mpl_connect('motion_notify_event', self._onMove)
        self.canvas.mpl_connect('button_press_event', self._onClick)

    def axis(self):
        return AXES[self.along.get()]

    def _newHeight(self):
        side = next(iter(self.maps.values()))[0].shape[self.axis()]
        self.place[self.axis()] = min(int(self.height.get() / 100. * side), side - 1)
        self.refresh()

    def shown(self):
        labels = list(self.maps)
        return labels[:2] + ([self.third.get()] if self.third is not None else [])

    def draw(self, figure):
        axis, labels = self.axis(), self.shown()
        self.panels = dict(zip(labels, figure.subplots(1, len(labels), sharex=True, sharey=True, squeeze=False)[0]))
        self.lines = []
        for label, axes in self.panels.items():
            volume, pixelSize, _ = self.maps[label]
            plane = np.take(volume, self.place[axis], axis)
            correlation = 'correlation' in label
            low, high = (-1, 1) if correlation else np.percentile(plane, (0.5, 99.8))
            colours = 'RdBu' if correlation else 'gray' if label in labels[:2] else 'viridis'
            picture = axes.imshow(plane, cmap=colours, vmin=low, vmax=high if high > low else low + 1, origin='lower',
                                  extent=(0, plane.shape[1] * pixelSize, 0, plane.shape[0] * pixelSize))
            axes.set(title=label, xlabel='%s (Å)' % ACROSS[axis][0], ylabel='%s (Å)' % ACROSS[axis][1])
            figure.colorbar(picture, ax=axes, orientation='horizontal', shrink=0.9).ax.tick_params(labelsize=7)
            self.lines.append((axes.axvline(0, color=COLOURS[1], linewidth=0.8), axes.axhline(0, color=COLOURS[1], linewidth=0.8)))
        right, up = ALL_OTHERS[axis]
        pixelSize = self.maps[labels[0]][1]
        self._mark((self.place[right] + 0.5) * pixelSize, (self.place[up] + 0.5) * pixelSize)
        figure.suptitle('Slice %d of %d; the enhanced map is not for refinement or deposition'
                        % (self.place[axis], self.maps[labels[0]][0].shape[axis]), fontsize=9)

    def _mark(self, x, y):
        """Draw the cursor in all slices and say the maps' values there."""
        for vertical, horizontal in self.lines:
            vertical.set_xdata([x, x])
            horizontal.set_ydata([y, y])
        place = self._voxel(x, y)
        texts = ['%s: %.4g' % (label, self.maps[label][0][tuple(place)]) for label in self.shown()]
        self.values.set('Voxel x %d, y %d, z %d\n%s' % (place[2], place[1], place[0], '\n'.join(texts)))

    def _voxel(self, x, y):
        place, (right, up) = list(self.place), ALL_OTHERS[self.axis()]
        volume, pixelSize, _ = next(iter(self.maps.values()))
        for axis, value in ((right, x), (up, y)):
            place[axis] = int(np.clip(value / pixelSize, 0, volume.shape[axis] - 1))
        return place

    def _onMove(self, event):
        if event.inaxes in self.panels.values() and not str(self.toolbar.mode):
            self._mark(event.xdata, event.ydata)
            self.canvas.draw_idle()

    def _onClick(self, event):
        if event.inaxes in self.panels.values() and not str(self.toolbar.mode):
            self.place = self._voxel(event.xdata, event.ydata)
            self._mark(event.xdata, event.ydata)
            self.canvas.draw_idle()


class SideBySideWindow(Turning, FigureWindow):
    """Surfaces of two maps side by side; dragging one turns both.

    Parameters
    ----------
    maps : dict
        ``{label: path}`` of two maps on one grid.
    """

    def __init__(self, title, maps, parent=None):
        FigureWindow.__init__(self, title, parent, size=(10.0, 5.4))
        self.maps = {label: readMap(path) for label, path in maps.items()}
        self._meshes = {}

    def makeControls(self, frame):
        self.levels = {}
        for label, (volume, _, _) in self.maps.items():
            self.levels[label] = addLevel(frame, 'Level, %s' % label, volume, partial(self._newLevel, label))
        addNote(frame, 'Drag a picture: both turn. Surfaces of an enhanced map are smoother and better connected than the data: look at its uncertainty and at '
                       'the raw map before you believe a connection.')
        self._view = scene.viewOfMesh(next((mesh for mesh in map(self._mesh, reversed(list(self.maps))) if mesh is not None), None), 1.15)
        self.turnByDragging()

    def _newLevel(self, label):
        self._meshes.pop(label, None)
        self.refresh()

    def _mesh(self, label):
        if label not in self._meshes:
            volume, pixelSize, origin = self.maps[label]
            self._meshes[label] = scene.surfaceMesh(volume, pixelSize, self.levels[label].get(), origin)
        return self._meshes[label]

    def draw(self, figure):
        for axes, label in zip(figure.subplots(1, len(self.maps), squeeze=False)[0], self.maps):
            mesh = self._mesh(label)
            if mesh is not None:
                draw_surface(axes, mesh, self.rotation)
            finish_axes(axes, self._view[0], self._view[1], self.rotation)
            axes.set_title('%s, level %.4g' % (label, self.levels[label].get()))
