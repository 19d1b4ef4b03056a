"""The command ``trajectory``: conformations along a path through the landscape."""

from __future__ import annotations

import csv
import json
import os
import re
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import figures
from ..config import digest_config
from ..errors import InputError
from ..io.modes import Modes, read_modes
from ..io.structures import Structure, read_structure, write_models, write_structure
from ..io.tables import join, read_table, write_table
from ..progress import Progress
from .chimerax import write_script
from .config import TrajectoryConfig
from .geometry import Geometry, GeometryReport, find_geometry, report_geometry, restore_geometry
from .path import arc_length, equal_frames, nearest_frames, population, principal_path, project_on_path
from .reduce import reduce_vectors
from .vectors import axis_label, latent_vectors

__all__ = ["run"]

Array = NDArray[np.float64]


def run(config: TrajectoryConfig) -> None:
    """Write structures, maps, geometry report, script and figures of the frames.

    Raises
    ------
    InputError
        when the vectors are not amplitudes of the modes given, or the path cannot be made.
    """
    columns, meta = read_table(config.table)
    vectors = latent_vectors(columns, config.column, config.table)
    modes = _checked_modes(config, vectors, meta)
    structure = read_structure(os.path.join(os.path.dirname(config.modes), "structure.pdb"))
    if len(structure.coordinates) != len(modes.coordinates):
        raise InputError(
            f"The structure beside '{config.modes}' has {len(structure.coordinates)} atoms, but the modes have {len(modes.coordinates)}."
        )
    corners = path_corners(config, columns, vectors)
    config = replace(config, frames=len(corners)) if config.path == "frames" else config
    frames = corners if config.path == "frames" else equal_frames(corners, config.frames)
    geometry = find_geometry(modes.coordinates, structure.element, structure.residue_number, structure.chain)
    os.makedirs(config.output, exist_ok=True)
    _remove_frames(config.output)
    coordinates, reports = _conformations(config, frames, modes, geometry)
    _write_structures(config, structure, coordinates)
    if config.volumes:
        _write_maps(config, modes, coordinates)
    write_script(os.path.join(config.output, "trajectory.cxc"), config.volumes, bool(len(geometry.bonds)))
    _write_geometry(config, frames, reports)

    length = float(arc_length(corners)[-1])
    if config.path == "frames":
        counts, distance = nearest_frames(vectors, frames)
    else:
        position, distance = project_on_path(vectors, corners)
        counts = population(position, length, config.frames)
    notes = {**meta, "column": config.column, "mode_numbers": list(config.mode_numbers), "geometry": config.geometry,
             "digest": digest_config(config)}
    write_table(os.path.join(config.output, "trajectory.npz"), {
        "id": np.arange(1, config.frames + 1), "vectors": frames, "position": arc_length(frames), "population": counts,
        "rmsd_angst": np.asarray([report.rmsd_angst for report in reports]),
    }, notes)
    _draw(config, vectors, corners, frames, counts, notes)
    summary: dict[str, Any] = {
        "frames": config.frames, "length": length, "mean_distance_to_path": float(distance.mean()),
        "largest_rmsd_angst": max(report.rmsd_angst for report in reports),
        "bonds_off_percent": max(report.bonds_off_percent for report in reports),
        "clashes": max(report.clashes for report in reports), "geometry": config.geometry,
    }
    with open(os.path.join(config.output, "summary.json"), "w", encoding="utf-8") as handle:
        json.dump(summary, handle, indent=2)
    print(
        f"{config.frames} frames ({config.geometry}): RMSD to the reference up to {summary['largest_rmsd_angst']:.2f} Å; worst frame has "
        f"{summary['bonds_off_percent']:.1f} % of bonds off by more than 0.2 Å and {summary['clashes']} contacts below 2 Å", flush=True,
    )
    if config.geometry == "linear" and summary["bonds_off_percent"] > 5:
        print("WARNING: linear displacements this large stretch bonds; choose the geometry 'restored' for models to be used further", flush=True)


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
    if not config.clusters:
        raise InputError("The path through clusters needs the table of the clusters (clusters.npz).")
    groups, _ = read_table(config.clusters)
    if "class" not in groups:
        raise InputError(f"'{config.clusters}' has no column 'class': give the clusters.npz of the cluster command.")
    inside = np.flatnonzero(groups["class"] > 0)
    rows = join(np.asarray(groups["id"])[inside], columns)
    classes = np.asarray(groups["class"])[inside]
    return np.stack([vectors[rows[classes == number]].mean(axis=0) for number in np.unique(classes)])


def _checked_modes(config: TrajectoryConfig, vectors: Array, meta: dict[str, Any]) -> Modes:
    numbers = [int(number) for number in config.mode_numbers]
    if vectors.shape[1] != len(numbers):
        raise InputError(
            f"Column '{config.column}' of '{config.table}' has {vectors.shape[1]} coordinates, but {len(numbers)} modes are named "
            f"({numbers}): name the modes that the amplitudes belong to."
        )
    stored = meta.get("mode_numbers")
    if stored and [int(number) for number in stored] != numbers:
        raise InputError(f"The amplitudes of '{config.table}' belong to modes {list(stored)}, not to {numbers}.")
    return read_modes(config.modes).select(numbers)


def _remove_frames(folder: str) -> None:
    """Remove the frames of an earlier run, which may have had more of them: the ChimeraX script opens all that are there."""
    for name in os.listdir(folder):
        if re.fullmatch(r"frame_\d{3,}\.(pdb|mrc)", name):
            os.remove(os.path.join(folder, name))


def _conformations(config: TrajectoryConfig, frames: Array, modes: Modes, geometry: Geometry) -> tuple[list[Array], list[GeometryReport]]:
    progress = Progress("Conformations", len(frames), "frames")
    coordinates, reports = [], []
    for frame in frames:
        moved = np.asarray(modes.displaced(frame), dtype=np.float64)
        if config.geometry == "restored":
            moved = restore_geometry(moved, geometry)
        coordinates.append(moved)
        reports.append(report_geometry(moved, geometry))
        progress.step()
    return coordinates, reports


def _write_structures(config: TrajectoryConfig, structure: Structure, coordinates: list[Array]) -> None:
    for number, moved in enumerate(coordinates, start=1):
        write_structure(os.path.join(config.output, f"frame_{number:03d}.pdb"), structure, moved)
    write_models(os.path.join(config.output, "trajectory.pdb"), structure, coordinates)


def _write_maps(config: TrajectoryConfig, modes: Modes, coordinates: list[Array]) -> None:
    """Maps centred on the modes' origin; ORIGIN is written so that they lie over the structures."""
    import torch

    from ..imaging.gaussians import render_gaussians_3d
    from ..io.maps import write_map

    weights = torch.as_tensor(np.asarray(modes.weights), dtype=torch.float32)
    sigma = torch.as_tensor(np.asarray(modes.sigma_angst), dtype=torch.float32).clamp(min=config.pixel_size_angst / 2)
    corner = np.asarray(modes.origin_angst, float) - config.box // 2 * config.pixel_size_angst
    progress = Progress("Maps", len(coordinates), "maps")
    for number, moved in enumerate(coordinates, start=1):
        centred = torch.as_tensor(moved - modes.origin_angst, dtype=torch.float32)
        density = render_gaussians_3d(centred, weights, sigma, config.box, config.pixel_size_angst)
        write_map(os.path.join(config.output, f"frame_{number:03d}.mrc"), density.numpy(), config.pixel_size_angst,
                  (float(corner[0]), float(corner[1]), float(corner[2])))
        progress.step()


def _write_geometry(config: TrajectoryConfig, frames: Array, reports: list[GeometryReport]) -> None:
    with open(os.path.join(config.output, "geometry.csv"), "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["frame", *(f"mode_{number}" for number in config.mode_numbers), "rmsd_angst", "bonds", "bonds_off_0.2A",
                         "bonds_off_percent", "largest_bond_change_angst", "clashes_below_2A"])
        for number, (frame, report) in enumerate(zip(frames, reports), start=1):
            writer.writerow([number, *(f"{value:.4f}" for value in frame), f"{report.rmsd_angst:.4f}", report.bonds, report.bonds_off,
                             f"{report.bonds_off_percent:.2f}", f"{report.largest_bond_change_angst:.3f}", report.clashes])


def _draw(config: TrajectoryConfig, vectors: Array, corners: Array, frames: Array, counts: NDArray[np.int64], notes: dict[str, Any]) -> None:
    """The path over the landscape (its two principal axes, or the two coordinates that there are), and the population along it."""
    folder = os.path.join(config.output, "figures")
    if vectors.shape[1] > 1:
        reduction = reduce_vectors(vectors, "pca" if vectors.shape[1] > 2 else "none", 2)
        assert reduction.mean is not None and reduction.components is not None and reduction.explained_variance is not None
        line = (frames - reduction.mean) @ reduction.components.T
        named = {"mode_numbers": config.mode_numbers, "column": config.column, "reduction": {
            "method": "pca" if vectors.shape[1] > 2 else "none", "explained_variance": reduction.explained_variance.tolist()}}
        figure = figures.landscape(
            reduction.coordinates[:, 0], reduction.coordinates[:, 1], axis_label("reduced:0", named), axis_label("reduced:1", named),
            path=line, title="Path",
        )
        figures.save_figure(figure, os.path.join(folder, "path.png"))
    figure = figures.new_figure()
    axes = figure.subplots()
    numbers = np.arange(1, len(counts) + 1)
    axes.bar(numbers, counts, color="#56b4e9")
    axes.set(xlabel="frame", ylabel="particles nearest to the frame", title="Population and apparent free energy along the path")
    seen = counts > 0
    right = axes.twinx()
    right.plot(numbers[seen], -np.log(counts[seen] / counts.max()), "o-", color="#d55e00")
    right.set_ylabel("-ln(population / largest)  (kT)", color="#d55e00")
    right.set_ylim(bottom=0)
    figures.save_figure(figure, os.path.join(folder, "population.png"))
