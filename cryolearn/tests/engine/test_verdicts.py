"""The first line of a run's summary says no when the run's own measures do."""

from __future__ import annotations

import pytest

from cryolearn.common.verdicts import (
    alignment_verdict,
    averages_verdict,
    classification_verdict,
    enhancement_verdict,
    groups_verdict,
    maps_verdict,
    recovery_verdict,
)

ENHANCED = {"disagrees": False, "molecule_found": True, "evidence_gain": 0.02, "mean_fsc_raw": 0.5, "mean_fsc_cross": 0.52}


@pytest.mark.parametrize(("flagged", "word"), [(0, "Reliable"), (20, "Reliable"), (40, "Mixed"), (95, "Doubtful")])
def test_alignments_by_their_flags(flagged: int, word: str) -> None:
    said = alignment_verdict(100, {"ambiguous": flagged, "low_correlation": flagged // 2}, flagged)
    assert said.startswith(word) and f"{flagged} of 100 particles" in said and ("'ambiguous'" in said) == (flagged > 0)


def test_recovered_orientations_by_their_signs() -> None:
    assert recovery_verdict("high", []).startswith("Reliable")
    said = recovery_verdict("doubtful", ["The half maps agree at no resolution."])
    assert said.startswith("Doubtful") and said.endswith("The half maps agree at no resolution.")


def test_maps_by_their_half_maps() -> None:
    assert maps_verdict([8.0]) == "Reliable to 8.00 Å, by half maps (FSC 0.143)."
    assert "8.00 to 12.00 Å" in maps_verdict([12.0, 8.0])
    assert maps_verdict([8.0, None]).startswith("Mixed") and maps_verdict([None]).startswith("Doubtful")
    assert averages_verdict([20.0], []).startswith("Reliable") and averages_verdict([20.0], ["one"]).startswith("Mixed")
    assert averages_verdict([None], ["one"]).startswith("Doubtful")


def test_classes_by_what_is_unknown() -> None:
    assert classification_verdict(100, 5, 0.95).startswith("Reliable")
    assert classification_verdict(100, 5, 0.6).startswith("Mixed") and classification_verdict(100, 30, 0.95).startswith("Mixed")
    assert classification_verdict(100, 80, 0.99).startswith("Doubtful")


def test_groups_by_their_silhouette() -> None:
    words = [groups_verdict(value, 3, 100).split(":")[0] for value in (0.6, 0.15, 0.02, None, float("nan"))]
    assert words == ["Reliable", "Mixed", "Doubtful", "Not tested", "Not tested"]


def test_enhanced_maps_by_the_half_map_that_was_not_seen() -> None:
    assert enhancement_verdict(ENHANCED).startswith("Reliable")
    assert enhancement_verdict({**ENHANCED, "evidence_gain": -0.01}).startswith("Doubtful")
    assert enhancement_verdict({**ENHANCED, "disagrees": True}).startswith("Doubtful")
    assert enhancement_verdict({"disagrees": False, "molecule_found": False}).startswith("Doubtful")
    assert enhancement_verdict({"disagrees": False, "molecule_found": True}).startswith("Not tested")
