"""Images of SPIDER, Xmipp and IMAGIC: their headers, said as those of MRC files; and formats that are refused by name."""

from __future__ import annotations

import os

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE

from ..exceptions import InputError

__all__ = ["FOREIGN_FORMATS", "Layout", "imagic_files", "imagic_layout", "mrc_fields", "spider_layout"]

FOREIGN_FORMATS = {
    ".hdf": "an HDF5 file, as EMAN2 writes", ".h5": "an HDF5 file", ".hdf5": "an HDF5 file", ".tif": "a TIFF file", ".tiff": "a TIFF file",
    ".eer": "a movie of a Falcon camera", ".dm3": "a DigitalMicrograph file", ".dm4": "a DigitalMicrograph file", ".em": "an EM file",
    ".zst": "compressed by zstd", ".xz": "compressed by xz", ".zip": "a zip archive", ".bcif": "a binary CIF file", ".jpg": "a picture", ".png": "a picture",
}
_SPIDER_BYTES = 1024
_SPIDER_REAL = (1, 3)  # image, volume; negative ones are transforms
_IMAGIC_RECORD = 1024
_IMAGIC_TYPES = {b"REAL": "f4", b"INTG": "i2", b"PACK": "u1"}
_LARGEST_SIDE = 1 << 20

Layout = tuple[tuple[int, int, int], np.dtype, int, int, float]  # (sections, rows, columns), type, first byte, bytes before each section, voxel size in Å


def spider_layout(block: bytes, size: int | None) -> Layout | None:
    """Layout of a SPIDER file from its first 1024 bytes; None when it is none.

    Parameters
    ----------
    block : bytes
        The first 1024 bytes.
    size : int or None
        Bytes of the file, where known.
    """
    for order in "<>":
        words = np.frombuffer(block, order + "f4")[:256]
        with np.errstate(invalid="ignore"):
            slices, rows, kind, columns, labels, label_bytes, record_bytes = (float(words[at - 1]) for at in (1, 2, 5, 12, 13, 22, 23))
        whole = all(1 <= side < _LARGEST_SIDE and side == int(side) for side in (abs(slices), rows, columns, labels, label_bytes, record_bytes))
        if not whole or kind not in _SPIDER_REAL or record_bytes != 4 * columns or label_bytes != labels * record_bytes:
            continue
        shape, header, is_stack = (int(abs(slices)), int(rows), int(columns)), int(label_bytes), float(words[23]) > 0
        scale = float(words[37])
        voxel = scale if np.isfinite(scale) and 0 < scale < 1e3 else 0.0
        if not is_stack:
            return shape, np.dtype(order + "f4"), header, 0, voxel
        if shape[0] > 1:
            raise InputError("it is a SPIDER stack of volumes: give one file for each")
        image = header + 4 * shape[1] * shape[2]
        count = int(words[25]) if 0 < words[25] < _LARGEST_SIDE else ((size or header) - header) // image
        return (count, *shape[1:]), np.dtype(order + "f4"), header, header, voxel
    return None


def imagic_files(path: str) -> tuple[str, str]:
    """The ``.hed`` and ``.img`` files of a pair, given either."""
    stem = os.path.splitext(path)[0]
    for header, images in ((".hed", ".img"), (".HED", ".IMG")):
        if os.path.isfile(stem + header) and os.path.isfile(stem + images):
            return stem + header, stem + images
    raise InputError(f"'{path}' is half of an IMAGIC stack: '{stem}.hed' and '{stem}.img' must both be there.")


def imagic_layout(path: str) -> Layout:
    """Layout of the images of an IMAGIC header file.

    Raises
    ------
    InputError
        when it is not one, or its type of numbers cannot be read.
    """
    with open(path, "rb") as handle:
        block = handle.read(_IMAGIC_RECORD)
    for order in "<>":
        words = np.frombuffer(block.ljust(_IMAGIC_RECORD, b"\0"), order + "i4")
        following, rows, columns = int(words[1]), int(words[12]), int(words[13])
        if 0 <= following < _LARGEST_SIDE * 1000 and 0 < rows < _LARGEST_SIDE and 0 < columns < _LARGEST_SIDE:
            kind = block[56:60]
            if kind not in _IMAGIC_TYPES:
                raise InputError(f"The IMAGIC file '{path}' holds numbers of the type '{kind.decode(errors='replace')}': convert it to REAL.")
            return (following + 1, rows, columns), np.dtype(order + _IMAGIC_TYPES[kind]), 0, 0, 0.0
    raise InputError(f"'{path}' is not the header file of an IMAGIC stack.")


def mrc_fields(shape: tuple[int, int, int], voxel_angst: float) -> np.void:
    """Header fields of an MRC file with these sides and this voxel size."""
    header = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
    for name, side in zip(("nz", "ny", "nx"), shape):
        header[name] = header["m" + name[1]] = side
    header["cella"] = tuple(side * voxel_angst for side in shape[::-1])
    header["cellb"] = (90.0, 90.0, 90.0)
    header["mode"], header["mapc"], header["mapr"], header["maps"] = 2, 1, 2, 3
    return np.frombuffer(header.tobytes(), header.dtype)[0]
