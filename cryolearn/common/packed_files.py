"""Packed files (npz, gzip) held against their size before anything of them is unpacked; nothing is ever unpickled."""

import gzip
import io
import os
import struct
import tokenize
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any, Callable, Dict, TypeVar

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["check_unpacked", "load_npy", "load_npz", "unpack_gzip"]

T = TypeVar("T")

_ALWAYS_ALLOWED_BYTES = 256 << 20
_LARGEST_RATIO = 100  # of unpacked to packed size; arrays and text come to 2 to 20


def check_unpacked(packed: int, unpacked: int) -> None:
    """Refuse what unpacks to so many times its own size that it was made to fill a memory.

    Raises
    ------
    ValueError
        with both sizes.
    """
    if unpacked > max(_ALWAYS_ALLOWED_BYTES, _LARGEST_RATIO * packed):
        raise ValueError("it has %d kB and would unpack to %d MB or more" % (packed >> 10, unpacked >> 20))


def load_npz(path: str, skip_objects: bool = False) -> "Dict[str, NDArray[Any]]":
    """All arrays of an npz file.

    Parameters
    ----------
    path : str
        The file.
    skip_objects : bool
        Leave out arrays of Python objects, which would have to be unpickled, instead of refusing the file.

    Raises
    ------
    OSError
        when the file cannot be read.
    ValueError
        when it is damaged or no npz file, would unpack to more than it can hold, or has arrays of Python objects.
    """
    with open(path, "rb") as handle:
        return _whole(lambda: _arrays(handle, os.fstat(handle.fileno()).st_size, skip_objects))


def load_npy(path: str) -> "NDArray[Any]":
    """The array of an npy file.

    Raises
    ------
    OSError
        when the file cannot be read.
    ValueError
        when it is damaged or no npy file, or holds Python objects.
    """
    with open(path, "rb") as handle:
        return _whole(lambda: _array(handle, os.fstat(handle.fileno()).st_size, path))


def _whole(read: "Callable[[], T]") -> "T":
    """What a damaged archive makes zipfile and NumPy raise, as a ValueError."""
    try:
        return read()
    except (zipfile.BadZipFile, zlib.error, struct.error, EOFError, KeyError, AttributeError, NotImplementedError, RuntimeError, SyntaxError, TypeError,
            MemoryError, OverflowError, tokenize.TokenError) as error:
        raise ValueError(str(error) or "it is damaged (%s)" % type(error).__name__) from error


def _arrays(handle: IO[bytes], size: int, skip_objects: bool) -> "Dict[str, NDArray[Any]]":
    found = {}
    with zipfile.ZipFile(handle) as archive:
        members = [member for member in archive.infolist() if member.filename.endswith(".npy")]
        check_unpacked(size, sum(member.file_size for member in members))
        for member in members:
            with archive.open(member) as part:
                dtype = _checked_type(part, member.file_size, member.filename[:-4])
            if dtype.hasobject:
                if skip_objects:
                    continue
                raise ValueError("the array '%s' holds Python objects" % member.filename[:-4])
            with archive.open(member) as part:
                found[member.filename[:-4]] = np.lib.format.read_array(part, allow_pickle=False)
    return found


def _array(handle: IO[bytes], size: int, name: str) -> "NDArray[Any]":
    if _checked_type(handle, size, name).hasobject:
        raise ValueError("it holds Python objects")
    handle.seek(0)
    found = np.load(handle, allow_pickle=False)
    if not isinstance(found, np.ndarray):
        found.close()
        raise ValueError("it is an npz file")
    return found


def _checked_type(part: Any, size: int, name: str) -> "np.dtype[Any]":
    """Type of an array of which the file has ``size`` bytes, from its header."""
    version = np.lib.format.read_magic(part)
    if version == (1, 0):
        shape, _, dtype = np.lib.format.read_array_header_1_0(part)
    elif version == (2, 0):
        shape, _, dtype = np.lib.format.read_array_header_2_0(part)
    else:
        raise ValueError("it has arrays of the unknown format %d.%d" % version)
    promised = dtype.itemsize
    for side in shape:
        promised *= side
    if promised > size:
        raise ValueError("the array '%s' is %s, more than the file holds" % (name, shape))
    return dtype


def unpack_gzip(content: bytes) -> bytes:
    """Content of a gzip file, which is unpacked no further than a file of its size can go.

    Raises
    ------
    ValueError
        when it is damaged, or would unpack to more than it can hold.
    """
    largest = max(_ALWAYS_ALLOWED_BYTES, _LARGEST_RATIO * len(content))
    try:
        with gzip.open(io.BytesIO(content)) as handle:
            found = handle.read(largest + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(str(error)) from error
    check_unpacked(len(content), len(found))
    return found
