"""Viewer of trainings: learning curves, while they run too."""

import os

from ..common.figures.curves import draw_learning
from ..objects import TrainedModel
from ..protocols import CryoLearnProtElasticTrain
from . import plots
from .animate_mixin import Repeating
from .viewer_base import CryoLearnViewer, ObjectViewer, whenWritten
from .window import FigureWindow, addButton, addNote


class LearningWindow(Repeating, FigureWindow):
    """Learning curves of a CSV file, read again every 15 seconds."""

    PAUSE_MS = 15000

    def __init__(self, path, title, parent=None):
        FigureWindow.__init__(self, title, parent, size=(6.8, 6.6))
        self.path = path

    def makeControls(self, frame):
        addButton(frame, 'Read again', self.refresh)
        addNote(frame, 'The curves are read again every %d s while the training runs.' % (self.PAUSE_MS // 1000), 150)
        self.wait()

    def draw(self, figure):
        draw_learning(figure, plots.readColumns(self.path))


class CryoLearnLearningViewer(CryoLearnViewer):
    """Learning curves of a training."""

    _label = 'learning viewer'
    _targets = [CryoLearnProtElasticTrain]

    def _defineResults(self, form):
        self._addLine(form, 'showCurves', 'Learning curves', important=True,
                      help='Losses, errors on the validation images and the learning rate of each epoch, while the training runs too.')

    @whenWritten('learning.csv')
    def _showCurves(self):
        return [LearningWindow(self.extra('learning.csv'), self.title('Learning curves'), self.formWindow)]


class CryoLearnModelViewer(ObjectViewer):
    """Opens the learning curves of a trained network."""

    _targets = [TrainedModel]
    _name = 'learning curves (cryolearn)'

    def _visualize(self, obj, **kwargs):
        path = os.path.join(os.path.dirname(obj.getFolder().rstrip('/')), 'learning.csv')
        if not os.path.exists(path):
            return [self.errorMessage("The network's learning curves '%s' are not there any more." % path, 'Learning curves')]
        return [LearningWindow(path, 'Learning curves - %s' % obj.getNameId(), self.formWindow)]
