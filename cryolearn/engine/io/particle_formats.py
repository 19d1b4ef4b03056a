"""Particle files of other programs, by the ending of their names, as the blocks of a STAR file."""

from __future__ import annotations

from .cryosparc import cs_blocks
from .star_text import Block, read_star
from .xmipp import xmd_blocks

__all__ = ["read_blocks"]


def read_blocks(path: str, datadir: str = "") -> dict[str, Block]:
    """Blocks ``optics`` and ``particles`` of a particle file: STAR, ``.cs`` of cryoSPARC, or ``.xmd`` of Xmipp.

    Parameters
    ----------
    path : str
        Particle file.
    datadir : str
        Folder in which image files are looked up first.

    Raises
    ------
    InputError
        when the file cannot be read.
    """
    if path.lower().endswith((".cs", ".csg")):
        return cs_blocks(path)
    if path.lower().endswith(".xmd"):
        return xmd_blocks(path, datadir)
    return read_star(path)
