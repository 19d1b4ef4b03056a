"""Names of files as Scipion writes them."""

from __future__ import annotations

import os
from typing import Any

from ..common.limits import LARGEST_BOX_PX

PACKED = ('.gz', '.bz2')  # what mrcfile and the engine unpack as they read


def plainName(name: Any) -> str:
    """A file's own name, without the format that xmipp puts behind it (``map.mrc:mrc``)."""
    text = str(name)
    return text.rsplit(':', 1)[0] if text.endswith((':mrc', ':mrcs')) else text


def unpackedName(name: Any) -> str:
    """A file's own name without the ending of its compression (``map.mrc.gz`` is ``map.mrc``), by which its format is known."""
    plain = plainName(name)
    stem, ending = os.path.splitext(plain)
    return stem if ending.lower() in PACKED else plain


def fileOf(item: Any) -> str:
    """The file of a Scipion object, or ``''`` when it has none."""
    return plainName(item.getFileName() or '')


def isThere(item: Any) -> bool:
    """Does the file of a Scipion object exist?"""
    return os.path.exists(fileOf(item))


def mapSides(volume: Any) -> Any:
    """Voxels of a volume along x, y and z; None where its file is gone, or is no map."""
    try:
        sides = tuple(int(side) for side in volume.getDim()[:3])
    except Exception:  # Scipion's readers fail in many ways
        return None
    return sides if isThere(volume) and all(0 < side <= LARGEST_BOX_PX for side in sides) else None
