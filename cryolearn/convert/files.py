"""Names of files as Scipion writes them."""

from __future__ import annotations

import os
from typing import Any


def plainName(name: Any) -> str:
    """A file's own name, without the format that xmipp puts behind it (``map.mrc:mrc``)."""
    text = str(name)
    return text.rsplit(':', 1)[0] if text.endswith((':mrc', ':mrcs')) else text


def fileOf(item: Any) -> str:
    """The file of a Scipion object, or ``''`` when it has none."""
    return plainName(item.getFileName() or '')


def isThere(item: Any) -> bool:
    """Does the file of a Scipion object exist?"""
    return os.path.exists(fileOf(item))
