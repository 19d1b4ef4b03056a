"""The header of an MRC file (or of another image file, as that of one), read without the data and held against the file's size."""

from __future__ import annotations

import bz2
import gzip
import os
import zlib
from dataclasses import dataclass
from typing import IO

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import NDArray

from ..exceptions import InputError
from .foreign_images import FOREIGN_FORMATS, Layout, imagic_files, imagic_layout, mrc_fields, spider_layout

HEADER_BYTES = 1024
UNSET_VOXEL_ANGST = 1.0  # what programs write that know no pixel size
_IMOD_STAMP = 1146047817
_IMOD_SIGNED_BYTES = 1
_LARGEST_SIGNED, _LARGEST_UNSIGNED = 127, 255
_DTYPES = {1: "i2", 2: "f4", 6: "u2", 12: "f2"}
_COMPLEX_MODES = (3, 4)
_VOLUME_STACKS = (401, 630)
_RIGHT_ANGLE_DEG = 0.05  # what rounding explains
_PACKED = (".gz", ".bz2")


@dataclass(frozen=True)
class MrcHeader:
    """Where an MRC file's data lie and what they are.

    Attributes
    ----------
    path : str
        File the header was read from.
    shape : tuple of int
        (sections, rows, columns) as stored.
    dtype : numpy.dtype
        Type of a value on disk, byte order included.
    data_offset : int
        Byte at which the first section starts.
    raw : numpy.void
        All header fields (``mrcfile.dtypes.HEADER_DTYPE``).
    section_header : int
        Bytes before each section, in SPIDER's stacks.
    """

    path: str
    shape: tuple[int, int, int]
    dtype: np.dtype
    data_offset: int
    raw: np.void
    section_header: int = 0

    @property
    def section_bytes(self) -> int:
        """Bytes of one section."""
        return self.section_header + self.shape[1] * self.shape[2] * self.dtype.itemsize

    def mapped(self) -> NDArray:
        """The sections, mapped from the file.

        Raises
        ------
        InputError
            when the file is no longer what its header was read from.
        """
        record = np.dtype([("header", f"V{self.section_header}"), ("values", self.dtype, self.shape[1:])])
        try:
            return np.memmap(self.path, record, "r", self.data_offset, self.shape[:1])["values"]
        except (FileNotFoundError, ValueError) as error:
            raise InputError(f"The file '{self.path}' was removed or cut short while it was read: put it back and run again.") from error

    @property
    def voxel_angst(self) -> tuple[float, float, float]:
        """Voxel size along the cell's x, y, z in Å; 0 where the header does not say."""
        cell = [float(self.raw["cella"][axis]) for axis in "xyz"]
        grid = [int(self.raw[name]) for name in ("mx", "my", "mz")]
        x, y, z = (length / count if count > 0 and np.isfinite(length) else 0.0 for length, count in zip(cell, grid))
        return x, y, z


def require_rectangular(header: MrcHeader) -> None:
    """Refuse a map whose cell has angles other than 90 degrees (an unset one, 0, passes): its grid is not x, y, z.

    Raises
    ------
    InputError
        naming the angles.
    """
    angles = [float(header.raw["cellb"][name]) for name in ("alpha", "beta", "gamma")]
    if any(angle and abs(angle - 90) > _RIGHT_ANGLE_DEG for angle in angles):
        said = ", ".join(f"{angle:g}" for angle in angles)
        raise InputError(f"The cell of the map '{header.path}' is not rectangular ({said} degrees): resample it to a rectangular grid.")


def require_one_map(header: MrcHeader) -> None:
    """Refuse a stack of volumes (MRC2014: space group 401 and above, MZ sections a volume), which would be read as one tall map.

    Raises
    ------
    InputError
        with the number of volumes.
    """
    sections, each = header.shape[0], int(header.raw["mz"])
    if _VOLUME_STACKS[0] <= int(header.raw["ispg"]) <= _VOLUME_STACKS[1] and 0 < each < sections and sections % each == 0:
        raise InputError(f"The file '{header.path}' is a stack of {sections // each} maps of {each} sections: give a file of one map.")


def is_packed(path: str) -> bool:
    """Whether a file's name says that it is compressed by gzip or bzip2."""
    return path.lower().endswith(_PACKED)


def open_packed(path: str) -> IO[bytes]:
    """Open a file for reading, through gzip or bzip2 where its name says so."""
    if not is_packed(path):
        return open(path, "rb")
    return gzip.open(path, "rb") if path.lower().endswith(".gz") else bz2.open(path, "rb")  # type: ignore[return-value]


def read_header(path: str) -> MrcHeader:
    """Read the header of an MRC, SPIDER or IMAGIC file and hold it against the size of the file.

    Parameters
    ----------
    path : str
        File; one whose name ends in ``.gz`` or ``.bz2`` is unpacked as it is read and not held against its size.

    Raises
    ------
    InputError
        when the file is absent, is of another format, has a mode other than 0, 1, 2, 6 or 12, is truncated, or
        holds more than its header says.
    """
    suffix = os.path.splitext(path)[1].lower()
    if suffix in FOREIGN_FORMATS:
        raise InputError(f"'{path}' is {FOREIGN_FORMATS[suffix]}, which cannot be read: convert it to MRC.")
    if suffix in (".hed", ".img"):
        header_file, path = imagic_files(path)
        return _foreign(path, imagic_layout(header_file), os.path.getsize(path))
    try:
        with open_packed(path) as handle:
            block = handle.read(HEADER_BYTES)
        size = None if is_packed(path) else os.path.getsize(path)
    except (OSError, EOFError, ValueError, zlib.error) as error:
        raise InputError(f"The MRC file '{path}' cannot be read: {getattr(error, 'strerror', None) or error}.") from error
    if len(block) < HEADER_BYTES:
        raise InputError(f"The MRC file '{path}' is truncated: it has {len(block)} bytes, less than a header.")
    try:
        spider = spider_layout(block, size)
    except InputError as error:
        raise InputError(f"The file '{path}' cannot be read: {error}.") from error
    if spider is not None:
        return _foreign(path, spider, size)
    raw = _decode(block, path)
    mode = int(raw["mode"])
    header = MrcHeader(
        path=path,
        shape=(int(raw["nz"]), int(raw["ny"]), int(raw["nx"])),
        dtype=_data_type(raw, mode, path),
        data_offset=HEADER_BYTES + max(int(raw["nsymbt"]), 0),
        raw=raw,
    )
    if size is not None:
        _check_size(header, size)
    return header


def _foreign(path: str, layout: Layout, size: int | None) -> MrcHeader:
    shape, dtype, first, before, voxel = layout
    header = MrcHeader(path=path, shape=shape, dtype=dtype, data_offset=first, raw=mrc_fields(shape, voxel), section_header=before)
    if size is not None and size < first + shape[0] * header.section_bytes:
        raise InputError(f"The file '{path}' is truncated: its header promises {shape[0]} sections of {shape[2]} x {shape[1]}; copy or make it again.")
    return header


def _decode(block: bytes, path: str) -> np.void:
    """Header fields in the byte order in which they make sense."""
    for order in "<>":
        raw = np.frombuffer(block, HEADER_DTYPE.newbyteorder(order))[0]
        sides = [int(raw[name]) for name in ("nx", "ny", "nz")]
        if all(0 < side < 1 << 24 for side in sides) and 0 <= int(raw["mode"]) <= 255:
            return raw
    raise InputError(f"'{path}' is not an MRC file: its header gives no positive size.")


def _data_type(raw: np.void, mode: int, path: str) -> np.dtype:
    if mode in _COMPLEX_MODES:
        raise InputError(f"The MRC file '{path}' holds a complex transform (mode {mode}): give the real-space file.")
    if mode == 0:
        return np.dtype("u1" if _are_unsigned(raw) else "i1")
    if mode not in _DTYPES:
        raise InputError(f"The MRC file '{path}' has mode {mode}, but only modes 0, 1, 2, 6 and 12 can be read.")
    return np.dtype(raw.dtype["mode"].byteorder.replace("=", "<") + _DTYPES[mode])


def _are_unsigned(raw: np.void) -> bool:
    """Whether bytes are 0 to 255: MRC2014 says -128 to 127; IMOD marks its own files, and others give a largest value that only unsigned ones have."""
    stamp, flags = (int(np.frombuffer(bytes(raw["extra2"])[at : at + 4], "<i4")[0]) for at in (40, 44))
    if stamp == _IMOD_STAMP:
        return not flags & _IMOD_SIGNED_BYTES
    return 0 <= float(raw["dmin"]) and _LARGEST_SIGNED < float(raw["dmax"]) <= _LARGEST_UNSIGNED


def _check_size(header: MrcHeader, size: int) -> None:
    sections, rows, columns = header.shape
    promised = header.data_offset + sections * header.section_bytes
    if size == promised:
        return
    held = max(size - header.data_offset, 0) / header.section_bytes
    what = f"its header promises {sections} sections of {columns} x {rows}, the file holds {held:.6g}"
    if size < promised:
        raise InputError(f"The MRC file '{header.path}' is truncated: {what}; copy or make it again.")
    raise InputError(f"The header of the MRC file '{header.path}' does not fit its size: {what}; make it again.")
