"""Parameters of the landscape commands (standard library only)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import List

from ..config import RunConfig, param


@dataclass
class ClusterLandscapeConfig(RunConfig):
    """Reduce a conformational landscape to a few axes and group its particles.

    Writes ``clusters.npz`` (result table: id, class from 1, reduced coordinates ``reduced``, probability), ``representatives.npz``,
    ``clusters.csv``, ``scores.csv`` and ``figures/``.
    """

    table: str = param("", "Result table with one latent vector a particle (alignment.npz).", path=True)
    column: str = param("amplitudes", "Column of the table that holds the vectors.", label="Column")
    reduction: str = param("pca", "Axes of the landscape: 'pca', 'none' (the vectors as they are) or 'tsne'; on the command line also 'umap', where the "
                           "package umap-learn has been installed beside the engine.", label="Reduction",
                           choices=("pca", "none", "tsne", "umap"))
    dimensions: int = param(2, "Number of reduced axes.", label="Axes", low=1, high=50)
    method: str = param("kmeans", "'kmeans', 'gmm' (Gaussian mixture) or 'agglomerative' clusters of the vectors, or 'slices' of equal population "
                        "along the first axis.", label="Method", choices=("kmeans", "gmm", "agglomerative", "slices"))
    clusters: int = param(4, "Number of clusters; 0 takes the best silhouette score between 2 and 12.", label="Number of clusters", low=0, high=10000)
    drop_flagged: bool = param(False, "Leave out particles whose alignment carries any flag (ambiguous, amplitude at the bound, low correlation, not converged); they get class 0 and are counted.",
                               label="Leave out flagged particles?")
    seed: int = param(1, "Seed.", low=0, high=2e9, expert=True)


@dataclass
class SelectLandscapeConfig(RunConfig):
    """Particles inside a polygon drawn on two axes of a landscape.

    Writes ``selection.npz`` (result table with id and coordinates) and ``figures/``.
    """

    table: str = param("", "Result table (alignment.npz or clusters.npz).", path=True)
    x_axis: str = param("amplitudes:0", "Column and component of the horizontal axis.", label="Horizontal axis")
    y_axis: str = param("amplitudes:1", "Column and component of the vertical axis.", label="Vertical axis")
    polygon: List[float] = param([], "Corners x1 y1 x2 y2 ... in the axes' units, at least three.", label="Polygon")


@dataclass
class TrajectoryConfig(RunConfig):
    """Conformations along a path through the landscape, by normal modes of a structure or by the motion of a Gaussian model.

    Writes ``frame_001.pdb`` ... (and ``frame_001.mrc`` ... when volumes are asked for), ``trajectory.pdb`` (all models),
    ``trajectory.cxc`` (ChimeraX), ``trajectory.npz`` (latent vectors of the frames) and ``figures/``; of a structure also ``geometry.csv``,
    of a Gaussian model ``frame_001.cif`` ..., ``trajectory.cif``, ``frames.csv`` and ``movie.mrc`` (all maps as one stack of volumes).
    """

    table: str = param("", "Result table with the particles' vectors (alignment.npz or conformations.npz).", path=True)
    column: str = param("amplitudes", "Column that holds the vectors.", label="Column")
    modes: str = param("", "Normal modes (modes.npz) with their structure beside them.", path=True)
    motion: str = param("", "Motion of a Gaussian model (motion.npz), instead of normal modes.", path=True)
    mode_numbers: List[int] = param([7, 8, 9], "Modes that the vectors are amplitudes of.", label="Modes")
    path: str = param("pca", "'pca': along one principal axis; 'points': through given points; 'clusters': through the clusters' centres; "
                      "'frames': given points, one conformation each.", label="Path", choices=("pca", "points", "clusters", "frames"))
    axis: int = param(1, "Principal axis, counted from 1.", label="Axis", low=1, high=1000)
    points: List[float] = param([], "Points of the path, vector after vector, in the units of the vectors.", label="Points")
    clusters: str = param("", "clusters.npz of the cluster command, for the path through clusters.", path=True)
    frames: int = param(10, "Number of conformations.", label="Frames", low=2, high=1000)
    extent_percent: float = param(95.0, "Part of the particles that a principal-axis path spans.", label="Extent", unit="%", low=10, high=100)
    geometry: str = param("linear", "'linear' displacements along the modes, or 'restored': rigid blocks rotate and bonds are restored "
                          "(for large amplitudes).", label="Geometry", choices=("linear", "restored"))
    consensus: str = param("", "Consensus map of the run that found the motion of a Gaussian model: maps of the frames are then this map plus what the model changes, "
                           "which keeps its detail. Without it they are maps of the Gaussians.", path=True)
    volumes: bool = param(True, "Write each conformation as a map too.", label="Write maps?")
    box: int = param(0, "Box of the maps; 0 takes that of the Gaussian model, with normal modes 128.", label="Box size", unit="px", low=0, high=1024)
    pixel_size_angst: float = param(0.0, "Pixel size of the maps; 0 takes that of the Gaussian model, with normal modes 2 Å.", label="Pixel size", unit="Å", low=0, high=50)
