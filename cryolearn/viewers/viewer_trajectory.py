"""Viewer of trajectories: conformations and maps, in three dimensions and frame by frame."""

import os

import numpy as np
from pyworkflow.protocol import params
from pyworkflow.viewer import TextView

from ..convert.structures import modelsFile, readFrames
from ..protocols import CryoLearnProtTrajectory
from .backbone import readModelsAndWeights
from .gaussian_scene import GaussianModel
from .gaussian_window import GaussianPathWindow
from .landscape_data import landscapeOfRun
from .scene_window import SceneWindow
from .slices_window import readMap
from .viewer_base import CryoLearnViewer
from .viewer_landscape import openLandscape


class CryoLearnTrajectoryViewer(CryoLearnViewer):
    """Conformations along a path: animation without ChimeraX, its script, geometry report, and the landscape."""

    _label = 'trajectory viewer'
    _targets = [CryoLearnProtTrajectory]

    def _defineResults(self, form):
        form.addParam('showConformations', params.LabelParam, label='Conformations, animated', important=True,
                      help='Backbone of each frame, and its map as a surface when maps were written. Drag to turn, slide or play. '
                           'With ChimeraX installed, its script is opened from here.')
        if os.path.exists(self.extra('geometry.csv')):
            form.addParam('showGeometry', params.LabelParam, label='Geometry report',
                          help='Bonds off by more than 0.2 Å, contacts below 2 Å and RMSD of each frame.')
        form.addParam('showLandscape', params.LabelParam, label='Conformational landscape')

    def _getActions(self):
        return {'showConformations': self._showConformations, 'showGeometry': self._showGeometry, 'showLandscape': self._showLandscape}

    def _showConformations(self, param=None):
        path = modelsFile(self.extra())
        if not os.path.exists(path):
            return self._notReady('The trajectory')
        models, weights, backbone = readModelsAndWeights(path)
        files = [self.extra('frame_%03d.mrc' % number) for number in range(1, len(models) + 1)]
        written = [lambda name=name: readMap(name) for name in files if os.path.exists(name)]
        maps = written if len(written) == len(models) else None
        motion = self.protocol.getMotionFile(self.protocol.particles())
        names = ['frame %d of %d, %s %s' % (number, len(models), 'place' if motion else 'amplitudes',
                                           ', '.join(('%.2f' if motion else '%.0f') % value for value in vector))
                 for number, vector in readFrames(self.extra())]
        if motion and os.path.exists(motion):
            return [GaussianPathWindow(self.title('Conformations'), self.formWindow, model=GaussianModel(os.path.dirname(motion)),
                                       conformations=np.stack(models), weights=np.stack(weights), names=names, maps=maps,
                                       script=self.extra('trajectory.cxc'))]
        traces = np.stack([model[backbone.rows] for model in models])
        return [SceneWindow(self.title('Conformations'), self.formWindow, conformations=traces, linked=backbone.linked, maps=maps, names=names,
                            script=self.extra('trajectory.cxc'))]

    def _showGeometry(self, param=None):
        path = self.extra('geometry.csv')
        return [TextView([path], self.title('Geometry'), self.formWindow)] if os.path.exists(path) else self._notReady('The report')

    def _showLandscape(self, param=None):
        landscape = landscapeOfRun(self.protocol)
        if landscape is None:
            return self._notReady('The landscape')
        particles = self.protocol.inputSet if hasattr(self.protocol.inputSet.get(), 'getFlexInfo') else None
        return [openLandscape(landscape, particles, self.protocol, self.getProject(), self.formWindow, self.title('Landscape'))]
