"""What ``summary.json`` of a run says."""

from __future__ import annotations

from typing import TypedDict

__all__ = ["HeterogeneitySummary", "SummaryNotes"]


class SummaryNotes(TypedDict, total=False):
    """Entries that only some runs have: of a method with a junk component, of the autoencoder, of refined poses, of half sets, of subunits."""

    junk_percent: float
    autoencoder_accepted: bool
    autoencoder_held_out_gain: float
    autoencoder_held_out_gain_error: float
    pose_rounds: int
    median_turn_deg: float
    median_move_angst: float
    pose_prior_deg: float
    pose_prior_angst: float
    half_set_agreement: float
    held_out_gain: float
    held_out_gain_error: float
    held_out_rigid_gain: float
    held_out_rigid_gain_error: float
    rigid_share: float
    particles: int
    subunits: int
    neighbour_correlation: float
    neighbour_correlation_error: float
    neighbour_correlation_raw: float
    neighbour_correlation_null: float
    subunit_reliability: float


class HeterogeneitySummary(SummaryNotes):
    """Entries of every run."""

    moves: bool | None
    verdict: str
    free_energy: str
    gaussians: int
    moving_gaussians: int
    resolution_angst: float
    method: str
    vary: str
    latents: int
    components: int
    significant_components: int
    explained_by_first: float
    null_of_first: float
    std_angst_of_first: float
    largest_excursion_angst: float
    median_error: float
    mean_gain: float
    mean_frc: float | None
    flagged_hidden: int
    flagged_at_end: int
    flagged_unlikely: int
    pixel_size_angst: float
    box: int
    digest: str
