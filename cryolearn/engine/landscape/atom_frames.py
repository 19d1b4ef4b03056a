"""Frames of a trajectory as atoms that normal modes displace: geometry, models and maps."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InputError
from ..io.atomic import write_csv
from ..io.modes import Modes, read_modes
from ..io.structures import Structure, copies_of_residues, find_structure, fits_pdb, read_structure, write_fitting
from ..progress import Progress
from .config import TrajectoryConfig
from .geometry import Geometry, GeometryReport, find_geometry, report_geometry, restore_geometry
from .path import count_particles, equal_frames, path_corners
from .summary import FrameNotes

__all__ = ["AtomFrames"]

Array = NDArray[np.float64]
_BOX, _PIXEL_ANGST = 128, 2.0


class AtomFrames:
    """The frames that normal modes make of a structure.

    Parameters
    ----------
    config
        Of the command; ``modes`` names the modes, beside which the structure stands.
    vectors, meta
        Amplitudes (n, K) of the particles, and the notes of their table.

    Raises
    ------
    InputError
        when the vectors are not amplitudes of the modes given, or the structure is not that of the modes.
    """

    def __init__(self, config: TrajectoryConfig, vectors: Array, meta: dict[str, Any]) -> None:
        self.config, self.vectors = config, vectors
        self.modes = _checked_modes(config, vectors, meta)
        self.structure: Structure = read_structure(find_structure(os.path.dirname(config.modes)), quiet=True)
        self.models = "trajectory.pdb"  # file of all frames; mmCIF where PDB cannot hold them
        if len(self.structure.coordinates) != len(self.modes.coordinates):
            raise InputError(
                f"The structure beside '{config.modes}' has {len(self.structure.coordinates)} atoms, but the modes have {len(self.modes.coordinates)}."
            )
        whole = np.char.add(np.char.add(self.structure.chain, self.structure.segment), copies_of_residues(self.structure).astype(str))
        self.geometry = find_geometry(self.modes.coordinates, self.structure.element, self.structure.residue_number, whole)

    @property
    def is_molecule(self) -> bool:
        """Whether there are bonds."""
        return bool(len(self.geometry.bonds))

    radius_angst = 2.0  # of pseudo-atoms in ChimeraX

    def place(self, columns: dict[str, NDArray[Any]]) -> tuple[Array, Array]:
        """Corners (m, K) of the path and amplitudes (F, K) of the frames."""
        corners = path_corners(self.config, columns, self.vectors)
        return corners, corners if self.config.path == "frames" else equal_frames(corners, self.config.frames)

    def count(self, corners: Array, frames: Array) -> tuple[NDArray[np.int64], Array]:
        """Particles nearest to each frame, and each particle's distance to the path."""
        return count_particles(self.vectors, corners, frames, alone=self.config.path == "frames")

    def write(self, frames: Array) -> tuple[Array, FrameNotes]:
        """Write models, maps and ``geometry.csv``; returns the RMSD (F,) of each frame to the reference, and what the summary says."""
        config = self.config
        coordinates, reports = _conformations(config, frames, self.modes, self.geometry)
        pdb = fits_pdb(self.structure, coordinates)
        for number, moved in enumerate(coordinates, start=1):
            write_fitting(os.path.join(config.output, f"frame_{number:03d}"), self.structure, [moved], pdb)
        self.models = os.path.basename(write_fitting(os.path.join(config.output, "trajectory"), self.structure, coordinates, pdb))
        if config.volumes:
            _write_maps(config, self.modes, coordinates)
        _write_geometry(config, frames, reports)
        worst: FrameNotes = {
            "largest_rmsd_angst": max(report.rmsd_angst for report in reports),
            "bonds_off_percent": max(report.bonds_off_percent for report in reports),
            "clashes": max(report.clashes for report in reports), "geometry": config.geometry,
        }
        print(
            f"{len(frames)} frames ({config.geometry}): RMSD to the reference up to {worst['largest_rmsd_angst']:.2f} Å; worst frame has "
            f"{worst['bonds_off_percent']:.1f} % of bonds off by more than 0.2 Å and {worst['clashes']} contacts below 2 Å", flush=True,
        )
        if config.geometry == "linear" and worst["bonds_off_percent"] > 5:
            print("WARNING: linear displacements this large stretch bonds; choose the geometry 'restored' for models to be used further", flush=True)
        return np.asarray([report.rmsd_angst for report in reports]), worst


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


def _write_maps(config: TrajectoryConfig, modes: Modes, coordinates: list[Array]) -> None:
    """Maps centred on the modes' origin; ORIGIN is written so that they lie over the structures."""
    import torch

    from ..imaging.gaussians import render_gaussians_3d
    from ..io.maps import write_map

    box, pixel = config.box or _BOX, config.pixel_size_angst or _PIXEL_ANGST
    weights = torch.as_tensor(np.asarray(modes.weights), dtype=torch.float32)
    sigma = torch.as_tensor(np.asarray(modes.sigma_angst), dtype=torch.float32).clamp(min=pixel / 2)
    corner = np.asarray(modes.origin_angst, float) - box // 2 * pixel
    progress = Progress("Maps", len(coordinates), "maps")
    for number, moved in enumerate(coordinates, start=1):
        centred = torch.as_tensor(moved - modes.origin_angst, dtype=torch.float32)
        density = render_gaussians_3d(centred, weights, sigma, box, pixel)
        write_map(os.path.join(config.output, f"frame_{number:03d}.mrc"), density.numpy(), pixel,
                  (float(corner[0]), float(corner[1]), float(corner[2])))
        progress.step()


def _write_geometry(config: TrajectoryConfig, frames: Array, reports: list[GeometryReport]) -> None:
    columns = ["frame", *(f"mode_{number}" for number in config.mode_numbers), "rmsd_angst", "bonds", "bonds_off_0.2A", "bonds_off_percent",
               "largest_bond_change_angst", "clashes_below_2A"]
    write_csv(os.path.join(config.output, "geometry.csv"), columns, (
        [number, *(f"{value:.4f}" for value in frame), f"{report.rmsd_angst:.4f}", report.bonds, report.bonds_off,
         f"{report.bonds_off_percent:.2f}", f"{report.largest_bond_change_angst:.3f}", report.clashes]
        for number, (frame, report) in enumerate(zip(frames, reports), start=1)
    ))
