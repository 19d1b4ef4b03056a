"""Tilt-series particles: 2D stacks of RELION 5 and WarpTools, a stack of tilt images for each particle, as one row an image."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from ..launch import say_once
from .column_numbers import whole_numbers
from .file_lookup import find_file
from .mrc_header import read_header
from .particle_formats import read_blocks
from .star_columns import number_columns, optics_rows, refuse_repeats, require_columns
from .star_text import Block, read_star
from .star_versions import holds_tilt_stacks, particles_with_optics
from .tilt_geometry import TiltTable, euler_angles, euler_matrices, number_lists, read_tilt_tables

__all__ = ["ANGLES", "DOSE_COLUMN", "FRAME", "OPTIMISATION_SET", "ORIGIN", "TiltSource", "Tilts", "particle_poses", "read_image_blocks"]

DOSE_COLUMN = "cryolearnDose"  # of an image, between this reader and the table
OPTIMISATION_SET = ("rlnTomoParticlesFile", "rlnTomoTomogramsFile")
_VISIBLE = "rlnTomoVisibleFrames"
ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
FRAME = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
ORIGIN = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
_CENTRED = ("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst")
_WITHOUT = {"rlnPhaseShift": 0.0, "rlnCtfBfactor": 0.0, "rlnCtfScalefactor": 1.0}  # what tomograms have that do not say it
_COORDINATES = ("rlnCoordinateX", "rlnCoordinateY", "rlnCoordinateZ")


@dataclass(frozen=True, kw_only=True)
class TiltSource:
    """What the particles came from, one row a particle.

    Attributes
    ----------
    ids : (p,) of the particles
    columns, optics : their columns and those of the optics groups
    image_file : (p,) their stacks, as paths that can be opened
    general : block data_general
    tomograms_file : the tomograms table
    star_files : all files that what is known of the images is from
    warnings : what they say of the image formation that is not used
    """

    ids: NDArray[np.int64]
    columns: Block
    optics: Block
    image_file: list[str]
    general: Block
    tomograms_file: str
    star_files: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Tilts:
    """What the images of a tilt-series set have beside those of single particles.

    Attributes
    ----------
    particle_ids : (n,) the particle that an image shows
    matrix : (n, 3, 3) from the tomogram's axes to those of the image
    dose : (n,) e/Å^2 received before; None is not said
    depth_angst, hand : (n,) depth of the particle in the tilt, times the slope, and its factor in the defocus (``rlnTomoHand``, 0 is not known); None where the
        depth is not said
    source : the particles
    """

    particle_ids: NDArray[np.int64]
    matrix: NDArray[np.float64]
    dose: NDArray[np.float64] | None
    depth_angst: NDArray[np.float64] | None
    hand: NDArray[np.float64] | None
    source: TiltSource

    def subset(self, rows: ArrayLike | slice) -> Tilts:
        """The same for the images in ``rows``."""
        at: Any = rows
        found: dict[str, Any] = {name: None if values is None else values[at] for name, values in vars(self).items() if name != "source"}
        return replace(self, **found)


def particle_poses(
    tilts: Tilts, member: NDArray[np.int64], rotation: NDArray[np.float64], shift_angst: NDArray[np.float64],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Poses (p, 3, 3) of particles in the tomogram and their shifts (p, 3) from those of their images.

    Parameters
    ----------
    tilts
        Those of the images.
    member
        (n,) particle, counted from 0, of each image.
    rotation, shift_angst
        (n, 3, 3) and (n, 2) of the images. A particle's pose is that of its first image, its shift the one that those of its images fit best.
    """
    first = np.unique(member, return_index=True)[1]
    seen = tilts.matrix[:, :2]
    normal, right = np.zeros((len(first), 3, 3)), np.zeros((len(first), 3))
    np.add.at(normal, member, seen.transpose(0, 2, 1) @ seen)
    np.add.at(right, member, np.einsum("nij,ni->nj", seen, shift_angst))
    shift = (np.linalg.pinv(normal, hermitian=True, rcond=1e-6) @ right[..., None])[..., 0]
    return tilts.matrix[first].transpose(0, 2, 1) @ rotation[first], shift


def read_image_blocks(path: str, datadir: str, tilt_series: bool) -> tuple[str, dict[str, Block], Tilts | None]:
    """Read a particle file, or the one that an optimisation set names.

    Parameters
    ----------
    path
        Particle file or optimisation set.
    datadir
        Folder in which files are looked up first.
    tilt_series
        Tilt-series particles are taken.

    Returns
    -------
    the particle file, its blocks with one row an image, and what images of tilt-series particles have beside

    Raises
    ------
    InputError
        when the particles are tilt series that are not taken, or naming the particle, the stack, the tomogram or the column that cannot be used.
    """
    blocks = read_blocks(path, datadir)
    named = next((block[OPTIMISATION_SET[0]][0] for block in blocks.values() if len(block.get(OPTIMISATION_SET[0], ()))), None)
    particles = path if named is None else find_file(path, str(named), datadir)
    blocks = blocks if named is None else read_blocks(particles, datadir)
    if not holds_tilt_stacks(blocks):
        return particles, blocks, None
    if not tilt_series:
        raise InputError(f"The STAR file '{particles}' holds tilt-series particles (2D tilt stacks of RELION 5 or WarpTools), which this command does not "
                         "take; reconstruct, elastic-align and gaussian-heterogeneity do.")
    return particles, *_expand(path, particles, blocks, datadir)


def _find_tomograms(path: str, particles: str, datadir: str) -> str:
    """The tomograms table of a particle file: by the optimisation set given, by one beside it, or beside it."""
    folder, stem = os.path.dirname(os.path.abspath(particles)), os.path.splitext(os.path.basename(particles))[0]
    beside = sorted(name for name in os.listdir(folder) if name.endswith("optimisation_set.star"))
    sets = [path] if path != particles else [os.path.join(folder, name) for name in beside]
    for name in sets:
        for block in read_star(name).values():
            both = all(len(block.get(label, ())) for label in OPTIMISATION_SET)
            if both and os.path.basename(str(block[OPTIMISATION_SET[0]][0])) == os.path.basename(particles):
                return find_file(name, str(block[OPTIMISATION_SET[1]][0]), datadir)
    for candidate in (f"{stem}_tomograms.star", "tomograms.star"):
        if os.path.isfile(os.path.join(folder, candidate)):
            return os.path.join(folder, candidate)
    raise InputError(f"The STAR file '{particles}' holds tilt-series particles, but there is no tomograms table with it ('{stem}_tomograms.star' or "
                     "'tomograms.star'): give the optimisation set of the particles (*optimisation_set.star).")


def _expand(path: str, particles: str, blocks: dict[str, Block], datadir: str) -> tuple[dict[str, Block], Tilts]:
    """Blocks of the particle file with one row an image; ``path`` is that file or its optimisation set.

    Frames that are marked as not visible, that have no contrast (CTF scale 0) or whose image is blank are left out.
    """
    optics, columns = particles_with_optics(particles, blocks)
    require_columns(particles, "optics", optics, "rlnOpticsGroup", "rlnImagePixelSize")
    require_columns(particles, "particles", columns, "rlnImageName", "rlnTomoName")
    names = [str(name).rpartition("@")[2] for name in columns["rlnImageName"]]
    ids = whole_numbers(particles, columns["rlnImageId"], "rlnImageId") if "rlnImageId" in columns else np.arange(1, len(names) + 1)
    if not len(ids):
        raise InputError(f"The file '{particles}' has no particles.")
    refuse_repeats(particles, ids)
    tomograms = [str(name) for name in columns["rlnTomoName"]]
    source = TiltSource(ids=ids, columns=columns, optics=optics, general=blocks.get("general", {}), tomograms_file=_find_tomograms(path, particles, datadir),
                        image_file=[find_file(particles, name, datadir) for name in names])
    tables = read_tilt_tables(source.tomograms_file, sorted(set(tomograms)), datadir)
    source.star_files.extend([particles, *sorted({source.tomograms_file, *(table.file for table in tables.values())})])
    frames = _used_frames(particles, source, [tables[name] for name in tomograms])
    row = np.repeat(np.arange(len(ids)), [len(tilt) for tilt, _ in frames])
    if not len(row):
        raise InputError(f"No tilt image of the particles in '{particles}' can be used: all are marked as not visible ({_VISIBLE}), or blank.")
    at = [(tables[name], tilt) for name, (tilt, _) in zip(tomograms, frames)]
    group, group_row = optics_rows(particles, optics, columns, ids)
    images: Block = {
        "rlnImageName": np.array([f"{one + 1:06d}@{name}" for name, (_, sections) in zip(names, frames) for one in sections], dtype=object),
        "rlnImageId": np.arange(1, len(row) + 1), "rlnOpticsGroup": group[row],
    }
    if "rlnRandomSubset" in columns:
        images["rlnRandomSubset"] = columns["rlnRandomSubset"][row]
    matrix = np.concatenate([table.matrix[tilt] for table, tilt in at])
    frame, pose = (number_columns(particles, columns, labels, ids) for labels in (FRAME, ANGLES))
    turned = matrix if frame is None else matrix @ euler_matrices(frame)[row]
    if pose is not None:
        images.update(zip(ANGLES, euler_angles(turned @ euler_matrices(pose)[row]).T))
    offset = number_columns(particles, columns, ORIGIN, ids)
    moved = np.zeros((len(row), 3)) if offset is None else np.einsum("nij,nj->ni", turned, offset[row])
    images.update(zip(ORIGIN[:2], moved[:, :2].T))
    pixel = np.asarray(optics["rlnImagePixelSize"], np.float64)[group_row]
    centred = _centred_positions(particles, source, [tables[name] for name in tomograms], pixel)
    depth = hand = None
    if centred is not None:
        slope, hand = (np.array([of_tomogram(tables[name]) for name in tomograms])[row] for of_tomogram in (lambda table: table.slope, _hand))
        depth = slope * (np.einsum("nj,nj->n", matrix[:, 2], centred[row]) - moved[:, 2])
    images.update(_ctf_columns(source.tomograms_file, at, None if depth is None or hand is None else depth * hand))
    dose = np.concatenate([table.dose[tilt] for table, tilt in at if table.dose is not None] or [np.zeros(0)])
    if len(dose) == len(row):
        images[DOSE_COLUMN] = dose * np.repeat([tables[name].exposure_filter for name in tomograms], [len(tilt) for _, tilt in at])
    elif len(dose):
        raise InputError(f"The tomograms table '{source.tomograms_file}' gives the dose (rlnMicrographPreExposure) of some tomograms only: give all, or none.")
    tilts = Tilts(particle_ids=ids[row], matrix=matrix, dose=dose if len(dose) else None, depth_angst=depth, hand=hand, source=source)
    return {"optics": optics, "particles": images}, tilts


def _used_frames(path: str, source: TiltSource, tables: list[TiltTable]) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]]:
    """Tilts (row of the tilt table) that are used of each particle, and the sections of its stack that hold them."""
    found, hidden, empty, blank = [], 0, 0, 0
    texts = source.columns.get(_VISIBLE)
    for row, (table, file) in enumerate(zip(tables, source.image_file)):
        number = source.ids[row]
        visible = np.ones(len(table), bool) if texts is None else number_lists(path, texts[row : row + 1], _VISIBLE, source.ids[row : row + 1])[0] > 0
        if len(visible) != len(table):
            raise InputError(f"{_VISIBLE} of particle {number} in '{path}' has {len(visible)} values, but its tilt series {len(table)} tilts.")
        header = read_header(file)
        if header.shape[0] == len(table):
            section = np.arange(len(table))
        elif header.shape[0] == visible.sum():  # RELION writes the visible frames only
            section = np.cumsum(visible) - 1
        else:
            raise InputError(f"The stack '{file}' of particle {number} has {header.shape[0]} images, but its tilt series has {len(table)} tilts, of which "
                             f"{visible.sum()} are visible.")
        shown = visible & (table.ctf.get("rlnCtfScalefactor", np.ones(len(table))) > 0)
        middle = np.asarray(header.mapped()[:, header.shape[1] // 2], np.float32)  # one line of an image tells whether it is blank
        used = shown & (middle != middle[:, :1]).any(1)[section.clip(0)]
        hidden, empty, blank = hidden + (~visible).sum(), empty + (visible & ~shown).sum(), blank + (shown & ~used).sum()
        tilt = np.flatnonzero(used)
        found.append((tilt, section[tilt]))
    left_out = [f"{count} {why}" for count, why in ((hidden, "not visible"), (empty, "without contrast (CTF scale 0)"), (blank, "blank")) if count]
    say_once(f"{sum(len(tilt) for tilt, _ in found)} tilt images of {len(found)} particles" + (f"; left out: {', '.join(left_out)}." if left_out else "."))
    return found


def _hand(table: TiltTable) -> float:
    """Handedness of the defocus, 0 where it is not known: WarpTools wrote -1 whatever it is."""
    return 0.0 if table.by_warp and table.hand < 0 else table.hand


def _centred_positions(path: str, source: TiltSource, tables: list[TiltTable], image_pixel_angst: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """(p, 3) Å from the tomogram's centre; None, which is said, where they are not known."""
    centred = number_columns(path, source.columns, _CENTRED, source.ids)
    if centred is not None:
        return centred
    position = number_columns(path, source.columns, _COORDINATES, source.ids)
    if position is None or any(table.centre_px is None or not table.pixel_size_angst > 0 for table in tables):
        source.warnings.append(f"The particles of a tilt in '{path}' are given one defocus, that of the tomogram's centre: their places are not said "
                               f"({_CENTRED[0]}, or {_COORDINATES[0]} with rlnTomoSizeX and rlnTomoTiltSeriesPixelSize).")
        return None
    series_pixel = np.array([table.pixel_size_angst for table in tables])
    # WarpTools counts in pixels of the images, RELION in those of the tilt series
    unit = np.where([table.by_warp for table in tables], image_pixel_angst, series_pixel)
    return position * unit[:, None] - np.array([table.centre_px for table in tables]) * series_pixel[:, None]


def _ctf_columns(path: str, at: list[tuple[TiltTable, NDArray[np.int64]]], depth_angst: NDArray[np.float64] | None) -> Block:
    """Columns of the images' CTF; the defocus is that at the particle's depth."""
    labels = sorted(set().union(*(table.ctf for table, _ in at)))
    lacking = [label for label in labels if label not in _WITHOUT and any(label not in table.ctf for table, _ in at)]
    if lacking:
        raise InputError(f"The tomograms table '{path}' has the column {lacking[0]} for some tomograms only: give it for all, or for none.")
    columns = {label: np.concatenate([table.ctf[label][tilt] if label in table.ctf else np.full(len(tilt), _WITHOUT[label]) for table, tilt in at])
               for label in labels}
    for label in ("rlnDefocusU", "rlnDefocusV"):
        if label in columns and depth_angst is not None:
            columns[label] = columns[label] + depth_angst
    return columns
