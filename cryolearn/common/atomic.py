"""Files are written whole or not at all: a reader sees the old file or the new one, never a part of it.

A file is written under a temporary name in its own folder and renamed when it is complete. An error removes the temporary file, and one of writing becomes a
sentence that names the file (:class:`.exceptions.WriteError`); a process that is killed leaves it behind under a name that ends in ``.part``, which nothing
reads, and which the next command that writes there removes (:func:`remove_parts`). A file that grows over
hours stands as ``PATH.part`` instead, from which a later process goes on (:func:`part_of`). Content and name are on the disk when the file has been written
(:func:`to_disk`), so it outlives the process and a power cut.

Standard library only: the engine's command line imports this before it has set the number of threads of numpy's libraries.
"""

import contextlib
import csv
import errno
import os
import re
import shutil
import socket
import time
import uuid
import zlib
from typing import IO, Any, Callable, Iterable, Iterator, Optional, Sequence, Union

from .exceptions import EXIT_NO_RESOURCE, InputError, WriteError
from .strict_json import json_text

__all__ = [
    "copy_file", "finish_part", "naming", "open_whole", "part_of", "plain_value", "remove_parts", "to_disk", "whole_file", "write_csv", "write_json",
    "write_text",
]

Path = Union[str, "os.PathLike[str]"]
_SHOWN_LETTERS = 40  # of the file's name in the temporary one, which must not grow longer than the file system allows
_PART = re.compile(r"\..*\.(?:([0-9a-f]{8})-(\d+)-[0-9a-f]{8}|[0-9a-f]{32})\.part", re.DOTALL)
_FORGOTTEN_S = 86400.0  # a file that another machine's process has not touched for as long is nobody's
_DEPTH = 6  # folders below a run's own in which it writes
_NO_ROOM_BYTES = 1 << 20
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT)
_REASONS = {
    errno.EACCES: "the folder may not be written to", errno.EPERM: "the folder may not be written to", errno.EROFS: "its disk is read-only",
    errno.ENAMETOOLONG: "its name is too long", errno.ENOENT: "its folder is gone, or another run wrote there", errno.EISDIR: "it is a folder",
    errno.ENOTDIR: "a file is where a folder is needed", errno.EEXIST: "a file is where a folder is needed",
}


@contextlib.contextmanager
def whole_file(path: Path, durable: bool = True) -> Iterator[str]:
    """Name under which another library writes the file ``path``; the file takes its place when the block ends without an error.

    The temporary file lies in the same folder and is removed on an error. Its permissions are those of any new file (umask). A link at ``path`` is
    replaced, never written through.

    Parameters
    ----------
    path : str or path
        File to write; its folder exists.
    durable : bool
        See to it that the file is on the disk. Without it the caller does so for many files together: :func:`to_disk`.

    Yields
    ------
    str
        Name of a file that does not exist yet.

    Raises
    ------
    WriteError
        when it cannot be written.
    """
    folder, name = os.path.split(os.fspath(path))
    part = os.path.join(folder, ".%s.%s-%d-%s.part" % (name[:_SHOWN_LETTERS], _this_machine(), os.getpid(), uuid.uuid4().hex[:8]))
    try:
        with naming(path, part):
            yield part
            if durable:
                to_disk(part)
            os.replace(part, path)
        if durable:
            _name_to_disk(path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(part)
        raise


@contextlib.contextmanager
def naming(path: Path, part: Path = "") -> Iterator[None]:
    """Make errors of writing a file those of that file: libraries seldom say which one it was.

    Parameters
    ----------
    path : str or path
        File that is written.
    part : str or path
        Name under which it is written, where that is another.

    Raises
    ------
    WriteError
        for an error of the operating system that names this file or none, and for any error on a full disk.
    """
    try:
        yield
    except InputError:
        raise
    except Exception as error:
        names = [name for name in (getattr(error, "filename", None), getattr(error, "filename2", None)) if name is not None]
        own = isinstance(error, OSError) and (not names or os.fspath(part or path) in map(str, names) or os.fspath(path) in map(str, names))
        number = getattr(error, "errno", None)
        full = number in _NO_ROOM or "No space left" in str(error) or (not own and _is_full(os.path.dirname(os.fspath(path)) or os.curdir))
        if not own and not full:
            raise
        reason = "the disk is full; free some space and run again" if full else _REASONS.get(number or 0) or getattr(error, "strerror", None) or str(error)
        said = WriteError("'%s' cannot be written: %s." % (os.fspath(path), reason))
        if full:
            said.exit_code = EXIT_NO_RESOURCE
        raise said from error


def _is_full(folder: str) -> bool:
    try:
        return shutil.disk_usage(folder).free < _NO_ROOM_BYTES
    except OSError:
        return False


def to_disk(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk: what a power cut leaves."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):  # some network file systems do not sync folders
            raise
    finally:
        os.close(handle)


def _name_to_disk(path: Path) -> None:
    """The same for the name of a file, which is written and right even where its folder cannot be asked for that."""
    with contextlib.suppress(OSError):
        to_disk(os.path.dirname(os.fspath(path)) or os.curdir)


def _this_machine() -> str:
    return "%08x" % zlib.crc32(socket.gethostname().encode())


def remove_parts(folder: Path) -> None:
    """Remove the temporary files that killed processes left in a run's folder; those of processes that live, or may do so elsewhere, stay."""
    root = os.fspath(folder)
    for where, folders, files in os.walk(root):
        if os.path.relpath(where, root).count(os.sep) >= _DEPTH:
            folders.clear()
        for name in files:
            found = _PART.fullmatch(name)
            with contextlib.suppress(OSError):
                if found and _is_forgotten(os.path.join(where, name), found.group(1), found.group(2)):
                    os.remove(os.path.join(where, name))


def _is_forgotten(path: str, machine: Optional[str], process: Optional[str]) -> bool:
    if machine == _this_machine():
        try:
            os.kill(int(process or 0), 0)
        except ProcessLookupError:
            return True
        except (OSError, OverflowError):
            pass
    return time.time() - os.path.getmtime(path) > _FORGOTTEN_S


def part_of(path: Path) -> str:
    """Name under which a file that is written over hours, and continued after a kill, stands until it is complete: :func:`finish_part`."""
    return os.fspath(path) + ".part"


def finish_part(path: Path) -> None:
    """Give a file that was written as :func:`part_of` its own name."""
    with naming(path, part_of(path)):
        to_disk(part_of(path))
        os.replace(part_of(path), path)
    _name_to_disk(path)


@contextlib.contextmanager
def open_whole(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open ``path`` for writing, ``'w'`` (UTF-8, newlines as they are given) or ``'wb'``; see :func:`whole_file`."""
    if mode not in ("w", "wb"):
        raise ValueError("a file that is written whole is opened with 'w' or 'wb', not '%s'" % mode)
    text = {} if mode == "wb" else {"encoding": "utf-8", "newline": ""}  # type: dict[str, Any]
    with whole_file(path) as part:
        with open(part, mode, **text) as handle:
            yield handle


def copy_file(source: Path, path: Path) -> None:
    """Copy the content of the file ``source`` to ``path``."""
    with whole_file(path) as part:
        shutil.copyfile(source, part)


def write_text(path: Path, text: str) -> None:
    """Write text (UTF-8)."""
    with open_whole(path) as handle:
        handle.write(text)


def write_json(path: Path, values: Any, default: Optional[Callable[[Any], Any]] = None, sort_keys: bool = False) -> None:
    """Write plain values as indented JSON, NaN and infinity as null; ``default`` makes other values plain (:func:`plain_value` does so with arrays)."""
    write_text(path, json_text(values, default, indent=2, sort_keys=sort_keys) + "\n")


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Write a table as CSV: the names of its columns, then one line a row, each ended by a newline character."""
    with open_whole(path) as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)


def plain_value(value: Any) -> Any:
    """Numbers and arrays of numpy or torch as JSON takes them.

    Raises
    ------
    TypeError
        for anything else.
    """
    if hasattr(value, "tolist"):
        return value.tolist()
    raise TypeError("%s cannot be written as JSON" % type(value).__name__)
