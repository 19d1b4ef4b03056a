"""The protocols, one a file."""

from .protocol_base import CryoLearnProtBase
from .protocol_cluster_landscape import CryoLearnProtClusterLandscape
from .protocol_compare_orientations import CryoLearnProtCompareOrientations
from .protocol_distance_train import CryoLearnProtDistanceTrain
from .protocol_elastic_align import CryoLearnProtElasticAlign
from .protocol_elastic_base import CryoLearnProtElasticBase
from .protocol_elastic_predict import CryoLearnProtElasticPredict
from .protocol_elastic_train import CryoLearnProtElasticTrain
from .protocol_gaussian_heterogeneity import CryoLearnProtGaussianHeterogeneity
from .protocol_import_modes import CryoLearnProtImportModes
from .protocol_map_enhance import CryoLearnProtMapEnhance
from .protocol_map_train import CryoLearnProtMapTrain
from .protocol_normal_modes import CryoLearnProtNormalModes
from .protocol_reconstruct import CryoLearnProtReconstruct
from .protocol_recover_orientations import CryoLearnProtRecoverOrientations
from .protocol_select_landscape import CryoLearnProtSelectLandscape
from .protocol_select_subtomograms import CryoLearnProtSelectSubtomograms
from .protocol_simulate_particles import CryoLearnProtSimulateParticles
from .protocol_simulate_subtomograms import CryoLearnProtSimulateSubtomograms
from .protocol_subtomogram_average import CryoLearnProtSubtomogramAverage
from .protocol_subtomogram_base import CryoLearnProtSubtomogramBase
from .protocol_subtomogram_classify import CryoLearnProtSubtomogramClassify
from .protocol_subtomogram_subdivide import CryoLearnProtSubtomogramSubdivide
from .protocol_subtomogram_train import CryoLearnProtSubtomogramTrain
from .protocol_trajectory import CryoLearnProtTrajectory
from .protocol_validate_map import CryoLearnProtValidateMap
from .protocol_volume_to_gaussians import CryoLearnProtVolumeToGaussians

__all__ = [
    'CryoLearnProtBase', 'CryoLearnProtClusterLandscape', 'CryoLearnProtCompareOrientations', 'CryoLearnProtDistanceTrain',
    'CryoLearnProtElasticAlign', 'CryoLearnProtElasticBase', 'CryoLearnProtElasticPredict', 'CryoLearnProtElasticTrain',
    'CryoLearnProtGaussianHeterogeneity', 'CryoLearnProtImportModes', 'CryoLearnProtMapEnhance', 'CryoLearnProtMapTrain',
    'CryoLearnProtNormalModes', 'CryoLearnProtReconstruct',
    'CryoLearnProtRecoverOrientations', 'CryoLearnProtSelectLandscape', 'CryoLearnProtSelectSubtomograms',
    'CryoLearnProtSimulateParticles', 'CryoLearnProtSimulateSubtomograms', 'CryoLearnProtSubtomogramAverage',
    'CryoLearnProtSubtomogramBase', 'CryoLearnProtSubtomogramClassify', 'CryoLearnProtSubtomogramSubdivide',
    'CryoLearnProtSubtomogramTrain', 'CryoLearnProtTrajectory', 'CryoLearnProtValidateMap', 'CryoLearnProtVolumeToGaussians',
]
