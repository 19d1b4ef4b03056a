"""Viewers of orientations: the network that tells distances, what was recovered with it, and how two sets of orientations differ."""

import os

from pwem.viewers import FscViewer
from pyworkflow.protocol import params

from ..common.figures.bars import draw_errors, draw_quality
from ..common.figures.orientations import draw_distances, draw_sphere, viewing_directions
from ..convert.orientations import (
    DISTANCES_TABLE,
    ERRORS_TABLE,
    PARTICLES_TABLE,
    VALIDATION_TABLE,
    readDistances,
    readErrors,
    readRecovered,
)
from ..protocols import CryoLearnProtCompareOrientations, CryoLearnProtDistanceTrain, CryoLearnProtRecoverOrientations
from .viewer_base import CryoLearnViewer
from .viewer_landscape import showTable
from .viewer_learning import CryoLearnLearningViewer
from .viewer_maps import CryoLearnMapsViewer
from .window import FigureWindow, addChoice, addNote

IMAGES = 'number of images'


class ChoiceWindow(FigureWindow):
    """A figure of one of several columns, chosen at the left.

    Parameters
    ----------
    columns : dict
        ``{label: values}``.
    drawColumn : callable
        ``drawColumn(figure, label, values)``.
    """

    def __init__(self, title, parent, columns, drawColumn, note='', size=(7.6, 5.4)):
        FigureWindow.__init__(self, title, parent, size=size)
        self.columns, self.drawColumn, self.note = columns, drawColumn, note

    def makeControls(self, frame):
        self.which = addChoice(frame, 'Show', list(self.columns), self.refresh)
        addNote(frame, self.note)

    def draw(self, figure):
        self.drawColumn(figure, self.which.get(), self.columns[self.which.get()])


class CryoLearnOrientationErrorsViewer(CryoLearnViewer):
    """Errors of orientations: histogram, over the viewing directions, particle by particle."""

    _label = 'orientation errors viewer'
    _targets = [CryoLearnProtCompareOrientations]

    def _defineResults(self, form):
        form.addParam('showErrors', params.LabelParam, label='Histogram of the errors', important=True, help='With mean, median and 95th percentile.')
        form.addParam('showSphere', params.LabelParam, label='Errors over the viewing directions', important=True,
                      help='Where on the sphere of views the orientations are wrong: a flat or featureless view shows here.')
        if hasattr(self.protocol, 'outputParticles'):
            form.addParam('showTable', params.LabelParam, label='Particles as a table')

    def _getActions(self):
        return {'showErrors': self._showErrors, 'showSphere': self._showSphere, 'showTable': self._showTable}

    def _showErrors(self, param=None):
        if not os.path.exists(self.extra(ERRORS_TABLE)):
            return self._notReady(ERRORS_TABLE)
        errors, _ = readErrors(self.extra())
        return [ChoiceWindow(self.title('Orientation errors'), self.formWindow, errors,
                             lambda figure, label, values: draw_errors(figure.subplots(), values, label, 'degrees'), ERROR_NOTE)]

    def _showSphere(self, param=None):
        if not os.path.exists(self.extra(ERRORS_TABLE)):
            return self._notReady(ERRORS_TABLE)
        errors, rotations = readErrors(self.extra())
        return [sphereWindow(self.title('Errors over the viewing directions'), self.formWindow, rotations,
                             {'%s (degrees)' % label: values for label, values in errors.items()}, SPHERE_NOTE)]

    def _showTable(self, param=None):
        return showTable(self, self.protocol.outputParticles)


ERROR_NOTE = ('"Physical" errors remain after what images leave free is taken off: a rotation of the particle and its handedness. "O(4)" errors '
              'remain after all that distances leave free is; they can be small where the physical ones are not.')
CALIBRATION_NOTE = ('"Calibrated" is what recovery uses: a monotone curve, measured on other unseen images, takes off what the network gets wrong '
                    'on average.')
SPHERE_NOTE = 'Directions of the reference from which the particle is seen, in an equal-area projection. Grey cells hold no image.'


def sphereWindow(title, parent, rotations, columns, note=SPHERE_NOTE):
    """Window of the viewing directions of ``rotations`` (n, 3, 3), coloured by one of ``columns`` or by their number."""
    longitude, latitude = viewing_directions(rotations)

    def draw(figure, label, values):
        what = 'images' if values is None else label.split(' (')[0]
        title = '%s over the viewing directions (%d images)' % (what[0].upper() + what[1:], len(rotations))
        draw_sphere(figure, longitude, latitude, values, 'images in a cell' if values is None else label, title)
    return ChoiceWindow(title, parent, {**columns, IMAGES: None}, draw, note, size=(7.8, 5.2))


def distancesWindow(title, parent, path, knownLabel, plotTitle, note=''):
    """Window of learned distances over known ones."""
    known, columns, weights = readDistances(path)

    def draw(figure, label, learned):
        draw_distances(figure.subplots(), known, learned, weights, known=knownLabel,
                       title=plotTitle if len(columns) == 1 else '%s, %s' % (plotTitle, label))
    if len(columns) == 1:
        return FigureWindow(title, parent, lambda figure: draw(figure, *next(iter(columns.items()))), size=(6.6, 5.8))
    return ChoiceWindow(title, parent, columns, draw, note, size=(6.6, 5.8))


class CryoLearnRecoverViewer(CryoLearnMapsViewer):
    """Recovered orientations: the map and its FSC, views, how sure each particle is, and how well the distances fit."""

    _label = 'recovered orientations viewer'
    _targets = [CryoLearnProtRecoverOrientations]

    def _defineResults(self, form):
        CryoLearnMapsViewer._defineResults(self, form)
        if hasattr(self.protocol, 'outputFSC'):
            form.addParam('showFscSet', params.LabelParam, label="FSC curve in Scipion's own viewer")
        form.addParam('showViews', params.LabelParam, label='Viewing directions, confidence', important=True,
                      help='How many images see the particle from each direction, and how sure their orientations are.')
        form.addParam('showQuality', params.LabelParam, label='Confidence of the particles')
        form.addParam('showDistances', params.LabelParam, label='Learned distances against recovered ones',
                      help='How well the recovered orientations fit the distances that the network told.')
        if hasattr(self.protocol, 'outputParticles'):
            form.addParam('showTable', params.LabelParam, label='Particles as a table')

    def _getActions(self):
        return dict(CryoLearnMapsViewer._getActions(self), showViews=self._showViews, showQuality=self._showQuality,
                    showDistances=self._showDistances, showTable=self._showTable)

    def _showFscSet(self, param=None):
        FscViewer(project=self.getProject(), protocol=self.protocol, figure=None).visualize(self.protocol.outputFSC)

    def _showViews(self, param=None):
        if not os.path.exists(self.extra(PARTICLES_TABLE)):
            return self._notReady(PARTICLES_TABLE)
        rotations, columns = readRecovered(self.extra())
        return [sphereWindow(self.title('Viewing directions'), self.formWindow, rotations, columns, SPHERE_NOTE.replace(' of the reference', ''))]

    def _showQuality(self, param=None):
        if not os.path.exists(self.extra(PARTICLES_TABLE)):
            return self._notReady(PARTICLES_TABLE)
        _, columns = readRecovered(self.extra())
        return [ChoiceWindow(self.title('Confidence'), self.formWindow, columns,
                             lambda figure, label, values: draw_quality(figure, values, label))]

    def _showDistances(self, param=None):
        if not os.path.exists(self.extra(DISTANCES_TABLE)):
            return self._notReady(DISTANCES_TABLE)
        return [distancesWindow(self.title('Distances'), self.formWindow, self.extra(DISTANCES_TABLE), 'distance of the recovered orientations',
                                'Fit of the distances')]

    def _showTable(self, param=None):
        return showTable(self, self.protocol.outputParticles)


class CryoLearnDistanceTrainViewer(CryoLearnLearningViewer):
    """Learning curves of a distance network, and what it tells of images that it has not seen."""

    _label = 'distance network viewer'
    _targets = [CryoLearnProtDistanceTrain]

    def _defineResults(self, form):
        CryoLearnLearningViewer._defineResults(self, form)
        form.addParam('showDistances', params.LabelParam, label='Learned distances against true ones', important=True,
                      help='Pairs of unseen images. A curve that becomes flat before the largest distance is a plateau: orientations further '
                           'apart than that cannot be told from each other.')

    def _getActions(self):
        return dict(CryoLearnLearningViewer._getActions(self), showDistances=self._showDistances)

    def _showDistances(self, param=None):
        if not os.path.exists(self.extra(VALIDATION_TABLE)):
            return self._notReady(VALIDATION_TABLE)
        return [distancesWindow(self.title('Distances'), self.formWindow, self.extra(VALIDATION_TABLE), 'true distance',
                                'Learned distances of unseen images', CALIBRATION_NOTE)]
