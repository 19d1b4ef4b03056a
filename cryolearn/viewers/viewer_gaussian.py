"""Viewer of the Gaussian heterogeneity: eigen-motions, path, landscape, maps of states."""

import os

from pwem.objects import SetOfPrincipalComponents
from pyworkflow.object import Pointer

from ..common.figures.curves import draw_free_energy
from ..convert.gaussians import MAPS_FOLDER
from ..convert.motions import MOTION_FILE, motionsFolder
from ..engine.gaussian.config import GaussianHeterogeneityConfig
from ..protocols import CryoLearnProtGaussianHeterogeneity
from ..protocols.config_params import rangeText
from . import plots
from .gaussian_scene import GaussianModel
from .gaussian_window import EigenMotionsWindow, drawExplained, openGaussianPath
from .landscape_data import landscapeOfRun
from .viewer_base import ObjectViewer, whenWritten
from .viewer_landscape import CryoLearnLandscapeViewer
from .viewer_maps import CryoLearnMapsViewer


class CryoLearnGaussianViewer(CryoLearnLandscapeViewer, CryoLearnMapsViewer):
    """Eigen-motions on the Gaussians, the landscape of the particles, and the maps along the path."""

    _label = 'Gaussian heterogeneity viewer'
    _targets = [CryoLearnProtGaussianHeterogeneity]

    def _defineResults(self, form):
        self._addLine(form, 'showMotions', 'Eigen-motions', important=True,
                      help='Arrows on the Gaussians, coloured by flexibility, by the length of their path, or by one motion. Gaussians can be '
                           'picked here to study their region in a new run.')
        self._addLine(form, 'showExplained', 'Explained variance against noise')
        self._addLine(form, 'showPath', 'Motion along the path, animated',
                      help='Gaussian models from one end of the particles to the other. "trajectory" makes maps and a movie of it.')
        self._addLine(form, 'showLandscape', 'Conformational landscape', important=True,
                      help='Density and points on two axes of your choice, with error bars. With the lasso a subset is made; a path of '
                           'clicked points becomes conformations.')
        if self.has('landscape.csv'):
            self._addLine(form, 'showFreeEnergy', 'Free energy and population')
        if os.path.isdir(self.mapsFolder()):
            CryoLearnMapsViewer._defineResults(self, form)
        self._addTable(form, 'Particles as a table')

    def mapsFolder(self):
        return self.extra(MAPS_FOLDER)

    # ------------------------------------------------- motions ------------------------------------------------
    @whenWritten(MOTION_FILE, 'The motion model')
    def _showMotions(self):
        return [openMotions(GaussianModel(self.extra()), self.protocol, self.formWindow, self.title('Eigen-motions'))]

    @whenWritten(MOTION_FILE, 'The motion model')
    def _showExplained(self):
        motions = GaussianModel(self.extra()).motions
        return self.figure('Explained variance', lambda figure: drawExplained(figure, motions))

    @whenWritten(MOTION_FILE, 'The motion model')
    def _showPath(self):
        landscape = landscapeOfRun(self.protocol)
        if landscape is None:
            return self._notReady('The motion model')
        table = self.extra('expanded.npz') if self.has('expanded.npz') else landscape.tables[0]  # one row for each subunit of a symmetric particle
        try:
            return [openGaussianPath(self.extra(MOTION_FILE), table, self.getProject().getTmpPath('path'), self.formWindow, self.title('Path'))]
        except ValueError as error:
            return [self.errorMessage(str(error), 'Path')]

    def _showFreeEnergy(self, param=None):
        columns = plots.readColumns(self.extra('landscape.csv'))
        return self.figure('Free energy', lambda figure: draw_free_energy(
            figure, columns['place'], columns['population'], columns['free_energy_kt'], columns['standard_error_kt'],
            separate=self.protocol.getEngineValue(GaussianHeterogeneityConfig, 'path') == 'states'))


def openMotions(model, protocol, parent, title):
    """The window of eigen-motions, which can prepare a new run when the run that made them is known."""
    def prepare(numbers):
        run = focusedRun(protocol, numbers)
        return 'The run "%s" is in the project: open it, change what you like, and execute it.' % run.getRunName()
    return EigenMotionsWindow(model, title, parent, prepare if protocol is not None else None)


def focusedRun(protocol, numbers):
    """A copy of a run whose focus are the given Gaussians of its output; it is saved, not launched."""
    project = protocol.getProject()
    run = project.copyProtocol(protocol)
    run.inputGaussians.copy(Pointer(value=protocol, extended='outputGaussians'))
    run.inputFocus.set(None)
    run.focusGaussians.set(rangeText(numbers))
    run.setObjLabel('focus on %d Gaussians' % len(numbers))
    project.saveProtocol(run)
    return run


class CryoLearnSetOfMotionsViewer(ObjectViewer):
    """Opens a set of eigen-motions that this plugin made."""

    _targets = [SetOfPrincipalComponents]
    _name = 'eigen-motions (cryolearn)'

    @classmethod
    def can_handle_this_instance(cls, instance):
        return instance.getSize() > 0 and motionsFolder(instance) is not None

    def _visualize(self, obj, **kwargs):
        protocol = self.runOf(obj)
        made = protocol if isinstance(protocol, CryoLearnProtGaussianHeterogeneity) else None
        return [openMotions(GaussianModel(motionsFolder(obj)), made, self.formWindow, 'Eigen-motions - %s' % obj.getNameId())]
