"""``summary.json``: the numbers of a run that its protocol, viewers and users look at first. What stands in it is one class a command here.

Numbers whose names depend on the input (errors of each mode, losses of a network) come beside these as ``measures``.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import Any, NotRequired, TypedDict

from .atomic import write_json

__all__ = [
    "AlignmentSummary", "AveragingSummary", "ClassificationSummary", "ComparisonSummary", "ConversionSummary", "EnhancementSummary", "ErrorsSummary",
    "FscSummary", "ModesSummary", "ParticlesSummary", "ReconstructionSummary", "RecoverySummary", "SubdivisionSummary", "SubtomogramsSummary",
    "ValidationSummary", "write_summary",
]

SUMMARY = "summary.json"


def write_summary(
    folder: str | PathLike[str], summary: Mapping[str, Any], measures: Mapping[str, Any] | None = None, warnings: Sequence[str] = (),
) -> None:
    """Write the summary of a run into its output folder; ``warnings``, if any, are added to its own."""
    said = {"warnings": [*summary.get("warnings", ()), *warnings]} if warnings else {}
    write_json(os.path.join(folder, SUMMARY), {**summary, **(measures or {}), **said})


class ParticlesSummary(TypedDict):
    """Of simulate-particles."""

    images: int
    box: int
    pixel_size_angst: float
    states: int
    modes: int
    snr_asked: float
    snr_measured: float | None
    digest: str


class SubtomogramsSummary(TypedDict):
    """Of subtomogram-simulate."""

    subtomograms: int
    classes: int
    box: int
    pixel_size_angst: float
    snr_asked: float
    snr_of_means: float | None
    route: str
    digest: str


class ModesSummary(TypedDict):
    """Of normal-modes and import-modes."""

    atoms: int
    modes: int
    cutoff_angst: NotRequired[float]
    selected: NotRequired[int]


class AlignmentSummary(TypedDict):
    """Of elastic-align and elastic-predict; measures: images by flag."""

    particles: int
    median_correlation: float
    median_pose_sigma_deg: float
    median_amplitude_sigma: list[float]
    flagged: int


class ErrorsSummary(TypedDict):
    """Of elastic-errors; measures: mean, median and 95th percentile of each quantity."""

    images: int
    solved_fraction: float
    failures: int


class ConversionSummary(TypedDict):
    """Of convert-particles."""

    particles: int
    box: int
    pixel_size_angst: float
    has_poses: bool
    has_ctf: bool
    not_written_to_cs: list[str]


class FscSummary(TypedDict):
    """Of fsc."""

    resolution_angst: float | None
    threshold: float
    box: int
    pixel_size_angst: float
    masked: bool


class ReconstructionSummary(TypedDict):
    """Of reconstruct."""

    maps: int
    particles: int
    box: int
    pixel_size_angst: float
    best_resolution_angst: float | None
    worst_resolution_angst: float | None
    left_out_classes: int


class RecoverySummary(TypedDict):
    """Of orientation-recover; measures: facts of the stages that were run."""

    particles: int
    box: int
    pixel_size_angst: float
    symmetry: str
    rounds: int
    residual_rad: float | None
    gauge_margin: float | None
    resolution_angst: float | None
    median_confidence: float | None


class ComparisonSummary(TypedDict):
    """Of orientation-compare; measures: errors and alignment of each kind."""

    particles: int
    particles_reference: int
    particles_judged: int
    alignment: str
    symmetry: str
    random_error_rad: float


class ClassificationSummary(TypedDict):
    """Of subtomogram-classify; the last three are of labelled input."""

    subtomograms: int
    classes: int
    rejected: int
    mean_confidence: float
    network: str
    accuracy_of_known: NotRequired[float | None]
    rejected_of_known: NotRequired[float | None]
    rejected_of_unknown: NotRequired[float | None]


class SubdivisionSummary(TypedDict):
    """Of subtomogram-subdivide; the last two are of labelled input."""

    subtomograms: int
    groups: int
    left_out: int
    silhouette: float | None
    largest: int
    method: str
    network: str
    purity: NotRequired[float]
    mutual_information: NotRequired[float]


class AveragingSummary(TypedDict):
    """Of subtomogram-average: an entry a class."""

    subtomograms: int
    box: int
    pixel_size_angst: float
    classes: list[dict[str, Any]]
    warnings: list[str]
    starts_evidence: dict[str, Any]


class EnhancementSummary(TypedDict):
    """Of map-enhance; measures: part of confident density, and the mean FSCs of half maps."""

    input_resolution_angst: float
    target_angst: float
    network_voxel_angst: float
    network: str
    preset: str
    orientations: int
    data_consistency: float
    molecule_found: bool
    molecule_part_of_box: float
    solvent_level: float
    solvent_spread: float
    scale: float
    relative_uncertainty: float
    local_correlation: float
    disagrees: bool


class ValidationSummary(TypedDict):
    """Of validate-map; measures: every score of each map with its interval, and the changes."""

    maps: list[str]
    residues: int
    side_chains: int
    side_chains_outside: int
    atoms: int
    atoms_outside: int
    pixel_size_angst: float
    place: str
    resolution_angst: float
    q_sigma_angst: float
    emringer_ceiling: float
    model_ceiling: float
    model_score: float
