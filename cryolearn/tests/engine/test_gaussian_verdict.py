"""Is there a motion? A still molecule with wrong poses is said to be still, and nothing of a path is given; a moving one is said to move."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from cryolearn.common.flags import ConformationFlag
from cryolearn.engine.gaussian import heterogeneity_command
from cryolearn.engine.gaussian.config import GaussianHeterogeneityConfig
from cryolearn.engine.gaussian.held_out import Mean, rigid_part
from cryolearn.engine.imaging.poses import euler_to_matrix, matrix_to_euler, so3_exp
from cryolearn.engine.io.motions import read_motion
from cryolearn.engine.io.star import read_particles, write_particles
from cryolearn.engine.io.tables import read_table

from .gaussian_cases import write_case


def _with_wrong_poses(folder: Path, seed: int = 1) -> None:
    """Orientations wrong by 3 degrees and centres by 2 Å (root mean square)."""
    table, random = read_particles(str(folder / "particles.star")), np.random.default_rng(seed)
    assert table.angles_deg is not None and table.origin_angst is not None
    turn = so3_exp(torch.from_numpy(np.deg2rad(3) / 3**0.5 * random.standard_normal((len(table), 3))))
    angles = matrix_to_euler(turn @ euler_to_matrix(torch.from_numpy(table.angles_deg))).numpy()
    origin = table.origin_angst + 2 / 2**0.5 * random.standard_normal((len(table), 2))
    write_particles(str(folder / "particles.star"), replace(table, angles_deg=angles, origin_angst=origin))


def _run(folder: Path, **options: object) -> dict[str, object]:
    values: dict[str, object] = dict(
        particles=str(folder / "particles.star"), volume=str(folder / "map.mrc"), output=str(folder / "out"), resolutions_angst=[30.0], states=7, rounds=3,
        number=32, maps=2, threads=1)
    heterogeneity_command.run(GaussianHeterogeneityConfig(**{**values, **options}))  # type: ignore[arg-type]
    return dict(json.loads((folder / "out" / "summary.json").read_text()))


def test_a_still_molecule_with_wrong_poses_is_said_to_be_still(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_case(tmp_path, 300, reach_deg=0.0)
    _with_wrong_poses(tmp_path)
    summary = _run(tmp_path)
    assert summary["moves"] is False and summary["significant_components"] == 0
    assert "No motion" in str(summary["verdict"]) and "refine the poses" in str(summary["verdict"])
    assert str(summary["verdict"]) in capsys.readouterr().out
    out = tmp_path / "out"
    assert not any((out / name).exists() for name in ("landscape.csv", "maps", "figures/free_energy.png", "figures/trajectory.png"))
    columns, meta = read_table(str(out / "conformations.npz"))
    assert not columns["amplitudes"].any() and (columns["flags"] & ConformationFlag.HIDDEN).all() and meta["grid"] == []
    places = read_motion(str(out / "motion.npz")).conformation(np.array([[-1.0], [1.0]]))[0]
    assert np.array_equal(places[0], places[1])


def test_a_molecule_that_moves_is_said_to_move(tmp_path: Path) -> None:
    truth = write_case(tmp_path, 300)
    _with_wrong_poses(tmp_path)
    summary = _run(tmp_path)
    assert summary["moves"] is True and "The particles differ" in str(summary["verdict"]) and "free energy" in str(summary["free_energy"])
    assert 0 < float(summary["rigid_share"]) < 0.7  # type: ignore[arg-type]
    columns, _ = read_table(str(tmp_path / "out" / "conformations.npz"))
    assert abs(spearmanr(columns["amplitudes"][:, 0], truth["angle"]).statistic) > 0.85
    assert (tmp_path / "out" / "landscape.csv").exists()


def test_a_path_without_motion_is_given_on_request_only(tmp_path: Path) -> None:
    write_case(tmp_path, 100, reach_deg=0.0)
    summary = _run(tmp_path, report_still=True, rounds=1, maps=0)
    assert summary["moves"] is False and "all the same" in str(summary["verdict"])
    assert (tmp_path / "out" / "landscape.csv").exists()
    summary = _run(tmp_path, halves=False, rounds=1, maps=0)
    assert summary["moves"] is None and "not tested" in str(summary["verdict"])


def test_the_rigid_part_of_a_rigid_motion_is_all_of_it() -> None:
    random = torch.Generator().manual_seed(1)
    base, weight = torch.randn(20, 3, generator=random), torch.rand(20, generator=random)
    turn = so3_exp(torch.randn(4, 3, generator=random))
    places = base @ turn.mT + torch.randn(4, 1, 3, generator=random)
    assert torch.allclose(rigid_part(places, base, weight), places, atol=1e-5)
    mirrored = rigid_part(base[None] * torch.tensor([1.0, 1.0, -1.0]), base, weight)[0]
    assert torch.allclose(torch.cdist(mirrored, mirrored), torch.cdist(base, base), atol=1e-4)  # turned, not mirrored


def test_mean_over_particles_counts_each_particle_once() -> None:
    values = np.array([1.0, 1.0, 1.0, 3.0])
    found = Mean.of(values, np.array([0, 0, 0, 5]))
    assert found.value == 2.0 and found.error == pytest.approx(1 / 2**0.5)
