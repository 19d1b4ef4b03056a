"""Files that other programs open: Gaussians as pseudo-atoms, eigen-motions as ChimeraX arrows, particles as STAR with their coordinates."""

from __future__ import annotations

import os
from dataclasses import replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...io.atomic import write_text
from ...io.motions import MotionModel
from ...io.pseudo_atoms import gaussian_structure, write_gaussians
from ...io.star import ParticleTable, write_particles
from ...io.structures import write_structure

__all__ = ["map_positions", "write_eigen_arrows", "write_gaussian_files", "write_particles_star"]

_FULL_SCALE = 100.0  # B factor of the most flexible Gaussian
_SHORTEST_ARROW = 0.1  # of the longest: shorter ones are not drawn
_COLOURS = ((0.84, 0.37, 0.0), (0.0, 0.45, 0.70), (0.0, 0.62, 0.45), (0.80, 0.47, 0.65), (0.90, 0.62, 0.0), (0.34, 0.71, 0.91))


def map_positions(model: MotionModel, positions_angst: ArrayLike | None = None) -> NDArray[np.float64]:
    """Positions (..., M, 3) (the model's own by default) in the frame of the map file instead of from the centre of its box."""
    places = np.asarray(model.positions_angst if positions_angst is None else positions_angst, np.float64)
    corner = np.asarray(model.meta.get("origin_angst") or (0.0, 0.0, 0.0), np.float64)
    return places + corner + int(model.meta["box"]) // 2 * float(model.meta["pixel_size_angst"])


def write_gaussian_files(
    output: str, model: MotionModel, flexibility: ArrayLike, excursion: ArrayLike, moves: ArrayLike, *, vectors: ArrayLike | None = None,
    std_angst: ArrayLike | None = None, significant: ArrayLike | None = None,
) -> None:
    """Write the Gaussians and what moves of them.

    ``gaussians.npz``, ``gaussians.cif``, ``gaussians.pdb`` (as ``volume-to-gaussians`` writes them, with the columns ``flexibility``,
    ``excursion_angst`` and ``moves``), ``gaussians_flexibility.pdb`` (B factor: flexibility, 100 for the largest) and, with ``vectors``, the arrows
    of :func:`write_eigen_arrows`.

    Parameters
    ----------
    output
        Folder of the files.
    model
        Gaussians, with box, voxel size and origin of their map in ``meta``.
    flexibility, excursion, moves
        (M,) relative flexibility, path length in Å along the trajectory, and whether a Gaussian may move.
    vectors
        (K, M, 3) unit eigen-motions (or (K, M, 1) of amplitudes, which have no arrows).
    std_angst, significant
        (K,) standard deviation of the particles along them, and whether they explain more than noise does.
    """
    places = map_positions(model)
    flexible, far = np.asarray(flexibility, np.float64), np.asarray(excursion, np.float64)
    pixel, box = float(model.meta["pixel_size_angst"]), int(model.meta["box"])
    notes = {"pixel_size_angst": pixel, "shape": [box] * 3, "origin_angst": list(model.meta.get("origin_angst") or (0.0, 0.0, 0.0))}
    write_gaussians(output, places, model.weights, model.sigma_angst, notes, {
        "flexibility": flexible, "excursion_angst": far, "moves": np.asarray(moves, bool),
    })
    largest = float(flexible.max()) if len(flexible) and flexible.max() > 0 else 1.0
    coloured = gaussian_structure(places, model.weights, model.sigma_angst, _FULL_SCALE * flexible.clip(min=0) / largest)
    # gaussians.pdb carries the weights; an occupancy of 1 keeps viewers from fading or warning
    write_structure(os.path.join(output, "gaussians_flexibility.pdb"), replace(coloured, occupancy=np.ones(len(places))))
    if vectors is not None:
        write_eigen_arrows(output, places, vectors, std_angst, significant, sigma_angst=float(np.median(model.sigma_angst)))


def write_eigen_arrows(
    output: str, places_angst: ArrayLike, vectors: ArrayLike, std_angst: ArrayLike | None = None, significant: ArrayLike | None = None,
    sigma_angst: float = 2.0,
) -> list[str]:
    """Write ``eigen_motion_1.bild`` ... (ChimeraX's BILD format, one arrow a Gaussian) and ``eigen_motions.cxc``, which shows them.

    An arrow goes from a Gaussian's place minus one standard deviation of its motion to the place plus one; where that is shorter than two of the
    Gaussians' widths for all of them, all arrows are lengthened by one factor, which the file's first line says. Arrows below a
    tenth of the longest are left out. Returns the names of the BILD files.
    """
    os.makedirs(output, exist_ok=True)
    places, directions = np.asarray(places_angst, np.float64), np.asarray(vectors, np.float64)
    has_arrows = directions.ndim == 3 and directions.shape[2] == 3
    deviations = np.ones(len(directions)) if std_angst is None else np.asarray(std_angst, np.float64)
    names = []
    for number, (direction, deviation) in enumerate(zip(directions, deviations), start=1) if has_arrows else ():
        step = direction * deviation
        length = np.linalg.norm(step, axis=1)
        longest = float(length.max(initial=0.0))
        if not longest > 0:
            continue
        factor = max(1.0, 2 * sigma_angst / longest)
        name = f"eigen_motion_{number}.bild"
        noise = significant is not None and not np.asarray(significant)[number - 1]
        lines = [f".comment eigen-motion {number}: plus and minus one standard deviation ({longest:.2f} Å at most), drawn {factor:.3g} times as long"
                 + (" (explains no more than noise does)" if noise else ""), f".note eigen-motion {number}",
                 ".color " + " ".join(f"{part:g}" for part in _COLOURS[(number - 1) % len(_COLOURS)])]
        shaft = max(0.3, 0.15 * sigma_angst)
        for place, arrow, size in zip(places, step * factor, length):
            if size >= _SHORTEST_ARROW * longest:
                ends = " ".join(f"{value:.3f}" for value in (*(place - arrow), *(place + arrow)))
                lines.append(f".arrow {ends} {shaft:.2f} {2.5 * shaft:.2f} 0.75")
        write_text(os.path.join(output, name), "\n".join(lines) + "\n")
        names.append(name)
    shown = [
        "# Gaussians coloured by flexibility, with their eigen-motions as arrows; open this file in an empty ChimeraX session.",
        "set bgColor white", "open gaussians_flexibility.pdb name Gaussians", "style #1 sphere", f"size #1 atomRadius {max(0.5, 0.7 * sigma_angst):.2f}",
        "hide #1 cartoons", "show #1 atoms", "color byattribute bfactor #1 target a palette #3b4cc0:#dddddd:#b40426 range 0,100", "transparency #1 50 target a",
        *(f"open {name}" for name in names), *([f"hide #3-{len(names) + 1} models"] if len(names) > 1 else []), "lighting soft", "view",
        *(["# the model panel, or 'show #3 models', shows the other motions"] if len(names) > 1 else []),
    ]
    write_text(os.path.join(output, "eigen_motions.cxc"), "\n".join(shown) + "\n")
    return names


def write_particles_star(
    output: str, table: ParticleTable, latents: ArrayLike, errors: ArrayLike, weight: ArrayLike | None = None, classes: ArrayLike | None = None,
    name: str = "particles.star",
) -> str:
    """Write ``particles.star``: all columns that the particles came with, and what was found; returns its path.

    ``cryolearnLatent1`` ..., ``cryolearnLatentError1`` ..., ``cryolearnWeight`` and ``cryolearnClass`` are added (columns of an earlier run are
    replaced). RELION leaves labels that it does not know alone.

    Parameters
    ----------
    output
        Folder of the file.
    table
        The particles, n of them, with all columns that they came with.
    latents, errors
        (n, K) coordinates and their error bars, in the table's order.
    weight, classes
        (n,) weight (posterior of the place) and class from 1.
    name
        File name.
    """
    values, deviations = (np.asarray(given, np.float64).reshape(len(table), -1) for given in (latents, errors))
    extra = {label: column for label, column in table.extra.items() if not label.startswith("cryolearn")}
    for stem, columns in (("cryolearnLatent", values), ("cryolearnLatentError", deviations)):
        extra.update({f"{stem}{number}": np.round(column, 6) for number, column in enumerate(columns.T, start=1)})
    if weight is not None:
        extra["cryolearnWeight"] = np.round(np.asarray(weight, np.float64), 6)
    if classes is not None:
        extra["cryolearnClass"] = np.asarray(classes, np.int64)
    os.makedirs(output, exist_ok=True)
    path = os.path.join(output, name)
    write_particles(path, replace(table, extra=extra))
    return path
