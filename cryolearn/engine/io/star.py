"""Particle sets as RELION 3.1+ STAR files: an optics table and one row a particle."""

from __future__ import annotations

import os
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from ..launch import say_once
from .acquisition_checks import doubtful_ctf, doubtful_origins
from .column_numbers import finite_numbers
from .cryosparc import CS_COLUMN, SIGN_LABEL, write_cs
from .cryosparc import unused_columns as unused_of_cryosparc
from .file_lookup import find_file, written_name
from .image_names import check_sections, split_image_names
from .mrc_header import read_header
from .optics import OpticsGroups, read_optics_groups, same_pixel, unused_columns
from .star_columns import number_columns, require_columns, warn_of_repeated_images
from .star_table import DECIMALS, StarTable, read_shared_columns, write_set
from .star_text import Block
from .star_versions import refuse_volumes
from .tilt_set_writer import write_tilt_set
from .tilt_stacks import DOSE_COLUMN, Tilts, read_image_blocks

_ORIGIN = ("rlnOriginXAngst", "rlnOriginYAngst")
_ORIGIN_PIXELS = ("rlnOriginX", "rlnOriginY")
_DEFOCUS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift")
_SCOPE = {"rlnVoltage": "voltage_kv", "rlnSphericalAberration": "cs_mm", "rlnAmplitudeContrast": "amplitude_contrast"}
_MORE = {"rlnCtfBfactor": "b_factor", "rlnCtfScalefactor": "scale", "rlnCtfDataArePhaseFlipped": "phase_flipped",
          "rlnCtfDataAreCtfPremultiplied": "premultiplied"}  # these stay among the extra columns
_OWN = {DOSE_COLUMN, *_ORIGIN, *_ORIGIN_PIXELS, *_DEFOCUS, SIGN_LABEL, CS_COLUMN}


@dataclass
class CtfTable:
    """Contrast transfer of each particle; all arrays (n,).

    Attributes
    ----------
    defocus_u, defocus_v : Å, positive is underfocus
    defocus_angle : degrees, of U from the x axis
    phase_shift : degrees
    voltage_kv : kV
    cs_mm : mm
    amplitude_contrast : fraction
    b_factor, scale : Å^2, factor; of the envelope ``scale exp(-B k^2 / 4)``. This and what follows is None where no particle has it
    even_zernike : (n, k) coefficients in rad for frequencies in 1/Å
    phase_flipped, premultiplied : whether the image is multiplied by the sign of its CTF, or by its CTF
    limit : frequency along x and y in 1/Å, from which on the image holds nothing
    dose : e/Å^2 received before the image, which weakens it by the exposure filter
    """

    defocus_u: NDArray[np.float64]
    defocus_v: NDArray[np.float64]
    defocus_angle: NDArray[np.float64]
    phase_shift: NDArray[np.float64]
    voltage_kv: NDArray[np.float64]
    cs_mm: NDArray[np.float64]
    amplitude_contrast: NDArray[np.float64]
    b_factor: NDArray[np.float64] | None = None
    scale: NDArray[np.float64] | None = None
    even_zernike: NDArray[np.float64] | None = None
    phase_flipped: NDArray[np.bool_] | None = None
    premultiplied: NDArray[np.bool_] | None = None
    limit: NDArray[np.float64] | None = None
    dose: NDArray[np.float64] | None = None

    def subset(self, rows: ArrayLike | slice) -> CtfTable:
        """The same for the particles in ``rows``."""
        at = rows if isinstance(rows, slice) else np.asarray(rows)
        picked: dict[str, Any] = {name: None if values is None else values[at] for name, values in vars(self).items()}
        return CtfTable(**picked)

    @classmethod
    def flat(cls, limit: NDArray[np.float64]) -> CtfTable:
        """No CTF: 1 at all frequencies below the limit of each image."""
        zero, one = np.zeros(len(limit)), np.ones(len(limit))
        return cls(defocus_u=zero, defocus_v=zero, defocus_angle=zero, phase_shift=zero, voltage_kv=300 * one, cs_mm=zero, amplitude_contrast=one, limit=limit)


@dataclass(kw_only=True)
class ParticleTable(StarTable):
    """A set of particles.

    Attributes
    ----------
    image_file : list of str
        The image stacks, each once, as paths that can be opened.
    file_index : (n,) int
        Which of ``image_file`` holds a particle.
    image_index : (n,) int
        Section of that stack, counted from 0.
    origin_angst : (n, 2) or None
        ``rlnOriginXAngst``, ``rlnOriginYAngst``, without the anisotropic magnification.
    ctf : CtfTable or None
    image_sign : (n,) or None
        -1 where an image is dark on light in its file and is inverted as it is read.
    cryosparc : (n,) or None
        Rows of the cryoSPARC file that the particles came from.
    tilts : Tilts or None
        Of tilt-series particles: which particle each image shows, and how its tilt lies.
    warnings : list of str
        What the file says of the image formation that is not used, or that is in doubt.
    """

    dimensions = 2
    of_the_set = StarTable.of_the_set | {"image_file", "warnings"}

    image_file: list[str]
    file_index: NDArray[np.int64]
    image_index: NDArray[np.int64]
    origin_angst: NDArray[np.float64] | None = None
    ctf: CtfTable | None = None
    image_sign: NDArray[np.int64] | None = None
    cryosparc: NDArray[Any] | None = None
    tilts: Tilts | None = None
    warnings: list[str] = field(default_factory=list)

    def groups(self) -> tuple[OpticsGroups, NDArray[np.int64]]:
        """What the optics groups say, and the row of each particle's group among them (n,)."""
        found = read_optics_groups("", self.optics)
        return found, found.rows(np.asarray(self.optics_group))

    def particles(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Ids of the particles (p,), and the place among them of the one that each image shows (n,); a single particle is one image."""
        if self.tilts is None:
            return self.ids, np.arange(len(self))
        ids, first, member = np.unique(self.tilts.particle_ids, return_index=True, return_inverse=True)
        rank = np.argsort(np.argsort(first))  # in the order of the file
        return ids[np.argsort(first)], rank[member]

    def files(self) -> tuple[str, ...]:
        """Files that hold what is not in the particle file: the stacks, and the tables of tilt series."""
        return tuple(self.image_file) if self.tilts is None else (*self.image_file, *self.tilts.source.star_files)

    def with_poses(self, angles_deg: ArrayLike, origin_angst: ArrayLike) -> ParticleTable:
        """The same particles with other poses: ``angles_deg`` (n, 3), ``origin_angst`` (n, 2)."""
        angles, origin = np.asarray(angles_deg, np.float64), np.asarray(origin_angst, np.float64)
        if angles.shape != (len(self), 3) or origin.shape != (len(self), 2):
            raise ValueError(f"{len(self)} particles need angles (n, 3) and origins (n, 2), not {angles.shape} and {origin.shape}")
        return replace(self, angles_deg=angles, origin_angst=origin)

    def image_name(self, row: int) -> str:
        """Name of a particle's image, ``000001@stack.mrcs``."""
        return f"{self.image_index[row] + 1:06d}@{self.image_file[self.file_index[row]]}"

    def _microscope(self, rows: NDArray[np.int64]) -> Block:
        return {} if self.ctf is None else {label: getattr(self.ctf, name)[rows] for label, name in _SCOPE.items()}


def read_particles(path: str, check_images: bool = True, datadir: str = "", tilt_series: bool = False) -> ParticleTable:
    """Read particles from a STAR file of RELION, a ``.cs`` file of cryoSPARC, or a metadata file of Xmipp.

    Image stacks are looked up as :func:`cryolearn.engine.io.file_lookup.find_file` says.

    Parameters
    ----------
    path : str
        STAR, ``.cs`` or ``.xmd`` file.
    check_images : bool
        Open the header of every stack, so that a missing or truncated stack and an index beyond its end are refused here.
    datadir : str
        Folder in which stacks are looked up first.
    tilt_series : bool
        Tilt-series particles of RELION 5 and WarpTools (their STAR file or optimisation set) are read with one row for each tilt image, instead of refused.

    Raises
    ------
    InputError
        naming the missing column, stack, image, optics group or id, or a number that no microscope has.
    """
    path, blocks, tilts = read_image_blocks(path, datadir, tilt_series)
    fields, columns, group_row = read_shared_columns(path, blocks, "particles", _OWN)
    ids, optics = fields["ids"], fields["optics"]
    refuse_volumes(path, optics)
    names, file_index, image_index = split_image_names(path, columns["rlnImageName"], ids)
    files = [find_file(path, name, datadir) for name in names]
    warn_of_repeated_images(path, file_index, image_index)
    groups = read_optics_groups(path, optics)
    common = groups.most_common(group_row)
    pixel_size, box = float(groups.pixel_size_angst[common]), int(groups.box[common]) or read_header(files[0]).shape[2]
    if check_images:
        check_sections(path, files, file_index, image_index, ids, np.where(groups.box > 0, groups.box, box)[group_row])
    ctf = _ctf(path, optics, columns, group_row, ids)
    said = [] if ctf is None else doubtful_ctf(path, ctf)
    if ctf is not None:
        if ctf.scale is not None and not (ctf.scale > 0).any():
            raise InputError(f"The CTF scale (rlnCtfScalefactor) of all particles in '{path}' is 0 or less, so that no image shows anything: correct it, or "
                             "remove the column.")
        ctf = _with_optics(ctf, groups, group_row, pixel_size)
    elif groups.premultiplied[group_row].any():
        raise InputError(f"The images of '{path}' are multiplied by their CTF (rlnCtfDataAreCtfPremultiplied), but it gives no defocus (rlnDefocusU).")
    said += unused_columns(path, optics, columns) if tilts is None else [*unused_columns(path, optics, tilts.source.columns), *tilts.source.warnings]
    foreign = unused_of_cryosparc(columns[CS_COLUMN]) if CS_COLUMN in columns else []
    if foreign:
        said.append(f"{', '.join(foreign)} of '{path}' are not used, and written back to .cs files only: refine aberrations and magnification in RELION.")
    origins = _origins(path, columns, ids, groups, group_row)
    said += [] if origins is None else doubtful_origins(path, origins, groups, group_row, box)
    if not (same_pixel(pixel_size, groups.pixel_size_angst) & (groups.box == groups.box[common]))[group_row].all():
        say_once(f"Images of several pixel sizes or boxes: all are brought to {pixel_size:g} Å and {box} px, those of most particles.")
    for text in said:
        say_once(f"WARNING: {text}")
    return ParticleTable(
        **fields, pixel_size_angst=pixel_size, box=box, image_file=files, file_index=file_index, image_index=image_index,
        origin_angst=origins, ctf=ctf, warnings=said,
        image_sign=columns.get(SIGN_LABEL), cryosparc=columns.get(CS_COLUMN), tilts=tilts,
    )


def write_particles(path: str, table: ParticleTable) -> None:
    """Write a particle set as a RELION 3.1+ STAR file; particles of cryoSPARC also as a ``.cs`` file beside it.

    Tilt-series particles are written as RELION 5 has them, with their optimisation set.

    Stacks beside or below the STAR file are named relative to it, others relative to the current folder
    when they lie in it, else by their whole path.
    """
    if table.tilts is not None:
        extra = table.extra if table.random_subset is None else {"rlnRandomSubset": table.random_subset, **table.extra}
        write_tilt_set(path, table.tilts, table.angles_deg, table.origin_angst, extra, DECIMALS)
        return
    names = [written_name(path, name) for name in table.image_file]
    own: Block = {}
    if table.origin_angst is not None:
        groups, rows = table.groups()
        shift = np.einsum("nji,nj->ni", groups.magnification[rows], table.origin_angst)
        own.update(zip(_ORIGIN, np.round(shift.T, DECIMALS)))
    if table.ctf is not None:
        ctf = table.ctf
        own.update(zip(_DEFOCUS, np.round(np.stack((ctf.defocus_u, ctf.defocus_v, ctf.defocus_angle, ctf.phase_shift)), DECIMALS)))
    if table.image_sign is not None:
        own[SIGN_LABEL] = table.image_sign
    if table.cryosparc is not None:
        write_cs(os.path.splitext(path)[0] + ".cs", table)
    write_set(path, table, [f"{index + 1:06d}@{names[file]}" for file, index in zip(table.file_index, table.image_index)], own)


def _origins(
    path: str, columns: Block, ids: NDArray[np.int64], groups: OpticsGroups, group_row: NDArray[np.int64],
) -> NDArray[np.float64] | None:
    origin = number_columns(path, columns, _ORIGIN, ids)
    if origin is None:
        pixels = number_columns(path, columns, _ORIGIN_PIXELS, ids)
        if pixels is None:
            return None
        origin = pixels * groups.pixel_size_angst[group_row, None]
    # frequencies k of the image are M k in truth, so its points x are inv(M^T) x
    return np.einsum("nji,nj->ni", np.linalg.inv(groups.magnification)[group_row], origin)


def _ctf(path: str, optics: Block, columns: Block, group_row: NDArray[np.int64], ids: NDArray[np.int64]) -> CtfTable | None:
    if "rlnDefocusU" not in columns:
        return None
    defocus_u = finite_numbers(path, columns["rlnDefocusU"], "rlnDefocusU", ids)

    def of_particle(label: str, default: NDArray[np.float64]) -> NDArray[np.float64]:
        return finite_numbers(path, columns[label], label, ids) if label in columns else default

    def of_either(label: str, rows: NDArray[np.int64]) -> NDArray[np.float64]:
        """A column of the particles, else that of their optics groups."""
        if label in columns:
            return finite_numbers(path, columns[label], label, ids)
        require_columns(path, "optics", optics, label)
        return finite_numbers(path, optics[label], label, np.asarray(optics["rlnOpticsGroup"]))[rows]

    scope: dict[str, Any] = {name: of_either(label, group_row) for label, name in _SCOPE.items()}
    scope.update((name, of_either(label, group_row)) for label, name in _MORE.items() if label in columns or label in optics)
    zero = np.zeros(len(ids))
    return CtfTable(
        defocus_u=defocus_u, defocus_v=of_particle("rlnDefocusV", defocus_u), defocus_angle=of_particle("rlnDefocusAngle", zero),
        phase_shift=of_particle("rlnPhaseShift", zero), dose=columns.get(DOSE_COLUMN), **scope,
    )


def _with_optics(ctf: CtfTable, groups: OpticsGroups, group_row: NDArray[np.int64], pixel_size_angst: float) -> CtfTable:
    """CTF with what the optics groups add to it."""
    even, limit = groups.even_zernike[group_row], groups.limits(pixel_size_angst)[group_row]

    def flag(of_particles: NDArray[Any] | None) -> NDArray[np.bool_] | None:
        return None if of_particles is None or not of_particles.any() else of_particles != 0

    return replace(
        ctf, even_zernike=even if even.any() else None, limit=limit if np.isfinite(limit).any() else None,
        b_factor=None if ctf.b_factor is None or not ctf.b_factor.any() else ctf.b_factor,
        scale=None if ctf.scale is None or (ctf.scale == 1).all() else ctf.scale,
        phase_flipped=flag(ctf.phase_flipped), premultiplied=flag(ctf.premultiplied),
    )
