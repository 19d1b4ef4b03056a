"""What the parts of the benchmark ``inputs`` share."""

from __future__ import annotations

from typing import NamedTuple


class Row(NamedTuple):
    """A row of the benchmark: what, under which condition, the value aimed at, the value measured, and whether it holds."""

    what: str
    condition: str
    target: str
    measured: str
    holds: bool
