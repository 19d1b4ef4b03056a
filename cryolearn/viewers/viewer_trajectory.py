"""Viewer of trajectories: conformations and maps, in three dimensions and frame by frame."""

import os
from functools import partial

import numpy as np
from pyworkflow.viewer import TextView

from ..convert.structures import modelsFile, readFrames
from ..protocols import CryoLearnProtTrajectory
from .backbone import readModelsAndWeights
from .gaussian_scene import GaussianModel
from .gaussian_window import GaussianPathWindow
from .scene_window import SceneWindow
from .slices_window import readMap
from .viewer_base import whenWritten
from .viewer_landscape import CryoLearnLandscapeViewer


class CryoLearnTrajectoryViewer(CryoLearnLandscapeViewer):
    """Conformations along a path: animation without ChimeraX, its script, geometry report, and the landscape."""

    _label = 'trajectory viewer'
    _targets = [CryoLearnProtTrajectory]

    def _defineResults(self, form):
        self._addLine(form, 'showConformations', 'Conformations, animated', important=True,
                      help='Backbone of each frame, and its map as a surface when maps were written. Drag to turn, slide or play. '
                           'With ChimeraX installed, its script is opened from here.')
        if self.has('geometry.csv'):
            self._addLine(form, 'showGeometry', 'Geometry report',
                          help='Bonds off by more than 0.2 Å, contacts below 2 Å and RMSD of each frame.')
        self._addLine(form, 'showLandscape', 'Conformational landscape')

    def _showConformations(self, param=None):
        path = modelsFile(self.extra())
        if not os.path.exists(path):
            return self._notReady('The trajectory')
        models, weights, backbone = readModelsAndWeights(path)
        files = [self.extra('frame_%03d.mrc' % number) for number in range(1, len(models) + 1)]
        written = [partial(readMap, name) for name in files if os.path.exists(name)]
        motion = self.protocol.getMotionFile(self.protocol.particles())
        names = ['frame %d of %d, %s %s' % (number, len(models), 'place' if motion else 'amplitudes',
                                           ', '.join(('%.2f' if motion else '%.0f') % value for value in vector))
                 for number, vector in readFrames(self.extra())]
        window = self.title('Conformations'), self.formWindow
        options = dict(names=names, maps=written if len(written) == len(models) else None, script=self.extra('trajectory.cxc'))
        if motion and os.path.exists(motion):
            return [GaussianPathWindow(*window, GaussianModel(os.path.dirname(motion)), np.stack(models), np.stack(weights), **options)]
        return [SceneWindow(*window, np.stack([model[backbone.rows] for model in models]), backbone.linked, **options)]

    @whenWritten('geometry.csv', 'The report')
    def _showGeometry(self):
        return [TextView([self.extra('geometry.csv')], self.title('Geometry'), self.formWindow)]

    def getParticles(self):
        return self.protocol.inputSet if hasattr(self.protocol.inputSet.get(), 'getFlexInfo') else None
