"""The engine's commands by name: where each one's parameters and its function live (nothing is imported here)."""

from __future__ import annotations

from typing import Dict, NamedTuple


class Command(NamedTuple):
    """A command: dotted places of its parameter dataclass and of its ``run(config)`` function.

    ``shared``: several processes share its work. In any other command each would do all of it.
    """

    config: str
    run: str
    shared: bool = False


_E = "cryolearn.engine."

COMMANDS: Dict[str, Command] = {
    "simulate-particles": Command(_E + "simulate.config:SimulateParticlesConfig", _E + "simulate.particles_command:run", shared=True),
    "subtomogram-simulate": Command(_E + "simulate.config:SubtomogramSimulateConfig", _E + "simulate.subtomograms_command:run", shared=True),
    "normal-modes": Command(_E + "elastic.config:NormalModesConfig", _E + "elastic.normal_modes_command:run"),
    "import-modes": Command(_E + "elastic.config:ImportModesConfig", _E + "elastic.import_modes_command:run"),
    "volume-to-gaussians": Command(_E + "imaging.config:VolumeToGaussiansConfig", _E + "imaging.volume_to_gaussians_command:run"),
    "elastic-align": Command(_E + "elastic.config:ElasticAlignConfig", _E + "elastic.align_command:run", shared=True),
    "elastic-train": Command(_E + "elastic.config:ElasticTrainConfig", _E + "elastic.train_command:run", shared=True),
    "elastic-predict": Command(_E + "elastic.config:ElasticPredictConfig", _E + "elastic.predict_command:run", shared=True),
    "elastic-errors": Command(_E + "elastic.config:ElasticErrorsConfig", _E + "elastic.errors_command:run"),
    "cluster-landscape": Command(_E + "landscape.config:ClusterLandscapeConfig", _E + "landscape.cluster_command:run"),
    "select-landscape": Command(_E + "landscape.config:SelectLandscapeConfig", _E + "landscape.select_command:run"),
    "trajectory": Command(_E + "landscape.config:TrajectoryConfig", _E + "landscape.trajectory_command:run"),
    "convert-particles": Command(_E + "imaging.config:ConvertParticlesConfig", _E + "imaging.convert_command:run"),
    "reconstruct": Command(_E + "imaging.config:ReconstructConfig", _E + "imaging.reconstruct_command:run", shared=True),
    "gaussian-heterogeneity": Command(_E + "gaussian.config:GaussianHeterogeneityConfig", _E + "gaussian.heterogeneity_command:run"),
    "distance-train": Command(_E + "orientation.config:DistanceTrainConfig", _E + "orientation.train_command:run", shared=True),
    "orientation-recover": Command(_E + "orientation.config:RecoverOrientationsConfig", _E + "orientation.recover_command:run", shared=True),
    "orientation-compare": Command(_E + "orientation.config:CompareOrientationsConfig", _E + "orientation.compare_command:run"),
    "subtomogram-train": Command(_E + "subtomogram.config:SubtomogramTrainConfig", _E + "subtomogram.train_command:run", shared=True),
    "subtomogram-classify": Command(_E + "subtomogram.config:SubtomogramClassifyConfig", _E + "subtomogram.classify_command:run", shared=True),
    "subtomogram-subdivide": Command(_E + "subtomogram.config:SubtomogramSubdivideConfig", _E + "subtomogram.subdivide_command:run", shared=True),
    "subtomogram-average": Command(_E + "subtomogram.config:SubtomogramAverageConfig", _E + "subtomogram.average_command:run"),
    "validate-map": Command(_E + "map_validation.config:ValidateMapConfig", _E + "map_validation.validate_command:run"),
    "map-train": Command(_E + "map_enhancement.config:MapTrainConfig", _E + "map_enhancement.train_command:run", shared=True),
    "map-enhance": Command(_E + "map_enhancement.config:MapEnhanceConfig", _E + "map_enhancement.enhance_command:run"),
    "fsc": Command(_E + "imaging.config:FscConfig", _E + "imaging.fsc_command:run"),
}
