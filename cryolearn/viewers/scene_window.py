"""A window that shows conformations or maps in three dimensions: drag to turn, slide through frames, play."""

import os
import shutil
import subprocess
from typing import Any

import numpy as np

from ..common.figures.surface import draw_surface, finish_axes, view_of
from . import scene
from .animate_mixin import Playing
from .rotate_mixin import Turning
from .window import FigureWindow, addButton, addCheck, addLevel, addNote, addSlider

KEPT_MAPS = 20  # maps kept in memory


class SceneWindow(Playing, Turning, FigureWindow):
    """Frames of a trajectory: backbone traces, isosurfaces, or both.

    Parameters
    ----------
    conformations : (f, n, 3), optional
        Trace of each frame in Å.
    linked : (n - 1,) bool
        Which neighbours in the trace are joined.
    maps : list of callables, optional
        Each returns ``(volume (z, y, x), pixel size Å, origin (x, y, z) Å or None)``; they are read when first shown.
    names : list of str
        Title of each frame.
    startWithMap : bool
        Show the surface first where there is a trace too.
    script : str, optional
        ChimeraX script to offer.
    """

    PAUSE_MS = 120

    def __init__(self, title, parent=None, conformations=None, linked=None, maps=None, names=None, script=None, startWithMap=False):
        FigureWindow.__init__(self, title, parent, size=(6.6, 6.4))
        self.conformations, self.linked, self.maps, self.script, self.startWithMap = conformations, linked, maps or [], script, startWithMap
        self.count = len(conformations) if conformations is not None else len(self.maps)
        self.names = names or ['frame %d of %d' % (number, self.count) for number in range(1, self.count + 1)]
        self._meshes, self._volumes, self._step = {}, {}, 1

    # ------------------------------------------------- controls ------------------------------------------------
    def makeControls(self, frame):
        self.position: Any = None
        if self.count > 1:
            self.position = addSlider(frame, 'Frame', 1, self.count, 1, self.refresh)
            self.playButton = addButton(frame, 'Play', self.togglePlay)
        self.showMap: Any = None
        self.level: Any = None
        if self.maps:
            self.showMap = addCheck(frame, 'Surface of the map', self.refresh)
            self.level = addLevel(frame, 'Density level', self._volume(0)[0], self._newLevel)
        what = 'Backbone' if self.linked is not None and self.linked.any() else 'Pseudo-atoms'
        self.showTrace = addCheck(frame, what, self.refresh) if self.conformations is not None else None
        if self.showMap is not None and self.showTrace is not None:
            (self.showTrace if self.startWithMap else self.showMap).set(False)
        if self.script:
            addButton(frame, 'Open in ChimeraX', self.openChimera)
        chain = ' Blue is the start of the chain, red its end.' if self.showTrace is not None and what == 'Backbone' else ''
        addNote(frame, 'Drag the picture to turn it.' + chain)
        self.turnByDragging()
        self._view = self._findView()

    def frame(self):
        return int(self.position.get()) - 1 if self.position is not None else 0

    def _findView(self):
        if self.conformations is not None:
            return view_of(np.concatenate([self.conformations[0], self.conformations[-1]]))
        return scene.viewOfMesh(self._mesh(0), 1.25)

    def _newLevel(self):
        self._meshes = {}
        self.refresh()

    def _volume(self, index):
        if index not in self._volumes:
            if len(self._volumes) >= KEPT_MAPS:
                self._volumes.clear()
            self._volumes[index] = self.maps[index]()
        return self._volumes[index]

    def _mesh(self, index):
        if index not in self._meshes:
            volume, pixelSize, origin = self._volume(index)
            self._meshes[index] = scene.surfaceMesh(volume, pixelSize, self.level.get(), origin)
        return self._meshes[index]

    # ------------------------------------------------- drawing -------------------------------------------------
    def draw(self, figure):
        axes = figure.subplots()
        index = self.frame()
        if self.showMap is not None and self.showMap.get():
            mesh = self._mesh(index)
            if mesh is not None:
                draw_surface(axes, mesh, self.rotation)
        if self.showTrace is not None and self.showTrace.get():
            self.drawConformation(axes, index)
        finish_axes(axes, self._view[0], self._view[1], self.rotation)
        axes.set_title(self.names[index])

    def drawConformation(self, axes, index):
        scene.drawTrace(axes, self.conformations[index], self.linked, self.rotation)

    # ------------------------------------------------- playing -------------------------------------------------
    def nextStep(self):
        """Run through the frames to and fro."""
        number = int(self.position.get())
        if not 1 <= number + self._step <= self.count:
            self._step = -self._step
        self.position.set(number + self._step)

    def rest(self):
        """The frame at which the play was stopped stays."""

    def openChimera(self):
        """Open the script in ChimeraX where that is installed; else say where the script is."""
        program = chimeraProgram()
        if program is None:
            self.showInfo('ChimeraX was not found (CHIMERA_HOME or PATH). Its script is\n%s' % os.path.abspath(self.script))
            return
        subprocess.Popen([program, os.path.abspath(self.script)])


def chimeraProgram():
    """ChimeraX as Scipion is configured for it, or on the PATH; None when there is none."""
    try:
        from pwem.viewers.viewer_chimera import Chimera
        program = Chimera.getProgram()
    except Exception:  # not configured: each version of pwem says so in its own way
        program = None
    return program if program and os.path.exists(program) else shutil.which('chimerax') or shutil.which('ChimeraX')
