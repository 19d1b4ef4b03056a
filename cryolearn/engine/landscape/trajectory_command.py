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
from ..io.tables import number_vectors, read_table, write_table
from .atom_frames import AtomFrames
from .chimerax import write_script
from .config import TrajectoryConfig
from .gaussian_frames import GaussianFrames
from .path import arc_length
from .reduce import reduce_vectors
from .summary import TrajectorySummary, write_summary

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
    vectors = number_vectors(columns, config.column, config.table)
    notes = {**meta, "column": config.column, "geometry": config.geometry}
    source: AtomFrames | GaussianFrames
    if config.motion:
        source = GaussianFrames(config, vectors)
        notes |= {"geometry": "Gaussian model", "latent_names": source.names, "basis": source.model.basis}
        notes.pop("mode_numbers", None)
    else:
        source = AtomFrames(config, vectors, meta)
        notes["mode_numbers"] = list(config.mode_numbers)
    corners, frames = source.place(columns)
    counts, distance = source.count(corners, frames)
    os.makedirs(config.output, exist_ok=True)
    _remove_frames(config.output)
    rmsd, found = source.write(frames)
    write_script(os.path.join(config.output, "trajectory.cxc"), config.volumes, source.is_molecule, source.models, source.radius_angst)
    write_table(os.path.join(config.output, "trajectory.npz"), {
        "id": np.arange(1, len(frames) + 1), "vectors": frames, "position": arc_length(frames), "population": counts, "rmsd_angst": rmsd,
    }, {**notes, "digest": digest_config(config)})
    _draw(config, vectors, frames, counts, notes)
    summary: TrajectorySummary = {
        "frames": len(frames), "length": float(arc_length(corners)[-1]), "mean_distance_to_path": float(distance.mean()), **found}
    write_summary(config.output, summary)


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
