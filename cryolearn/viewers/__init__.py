"""Viewers: windows on the tables, maps and pictures that the runs wrote (Tk and matplotlib)."""

from .viewer_enhance import CryoLearnEnhanceViewer, CryoLearnMapTrainViewer
from .viewer_gaussian import CryoLearnGaussianViewer, CryoLearnSetOfMotionsViewer
from .viewer_landscape import CryoLearnLandscapeViewer, CryoLearnParticlesFlexViewer
from .viewer_learning import CryoLearnLearningViewer, CryoLearnModelViewer
from .viewer_maps import CryoLearnMapsViewer
from .viewer_modes import CryoLearnModesViewer, CryoLearnSetOfModesViewer
from .viewer_orientation import CryoLearnDistanceTrainViewer, CryoLearnOrientationErrorsViewer, CryoLearnRecoverViewer
from .viewer_subtomogram import (
    CryoLearnSubtomogramAverageViewer,
    CryoLearnSubtomogramClassifyViewer,
    CryoLearnSubtomogramSubdivideViewer,
    CryoLearnSubtomogramTrainViewer,
)
from .viewer_trajectory import CryoLearnTrajectoryViewer
from .viewer_validate import CryoLearnValidateMapViewer

__all__ = [
    'CryoLearnDistanceTrainViewer', 'CryoLearnEnhanceViewer', 'CryoLearnGaussianViewer', 'CryoLearnLandscapeViewer', 'CryoLearnLearningViewer',
    'CryoLearnMapTrainViewer', 'CryoLearnMapsViewer', 'CryoLearnModelViewer', 'CryoLearnModesViewer', 'CryoLearnOrientationErrorsViewer',
    'CryoLearnParticlesFlexViewer', 'CryoLearnRecoverViewer', 'CryoLearnSetOfModesViewer', 'CryoLearnSetOfMotionsViewer',
    'CryoLearnSubtomogramAverageViewer', 'CryoLearnSubtomogramClassifyViewer', 'CryoLearnSubtomogramSubdivideViewer',
    'CryoLearnSubtomogramTrainViewer', 'CryoLearnTrajectoryViewer', 'CryoLearnValidateMapViewer',
]
