"""What the viewers of our runs share."""

import glob
import os
from functools import wraps
from typing import List

from pwem.viewers import EmProtocolViewer, FscViewer
from pyworkflow import Config
from pyworkflow.protocol import params
from pyworkflow.viewer import DESKTOP_TKINTER, Viewer

from . import plots
from .window import FigureWindow


class CryoLearnViewer(EmProtocolViewer):
    """Base of the viewers: a form whose lines open windows, and the pictures that the run wrote.

    The line ``showX`` that :meth:`_addLine` adds to the form is answered by the method ``_showX``, which returns windows.
    """

    _environments = [DESKTOP_TKINTER]
    _targets: List[type] = []
    FSCS, TABLE_OF = 'outputFSCs', 'outputParticles'  # outputs that Scipion's own viewers show
    FSC_LABEL = "FSC curves in Scipion's own viewer"

    def _defineParams(self, form):
        form.addSection(label='Results')
        self._defineResults(form)
        if self.getFigures():
            form.addParam('figureToShow', params.EnumParam, choices=[figureTitle(path) for path in self.getFigures()], default=0,
                          label='Pictures written by the run',
                          help='The same pictures are PNG files in the folder "figures" of the run:\n%s' % '\n'.join(self.getFigures()))

    def _defineResults(self, form):
        """Lines of the form that are special to a viewer."""

    @staticmethod
    def _addLine(form, name, label, help='', **options):
        form.addParam(name, params.LabelParam, label=label, help=help, **options)

    def _addFscSet(self, form):
        if hasattr(self.protocol, self.FSCS):
            self._addLine(form, 'showFscSet', self.FSC_LABEL)

    def _addTable(self, form, label):
        if hasattr(self.protocol, self.tableOf()):
            self._addLine(form, 'showTable', label)

    def tableOf(self):
        """Name of the output that is shown as a table."""
        return self.TABLE_OF

    def _getVisualizeDict(self):
        actions = {name[1:]: getattr(self, name) for name in dir(type(self)) if name.startswith('_show')}
        return dict(actions, figureToShow=self._showFigure)

    # -------------------------------------------------- windows ------------------------------------------------
    def _showFigure(self, param=None):
        path = self.getFigures()[self.figureToShow.get()]
        return self.figure(figureTitle(path), lambda figure: plots.drawPicture(figure, path))

    def _showFscSet(self, param=None):
        FscViewer(project=self.getProject(), protocol=self.protocol, figure=None).visualize(getattr(self.protocol, self.FSCS))

    def _showTable(self, param=None):
        """Open an output in the table viewer that Scipion is set to."""
        output = getattr(self.protocol, self.tableOf())
        others = [found for found in Config.getDomain().findViewers(output, DESKTOP_TKINTER) if not found.__module__.startswith(__package__)]
        if not others:
            return [self.errorMessage('Scipion has no table viewer for %s.' % output.getClassName(), 'Table')]
        others[0](project=self.getProject(), protocol=self.protocol, parent=self.formWindow).visualize(output)
        return []

    def figure(self, what, draw, **options):
        """A window with one figure, as a line of the form returns it."""
        return [FigureWindow(self.title(what), self.formWindow, draw, **options)]

    def title(self, what):
        """Title of a window: what it shows, of which run."""
        return '%s - %s' % (what, self.protocol.getRunName())

    def _notReady(self, what):
        return [self.errorMessage('%s is not there yet: wait until the run has written it.' % what, 'Not ready')]

    # -------------------------------------------------- files -------------------------------------------------
    def extra(self, *names):
        return self.protocol._getExtraPath(*names)

    def has(self, name):
        """Did the run write this file?"""
        return os.path.exists(self.extra(name))

    def getFigures(self):
        """PNG files of the run, those of its parts included."""
        folder = self.protocol._getExtraPath()
        return sorted(glob.glob(os.path.join(folder, 'figures', '*.png')) + glob.glob(os.path.join(folder, '*', 'figures', '*.png')))


class ObjectViewer(Viewer):
    """Base of the viewers that open an object of any run."""

    _environments = [DESKTOP_TKINTER]
    _targets: List[type] = []

    def runOf(self, item):
        """The run that made an object."""
        return self.protocol or self.getProject().getProtocol(int(item.getObjParentId()))


def whenWritten(name, what=None):
    """Decorator of a line's method: says that ``what`` (the file itself) is not ready where the run has not written this file."""
    def decorate(show):
        @wraps(show)
        def showWhenWritten(viewer, param=None):
            return show(viewer) if viewer.has(name) else viewer._notReady(what or name)
        return showWhenWritten
    return decorate


def figureTitle(path):
    name = os.path.splitext(os.path.basename(path))[0].replace('_', ' ')
    part = os.path.basename(os.path.dirname(os.path.dirname(path)))
    return name if part == 'extra' else '%s: %s' % (part, name)
