"""What the viewers of our runs share."""

import glob
import os
from typing import List

from pwem.viewers import EmProtocolViewer
from pyworkflow.protocol import params
from pyworkflow.viewer import DESKTOP_TKINTER

from . import plots
from .window import FigureWindow


class CryoLearnViewer(EmProtocolViewer):
    """Base of the viewers: a form whose lines open windows, and the pictures that the run wrote."""

    _environments = [DESKTOP_TKINTER]
    _targets: List[type] = []

    def _defineParams(self, form):
        form.addSection(label='Results')
        self._defineResults(form)
        if self.getFigures():
            form.addParam('figureToShow', params.EnumParam, choices=[figureTitle(path) for path in self.getFigures()], default=0,
                          label='Pictures written by the run',
                          help='The same pictures are PNG files in the folder "figures" of the run:\n%s' % '\n'.join(self.getFigures()))

    def _defineResults(self, form):
        """Lines of the form that are special to a viewer."""

    def _getVisualizeDict(self):
        actions = self._getActions()
        if self.getFigures():
            actions['figureToShow'] = self._showFigure
        return actions

    def _getActions(self):
        """``{param: function that returns views}`` of a viewer's own lines."""
        return {}

    # -------------------------------------------------- files -------------------------------------------------
    def extra(self, *names):
        return self.protocol._getExtraPath(*names)

    def getFigures(self):
        """PNG files of the run, those of its parts included."""
        folder = self.protocol._getExtraPath()
        return sorted(glob.glob(os.path.join(folder, 'figures', '*.png')) + glob.glob(os.path.join(folder, '*', 'figures', '*.png')))

    def _showFigure(self, param=None):
        path = self.getFigures()[self.figureToShow.get()]
        return [FigureWindow(self.title(figureTitle(path)), self.formWindow, lambda figure: plots.drawPicture(figure, path))]

    def title(self, what):
        """Title of a window: what it shows, of which run."""
        return '%s - %s' % (what, self.protocol.getRunName())

    def _notReady(self, what):
        return [self.errorMessage('%s is not there yet: wait until the run has written it.' % what, 'Not ready')]


def figureTitle(path):
    name = os.path.splitext(os.path.basename(path))[0].replace('_', ' ')
    part = os.path.basename(os.path.dirname(os.path.dirname(path)))
    return name if part == 'extra' else '%s: %s' % (part, name)
