"""The command that recovers orientations, whole: a really trained small network, its distances, gauge, matching, maps, judgement, resume."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.poses import random_rotations
from cryolearn.engine.imaging.symmetry import symmetry_matrices
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.star import read_particles, write_particles
from cryolearn.engine.io.tables import join, read_table
from cryolearn.engine.orientation import recover_command as command
from cryolearn.engine.orientation.config import DistanceTrainConfig, RecoverOrientationsConfig
from cryolearn.engine.orientation.distance_network.distance_model import DistanceModel
from cryolearn.engine.orientation.frame_alignment import align_physical
from cryolearn.engine.orientation.recovery_result import doubts
from cryolearn.engine.orientation.refinement.undeclared_symmetry import hidden_symmetry
from cryolearn.engine.orientation.train_command import run as train
from cryolearn.engine.simulate.config import SimulateParticlesConfig
from cryolearn.engine.simulate.particles_command import run as simulate

from .imaging_cases import GaussianModel
from .orientation_cases import BOX, PIXEL, degrees, model

COUNT = 120


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("recover")
    write_map(str(path / "map.mrc"), model().volume(BOX, PIXEL).numpy(), PIXEL)
    (path / "particles").mkdir()
    simulate(SimulateParticlesConfig(output=str(path / "particles"), volumes=[str(path / "map.mrc")], number=COUNT, box=BOX, pixel_size_angst=PIXEL, snr=1.0,
                                     shift_angst=4.0, seed=1))
    return path


def config(folder: Path, output: str, **changes: object) -> RecoverOrientationsConfig:
    (folder / output).mkdir(exist_ok=True)
    values: dict[str, object] = dict(output=str(folder / output), particles=str(folder / "particles" / "particles.star"), shift_range_angst=6.0,
                                     restarts=8, gauge_candidates=500, rounds=4, threads=1)
    return RecoverOrientationsConfig(**{**values, **changes})  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def recovered(folder: Path) -> Path:
    (folder / "train").mkdir()
    train(DistanceTrainConfig(output=str(folder / "train"), volumes=[str(folder / "map.mrc")], particles=str(folder / "particles" / "particles.star"),
                              epochs=2, images_per_epoch=3072, batch=16, width=32, precision="32", threads=1))
    command.run(config(folder, "recovered", model=str(folder / "train" / "model")))
    return folder / "recovered"


def test_orientations_and_map_from_distances(folder: Path, recovered: Path) -> None:
    """Nothing but images and the network: below the 14.6 degrees (0.255 rad) that the paper reaches on images that its network knows, and a right map."""
    found, _ = read_table(str(recovered / "orientations.npz"))
    truth, _ = read_table(str(folder / "particles" / "truth.npz"))
    rows = join(found, truth)
    alignment = align_physical(truth["rotation"][rows], found["rotation"])
    assert degrees(alignment.errors_rad) < 5
    assert {"shift_angst", "confidence", "residual_rad", "half", "log_likelihood"} <= set(found)
    assert set(np.unique(found["half"])) == {1, 2} and len(found["id"]) == COUNT
    summary = json.loads((recovered / "summary.json").read_text())
    assert summary["trust"] == "high" and not summary["trust_reasons"] and not summary["warnings"]
    assert summary["residual_rad"] < 0.4 and summary["gauge_margin"] > 0.15 and summary["resolution_angst"] < 20
    assert not (recovered / "records").exists()
    figures = (f"figures/{figure}.png" for figure in ("fsc", "slices", "confidence", "viewing_directions"))
    for name in ("map.mrc", "half1.mrc", "half2.mrc", "fsc.csv", *figures):
        assert (recovered / name).stat().st_size
    pairs, _ = read_table(str(recovered / "distances.npz"))
    assert np.abs(pairs["learned_rad"] - pairs["recovered_rad"]).mean() < 0.5


def test_the_star_file_keeps_its_columns(folder: Path, recovered: Path) -> None:
    before, after = (read_particles(str(path / "particles.star")) for path in (folder / "particles", recovered))
    assert (before.ids == after.ids).all() and after.random_subset is not None and after.angles_deg is not None
    assert set(before.extra) <= set(after.extra) and (before.ctf is None) == (after.ctf is None)


def test_distances_that_do_not_hold_are_left(folder: Path, recovered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that knows nothing of the particle gives guessed orientations: the run says so, starts from random ones and gets there."""
    def guessed(model: object, table: object, landmarks: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray]:
        distances = np.random.default_rng(1).uniform(0.5, np.pi, (COUNT, len(landmarks)))
        return (distances + distances.T) / 2, np.ones_like(distances)

    monkeypatch.setattr(command.DistanceModel, "measure", guessed)
    command.run(config(folder, "guessed", model=str(folder / "train" / "model"), restarts=4, rounds=2))
    summary = json.loads((folder / "guessed" / "summary.json").read_text())
    assert summary["start_used"] == "random" and summary["residual_rad"] > 0.5
    found, truth = (read_table(str(path))[0] for path in (folder / "guessed" / "orientations.npz", folder / "particles" / "truth.npz"))
    alignment = align_physical(truth["rotation"][join(found, truth)], found["rotation"])
    assert degrees(alignment.errors_rad) < 14.6  # what Banjac et al. (2021) reach with a network that knows the protein
    assert json.loads((recovered / "summary.json").read_text())["start_used"] == "network"


def test_orientations_that_nothing_matched_are_judged(folder: Path, recovered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without matching rounds the images themselves still say whether the distances were right, however well these fit one another."""
    model = str(folder / "train" / "model")
    command.run(config(folder, "alone", model=model, rounds=0))
    command.run(config(folder, "random", start="random", rounds=0, restarts=1))

    def of_others(self: DistanceModel, table: object, landmarks: np.ndarray, *_: object) -> tuple[np.ndarray, np.ndarray]:
        rotations = random_rotations(COUNT, torch.Generator().manual_seed(5)).double()
        distances = self.kernel.distance_rad(rotations[:, None], rotations[None, landmarks]).numpy()
        return distances, np.ones_like(distances)

    monkeypatch.setattr(DistanceModel, "measure", of_others)
    command.run(config(folder, "others", model=model, rounds=0))
    alone, random, others = (json.loads((folder / name / "summary.json").read_text()) for name in ("alone", "random", "others"))
    assert alone["median_confidence"] > 0.5 and not any("could as well" in reason for reason in alone["trust_reasons"])
    assert random["median_confidence"] is not None
    assert others["residual_rad"] < 0.1 and others["median_confidence"] < 0.2
    assert others["trust"] == "doubtful" and any("could as well" in reason for reason in others["trust_reasons"])


@pytest.mark.relion
def test_relion_reconstructs_the_same_map(recovered: Path, tmp_path: Path) -> None:
    if shutil.which("relion_reconstruct") is None:
        pytest.skip("relion_reconstruct is not installed (Debian: apt-get install relion)")
    done = subprocess.run(["relion_reconstruct", "--i", "particles.star", "--o", str(tmp_path / "relion.mrc"), "--ctf", "--angpix", str(PIXEL)],
                          cwd=recovered, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    theirs, ours = (torch.from_numpy(read_map(str(path)).data.copy()) for path in (tmp_path / "relion.mrc", recovered / "map.mrc"))
    assert float(fsc(theirs, ours, sphere_mask(BOX, 0.4 * BOX, 3))[1:9].min()) > 0.95


def test_a_killed_run_goes_on(folder: Path, recovered: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed before the maps: finished stages are not computed again, and the result is that of the unbroken run."""
    broken = config(folder, "broken", model=str(folder / "train" / "model"))
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(command, "_match", _killed)
        command.run(broken)
    assert list((folder / "broken").glob("records/recovery/*/gauge.npz"))
    with monkeypatch.context() as patch:
        patch.setattr(command, "recover", _killed)
        patch.setattr(command, "find_gauge", _killed)
        command.run(broken)
    one, two = (read_table(str(path / "orientations.npz"))[0] for path in (recovered, folder / "broken"))
    assert np.allclose(one["rotation"], two["rotation"], atol=1e-4)


def _killed(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_bad_inputs_are_refused(folder: Path) -> None:
    table = read_particles(str(folder / "particles" / "particles.star"))
    few, alike = folder / "particles" / "few.star", folder / "particles" / "alike.star"
    write_particles(str(few), table.subset(np.arange(49)))
    same = table.subset(np.arange(60))
    same.image_index[:] = 0
    same.file_index[:] = 0
    write_particles(str(alike), same)
    with pytest.raises(InputError, match="49 images"):
        command.run(config(folder, "bad", particles=str(few), start="random"))
    with pytest.raises(InputError, match="all alike"):
        command.run(config(folder, "bad", particles=str(alike), start="random"))
    with pytest.raises(InputError, match="symmetry 'D0'"):
        command.run(config(folder, "bad", start="random", symmetry="D0"))
    with pytest.raises(InputError, match="model"):
        command.run(config(folder, "bad"))


def test_doubts_are_spoken() -> None:
    good = {"residual_rad": 0.1, "gauge_margin": 0.5, "resolution_angst": 20.0, "median_confidence": 0.9}
    assert doubts(good, 150.0) == []
    bad = {"residual_rad": 0.7, "gauge_margin": 0.01, "resolution_angst": None, "median_confidence": 0.2, "matching_moved_rad": 2.0, "start_evidence": [5.0]}
    assert len(doubts(bad, 150.0)) == 6


def test_a_symmetry_that_nobody_declared_is_seen() -> None:
    """A map made symmetric by C2 looks the same after half a turn; the map itself after no turn; a declared group is no news."""
    single = model()
    plain = single.volume(BOX, PIXEL)
    turned = GaussianModel(single.positions * torch.tensor([-1.0, -1.0, 1.0]), single.weights, single.sigma)
    double = plain + turned.volume(BOX, PIXEL)
    none = symmetry_matrices("C1")
    assert hidden_symmetry(plain, plain, PIXEL, 120.0, none) is None
    found = hidden_symmetry(double, double, PIXEL, 120.0, none)
    assert found is not None and abs(found - 180) < 6
    assert hidden_symmetry(double, double, PIXEL, 120.0, symmetry_matrices("C2")) is None
