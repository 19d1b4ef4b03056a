"""Maps of a run, read for drawing, and a window of their slices."""

import os

import mrcfile
import numpy as np

from ..convert.volumes import readHeader
from . import plots
from .window import FigureWindow, addChoice, addSlider


def readMap(path):
    """``(volume (z, y, x) float32, pixel size in Å, origin (x, y, z) in Å)``."""
    pixelSize, origin = readHeader(path)
    with mrcfile.open(path, permissive=True) as mrc:
        return np.array(mrc.data, dtype=np.float32), pixelSize, origin


class SlicesWindow(FigureWindow):
    """Slices of maps ``{label: path}``, central ones first, with a slider for the height."""

    def __init__(self, title, maps, parent=None):
        FigureWindow.__init__(self, title, parent, size=(9.6, 3.9))
        self.maps, self._read = maps, {}

    def makeControls(self, frame):
        self.which = addChoice(frame, 'Map', list(self.maps), self.refresh)
        self.heights = [addSlider(frame, 'Height along %s (%%)' % axis, 0, 100, 50, self.refresh) for axis in 'zyx']

    def draw(self, figure):
        label = self.which.get()
        if label not in self._read:
            self._read = {label: readMap(self.maps[label])}
        volume, pixelSize, _ = self._read[label]
        plots.drawSlices(figure, volume, pixelSize, [height.get() / 100. for height in self.heights],
                         '%s (%s)' % (label, os.path.basename(self.maps[label])))
