"""Digests of input files: what tells a continued run that its inputs are those that its records were made from.

A file that a parameter names counts by its whole content, so that it may be copied and moved. Image files are too large for that: each counts by its size,
its time of change in seconds and blocks of its content, first, last and some between; of many files fewer blocks, and of very many the content of some. So
every process of a run may take the digest: it reads at most some 64 MiB. Names and places of files do not count.

Standard library only and clean on Python 3.8.
"""

import hashlib
import os
from typing import Dict, Iterator, List, Sequence, Tuple

__all__ = ["changed_input", "digest_images", "digest_input", "forget_inputs"]

_WHOLE_BYTES = 256 << 20  # a named file beyond that counts as image files do
_BLOCKS = 6  # of a large file
_BLOCK_BYTES = 64 << 10
_ALL_BLOCKS = 1000  # of a set
_SAMPLED_FILES = 500  # of a set, spread evenly, whose content counts: all by size and time
_PIECE = 1 << 20

_taken: Dict[str, Tuple[int, int]] = {}  # size and time in ns of each file whose content a digest was taken of
_of_sets: Dict[Tuple[Tuple[str, int, int], ...], str] = {}  # digests of sets of image files with their sizes and times in ns, of this run


def digest_input(path: str) -> str:
    """Digest (16 hex digits) of a file that a parameter names, with what is read from beside it, or of all files in a folder (a model)."""
    sha = hashlib.sha256()
    if os.path.isdir(path):
        for name in sorted(os.path.join(folder, name) for folder, _, files in os.walk(path) for name in files):
            sha.update(os.path.relpath(name, path).encode("utf-8", "surrogateescape"))
            _add_content(sha, name)
    else:
        for name in (path, *_beside(path)):
            _add_content(sha, name)
    return sha.hexdigest()[:16]


def digest_images(paths: Sequence[str]) -> str:
    """Digest (16 hex digits) of the image files of a set, in their order; within a run their content is read once."""
    files = tuple((path, found.st_size, found.st_mtime_ns) for path in paths for found in [os.stat(path)])
    if files not in _of_sets:
        _of_sets[files] = _digest_of_set(paths)
    return _of_sets[files]


def _digest_of_set(paths: Sequence[str]) -> str:
    sha = hashlib.sha256(str(len(paths)).encode())
    step = max(1, -(-len(paths) // _SAMPLED_FILES))
    blocks = min(_BLOCKS, max(2, _ALL_BLOCKS * step // max(len(paths), 1)))
    for number, path in enumerate(paths):
        sampled = number % step == 0 or number == len(paths) - 1
        sha.update(_size_and_time(path, sampled))
        if sampled:
            _add_blocks(sha, path, blocks)
    return sha.hexdigest()[:16]


def forget_inputs() -> None:
    """Begin a run: :func:`changed_input` looks at the files of digests taken from now on."""
    _taken.clear()
    _of_sets.clear()


def changed_input(output: str) -> str:
    """The first file outside of a run's output folder that is no longer as it was when its digest was taken; empty when there is none."""
    own = os.path.abspath(output) + os.sep
    for path, before in _taken.items():
        if path.startswith(own):
            continue
        try:
            found = os.stat(path)
        except OSError:
            return path
        if (found.st_size, found.st_mtime_ns) != before:
            return path
    return ""


def _size_and_time(path: str, watched: bool = True) -> bytes:
    found = os.stat(path)
    if watched:
        _taken[os.path.abspath(path)] = found.st_size, found.st_mtime_ns
    return b"%d/%d\n" % (found.st_size, found.st_mtime_ns // 10**9)


def _add_content(sha: "hashlib._Hash", path: str) -> None:
    about = _size_and_time(path)
    if os.path.getsize(path) > _WHOLE_BYTES:
        sha.update(about)
        _add_blocks(sha, path)
        return
    sha.update(b"%d\n" % os.path.getsize(path))
    with open(path, "rb") as handle:
        for piece in iter(lambda: handle.read(_PIECE), b""):
            sha.update(piece)


def _add_blocks(sha: "hashlib._Hash", path: str, blocks: int = _BLOCKS) -> None:
    with open(path, "rb", buffering=0) as handle:
        for first in _places(os.path.getsize(path), blocks):
            handle.seek(first)
            sha.update(handle.read(_BLOCK_BYTES))


def _places(size: int, blocks: int) -> Iterator[int]:
    """Where the blocks of a file begin."""
    if size <= blocks * _BLOCK_BYTES:
        return iter(range(0, size, _BLOCK_BYTES))
    return iter([number * (size - _BLOCK_BYTES) // (blocks - 1) for number in range(blocks)])


def _beside(path: str) -> List[str]:
    """Files that readers take from beside one: the structure of modes, passthrough files of cryoSPARC, the other half of an IMAGIC file."""
    folder, own = os.path.split(os.path.abspath(path))
    stem, end = os.path.splitext(own)
    names = {
        ".npz": ["structure.pdb", "structure.cif"], ".hed": [stem + ".img"], ".img": [stem + ".hed"],
        ".cs": sorted(name for name in os.listdir(folder) if name.endswith(".cs") and "passthrough" in name and name != own) if end == ".cs" else [],
    }
    return [os.path.join(folder, name) for name in names.get(end.lower(), []) if os.path.isfile(os.path.join(folder, name))]
