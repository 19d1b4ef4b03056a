"""EMRinger: golden values of cctbx, ties, traps, ceilings, bootstrap."""

from __future__ import annotations

import math
from pathlib import Path

import gemmi
import numpy as np
import pytest
from numpy.typing import NDArray

from cryolearn.engine.io.maps import Map
from cryolearn.engine.io.side_chains import SideChains, find_side_chains
from cryolearn.engine.io.structures import read_structure
from cryolearn.engine.map_validation.density_sampling import sample_finer, trilinear
from cryolearn.engine.map_validation.emringer import (
    CEILING,
    Votes,
    bootstrap_scores,
    classic_votes,
    emringer,
    emringer_score,
    model_ceiling,
    model_score,
    rings_inside,
    rotameric_share,
    tie_safe_votes,
)

from .map_cases import polymer, sharp_map

# mmtbx.programs.emringer of cctbx-base 2025.11 on these maps and models (test_map_validation_referee.py runs it again where cctbx is installed)
GOLDEN = {
    "3enl": {1.5: 7.9294, 2.0: 7.4535, 3.0: 6.1358, 4.0: 4.5786, 5.0: 1.9317},
    "1ubi": {1.5: 6.7178, 2.0: 7.9176, 3.0: 5.2270, 4.0: 4.6352, 5.0: 2.6835},
}
COUNTS = {"3enl": 253, "1ubi": 47}


@pytest.mark.parametrize(("name", "resolution"), [(name, d) for name, values in GOLDEN.items() for d in values])
def test_score_equals_that_of_cctbx(name: str, resolution: float) -> None:
    score = emringer(sharp_map(name, resolution), find_side_chains(polymer(name)))
    assert score.residues == COUNTS[name]
    assert score.score == pytest.approx(GOLDEN[name][resolution], abs=5e-5)


def test_rings_turn_the_gamma_atom_about_ca_cb() -> None:
    chains = find_side_chains(polymer("1ubi"))
    expected = [math.degrees(gemmi.calculate_dihedral(*(gemmi.Position(*place) for place in atoms))) % 360 for atoms in chains.atoms]
    assert chains.chi1_deg() == pytest.approx(expected, abs=1e-3)
    rings = chains.rings(72)
    turned = SideChains(np.repeat(chains.residue, 72), np.repeat(chains.atoms, 72, axis=0))
    turned.atoms[:, 3] = rings.reshape(-1, 3)
    assert turned.chi1_deg().reshape(-1, 72)[:, :71] == pytest.approx(np.broadcast_to(np.arange(1, 72) * 5.0, (len(chains), 71)))
    for near in (1, 2):  # bond length and bond angle stay
        distance = np.linalg.norm(rings - chains.atoms[:, near, None], axis=-1)
        own = np.linalg.norm(chains.atoms[:, 3] - chains.atoms[:, near], axis=-1)
        assert distance == pytest.approx(np.broadcast_to(own[:, None], distance.shape))


def test_alternate_positions_are_those_of_the_first_conformer(tmp_path: Path) -> None:
    """As cctbx takes them, though the second is more occupied; atoms that only the second has are left out."""
    lines = [
        "ATOM      1  CA ASER A   1       1.000   0.000   0.000  0.40 10.00           C",
        "ATOM      2  CA BSER A   1       2.000   0.000   0.000  0.60 10.00           C",
        "ATOM      3  OG BSER A   1       3.000   0.000   0.000  0.60 10.00           O",
        "ATOM      4  CB  SER A   1       4.000   0.000   0.000  1.00 10.00           C",
    ]
    path = tmp_path / "alternate.pdb"
    path.write_text("\n".join(lines) + "\nEND\n")
    first, occupied = read_structure(str(path), first_conformer=True), read_structure(str(path))
    assert dict(zip(first.atom_name, first.coordinates[:, 0])) == {"CA": 1.0, "CB": 4.0}
    assert dict(zip(occupied.atom_name, occupied.coordinates[:, 0])) == {"CA": 2.0, "OG": 3.0, "CB": 4.0}


def _rings(peaks_deg: NDArray[np.float64], samples: int) -> NDArray[np.float64]:
    angle = 360 * np.arange(1, samples + 1) / samples
    return np.cos(np.radians(angle - peaks_deg[:, None]))


def test_all_rotameric_peaks_reach_the_ceiling_and_none_passes_it() -> None:
    """10 sqrt(33 / 39) when every vote is rotameric: z = (n - 39 n / 72) / sqrt(n 39 33) 72, divided by sqrt(N)."""
    peaks = np.tile([60.0, 180.0, 300.0], 40)
    assert CEILING == pytest.approx(9.1987, abs=5e-5)
    for votes in (classic_votes(_rings(peaks, 72)), tie_safe_votes(_rings(peaks, 360))):
        assert emringer_score(votes).score == pytest.approx(CEILING)
    eclipsed = emringer_score(tie_safe_votes(_rings(peaks + 60, 360)))
    assert eclipsed.score == pytest.approx(-10 * math.sqrt(39 / 33)) and len(eclipsed.scores) == 1


def test_chance_scores_zero_by_tie_safe_votes() -> None:
    """Peaks all over the circle are rotameric in 39 of 72 cases, so the score at the first threshold is 0; a flat ring votes so too."""
    peaks = np.arange(0.5, 360.5)
    assert emringer_score(tie_safe_votes(_rings(peaks, 360))).scores[0] == pytest.approx(0, abs=1e-9)
    flat = tie_safe_votes(np.ones((5, 360)))
    assert flat.rotameric == pytest.approx(np.full(5, 39 / 72))


def test_thresholds_run_from_the_mean_to_the_largest_peak() -> None:
    """Two rings with hand-counted votes: the weak one, not rotameric, falls out at the threshold that passes its peak."""
    votes = Votes(np.array([1.0, 0.5]), np.array([0.0, 0.0]), np.ones(2), np.array([1.0, 0.0]), np.zeros(2))
    score = emringer_score(votes)
    assert score.thresholds == pytest.approx(np.arange(20) / 20) and list(score.counts) == [2.0] * 10 + [1.0] * 10
    z = (1 - 39 / 72) / math.sqrt(39 * 33 / 72**2)
    assert score.score == pytest.approx(10 * z / math.sqrt(2)) and score.best == 10 and score.ratios[score.best] == 1


def _binarised(volume: Map, sigmas: float) -> Map:
    data = volume.data > volume.data.mean() + sigmas * volume.data.std()
    return Map(data.astype(np.float32), volume.pixel_size_angst, volume.origin_angst)


def test_a_binarised_map_cannot_win_by_ties() -> None:
    """Plateaus vote many times by cctbx's rule and pass the ceiling of any honest map; with one vote a residue they cannot."""
    honest, chains = sharp_map("3enl", 2.0), find_side_chains(polymer("3enl"))
    trap = _binarised(honest, 4.0)
    classic = emringer(trap, chains)
    assert classic.score > CEILING and classic.ties > len(chains) / 2
    for factor in (1, 2):
        safe, true = (emringer(volume, chains, factor, tie_safe=True) for volume in (trap, honest))
        assert safe.score < true.score < model_ceiling(chains) < CEILING
        assert safe.counts.max() <= len(chains)


def test_a_perfect_map_has_the_models_own_score() -> None:
    """At high resolution peaks stand where the model's atoms are; the threshold can then only drop weak ones, up to the ceiling."""
    for name in GOLDEN:
        chains = find_side_chains(polymer(name))
        score = emringer(sharp_map(name, 1.5), chains, 2, tie_safe=True)
        assert score.ratios[0] == pytest.approx(rotameric_share(chains), abs=1 / len(chains))
        assert model_score(chains) - 0.05 < score.score <= model_ceiling(chains)


def test_the_ceiling_of_a_model_is_that_of_its_rotameric_side_chains() -> None:
    """Any choice of side chains that peak at their chi1: z is largest for all rotameric ones and no other."""
    random, total, rotameric = np.random.default_rng(3), 60, 45
    hit = (np.arange(total) < rotameric).astype(float)
    ceiling = CEILING * math.sqrt(rotameric / total)
    for _ in range(200):
        votes = Votes(random.random(total), np.zeros(total), np.ones(total), hit, np.zeros(total))
        assert emringer_score(votes).score <= ceiling + 1e-9
    ordered = Votes(0.2 + hit, np.zeros(total), np.ones(total), hit, np.zeros(total))
    assert emringer_score(ordered).score == pytest.approx(ceiling)


def test_finer_samples_are_the_band_limited_density() -> None:
    """A wave below Nyquist is met exactly at the fine grid's points, where trilinear samples of the coarse grid are not; sides are even and odd."""
    shape, pixel, origin = (12, 9, 10), 1.5, (4.0, -3.0, 2.0)
    z, y, x = np.meshgrid(*(np.arange(side) for side in shape), indexing="ij")
    wave = lambda z, y, x: np.cos(2 * np.pi * (4 * z / 12 + 3 * y / 9 + 2 * x / 10) + 0.3)
    volume = Map(wave(z, y, x).astype(np.float32), pixel, origin)
    at = np.random.default_rng(0).integers(0, 16, (50, 3)) / 3  # x, y, z in voxels of a third
    points = np.asarray(origin) + at * pixel
    expected = wave(at[:, 2], at[:, 1], at[:, 0])
    assert sample_finer(volume, points, 3) == pytest.approx(expected, abs=1e-5)
    assert np.abs(trilinear(volume, points) - expected).max() > 0.2
    assert sample_finer(volume, np.asarray(origin) - [[0.1, 0, 0]], 3, outside=7.0) == pytest.approx([7.0])


def test_trilinear_weights_and_places() -> None:
    """A linear function is met exactly anywhere; axes and origin are x, y, z."""
    z, y, x = np.meshgrid(np.arange(4), np.arange(5), np.arange(6), indexing="ij")
    volume = Map((x + 10 * y + 100 * z).astype(np.float32), 2.0, (1.0, 2.0, 3.0))
    points = np.array([[1.0, 2.0, 3.0], [2.5, 3.0, 8.0], [11.0, 10.0, 9.0], [11.1, 10.0, 9.0]])
    voxels = (points - [1, 2, 3]) / 2
    expected = voxels @ [1, 10, 100]
    expected[3] = -1
    assert trilinear(volume, points, outside=-1) == pytest.approx(expected)


def test_residues_outside_the_map_are_left_out() -> None:
    volume, chains = sharp_map("1ubi", 3.0), find_side_chains(polymer("1ubi"))
    assert rings_inside(volume, chains).all()
    half = Map(volume.data[: volume.data.shape[0] // 2], volume.pixel_size_angst, volume.origin_angst)
    inside = rings_inside(half, chains)
    assert 0 < inside.sum() < len(chains)
    assert emringer(half, chains.subset(inside)).residues == inside.sum()


def test_bootstrap_is_paired_and_centred() -> None:
    """Resampling the same residues makes the difference of a map with itself zero; its spread is that of the binomial votes."""
    random = np.random.default_rng(0)
    share, total = 0.8, 400
    rotameric = (random.random(total) < share).astype(float)
    votes = Votes(np.ones(total), np.zeros(total), np.ones(total), rotameric, np.zeros(total))
    draws = bootstrap_scores([votes, votes], 2000, seed=1)
    assert np.array_equal(draws[:, 0], draws[:, 1])
    measured = rotameric.mean()
    assert draws[:, 0].mean() == pytest.approx(emringer_score(votes).score, abs=0.05)
    # score = 10 (share - 39 / 72) / sqrt(39 33 / 72^2) whatever N is, and the share of N votes has the binomial's spread
    spread = 10 * math.sqrt(measured * (1 - measured) / total) / math.sqrt(39 * 33 / 72**2)
    assert draws[:, 0].std() == pytest.approx(spread, rel=0.1)
    better = Votes(votes.peak, votes.mean, votes.votes, np.maximum(rotameric, (random.random(total) < 0.5)), votes.angle_deg)
    paired = bootstrap_scores([votes, better], 1000, seed=2)
    assert (paired[:, 1] >= paired[:, 0]).all()
    with pytest.raises(ValueError, match="same side chains"):
        bootstrap_scores([votes, Votes(*(values[1:] for values in vars(votes).values()))], 10)
