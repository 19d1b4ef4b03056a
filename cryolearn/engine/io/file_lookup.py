"""Where the image files are that a particle file names: projects are moved, and names are relative to a folder above the file that holds them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from ..exceptions import InputError

__all__ = ["find_file", "written_name"]

_FORMAT = re.compile(r":(mrcs?|spi|st)$", re.IGNORECASE)
_DRIVE = re.compile(r"^[A-Za-z]:[\\/]")


def find_file(path: str, name: str, datadir: str = "") -> str:
    """A file that a particle file names.

    It is looked up in ``datadir`` (by its name, then by ever shorter ends of it), beside the particle file, in the current (project) folder, and
    in the folders above the particle file, to which RELION's and cryoSPARC's names are relative. A name of Windows, and one with a format behind it
    (``stack.stk:mrcs``, of RELION and Xmipp), is looked up as it stands first, then as what it means here.

    Parameters
    ----------
    path : str
        Particle file.
    name : str
        Name of the file in it.
    datadir : str
        Folder to look in first, '' for none.

    Raises
    ------
    InputError
        naming the places that were tried.
    """
    tried: list[str] = []
    for spelt in dict.fromkeys((name, _FORMAT.sub("", name), _FORMAT.sub("", _DRIVE.sub("/", name).replace("\\", "/")))):
        for folder, candidate in _candidates(os.path.dirname(os.path.abspath(path)), spelt, datadir):
            if os.path.isfile(candidate):
                return os.path.normpath(candidate)
            if folder not in tried:
                tried.append(folder)
    absent = f"The file '{path}' names the image file '{name}', which "
    if tried:
        raise InputError(f"{absent}is in none of the folders {', '.join(map(repr, tried))}: copy or link it there, or name its folder with --datadir.")
    raise InputError(f"{absent}does not exist: name the folder that it was moved to with --datadir.")


def _candidates(beside: str, name: str, datadir: str) -> Iterator[tuple[str, str]]:
    """Folders with the file that is looked for in each; an absolute name is in no folder."""
    parts = [part for part in name.split("/") if part]
    if datadir:
        for first in range(len(parts)):
            yield datadir, os.path.join(datadir, *parts[first:])
    if os.path.isabs(name):
        if os.path.isfile(name):
            yield "", name
        return
    above = [beside, os.getcwd()]
    folder = os.path.dirname(beside)
    while folder != os.path.dirname(folder):
        above.append(folder)
        folder = os.path.dirname(folder)
    for folder in dict.fromkeys(above):
        yield folder, os.path.join(folder, name)


def written_name(path: str, stack: str) -> str:
    """Name of a file in a particle file: relative to it or to the current folder when it lies below, else its whole path."""
    target = os.path.abspath(stack)
    for folder in (os.path.dirname(os.path.abspath(path)), os.getcwd()):
        if target.startswith(os.path.join(folder, "")):
            return os.path.relpath(target, folder)
    return target
