"""The command gaussian-heterogeneity on small simulated sets: conformations, composition, null, resume, refusals."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import spearmanr

from cryolearn.common.flags import ConformationFlag
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.gaussian import heterogeneity_command as heterogeneity
from cryolearn.engine.gaussian.config import GaussianHeterogeneityConfig
from cryolearn.engine.gaussian.conformation_estimates import latents_on_grid
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.motions import read_motion
from cryolearn.engine.io.records import Stage
from cryolearn.engine.io.star import read_particles, write_particles
from cryolearn.engine.io.star_text import read_star
from cryolearn.engine.io.tables import read_table

from .gaussian_cases import BOX, PIXEL, expected_order, write_case

QUICK = dict(resolutions_angst=[40.0], states=5, number=24, anchors=6)


def config_of(folder: Path, output: Path, **options: object) -> GaussianHeterogeneityConfig:
    values: dict[str, object] = dict(
        particles=str(folder / "particles.star"), volume=str(folder / "map.mrc"), output=str(output), resolutions_angst=[24.0], states=11, rounds=5,
        maps=0, halves=False, threads=1)
    return GaussianHeterogeneityConfig(**{**values, **options})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def case(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    folder = tmp_path_factory.mktemp("hinge")
    return folder, write_case(folder, 400, noise=2.0, junk=20)


@pytest.fixture(scope="module")
def done(case: tuple[Path, dict[str, Any]]) -> Path:
    output = case[0] / "whole"
    heterogeneity.run(config_of(case[0], output, maps=3, halves=True))
    return output


def test_hinge_is_ordered(case: tuple[Path, dict[str, Any]], done: Path) -> None:
    """The 380 images that hold a particle are ordered as by estimates with three times the least possible variance (Cramér-Rao, to 24 Å)."""
    columns, meta = read_table(str(done / "conformations.npz"))
    assert np.array_equal(columns["id"], case[1]["id"])
    angle, information = case[1]["angle"][:380], case[1]["truth"].angle_information(24.0)[:380]
    least = max(0.97, expected_order(angle, information, 3**0.5))
    assert abs(spearmanr(columns["amplitudes"][:380, 0], angle).statistic) > least
    assert meta["basis"] == "polynomial" and len(meta["grid"]) == 11
    summary = json.loads((done / "summary.json").read_text())
    assert summary["half_set_agreement"] > 0.95


def test_images_without_particle_are_flagged(done: Path) -> None:
    columns, _ = read_table(str(done / "conformations.npz"))
    unlikely = columns["flags"] & ConformationFlag.UNLIKELY > 0
    assert unlikely[-20:].mean() > 0.9
    assert unlikely[:-20].mean() < 0.05


def test_error_bars_know_the_view(case: tuple[Path, dict[str, Any]], done: Path) -> None:
    """The arm swings about z within x, y. Seen along its own direction x, the swing moves along the line of sight for half of it: views within 30 degrees of
    z see it best, so their error bars are smaller than those of views across."""
    columns, _ = read_table(str(done / "conformations.npz"))
    view = np.abs(case[1]["rotation"][:380, 2])
    error = columns["amplitude_sigma"][:380, 0]
    best, worst = view[:, 2] > np.cos(np.pi / 6), view[:, 1] > np.cos(np.pi / 6)
    assert np.median(error[worst]) > 1.3 * np.median(error[best])
    # no bias: in either group the sign of the place is that of the angle's
    sign = np.sign(np.corrcoef(columns["amplitudes"][:380, 0], case[1]["angle"][:380])[0, 1])
    slope = np.polyfit(case[1]["angle"][:380], sign * columns["amplitudes"][:380, 0], 1)
    residual = sign * columns["amplitudes"][:380, 0] - np.polyval(slope, case[1]["angle"][:380])
    for group in (best, worst):
        assert abs(residual[group].mean()) < 4 * residual[group].std() / np.sqrt(group.sum()) + 0.02


def test_arm_moves_and_body_stays(done: Path) -> None:
    """Gaussians of the arm's end travel on an arc of 50 degrees about the hinge, within the slack of Gaussians 17 Å apart; the body stays."""
    model = read_motion(str(done / "motion.npz"))
    places = model.conformation(np.linspace(-1, 1, 11)[:, None])[0]
    way = np.linalg.norm(np.diff(places, axis=0), axis=2).sum(0)
    far, body = model.positions_angst[:, 0] > 55, model.positions_angst[:, 0] < 0
    travelled = np.average(way[far], weights=model.weights[far])
    arc = np.average(model.positions_angst[far, 0] - 30, weights=model.weights[far]) * np.deg2rad(50)
    assert 0.7 * arc < travelled < 1.3 * arc
    ends = np.linalg.norm(places[-1] - places[0], axis=1)
    assert np.average(ends[body], weights=model.weights[body]) < 0.2 * arc


def test_files_are_there(done: Path) -> None:
    for name in ("motion.npz", "eigen_motions.npz", "gaussians.npz", "gaussians.cif", "landscape.csv", "particles.star", "maps/reconstructions.json",
                 "figures/free_energy.png", "figures/explained_variance.png", "figures/flexibility.png", "figures/landscape.png", "figures/maps.png"):
        assert (done / name).exists(), name
    assert not (done / "records").exists()
    written = read_star(str(done / "particles.star"))["particles"]
    assert np.array_equal(written["rlnGroupNumber"], np.arange(400) % 7)
    assert {"cryolearnLatent1", "cryolearnLatentError1", "cryolearnWeight", "cryolearnClass"} <= set(written)


def test_maps_move_monotonically(done: Path) -> None:
    """Centre of mass, along y, of the density where only the arm is: it goes one way from map to map."""
    places = []
    for number in (1, 2, 3):
        data = read_map(str(done / "maps" / f"map_{number:03d}.mrc")).data.clip(min=0)
        arm = data[:, :, BOX // 2 + round(40 / PIXEL) :]
        places.append((arm.sum((0, 2)) * (np.arange(BOX) - BOX // 2)).sum() / arm.sum())
    steps = np.diff(places)
    assert np.all(steps > 0) or np.all(steps < 0)


def test_batch_size_and_repeat_change_nothing(case: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    results = []
    for name, batch in (("one", 500), ("two", 500), ("three", 37)):
        heterogeneity.run(config_of(case[0], tmp_path / name, batch=batch, rounds=2, **QUICK))
        results.append(read_table(str(tmp_path / name / "conformations.npz"))[0])
    for other in results[1:]:
        for column, values in results[0].items():
            assert np.array_equal(values, other[column]), column


@pytest.fixture(scope="module")
def whole(case: tuple[Path, dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> dict[str, np.ndarray]:
    output = tmp_path_factory.mktemp("whole")
    heterogeneity.run(config_of(case[0], output, rounds=4, **QUICK))
    return read_table(str(output / "conformations.npz"))[0]


@pytest.mark.parametrize("damaged", [False, True])
def test_killed_run_goes_on(
    case: tuple[Path, dict[str, Any]], whole: dict[str, np.ndarray], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, damaged: bool,
) -> None:
    """Killed in the middle of the last expectation-maximisation, the run goes on there, or anew with a damaged record, and ends with the same numbers."""
    import cryolearn.engine.gaussian.trajectory.trajectory_em as curve

    saved = curve._save

    def dying(record: Stage, done: int, *rest: object) -> None:
        saved(record, done, *rest)  # type: ignore[arg-type]
        if done == 2:
            if damaged:  # the directory of the archive is whole, its arrays are not
                record.path.write_bytes(b"\0" * 200 + record.path.read_bytes()[200:])
            raise KeyboardInterrupt

    monkeypatch.setattr(curve, "_save", dying)
    with pytest.raises(KeyboardInterrupt):
        heterogeneity.run(config_of(case[0], tmp_path, rounds=4, **QUICK))
    rounds = []
    monkeypatch.setattr(curve, "_save", lambda record, done, *rest: (rounds.append(done), saved(record, done, *rest)))
    heterogeneity.run(config_of(case[0], tmp_path, rounds=4, **QUICK))
    assert rounds == ([1, 2] if damaged else []) + [3, 4]
    assert np.array_equal(whole["amplitudes"], read_table(str(tmp_path / "conformations.npz"))[0]["amplitudes"])


@pytest.mark.parametrize("method", ["slides", "scan"])
def test_straight_methods_order_the_hinge(case: tuple[Path, dict[str, Any]], tmp_path: Path, method: str) -> None:
    """At least .79 of the rank correlation that gradients of the likelihood have under the images' noise: the FRC loses some, each ring having one
    vote whatever its noise."""
    heterogeneity.run(config_of(case[0], tmp_path / method, method=method))
    columns, _ = read_table(str(tmp_path / method / "conformations.npz"))
    angle, information = case[1]["angle"][:380], case[1]["truth"].angle_information(24.0)[:380]
    least = 0.79 * expected_order(angle, information, gradient=True)
    assert least > 0.72
    assert abs(spearmanr(columns["amplitudes"][:380, 0], angle).statistic) > least


def test_still_particles_show_no_motion(tmp_path: Path) -> None:
    """A homogeneous set: no eigen-motion beyond shuffled residuals that would also repeat in both halves."""
    write_case(tmp_path, 300, reach_deg=0.0, noise=4.0)
    heterogeneity.run(config_of(tmp_path, tmp_path / "out", halves=True, null_runs=2))
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["significant_components"] == 0
    assert summary["half_set_agreement"] < 0.5
    model = read_motion(str(tmp_path / "out" / "motion.npz"))
    places = model.conformation(np.array([[-0.7], [0.7]]))[0]
    assert np.sqrt(np.square(places[1] - places[0]).sum(1).mean()) < PIXEL


def test_composition_finds_the_arm(tmp_path: Path) -> None:
    """The arm is there in half of the particles: AUC of estimates with five times the least possible errors, ``Phi(d / (5 sqrt 2))``, d^2 the arm's energy."""
    from scipy.stats import norm
    from sklearn.metrics import roc_auc_score

    arm = (torch.arange(300) % 2).float()
    truth = write_case(tmp_path, 300, reach_deg=0.0, noise=2.0, arm=arm)["truth"]
    seen = truth.energy(truth.images(truth.angle, torch.ones(300)) - truth.images(truth.angle, torch.zeros(300)), 30.0)
    least = norm.cdf(np.sqrt(seen.min()) / (5 * np.sqrt(2)))
    assert least > 0.98
    heterogeneity.run(config_of(tmp_path, tmp_path / "out", vary="composition", resolutions_angst=[30.0]))
    columns, _ = read_table(str(tmp_path / "out" / "conformations.npz"))
    area = roc_auc_score(arm.numpy(), columns["amplitudes"][:, 0])
    assert max(area, 1 - area) > least


def test_latents_of_a_closed_path_wrap() -> None:
    """A posterior half at -0.9 and half at 0.9 lies at the join, not in the middle."""
    grid = np.linspace(-1, 0.9, 20)
    posterior = np.zeros((1, 20))
    posterior[0, [1, 19]] = 0.5
    mean, spread = latents_on_grid(posterior, grid, "periodic")
    assert abs(abs(mean[0]) - 1) < 1e-6 and spread[0] < 0.2


def test_bad_input_is_refused(case: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    folder = case[0]
    table = read_particles(str(folder / "particles.star"))
    volume = read_map(str(folder / "map.mrc"))

    def refused(sentence: str, **options: object) -> None:
        with pytest.raises(InputError, match=sentence):
            heterogeneity.run(config_of(folder, tmp_path / "out", **options))

    assert table.angles_deg is not None and table.origin_angst is not None
    write_particles(str(tmp_path / "alike.star"), table.with_poses(np.tile([10.0, 20.0, 30.0], (400, 1)), table.origin_angst))
    refused("same viewing direction", particles=str(tmp_path / "alike.star"))
    from dataclasses import replace

    write_particles(str(tmp_path / "unaligned.star"), replace(table, angles_deg=None, origin_angst=None))
    refused("have no poses", particles=str(tmp_path / "unaligned.star"))
    write_particles(str(tmp_path / "no_ctf.star"), replace(table, ctf=None))
    refused("have no CTF", particles=str(tmp_path / "no_ctf.star"))
    write_particles(str(tmp_path / "few.star"), table.subset(slice(0, 4)))
    refused("4 components are asked for, but there are only 4 particles", particles=str(tmp_path / "few.star"))
    write_map(str(tmp_path / "small.mrc"), volume.data[4:-4, 4:-4, 4:-4], PIXEL)
    refused("the particles have a box of 32 px", volume=str(tmp_path / "small.mrc"))
    write_map(str(tmp_path / "scaled.mrc"), volume.data, 1.1 * PIXEL)
    refused("has a pixel size of .* Å, but the particles have", volume=str(tmp_path / "scaled.mrc"))
    write_map(str(tmp_path / "empty.mrc"), np.zeros_like(volume.data), PIXEL)
    refused("is empty", focus=str(tmp_path / "empty.mrc"))
    corner = np.zeros_like(volume.data)
    corner[0, 0, 0] = 1
    write_map(str(tmp_path / "nowhere.mrc"), corner, PIXEL)
    refused("holds no Gaussian", focus=str(tmp_path / "nowhere.mrc"))
    refused("does not exist: they are numbered from 1 to", focus_gaussians=[100_000])
    refused("voxels", number=90_000)
    refused("must become finer", resolutions_angst=[20.0, 40.0])
    refused("finer than the pixels", resolutions_angst=[5.0])
    refused("turn the contrast of the images", invert_contrast=True)
