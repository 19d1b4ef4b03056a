"""Failures of the machine rather than of the program, each as one sentence with the exit code that goes with it.

Standard library only: PyTorch's errors are known by their names and texts.
"""

from __future__ import annotations

import errno
import os
import re

from .exceptions import EXIT_BAD_INPUT, EXIT_NO_RESOURCE, InputError

__all__ = ["explain", "is_no_memory", "make_folder", "tolerate_encodings"]

_NO_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory|std::bad_alloc|ALLOC_FAILED|unable to mmap|Unable to allocate", re.IGNORECASE)
_ON_GPU = re.compile(r"CUDA|CUBLAS|CUDNN|CUFFT|HIP", re.IGNORECASE)
_ASKED = re.compile(r"(?:[Tt]ried|[Uu]nable) to allocate ([\d.]+) ?([KMGTPE]?i?B|bytes)")
_REASONS = {
    errno.EACCES: "it may not be opened or written here", errno.EPERM: "it may not be opened or written here", errno.EROFS: "its disk is read-only",
    errno.ENAMETOOLONG: "the name is too long", errno.ENOENT: "it is not there, or was removed while the run went on", errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "a file is where a folder is needed", errno.EEXIST: "a file is where a folder is needed", errno.ESTALE: "its disk is gone",
    errno.EIO: "its disk does not answer", errno.EMFILE: "too many files are open", errno.ENFILE: "too many files are open",
}


def explain(error: BaseException) -> tuple[str, int] | None:
    """One sentence and an exit code for an error that the machine's state explains; None for all others, which are defects of the program."""
    if is_no_memory(error):
        where = "memory on the GPU" if _ON_GPU.search(f"{type(error).__module__} {error}") else "memory"
        asked = _ASKED.search(str(error))
        more = f" ({_amount(*asked.groups())} more was asked for)" if asked else ""
        return (
            f"There is not enough {where}{more}: give the run more of it, or choose a smaller batch, box or set. "
            "Started again, it goes on from the last record.", EXIT_NO_RESOURCE,
        )
    if not isinstance(error, OSError):
        return None
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        what = f"'{error.filename}' cannot be written: the" if error.filename else "The"
        return f"{what} disk is full; free some space and run again.", EXIT_NO_RESOURCE
    if error.filename is None:
        return None
    reason = _REASONS.get(error.errno or 0) or error.strerror or str(error)
    return f"'{error.filename}' cannot be used: {reason}.", EXIT_BAD_INPUT


def is_no_memory(error: BaseException) -> bool:
    """Whether an error says that memory, of the machine or of a GPU, has run out."""
    if isinstance(error, MemoryError) or "OutOfMemoryError" in [kind.__name__ for kind in type(error).__mro__]:
        return True
    if isinstance(error, OSError):
        return error.errno == errno.ENOMEM
    return isinstance(error, RuntimeError) and bool(_NO_MEMORY.search(str(error)))


def make_folder(path: str) -> None:
    """Make a run's output folder.

    Raises
    ------
    InputError
        when it cannot be made or written to.
    """
    try:
        os.makedirs(path, exist_ok=True)
    except (OSError, ValueError) as error:
        reason = _REASONS.get(getattr(error, "errno", None) or 0) or getattr(error, "strerror", None) or str(error)
        raise InputError(f"The output folder '{path}' cannot be made: {reason}.") from error
    if not os.access(path, os.W_OK | os.X_OK):
        raise InputError(f"The output folder '{path}' may not be written to: choose another.")


def tolerate_encodings(*streams: object) -> None:
    """Have streams that cannot encode a character (Å in a terminal of ASCII) write its number instead of failing."""
    for stream in streams:
        reconfigure = getattr(stream, "reconfigure", None)
        if reconfigure is not None and str(getattr(stream, "encoding", "")).lower().replace("-", "") != "utf8":
            reconfigure(errors="backslashreplace")


def _amount(number: str, unit: str) -> str:
    if unit.lower() != "bytes":
        return f"{number} {unit}"
    return f"{float(number) / 1e9:.3g} GB"
