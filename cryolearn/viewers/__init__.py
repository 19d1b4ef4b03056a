"""Viewers: windows on the tables, maps and pictures that the runs wrote (Tk and matplotlib)."""

from .viewer_gaussian import CryoLearnGaussianViewer, CryoLearnSetOfMotionsViewer
from .viewer_landscape import CryoLearnLandscapeViewer, CryoLearnParticlesFlexViewer
from .viewer_learning import CryoLearnLearningViewer, CryoLearnModelViewer
from .viewer_maps import CryoLearnMapsViewer
from .viewer_modes import CryoLearnModesViewer, CryoLearnSetOfModesViewer
from .viewer_trajectory import CryoLearnTrajectoryViewer

__all__ = [
    'CryoLearnGaussianViewer', 'CryoLearnLandscapeViewer', 'CryoLearnLearningViewer', 'CryoLearnMapsViewer', 'CryoLearnModelViewer',
    'CryoLearnModesViewer', 'CryoLearnParticlesFlexViewer', 'CryoLearnSetOfModesViewer', 'CryoLearnSetOfMotionsViewer',
    'CryoLearnTrajectoryViewer',
]
