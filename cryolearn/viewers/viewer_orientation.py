"""Viewers of orientations: the network that tells distances, what was recovered with it, and how two sets of orientations differ."""

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
from .viewer_base import CryoLearnViewer, whenWritten
from .viewer_learning import CryoLearnLearningViewer
from .viewer_maps import CryoLearnMapsViewer
from .window import ChoiceWindow, FigureWindow

IMAGES = 'number of images'


class CryoLearnOrientationErrorsViewer(CryoLearnViewer):
    """Errors of orientations: histogram, over the viewing directions, particle by particle."""

    _label = 'orientation errors viewer'
    _targets = [CryoLearnProtCompareOrientations]

    def _defineResults(self, form):
        self._addLine(form, 'showErrors', 'Histogram of the errors', important=True, help='With mean, median and 95th percentile.')
        self._addLine(form, 'showSphere', 'Errors over the viewing directions', important=True,
                      help='Where on the sphere of views the orientations are wrong: a flat or featureless view shows here.')
        self._addTable(form, 'Particles as a table')

    @whenWritten(ERRORS_TABLE)
    def _showErrors(self):
        errors, _ = readErrors(self.extra())
        return [ChoiceWindow(self.title('Orientation errors'), self.formWindow, errors,
                             lambda figure, label, values: draw_errors(figure.subplots(), values, label, 'degrees'), ERROR_NOTE)]

    @whenWritten(ERRORS_TABLE)
    def _showSphere(self):
        errors, rotations = readErrors(self.extra())
        return [sphereWindow(self.title('Errors over the viewing directions'), self.formWindow, rotations,
                             {'%s (degrees)' % label: values for label, values in errors.items()}, SPHERE_NOTE)]


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
    FSCS, FSC_LABEL = 'outputFSC', "FSC curve in Scipion's own viewer"

    def _defineResults(self, form):
        CryoLearnMapsViewer._defineResults(self, form)
        self._addLine(form, 'showViews', 'Viewing directions, confidence', important=True,
                      help='How many images see the particle from each direction, and how sure their orientations are.')
        self._addLine(form, 'showQuality', 'Confidence of the particles')
        self._addLine(form, 'showDistances', 'Learned distances against recovered ones',
                      help='How well the recovered orientations fit the distances that the network told.')
        self._addTable(form, 'Particles as a table')

    @whenWritten(PARTICLES_TABLE)
    def _showViews(self):
        rotations, columns = readRecovered(self.extra())
        return [sphereWindow(self.title('Viewing directions'), self.formWindow, rotations, columns, SPHERE_NOTE.replace(' of the reference', ''))]

    @whenWritten(PARTICLES_TABLE)
    def _showQuality(self):
        _, columns = readRecovered(self.extra())
        return [ChoiceWindow(self.title('Confidence'), self.formWindow, columns,
                             lambda figure, label, values: draw_quality(figure, values, label))]

    @whenWritten(DISTANCES_TABLE)
    def _showDistances(self):
        return [distancesWindow(self.title('Distances'), self.formWindow, self.extra(DISTANCES_TABLE), 'distance of the recovered orientations',
                                'Fit of the distances')]


class CryoLearnDistanceTrainViewer(CryoLearnLearningViewer):
    """Learning curves of a distance network, and what it tells of images that it has not seen."""

    _label = 'distance network viewer'
    _targets = [CryoLearnProtDistanceTrain]

    def _defineResults(self, form):
        CryoLearnLearningViewer._defineResults(self, form)
        self._addLine(form, 'showDistances', 'Learned distances against true ones', important=True,
                      help='Pairs of unseen images. A curve that becomes flat before the largest distance is a plateau: orientations further '
                           'apart than that cannot be told from each other.')

    @whenWritten(VALIDATION_TABLE)
    def _showDistances(self):
        return [distancesWindow(self.title('Distances'), self.formWindow, self.extra(VALIDATION_TABLE), 'true distance',
                                'Learned distances of unseen images', CALIBRATION_NOTE)]
