"""Frames of a trajectory as Gaussian models: where along the motion they are, and their files."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.limits import same_pixel_size
from ..exceptions import InputError
from ..figures import map_slices, save_figure
from ..io.atomic import write_csv
from ..io.maps import MapSeriesWriter, read_map, write_map
from ..io.motions import MotionModel, read_motion
from ..io.pseudo_atoms import gaussian_structure, write_pseudo_atoms
from ..progress import Progress
from .config import TrajectoryConfig
from .path import cluster_rows, count_particles, equal_frames, nearest_frames, path_corners
from .summary import FrameNotes

__all__ = ["GaussianFrames"]

Array = NDArray[np.float64]


class GaussianFrames:
    """The frames that a motion model makes along a path of its latent coordinates.

    Parameters
    ----------
    config
        Of the command; ``motion`` is the model.
    vectors
        (n, K) latents of the particles.

    Raises
    ------
    InputError
        when the model cannot be read or the particles have another number of latents.
    """

    def __init__(self, config: TrajectoryConfig, vectors: Array) -> None:
        self.model: MotionModel = read_motion(config.motion)
        self.config, self.vectors = config, vectors
        if vectors.shape[1] != self.model.latent_dim:
            raise InputError(
                f"Column '{config.column}' of '{config.table}' has {vectors.shape[1]} coordinates, but the motion of '{config.motion}' has "
                f"{self.model.latent_dim}: give the table of the run that made the motion (expanded.npz for symmetric particles).")

    @property
    def names(self) -> list[str]:
        """Names of the latent coordinates."""
        count = self.model.latent_dim
        given = [str(name) for name in self.model.meta.get("latent_names") or []]
        return given if len(given) == count else [f"latent {number}" for number in range(1, count + 1)]

    models, is_molecule = "trajectory.cif", False  # file of all frames, in which B factors have no limit

    @property
    def radius_angst(self) -> float:
        """Radius at which ChimeraX shows the Gaussians: neighbours about touch."""
        return float(np.median(self.model.sigma_angst))

    def place(self, columns: dict[str, NDArray[Any]]) -> tuple[Array, Array]:
        """Corners (m, K) of the path and latents (F, K) of the frames.

        Open paths and linear motions follow the rule for all landscapes. A principal axis of a closed path is the whole turn, its clusters'
        centres are circular means; separate states have no path: each frame is a state.

        Raises
        ------
        InputError
            when a frame lies where the motion is not defined.
        """
        config, basis = self.config, self.model.basis
        if basis == "states":
            if config.path == "clusters":
                raise InputError("Separate states have no path between them: choose single frames, or the path 'pca', which shows every state.")
            states = np.unique(np.round(self.vectors), axis=0) if config.path == "pca" else path_corners(config, columns, self.vectors)
            return states, self._states(states)
        if basis == "periodic" and config.path == "pca":
            turn = np.linspace(-1, 1, config.frames + 1)[:, None]
            return turn, turn[:-1]  # the last one is the first again
        if basis == "periodic" and config.path == "clusters":
            turns = [np.angle(np.exp(1j * np.pi * self.vectors[rows, 0]).mean()) for rows in cluster_rows(config, columns)]
            corners = np.unwrap(turns)[:, None] / np.pi
        else:
            corners = path_corners(config, columns, self.vectors)
        frames = corners if config.path == "frames" else equal_frames(corners, config.frames)
        return corners, frames if basis == "periodic" else self._inside(frames)

    def _states(self, frames: Array) -> Array:
        count = len(self.model.displacement)
        wrong = np.flatnonzero((np.round(frames[:, 0]) != frames[:, 0]) | (frames[:, 0] < 0) | (frames[:, 0] >= count))
        if len(wrong):
            raise InputError(f"Frame {wrong[0] + 1} asks for state {frames[wrong[0], 0]:g}, but the states are the whole numbers 0 to {count - 1}.")
        return frames

    def _inside(self, frames: Array) -> Array:
        """Refuses frames beyond the ends of an open path; elsewhere moves them to where there are particles, and says so."""
        if self.model.basis == "polynomial":
            beyond = np.flatnonzero(np.abs(frames[:, 0]) > 1 + 1e-9)
            if len(beyond):
                raise InputError(f"Frame {beyond[0] + 1} is at {frames[beyond[0], 0]:g}, but the path of '{self.config.motion}' runs from -1 to 1.")
            return frames
        low, high = self.vectors.min(axis=0), self.vectors.max(axis=0)
        clipped = np.clip(frames, low, high)
        moved = np.flatnonzero((np.abs(clipped - frames) > 1e-9 * (high - low)).any(axis=1))
        if len(moved):
            print(f"WARNING: {len(moved)} frame(s), the first is {moved[0] + 1}, lie beyond all particles, where nothing is known of the motion: they are "
                  "moved to the nearest place that has particles.", flush=True)
        return clipped

    def count(self, corners: Array, frames: Array) -> tuple[NDArray[np.int64], Array]:
        """Particles nearest to each frame, and each particle's distance to the path."""
        if self.model.basis == "periodic":
            def circle(latents: Array) -> Array:
                return np.concatenate([np.cos(np.pi * latents), np.sin(np.pi * latents)], axis=1) / np.pi

            return nearest_frames(circle(self.vectors), circle(frames))
        return count_particles(self.vectors, corners, frames, alone=self.config.path == "frames" or self.model.basis == "states")

    def write(self, frames: Array) -> tuple[Array, FrameNotes]:
        """Write models, maps and the table ``frames.csv``; returns the RMSD (F,) of each frame to the model at rest, and what the summary says.

        The RMSD is over all Gaussians, weighted by the weights that they have at rest.
        """
        config, model, meta = self.config, self.model, self.model.meta
        corner = np.asarray(meta.get("origin_angst") or (0.0, 0.0, 0.0)) + int(meta["box"]) // 2 * float(meta["pixel_size_angst"])
        places, weights = model.conformation(frames)
        structures = []
        for number, (at, weight) in enumerate(zip(places, weights), start=1):
            rest = gaussian_structure(at + corner, model.weights, model.sigma_angst)
            structures.append(replace(rest, occupancy=weight / model.weights.mean()))
            write_pseudo_atoms(os.path.join(config.output, f"frame_{number:03d}"), structures[-1])
        write_pseudo_atoms(os.path.join(config.output, "trajectory"), *structures)
        if config.volumes:
            self._write_maps(places, weights, corner)
        shift = np.linalg.norm(places - model.positions_angst, axis=2)
        rmsd = np.sqrt((shift**2 * model.weights).sum(axis=1) / model.weights.sum())
        self._write_table(frames, shift, weights, rmsd)
        print(f"{len(frames)} frames of {len(model)} Gaussians: RMSD to the model at rest up to {rmsd.max():.2f} Å", flush=True)
        return rmsd, {"gaussians": len(model), "basis": model.basis, "largest_rmsd_angst": float(rmsd.max()), "geometry": "Gaussian model"}

    def _write_maps(self, places: Array, weights: Array, centre: Array) -> None:
        """Maps whose centre is that of the model's own box, and all of them in one stack of volumes, ``movie.mrc``."""
        from .gaussian_maps import GaussianMaps

        config = self.config
        box = config.box or int(self.model.meta["box"])
        pixel = config.pixel_size_angst or float(self.model.meta["pixel_size_angst"])
        maps = GaussianMaps(self.model, self.vectors, box, pixel, self._consensus(box, pixel))
        corner = centre - box // 2 * pixel
        progress = Progress("Maps", len(places), "maps")
        shown = {f"frame {number}": number for number in sorted({1, (len(places) + 1) // 2, len(places)})}
        drawn: dict[str, NDArray[np.float32]] = {}
        with MapSeriesWriter(os.path.join(config.output, "movie.mrc"), len(places), box, pixel, corner) as movie:
            for number, (at, weight) in enumerate(zip(places, weights), start=1):
                density = maps.at(at, weight).numpy()
                write_map(os.path.join(config.output, f"frame_{number:03d}.mrc"), density, pixel, corner)
                movie.write(number - 1, density)
                drawn |= {name: density for name, wanted in shown.items() if wanted == number}
                progress.step()
        save_figure(map_slices(drawn, pixel, title="Frames"), os.path.join(config.output, "figures", "frames.png"))

    def _consensus(self, box: int, pixel: float) -> NDArray[np.float32] | None:
        """The map that the frames build on, which must be that of the motion."""
        consensus = self.config.consensus
        if not consensus:
            return None
        found = read_map(consensus)
        sides, own_box, own_pixel = set(found.data.shape), int(self.model.meta["box"]), float(self.model.meta["pixel_size_angst"])
        for what, given, own, same in (("box", found.data.shape[0], own_box, sides == {own_box}),
                                       ("pixel size", found.pixel_size_angst, own_pixel, same_pixel_size(found.pixel_size_angst, own_pixel))):
            if not same:
                raise InputError(
                    f"The map '{consensus}' has a {what} of {given:g}, but the motion was found with {own:g}: give the consensus map of that run.")
        if (box, pixel) != (found.data.shape[0], pixel) or not same_pixel_size(found.pixel_size_angst, pixel):
            raise InputError("Frames on the consensus map have its box and pixel size: leave both at 0, or leave the map out.")
        return found.data

    def _write_table(self, frames: Array, shift: Array, weights: Array, rmsd: Array) -> None:
        columns = ["frame", *(name.replace(" ", "_") for name in self.names), "rmsd_angst", "largest_shift_angst", "weight"]
        write_csv(os.path.join(self.config.output, "frames.csv"), columns, (
            [number, *(f"{latent:.4f}" for latent in frame), f"{value:.4f}", f"{far.max():.4f}", f"{weight.sum() / self.model.weights.sum():.4f}"]
            for number, (frame, far, weight, value) in enumerate(zip(frames, shift, weights, rmsd), start=1)
        ))
