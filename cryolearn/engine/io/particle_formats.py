"""Particle files of other programs, by the ending of their names, as the blocks of a STAR file."""

from __future__ import annotations

from .cryosparc import cs_blocks
from .star_text import Block, read_star

__all__ = ["read_blocks"]


def read_blocks(path: str) -> dict[str, Block]:
    """Blocks ``optics`` and ``particles`` of a particle file: STAR, or ``.cs`` of cryoSPARC.

    Raises
    ------
    InputError
        when the file cannot be read.
    """
    if path.lower().endswith((".cs", ".csg")):
        return cs_blocks(path)
    return read_star(path)
