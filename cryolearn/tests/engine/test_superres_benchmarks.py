"""The judges of the benchmarks of map enhancement: the truth recovers the whole gap, the degraded map nothing, rows say what happened."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

FOLDER = Path(__file__).resolve().parents[3] / "benchmarks"
if not (FOLDER / "_superres.py").exists():
    pytest.skip("benchmarks are not part of the wheel", allow_module_level=True)

from .superres_cases import blurred, polymer, sharp_map  # noqa: E402


def test_gaps_changes_and_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(FOLDER))
    import _results
    import _superres

    monkeypatch.setattr(_results, "RESULTS", tmp_path)
    sharp = sharp_map("1ubi", 3.0)
    maps = {"truth": sharp, "degraded": blurred(sharp, 250.0), "linear": blurred(sharp, 60.0), "paper": sharp}
    scored = _superres.score_case(_superres.Case("ubiquitin", maps, polymer("1ubi")), 3.0, decoys=False)
    assert scored.side_chains == 47
    assert _superres.gap_recovered(scored, "paper") == pytest.approx(1) and _superres.gap_recovered(scored, "degraded") == pytest.approx(0)
    assert 0 < _superres.gap_recovered(scored, "linear", score="q_score") < 1
    assert scored.changes("degraded", "truth", draws=100)["q_score"].change.low > 0
    _superres.record_gaps([scored], "paper", "blurred", 0.8, "laptop")
    _superres.record_gaps([scored], "degraded", "blurred", 0.8, "laptop")
    _superres.record_changes(scored, "degraded", "paper", "blurred", "laptop")
    _superres.record_changes(scored, "truth", "degraded", "blurred", "laptop")
    with open(tmp_path / "superres.csv", newline="") as handle:
        holds = {(row["what"], row["condition"]): row["holds"] == "true" for row in csv.DictReader(handle)}
    where = "ubiquitin, blurred"
    gap = "gap recovered (EMRinger, one vote a residue)"
    assert holds[(f"paper: {gap}", "blurred")] and not holds[(f"degraded: {gap}", "blurred")]
    assert not holds[("degraded: maps above the linear baseline", "blurred")]
    assert holds[("paper: Q-score change (paired bootstrap)", where)] and not holds[("degraded: Q-score change (paired bootstrap)", where)]
    assert holds[("paper: map-model FSC 0.5, masked", where)]
    _superres.write_case_table(tmp_path / "cases.csv", [scored])
    with open(tmp_path / "cases.csv", newline="") as handle:
        assert [row["map"] for row in csv.DictReader(handle)] == list(maps)
