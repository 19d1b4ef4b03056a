"""Sets of subtomograms: a STAR file of RELION 3.1 or later, and one MRC file each.

The tilt axis is y and the beam runs along z. A subtomogram s of a reference r with pose A and shift t is ``s(x) = r(A^T (x - t))``; A is the matrix of
``rlnAngleRot/Tilt/Psi`` and t the negative of ``rlnOriginX/Y/ZAngst``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.limits import same_pixel_size
from ..digests import digest_images
from ..exceptions import InputError
from ..launch import say_once
from .column_numbers import finite_numbers
from .file_lookup import find_file, written_name
from .grey_values import unusable
from .maps import read_values
from .mrc_header import MrcHeader, read_header
from .particle_formats import read_blocks
from .star_columns import number_columns
from .star_table import DECIMALS, StarTable, read_sampling, read_shared_columns, write_set
from .star_text import Block
from .star_versions import refuse_tilt_stacks

__all__ = ["SubtomogramStack", "SubtomogramTable", "read_subtomograms", "write_subtomograms"]

_ORIGIN = ("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst")
_TILTS = ("rlnTomoTiltAngleMin", "rlnTomoTiltAngleMax")  # RELION has no labels for these
_CLASS = "rlnClassName"
_FRAME = ("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi")
_CTF_VOLUME = "rlnCtfImage"
_OWN = {_CLASS, *_ORIGIN, *_TILTS}
_UNSET_VOXEL = (0.0, 1.0)  # what programs write that do not know the voxel size


@dataclass(kw_only=True)
class SubtomogramTable(StarTable):
    """A set of subtomograms.

    Attributes
    ----------
    file : list of str
        MRC file of each subtomogram, as a path that can be opened.
    tilt_min_deg, tilt_max_deg : (n,)
        First and last tilt of the series that a subtomogram comes from.
    shifts_angst : (n, 3) or None
        x, y, z at which the reference's centre lies in the subtomogram, from its centre (minus ``rlnOrigin``).
    class_name : list of str or None
    """

    dimensions = 3

    file: list[str]
    tilt_min_deg: NDArray[np.float64]
    tilt_max_deg: NDArray[np.float64]
    shifts_angst: NDArray[np.float64] | None = None
    class_name: list[str] | None = None

    @property
    def tilt_deg(self) -> NDArray[np.float64]:
        """(n, 2) first and last tilt."""
        return np.stack((self.tilt_min_deg, self.tilt_max_deg), axis=1)

    def files_digest(self) -> str:
        """Digest of the files, in their order."""
        return digest_images(self.file)

    def name(self, row: int) -> str:
        """A subtomogram for messages: ``subtomogram 7 ('path.mrc')``."""
        return f"subtomogram {self.ids[row]} ('{self.file[row]}')"


def read_subtomograms(path: str, datadir: str = "") -> SubtomogramTable:
    """Read a set of subtomograms.

    Parameters
    ----------
    path : str
        STAR file.
    datadir : str
        Folder in which files are looked up first; see :func:`cryolearn.engine.io.file_lookup.find_file`.

    Raises
    ------
    InputError
        naming the column, file, id or subtomogram that cannot be used: no subtomograms, no tilt range, several pixel or box sizes, images in a
        stack, a file that is not there, pseudo-subtomograms.
    """
    blocks = read_blocks(path, datadir)
    refuse_tilt_stacks(path, blocks)
    fields, columns, _ = read_shared_columns(path, blocks, "subtomograms", _OWN)
    ids, optics = fields["ids"], fields["optics"]
    dimensions = np.asarray(optics.get("rlnImageDimensionality", [3]))
    if (dimensions == 2).any():
        raise InputError(f"The STAR file '{path}' holds two-dimensional images (rlnImageDimensionality 2): give subtomograms.")
    _refuse_pseudo_subtomograms(path, optics, columns)
    names = [_own_file(path, str(name), number) for name, number in zip(columns["rlnImageName"], ids)]
    files = [find_file(path, name, datadir) for name in names]
    pixel_size, box = read_sampling(path, optics, files[0])
    low, high = _tilt_range(path, columns, ids)
    origin = number_columns(path, columns, _ORIGIN, ids)
    return SubtomogramTable(
        **fields, file=files, pixel_size_angst=pixel_size, box=box, tilt_min_deg=low, tilt_max_deg=high,
        shifts_angst=None if origin is None else 0.0 - origin, class_name=[str(name) for name in columns[_CLASS]] if _CLASS in columns else None,
    )


def _own_file(path: str, name: str, number: int) -> str:
    """File of a subtomogram; ``000001@`` before a file of one volume, as some programs write, says nothing."""
    index, at, file = name.rpartition("@")
    if at and not (index.isdigit() and int(index) == 1):
        raise InputError(f"The STAR file '{path}' names '{name}' for subtomogram {number}: give one MRC file for each subtomogram.")
    return file


def _refuse_pseudo_subtomograms(path: str, optics: Block, columns: Block) -> None:
    """Refuse what RELION 4 and 5 extract as 3D: sums of tilt images times their CTF, in a frame turned by the subtomogram's own angles."""
    said = ""
    if (np.asarray(optics.get("rlnCtfDataAreCtfPremultiplied", [0])) == 1).any():
        said = "rlnCtfDataAreCtfPremultiplied is 1"
    turned = next((label for label in _FRAME if label in columns and np.asarray(columns[label]).any()), None)
    said = said or (f"{turned} is not 0" if turned else "")
    if said:
        raise InputError(
            f"The STAR file '{path}' holds pseudo-subtomograms of RELION 4 or 5 ({said}), whose CTF and missing wedge are not those of a tomogram: reconstruct "
            "subtomograms without CTF weighting, or cut them from a tomogram (Warp, IMOD, Dynamo, EMAN2)."
        )
    if _CTF_VOLUME in columns:
        say_once(f"WARNING: the CTF volumes of '{path}' ({_CTF_VOLUME}) are not used: the missing wedge is that of the tilt range, without CTF.")


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
    own: Block = {}
    if table.shifts_angst is not None:
        own.update(zip(_ORIGIN, 0.0 - np.round(np.asarray(table.shifts_angst).T, DECIMALS)))
    own.update(zip(_TILTS, (table.tilt_min_deg, table.tilt_max_deg)))
    if table.class_name is not None:
        own[_CLASS] = np.array(table.class_name, dtype=object)
    write_set(path, table, [written_name(path, name) for name in table.file], own)


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
        """Volumes (n, z, y, x) of rows of the table, in any order.

        Raises
        ------
        InputError
            naming the subtomogram that cannot be read or holds NaN or infinite values.
        """
        at = np.atleast_1d(np.asarray(rows, np.int64))
        volumes = np.empty((len(at), self.box, self.box, self.box), np.float32)
        for place, row in enumerate(at.tolist()):
            volumes[place] = read_values(self._header(row))
        if len(bad := unusable(volumes)):
            raise InputError(f"The {self.table.name(int(at[bad[0]]))} holds NaN or infinite values, or some beyond 1e19: remove it from the set.")
        return np.negative(volumes, out=volumes) if self._invert else volumes

    def tilt_deg(self, rows: ArrayLike) -> NDArray[np.float64]:
        """First and last tilt (n, 2) of rows of the table."""
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
