"""Files are written whole or not at all: a reader sees the old file or the new one, never a part of it.

A file is written under a temporary name in its own folder and renamed when it is complete. An error removes the temporary file; a process that is killed
leaves it behind under a name that ends in ``.part``, which nothing reads. A file that grows over
hours stands as ``PATH.part`` instead, from which a later process goes on (:func:`part_of`). The content is handed to the operating system before the
renaming, so it outlives the process; a power cut is not guarded against.

Standard library only: the engine's command line imports this before it has set the number of threads of numpy's libraries.
"""

import contextlib
import csv
import json
import os
import shutil
import uuid
from typing import IO, Any, Callable, Iterable, Iterator, Optional, Sequence, Union

__all__ = ["copy_file", "finish_part", "open_whole", "part_of", "plain_value", "whole_file", "write_csv", "write_json", "write_text"]

Path = Union[str, "os.PathLike[str]"]
_SHOWN_LETTERS = 40  # of the file's name in the temporary one, which must not grow longer than the file system allows


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[str]:
    """Name under which another library writes the file ``path``; the file takes its place when the block ends without an error.

    The temporary file lies in the same folder and is removed on an error. Its permissions are those of any new file (umask). A link at ``path`` is
    replaced, never written through.

    Parameters
    ----------
    path : str or path
        File to write; its folder exists.

    Yields
    ------
    str
        Name of a file that does not exist yet.
    """
    folder, name = os.path.split(os.fspath(path))
    part = os.path.join(folder, ".%s.%s.part" % (name[:_SHOWN_LETTERS], uuid.uuid4().hex))
    try:
        yield part
        os.replace(part, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.remove(part)
        raise


def part_of(path: Path) -> str:
    """Name under which a file that is written over hours, and continued after a kill, stands until it is complete: :func:`finish_part`."""
    return os.fspath(path) + ".part"


def finish_part(path: Path) -> None:
    """Give a file that was written as :func:`part_of` its own name."""
    os.replace(part_of(path), path)


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
    """Write plain values as indented JSON; ``default`` makes other values plain (:func:`plain_value` does so with arrays). What is not finite is null."""
    plain = json.loads(json.dumps(values, default=default), parse_constant=lambda name: None)  # JSON knows neither NaN nor infinity
    write_text(path, json.dumps(plain, indent=2, sort_keys=sort_keys) + "\n")


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
