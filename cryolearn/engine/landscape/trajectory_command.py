"""The command ``trajectory``: conformations along a path through the landscape."""

from __future__ import annotations

import os
import re
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.axis_labels import axis_label
from ...common.figures.palette import COLOURS
from .. import figures
from ..config import digest_config
from ..exceptions import InputError
from ..io.atomic import write_json
from ..io.tables import join, read_table, write_table
from .atom_frames import AtomFrames
from .chimerax import write_script
from .config import TrajectoryConfig
from .gaussian_frames import GaussianFrames
from .path import arc_length, equal_frames, nearest_frames, population, principal_path, project_on_path
from .reduce import reduce_vectors
from .vectors import latent_vectors

__all__ = ["run"]

Array = NDArray[np.float64]
_SMALLEST_BOX = 16


def run(config: TrajectoryConfig) -> None:
    """Write models, maps, reports, script and figures of the frames.

    Raises
    ------
    InputError
        when the vectors are not those of the modes or motion given, or the path cannot be made.
    """
    if bool(config.motion) == bool(config.modes):
        raise InputError("A trajectory takes either normal modes (modes.npz) or the motion of a Gaussian model (motion.npz): give one of them.")
    if 0 < config.box < _SMALLEST_BOX:
        raise InputError(f"The parameter 'box' is {config.box} px, but maps have at least {_SMALLEST_BOX} px (or 0 for the model's own).")
    columns, meta = read_table(config.table)
    vectors = latent_vectors(columns, config.column, config.table)
    notes = {**meta, "column": config.column, "geometry": config.geometry}
    source: AtomFrames | GaussianFrames
    if config.motion:
        source = GaussianFrames(config, vectors)
        notes |= {"geometry": "Gaussian model", "latent_names": source.names, "basis": source.model.basis}
        notes.pop("mode_numbers", None)
        corners, frames = source.place(config, lambda: path_corners(config, columns, vectors), lambda: cluster_rows(config, columns))
        counts, distance, position = source.count(config, corners, frames)
    else:
        source = AtomFrames(config, vectors, meta)
        notes["mode_numbers"] = list(config.mode_numbers)
        corners = path_corners(config, columns, vectors)
        frames = corners if config.path == "frames" else equal_frames(corners, config.frames)
        counts, distance, position = _counted(config, vectors, corners, frames)
    os.makedirs(config.output, exist_ok=True)
    _remove_frames(config.output)
    rmsd, found = source.write(config, frames)
    write_script(os.path.join(config.output, "trajectory.cxc"), config.volumes, source.is_molecule, source.models, source.radius_angst)
    write_table(os.path.join(config.output, "trajectory.npz"), {
        "id": np.arange(1, len(frames) + 1), "vectors": frames, "position": position, "population": counts, "rmsd_angst": rmsd,
    }, {**notes, "digest": digest_config(config)})
    _draw(config, vectors, frames, counts, notes)
    summary: dict[str, Any] = {
        "frames": len(frames), "length": float(arc_length(corners)[-1]), "mean_distance_to_path": float(distance.mean()), **found}
    write_json(os.path.join(config.output, "summary.json"), summary)


def _counted(config: TrajectoryConfig, vectors: Array, corners: Array, frames: Array) -> tuple[NDArray[np.int64], Array, Array]:
    """Particles nearest to each frame, each particle's distance to the path, and each frame's place along it."""
    if config.path == "frames":
        return *nearest_frames(vectors, frames), arc_length(frames)
    position, distance = project_on_path(vectors, corners)
    return population(position, float(arc_length(corners)[-1]), len(frames)), distance, arc_length(frames)


def path_corners(config: TrajectoryConfig, columns: dict[str, NDArray[Any]], vectors: Array) -> Array:
    """Corners ``(m, k)`` of the path that was asked for.

    Raises
    ------
    InputError
        when points or clusters do not fit the vectors.
    """
    size = vectors.shape[1]
    if config.path == "pca":
        return principal_path(vectors, config.axis, config.extent_percent)
    if config.path in ("points", "frames"):
        fewest = 1 if config.path == "frames" else 2
        if len(config.points) < fewest * size or len(config.points) % size:
            raise InputError(
                f"The path has {len(config.points)} numbers, but each of its points ({fewest} at least) takes {size}: one for each coordinate."
            )
        return np.asarray(config.points, float).reshape(-1, size)
    return np.stack([vectors[rows].mean(axis=0) for rows in cluster_rows(config, columns)])


def cluster_rows(config: TrajectoryConfig, columns: dict[str, NDArray[Any]]) -> list[NDArray[np.int64]]:
    """Rows of the particles of each cluster, in the clusters' order.

    Raises
    ------
    InputError
        when there is no table of clusters, or it does not fit the particles.
    """
    if not config.clusters:
        raise InputError("The path through clusters needs the table of the clusters (clusters.npz).")
    groups, _ = read_table(config.clusters)
    if "class" not in groups:
        raise InputError(f"'{config.clusters}' has no column 'class': give the clusters.npz of the cluster command.")
    inside = np.flatnonzero(groups["class"] > 0)
    rows = join(np.asarray(groups["id"])[inside], columns)
    classes = np.asarray(groups["class"])[inside]
    return [rows[classes == number] for number in np.unique(classes)]


def _remove_frames(folder: str) -> None:
    """Remove the frames of an earlier run, which may have had more of them: the ChimeraX script opens all that are there."""
    for name in os.listdir(folder):
        if re.fullmatch(r"frame_\d{3,}\.(pdb|cif|mrc)|trajectory\.(pdb|cif)|movie\.mrc", name):
            os.remove(os.path.join(folder, name))


def _draw(config: TrajectoryConfig, vectors: Array, frames: Array, counts: NDArray[np.int64], notes: dict[str, Any]) -> None:
    """The path over the landscape (its two principal axes, or the two coordinates that there are), and the population along it."""
    folder = os.path.join(config.output, "figures")
    if vectors.shape[1] > 1:
        reduction = reduce_vectors(vectors, "pca" if vectors.shape[1] > 2 else "none", 2)
        assert reduction.mean is not None and reduction.components is not None and reduction.explained_variance is not None
        line = (frames - reduction.mean) @ reduction.components.T
        named = {**notes, "reduction": {
            "method": "pca" if vectors.shape[1] > 2 else "none", "explained_variance": reduction.explained_variance.tolist()}}
        figure = figures.landscape(
            reduction.coordinates[:, 0], reduction.coordinates[:, 1], axis_label("reduced:0", named), axis_label("reduced:1", named),
            path=line, title="Path",
        )
        figures.save_figure(figure, os.path.join(folder, "path.png"))
    figure = figures.new_figure()
    axes = figure.subplots()
    numbers = np.arange(1, len(counts) + 1)
    axes.bar(numbers, counts, color=COLOURS[5])
    axes.set(xlabel="frame", ylabel="particles nearest to the frame", title="Population and apparent free energy along the path")
    seen = counts > 0
    right = axes.twinx()
    right.plot(numbers[seen], -np.log(counts[seen] / counts.max()), "o-", color=COLOURS[4])
    right.set_ylabel("-ln(population / largest)  (kT)", color=COLOURS[4])
    right.set_ylim(bottom=0)
    figures.save_figure(figure, os.path.join(folder, "population.png"))
