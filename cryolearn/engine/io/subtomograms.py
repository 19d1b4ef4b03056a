"""Sets of subtomograms: a STAR file of RELION 3.1 or later, and one MRC file each.

The tilt axis is y and the beam runs along z. A subtomogram s of a reference r with pose A and shift t is ``s(x) = r(A^T (x - t))``; A is the matrix of
``rlnAngleRot/Tilt/Psi`` and t the negative of ``rlnOriginX/Y/ZAngst``.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.limits import same_pixel_size
from ..exceptions import InputError
from .maps import read_values
from .mrc_header import MrcHeader, read_header
from .star_columns import (
    find_file,
    finite_numbers,
    number_columns,
    only_value,
    optics_rows,
    particle_blocks,
    refuse_repeats,
    whole_numbers,
    written_name,
)
from .star_text import Block, read_star, write_star

__all__ = ["SubtomogramStack", "SubtomogramTable", "read_subtomograms", "write_subtomograms"]

_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_ORIGIN = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
_TILTS = ("rlnTomoTiltAngleMin", "rlnTomoTiltAngleMax")  # RELION has no labels for these
_CLASS = "rlnClassName"
_OWN = {"rlnImageName", "rlnImageId", "rlnOpticsGroup", "rlnRandomSubset", _CLASS, *_ANGLES, *_ORIGIN, *_TILTS}
_DECIMALS = 6
_UNSET_VOXEL = (0.0, 1.0)  # what programs write that do not know the voxel size


@dataclass
class SubtomogramTable:
    """A set of subtomograms; all arrays have one row a subtomogram.

    Attributes
    ----------
    ids : (n,) int64
        ``rlnImageId``, else 1 to n; every table is joined by them.
    file : list of str
        MRC file of each subtomogram, as a path that can be opened.
    pixel_size_angst, box : float, int
        Voxel size in Å and side in voxels, one for the whole set.
    tilt_min_deg, tilt_max_deg : (n,)
        First and last tilt of the series that a subtomogram comes from.
    angles_deg : (n, 3) or None
        rot, tilt, psi.
    shifts_angst : (n, 3) or None
        x, y, z at which the reference's centre lies in the subtomogram, from its centre (minus ``rlnOrigin``).
    class_name : list of str or None
    half : (n,) int or None
        Half set, 1 or 2.
    optics_group, optics : (n,) int, block
        Optics groups, written back as they were read.
    extra : block
        All other columns, written back unchanged.
    """

    ids: NDArray[np.int64]
    file: list[str]
    pixel_size_angst: float
    box: int
    tilt_min_deg: NDArray[np.float64]
    tilt_max_deg: NDArray[np.float64]
    angles_deg: NDArray[np.float64] | None = None
    shifts_angst: NDArray[np.float64] | None = None
    class_name: list[str] | None = None
    half: NDArray[np.int64] | None = None
    optics_group: NDArray[np.int64] | None = None
    optics: Block = field(default_factory=dict)
    extra: Block = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.optics_group is None:
            self.optics_group = np.ones(len(self.ids), np.int64)
        if not self.optics:
            groups = np.unique(self.optics_group)
            self.optics = {
                "rlnOpticsGroup": groups,
                "rlnOpticsGroupName": np.array([f"opticsGroup{group}" for group in groups], dtype=object),
                "rlnImagePixelSize": np.full(len(groups), self.pixel_size_angst),
                "rlnImageSize": np.full(len(groups), self.box),
                "rlnImageDimensionality": np.full(len(groups), 3),
            }

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tilt_deg(self) -> NDArray[np.float64]:
        """(n, 2) first and last tilt."""
        return np.stack((self.tilt_min_deg, self.tilt_max_deg), axis=1)

    def subset(self, rows: ArrayLike | slice) -> SubtomogramTable:
        """The subtomograms in ``rows`` (indices, a mask or a slice), in that order, with their ids."""
        at = np.arange(len(self))
        if isinstance(rows, slice):
            at = at[rows]
        else:
            index = np.asarray(rows)
            at = at[index if index.dtype == bool else index.astype(np.int64)]

        def pick(values: Any) -> Any:
            return None if values is None else [values[row] for row in at] if isinstance(values, list) else values[at]

        return replace(
            self, ids=self.ids[at], file=pick(self.file), tilt_min_deg=self.tilt_min_deg[at], tilt_max_deg=self.tilt_max_deg[at],
            angles_deg=pick(self.angles_deg), shifts_angst=pick(self.shifts_angst), class_name=pick(self.class_name), half=pick(self.half),
            optics_group=pick(self.optics_group), extra={label: values[at] for label, values in self.extra.items()},
        )

    def files_digest(self) -> str:
        """Digest of what the files are, by name, size and time of change: their content would take as long to read as the work itself."""
        sha = hashlib.sha256()
        for path in self.file:
            found = os.stat(path)
            sha.update(f"{os.path.basename(path)}/{found.st_size}/{found.st_mtime_ns}\n".encode())
        return sha.hexdigest()[:16]

    def name(self, row: int) -> str:
        """A subtomogram for messages: ``subtomogram 7 ('path.mrc')``."""
        return f"subtomogram {self.ids[row]} ('{self.file[row]}')"


def read_subtomograms(path: str) -> SubtomogramTable:
    """Read a set of subtomograms; files are looked up beside the STAR file, then in the current (project) folder.

    Raises
    ------
    InputError
        naming the column, file, id or subtomogram that cannot be used: no subtomograms, no tilt range, several pixel or box sizes, images in a
        stack, a file that is not there.
    """
    optics, columns = particle_blocks(path, read_star(path, ("optics", "particles")), "subtomograms")
    dimensions = np.asarray(optics.get("rlnImageDimensionality", [3]))
    if (dimensions == 2).any():
        raise InputError(f"The STAR file '{path}' holds two-dimensional images (rlnImageDimensionality 2): give subtomograms.")
    names = [str(name) for name in columns["rlnImageName"]]
    ids = whole_numbers(path, columns["rlnImageId"], "rlnImageId") if "rlnImageId" in columns else np.arange(1, len(names) + 1)
    refuse_repeats(path, ids)
    stacked = next((row for row, name in enumerate(names) if "@" in name), None)
    if stacked is not None:
        raise InputError(f"The STAR file '{path}' names '{names[stacked]}' for subtomogram {ids[stacked]}: give one MRC file for each subtomogram.")
    group, _ = optics_rows(path, optics, columns, ids)
    files = [find_file(path, name) for name in names]
    pixel_size = only_value(path, optics["rlnImagePixelSize"], "pixel sizes", "Å")
    if not pixel_size > 0:
        raise InputError(f"The STAR file '{path}' gives a pixel size of {pixel_size:g} Å: rlnImagePixelSize must be positive.")
    box = int(only_value(path, optics["rlnImageSize"], "box sizes", "px")) if "rlnImageSize" in optics else read_header(files[0]).shape[2]
    low, high = _tilt_range(path, columns, ids)
    origin = number_columns(path, columns, _ORIGIN, ids)
    classes = [str(name) for name in columns[_CLASS]] if _CLASS in columns else None
    return SubtomogramTable(
        ids=ids, file=files, pixel_size_angst=pixel_size, box=box, tilt_min_deg=low, tilt_max_deg=high,
        angles_deg=number_columns(path, columns, _ANGLES, ids), shifts_angst=None if origin is None else 0.0 - origin, class_name=classes,
        half=whole_numbers(path, columns["rlnRandomSubset"], "rlnRandomSubset") if "rlnRandomSubset" in columns else None,
        optics_group=group, optics=optics, extra={label: values for label, values in columns.items() if label not in _OWN},
    )


def _tilt_range(path: str, columns: Block, ids: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    for label in _TILTS:
        if label not in columns:
            raise InputError(
                f"The STAR file '{path}' gives no tilt range: add the first and last tilt of each subtomogram in degrees as {_TILTS[0]} and {_TILTS[1]}."
            )
        values = np.asarray(columns[label])
        missing = np.flatnonzero(~np.isfinite(values) if values.dtype.kind in "iuf" else np.zeros(0, bool))
        if len(missing):
            raise InputError(f"The STAR file '{path}' gives no tilt range for subtomogram {ids[missing[0]]} ({label} is empty).")
    low, high = (finite_numbers(path, columns[label], label, ids) for label in _TILTS)
    wrong = np.flatnonzero(~((low >= -90) & (low < high) & (high <= 90)))
    if len(wrong):
        row = wrong[0]
        raise InputError(
            f"The STAR file '{path}' gives subtomogram {ids[row]} the tilt range {low[row]:g} to {high[row]:g} degrees: it must rise and lie within -90 and 90."
        )
    return low, high


def write_subtomograms(path: str, table: SubtomogramTable) -> None:
    """Write a set of subtomograms as a STAR file; paths as :func:`cryolearn.engine.io.star.write_particles` writes them."""
    columns: Block = {"rlnImageName": np.array([written_name(path, name) for name in table.file], dtype=object), "rlnImageId": table.ids}
    if table.angles_deg is not None:
        columns.update(zip(_ANGLES, np.round(np.asarray(table.angles_deg).T, _DECIMALS)))
    if table.shifts_angst is not None:
        columns.update(zip(_ORIGIN, 0.0 - np.round(np.asarray(table.shifts_angst).T, _DECIMALS)))
    columns.update(zip(_TILTS, (table.tilt_min_deg, table.tilt_max_deg)))
    if table.class_name is not None:
        columns[_CLASS] = np.array(table.class_name, dtype=object)
    assert table.optics_group is not None
    columns["rlnOpticsGroup"] = table.optics_group
    if table.half is not None:
        columns["rlnRandomSubset"] = table.half
    columns.update(table.extra)
    write_star(path, {"optics": table.optics, "particles": columns})


class SubtomogramStack:
    """Reads the volumes of a set, those asked for and no others.

    Opening looks at every file's header and keeps nothing of it, so memory is that of the table and of the volumes read.

    Parameters
    ----------
    check
        Look at the headers now.
    invert_contrast
        Density is black in the files; it is read white.

    Raises
    ------
    InputError
        naming the subtomogram whose file is missing, damaged or of another box, or whose header has another voxel size than the others'.
    """

    def __init__(self, table: SubtomogramTable, check: bool = True, invert_contrast: bool = False) -> None:
        if not len(table):
            raise InputError("The set of subtomograms is empty.")
        self.table, self.box, self._invert = table, table.box, invert_contrast
        if check:
            self._check()

    def __len__(self) -> int:
        return len(self.table)

    def read(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Volumes ``(n, z, y, x)`` of rows of the table, in any order.

        Raises
        ------
        InputError
            naming the subtomogram that cannot be read or holds NaN or infinite values.
        """
        at = np.atleast_1d(np.asarray(rows, np.int64))
        volumes = np.empty((len(at), self.box, self.box, self.box), np.float32)
        for place, row in enumerate(at.tolist()):
            volumes[place] = read_values(self._header(row))
        # a sum of finite float32 numbers is finite in float64, and one bad voxel makes it otherwise
        bad = np.flatnonzero(~np.isfinite(volumes.sum(axis=(1, 2, 3), dtype=np.float64)))
        if len(bad):
            raise InputError(f"The {self.table.name(int(at[bad[0]]))} holds NaN or infinite values: remove it from the set.")
        return np.negative(volumes, out=volumes) if self._invert else volumes

    def tilt_deg(self, rows: ArrayLike) -> NDArray[np.float64]:
        """First and last tilt ``(n, 2)`` of rows of the table."""
        at = np.asarray(rows, np.int64)
        return np.stack((self.table.tilt_min_deg[at], self.table.tilt_max_deg[at]), axis=1)

    def _header(self, row: int) -> MrcHeader:
        header = read_header(self.table.file[row])
        if header.shape != (self.box,) * 3:
            size = " x ".join(str(side) for side in header.shape[::-1])
            raise InputError(f"The {self.table.name(row)} has {size} voxels, but the set has a box of {self.box}: extract all in one box.")
        return header

    def _check(self) -> None:
        seen: set[str] = set()
        first: tuple[int, float] | None = None
        for row, path in enumerate(self.table.file):
            if path in seen:
                continue
            seen.add(path)
            voxel = self._header(row).voxel_angst[0]
            if any(abs(voxel - unset) < 1e-6 for unset in _UNSET_VOXEL):
                continue
            if first is None:
                first = row, voxel
            elif not same_pixel_size(voxel, first[1]):
                raise InputError(
                    f"The {self.table.name(row)} has {voxel:g} Å/voxel in its header, but {self.table.name(first[0])} has {first[1]:g}: bring all to one "
                    "sampling rate."
                )
