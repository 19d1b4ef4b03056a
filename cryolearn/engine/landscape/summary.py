"""What ``summary.json`` of the landscape commands says."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TypedDict

from ..io.atomic import write_json

__all__ = ["ClusterSummary", "FrameNotes", "SelectSummary", "TrajectorySummary", "write_summary"]


class ClusterSummary(TypedDict):
    """Of ``cluster-landscape``."""

    particles: int
    left_out: int
    clusters: int
    silhouette: float | None
    explained_variance: float | None


class SelectSummary(TypedDict):
    """Of ``select-landscape``."""

    particles: int
    selected: int


class FrameNotes(TypedDict, total=False):
    """What only frames of atoms, or only those of a Gaussian model, have."""

    gaussians: int
    basis: str
    largest_rmsd_angst: float
    bonds_off_percent: float
    clashes: int
    geometry: str


class TrajectorySummary(FrameNotes):
    """Of ``trajectory``."""

    frames: int
    length: float
    mean_distance_to_path: float


def write_summary(output: str | os.PathLike[str], summary: Mapping[str, object], warnings: Sequence[str] = ()) -> None:
    """Write ``summary.json`` into the folder of a run, with ``warnings`` if there are any."""
    write_json(os.path.join(output, "summary.json"), {**summary, **({"warnings": list(warnings)} if warnings else {})})
