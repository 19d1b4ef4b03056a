"""Viewer of trainings: learning curves, while they run too."""

import os
from typing import Any

from pyworkflow.protocol import params
from pyworkflow.viewer import DESKTOP_TKINTER, Viewer

from ..common.figures.curves import draw_learning
from ..objects import TrainedModel
from ..protocols import CryoLearnProtElasticTrain
from . import plots
from .viewer_base import CryoLearnViewer
from .window import FigureWindow, addButton, addNote

AGAIN_MS = 15000


class LearningWindow(FigureWindow):
    """Learning curves of a CSV file, read again every 15 seconds."""

    def __init__(self, path, title, parent=None):
        FigureWindow.__init__(self, title, parent, size=(6.8, 6.6))
        self.path = path
        self._timer: Any = None

    def makeControls(self, frame):
        addButton(frame, 'Read again', self.refresh)
        addNote(frame, 'The curves are read again every %d s while the training runs.' % (AGAIN_MS // 1000), 150)
        self._timer = self.window.root.after(AGAIN_MS, self._again)

    def _again(self):
        self.refresh()
        self._timer = self.window.root.after(AGAIN_MS, self._again)

    def onClose(self):
        if self._timer is not None:
            self.window.root.after_cancel(self._timer)

    def draw(self, figure):
        draw_learning(figure, plots.readColumns(self.path))


class CryoLearnLearningViewer(CryoLearnViewer):
    """Learning curves of a training."""

    _label = 'learning viewer'
    _targets = [CryoLearnProtElasticTrain]

    def _defineResults(self, form):
        form.addParam('showCurves', params.LabelParam, label='Learning curves', important=True,
                      help='Losses, errors on the validation images and the learning rate of each epoch, while the training runs too.')

    def _getActions(self):
        return {'showCurves': self._showCurves}

    def _showCurves(self, param=None):
        path = self.extra('learning.csv')
        return [LearningWindow(path, self.title('Learning curves'), self.formWindow)] if os.path.exists(path) else self._notReady('learning.csv')


class CryoLearnModelViewer(Viewer):
    """Opens the learning curves of a trained network."""

    _targets = [TrainedModel]
    _environments = [DESKTOP_TKINTER]
    _name = 'learning curves (cryolearn)'

    def _visualize(self, obj, **kwargs):
        path = os.path.join(os.path.dirname(obj.getFolder().rstrip('/')), 'learning.csv')
        if not os.path.exists(path):
            return [self.errorMessage("The network's learning curves '%s' are not there any more." % path, 'Learning curves')]
        return [LearningWindow(path, 'Learning curves - %s' % obj.getNameId(), self.formWindow)]
