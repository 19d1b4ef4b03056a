"""Particle sets as RELION 3.1+ STAR files: an optics table and one row a particle."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from .mrc_header import read_header
from .star_columns import (
    find_file,
    finite_numbers,
    number_columns,
    only_value,
    optics_rows,
    particle_blocks,
    refuse_repeats,
    require_columns,
    whole_numbers,
    written_name,
)
from .star_text import Block, read_star, write_star

_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_ORIGIN = ("rlnOriginXAngst", "rlnOriginYAngst")
_ORIGIN_PIXELS = ("rlnOriginX", "rlnOriginY")
_DEFOCUS = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift")
_SCOPE = {"rlnVoltage": "voltage_kv", "rlnSphericalAberration": "cs_mm", "rlnAmplitudeContrast": "amplitude_contrast"}
_DECIMALS = 6  # of poses and defocus, as RELION writes them
_OWN = {"rlnImageName", "rlnImageId", "rlnOpticsGroup", "rlnRandomSubset", *_ANGLES, *_ORIGIN, *_ORIGIN_PIXELS, *_DEFOCUS}


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
    """

    defocus_u: NDArray[np.float64]
    defocus_v: NDArray[np.float64]
    defocus_angle: NDArray[np.float64]
    phase_shift: NDArray[np.float64]
    voltage_kv: NDArray[np.float64]
    cs_mm: NDArray[np.float64]
    amplitude_contrast: NDArray[np.float64]

    def subset(self, rows: ArrayLike | slice) -> CtfTable:
        """The same for the particles in ``rows``."""
        at = rows if isinstance(rows, slice) else np.asarray(rows)
        return CtfTable(**{name: values[at] for name, values in vars(self).items()})


@dataclass
class ParticleTable:
    """A set of particles; all arrays have one row a particle.

    Attributes
    ----------
    ids : (n,) int64
        Particle ids (``rlnImageId``, else 1 to n); every table is joined by them.
    image_file : list of str
        The image stacks, each once, as paths that can be opened.
    file_index : (n,) int
        Which of ``image_file`` holds a particle.
    image_index : (n,) int
        Section of that stack, counted from 0.
    pixel_size_angst, box : float, int
        Pixel size in Å and image side in pixels, one for the whole set.
    angles_deg : (n, 3) or None
        rot, tilt, psi in degrees.
    origin_angst : (n, 2) or None
        ``rlnOriginXAngst``, ``rlnOriginYAngst``.
    ctf : CtfTable or None
    optics_group : (n,) int
        Optics group of a particle; the groups' own columns are in ``optics`` (one row a group).
    random_subset : (n,) int or None
        Half set, 1 or 2.
    extra : dict
        All other columns, which are written back unchanged.
    """

    ids: NDArray[np.int64]
    image_file: list[str]
    file_index: NDArray[np.int64]
    image_index: NDArray[np.int64]
    pixel_size_angst: float
    box: int
    angles_deg: NDArray[np.float64] | None = None
    origin_angst: NDArray[np.float64] | None = None
    ctf: CtfTable | None = None
    optics_group: NDArray[np.int64] | None = None
    random_subset: NDArray[np.int64] | None = None
    optics: Block = field(default_factory=dict)
    extra: Block = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.optics_group is None:
            self.optics_group = np.ones(len(self.ids), np.int64)
        if not self.optics:
            self.optics = self._make_optics()

    def __len__(self) -> int:
        return len(self.ids)

    def subset(self, rows: ArrayLike | slice) -> ParticleTable:
        """The particles in ``rows`` (indices, a mask or a slice), in that order, with their ids."""
        at: Any = rows
        if not isinstance(rows, slice):
            at = np.asarray(rows)
            at = at if at.dtype == bool else at.astype(np.int64)

        def pick(values: Any) -> Any:
            return None if values is None else values[at]

        return replace(
            self, ids=self.ids[at], file_index=self.file_index[at], image_index=self.image_index[at],
            angles_deg=pick(self.angles_deg), origin_angst=pick(self.origin_angst),
            ctf=None if self.ctf is None else self.ctf.subset(at), optics_group=pick(self.optics_group),
            random_subset=pick(self.random_subset), extra={label: values[at] for label, values in self.extra.items()},
        )

    def with_poses(self, angles_deg: ArrayLike, origin_angst: ArrayLike) -> ParticleTable:
        """The same particles with other poses: ``angles_deg`` (n, 3), ``origin_angst`` (n, 2)."""
        angles, origin = np.asarray(angles_deg, np.float64), np.asarray(origin_angst, np.float64)
        if angles.shape != (len(self), 3) or origin.shape != (len(self), 2):
            raise ValueError(f"{len(self)} particles need angles (n, 3) and origins (n, 2), not {angles.shape} and {origin.shape}")
        return replace(self, angles_deg=angles, origin_angst=origin)

    def image_name(self, row: int) -> str:
        """Name of a particle's image, ``000001@stack.mrcs``."""
        return f"{self.image_index[row] + 1:06d}@{self.image_file[self.file_index[row]]}"

    def _make_optics(self) -> Block:
        """One optics group a value of ``optics_group``, from the CTF of its first particle."""
        groups, first = np.unique(np.asarray(self.optics_group), return_index=True)
        count = len(groups)
        optics: Block = {
            "rlnOpticsGroupName": np.array([f"opticsGroup{group}" for group in groups], dtype=object),
            "rlnOpticsGroup": groups,
            "rlnImagePixelSize": np.full(count, self.pixel_size_angst),
            "rlnImageSize": np.full(count, self.box),
            "rlnImageDimensionality": np.full(count, 2),
        }
        for label, name in _SCOPE.items():
            if self.ctf is not None:
                optics[label] = getattr(self.ctf, name)[first]
        return optics


def read_particles(path: str, check_images: bool = True) -> ParticleTable:
    """Read a RELION 3.1+ particle STAR file.

    Image stacks are looked up beside the STAR file, then in the current (project) folder.

    Parameters
    ----------
    path : str
        STAR file.
    check_images : bool
        Open the header of every stack, so that a missing or truncated stack and an index beyond its end are refused here.

    Raises
    ------
    InputError
        naming the missing column, stack, image, optics group or id, or the two box or pixel sizes that differ.
    """
    blocks = read_star(path, ("optics", "particles"))
    optics, columns = particle_blocks(path, blocks)
    count = len(columns["rlnImageName"])
    ids = whole_numbers(path, columns["rlnImageId"], "rlnImageId") if "rlnImageId" in columns else np.arange(1, count + 1)
    refuse_repeats(path, ids)
    names, file_index, image_index = _split_names(path, columns["rlnImageName"], ids)
    files = [find_file(path, name) for name in names]
    if check_images:
        _check_sections(path, files, file_index, image_index, ids)
    group, group_row = optics_rows(path, optics, columns, ids)
    pixel_size = only_value(path, optics["rlnImagePixelSize"], "pixel sizes", "Å")
    if not pixel_size > 0:
        raise InputError(f"The STAR file '{path}' gives a pixel size of {pixel_size:g} Å: rlnImagePixelSize must be positive.")
    if "rlnImageSize" in optics:
        box = int(only_value(path, optics["rlnImageSize"], "box sizes", "px"))
    else:
        box = read_header(files[0]).shape[2]
    return ParticleTable(
        ids=ids, image_file=files, file_index=file_index, image_index=image_index, pixel_size_angst=pixel_size, box=box,
        angles_deg=number_columns(path, columns, _ANGLES, ids), origin_angst=_origins(path, columns, ids, pixel_size),
        ctf=_ctf(path, optics, columns, group_row, ids), optics_group=group,
        random_subset=whole_numbers(path, columns["rlnRandomSubset"], "rlnRandomSubset") if "rlnRandomSubset" in columns else None,
        optics=optics, extra={label: values for label, values in columns.items() if label not in _OWN},
    )


def write_particles(path: str, table: ParticleTable) -> None:
    """Write a particle set as a RELION 3.1+ STAR file.

    Stacks beside or below the STAR file are named relative to it, others relative to the current folder
    when they lie in it, else by their whole path.
    """
    names = np.array([written_name(path, name) for name in table.image_file], dtype=object)
    files, index = names[table.file_index], table.image_index + 1
    columns: Block = {"rlnImageName": np.array([f"{i:06d}@{name}" for i, name in zip(index, files)], dtype=object)}
    columns["rlnImageId"] = table.ids
    if table.angles_deg is not None:
        columns.update(zip(_ANGLES, np.round(table.angles_deg.T, _DECIMALS)))
    if table.origin_angst is not None:
        columns.update(zip(_ORIGIN, np.round(table.origin_angst.T, _DECIMALS)))
    if table.ctf is not None:
        ctf = table.ctf
        values = np.round(np.stack((ctf.defocus_u, ctf.defocus_v, ctf.defocus_angle, ctf.phase_shift)), _DECIMALS)
        columns.update(zip(_DEFOCUS, values))
    assert table.optics_group is not None
    columns["rlnOpticsGroup"] = table.optics_group
    if table.random_subset is not None:
        columns["rlnRandomSubset"] = table.random_subset
    columns.update(table.extra)
    write_star(path, {"optics": table.optics, "particles": columns})


def _split_names(path: str, names: NDArray[Any], ids: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Unique stack names, and each particle's stack and section (from 0)."""
    known: dict[str, int] = {}
    file_index, image_index = np.empty(len(names), np.int64), np.empty(len(names), np.int64)
    for row, name in enumerate(names):
        number, at, file = name.partition("@")
        if not at or not number.isdigit() or number.strip("0") == "" or not file:
            raise InputError(
                f"The STAR file '{path}' names the image '{name}' for particle {ids[row]}, which is not of the form "
                "000001@stack.mrcs with an index from 1."
            )
        image_index[row] = int(number) - 1
        file_index[row] = known.setdefault(file, len(known))
    return list(known), file_index, image_index


def _check_sections(path: str, files: list[str], file_index: NDArray[np.int64], image_index: NDArray[np.int64],
                    ids: NDArray[np.int64]) -> None:
    sections = np.array([read_header(name).shape[0] for name in files])
    beyond = np.flatnonzero(image_index >= sections[file_index])
    if len(beyond):
        row = beyond[0]
        file = file_index[row]
        raise InputError(
            f"The STAR file '{path}' names image {image_index[row] + 1} of '{files[file]}' for particle {ids[row]}, "
            f"but that stack has {sections[file]} images."
        )


def _origins(path: str, columns: Block, ids: NDArray[np.int64], pixel_size_angst: float) -> NDArray[np.float64] | None:
    origin = number_columns(path, columns, _ORIGIN, ids)
    if origin is not None:
        return origin
    pixels = number_columns(path, columns, _ORIGIN_PIXELS, ids)
    return None if pixels is None else pixels * pixel_size_angst


def _ctf(path: str, optics: Block, columns: Block, group_row: NDArray[np.int64], ids: NDArray[np.int64]) -> CtfTable | None:
    if "rlnDefocusU" not in columns:
        return None
    defocus_u = finite_numbers(path, columns["rlnDefocusU"], "rlnDefocusU", ids)

    def of_particle(label: str, default: NDArray[np.float64]) -> NDArray[np.float64]:
        return finite_numbers(path, columns[label], label, ids) if label in columns else default

    scope = {}
    for label, name in _SCOPE.items():
        if label in columns:
            scope[name] = finite_numbers(path, columns[label], label, ids)
        else:
            require_columns(path, "optics", optics, label)
            scope[name] = finite_numbers(path, optics[label], label, np.asarray(optics["rlnOpticsGroup"]))[group_row]
    zero = np.zeros(len(ids))
    return CtfTable(
        defocus_u=defocus_u, defocus_v=of_particle("rlnDefocusV", defocus_u), defocus_angle=of_particle("rlnDefocusAngle", zero),
        phase_shift=of_particle("rlnPhaseShift", zero), **scope,
    )
