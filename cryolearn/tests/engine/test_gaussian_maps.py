"""Maps along the path: windows of equal population by hand, soft weights against hard subsets, and two states told apart."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.gaussian.model.fourier_particles import ImageConventions
from cryolearn.engine.gaussian.trajectory import trajectory_maps
from cryolearn.engine.gaussian.trajectory.trajectory_maps import PathWeights, effective_count, path_weights, write_path_maps
from cryolearn.engine.imaging.config import ReconstructConfig
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.half_set_maps import split_halves
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.reconstruct_command import run as reconstruct
from cryolearn.engine.io.maps import read_map
from cryolearn.engine.io.star import read_particles

from .imaging_cases import DEVICES, gaussian_model, particle_set

BOX, PIXEL = 32, 4.0
PLAIN = ImageConventions()


def test_effective_number_of_particles() -> None:
    assert effective_count(np.full((40, 1), 0.3)) == pytest.approx(40)
    assert effective_count([[1.0], [1], [0], [0]]) == pytest.approx(2)
    assert effective_count(np.zeros((3, 2))).tolist() == [0, 0]


def test_windows_by_hand() -> None:
    """Four equally populated places and two maps: tents about u = 1/4 and 3/4 with flat ends, averaged over quarters."""
    path = path_weights(np.eye(4, dtype=np.float32), [0.0, 1, 2, 3], 2)
    # over the second quarter the first window falls from 1 to 1/2
    assert np.allclose(path.weights, [[1, 0], [0.75, 0.25], [0.25, 0.75], [0, 1]])
    assert np.allclose(path.latents[:, 0], [(0.75 + 0.5) / 2, (0.25 + 1.5 + 3) / 2])


@pytest.mark.parametrize("periodic", [False, True])
@pytest.mark.parametrize("maps", [1, 2, 5, 30])
def test_windows_share_the_population_equally(periodic: bool, maps: int) -> None:
    """Any populations, empty places and one that holds most of all: weights add up to 1, maps to equal parts."""
    random = np.random.default_rng(maps)
    grid = np.linspace(-1, 1, 21)
    state = random.dirichlet(np.r_[np.full(10, 0.1), 30.0, np.full(9, 0.1), 1e-9], 400).astype(np.float32)
    state[:, 4] = 0
    state /= state.sum(axis=1, keepdims=True)
    path = path_weights(state, grid, maps, periodic)
    weights, latents = path.weights, path.latents
    assert weights.shape == (400, maps) and latents.shape == (maps, 1)
    assert np.allclose(weights.sum(axis=1), 1, atol=1e-5)
    assert np.allclose(weights.sum(axis=0), 400 / maps, rtol=1e-4)
    if not periodic:
        assert (np.diff(latents[:, 0]) >= -1e-9).all()


def test_a_closed_path_has_no_ends() -> None:
    """Turning the particles round a closed path turns the maps: windows about -1 take particles from both sides of it."""
    grid = np.linspace(-1, 1, 12, endpoint=False)
    path = path_weights(np.eye(12, dtype=np.float32), grid, 4, periodic=True)
    weights, latents = path.weights, path.latents
    assert np.allclose(weights, np.roll(np.roll(weights, 3, axis=0), 1, axis=1), atol=1e-6)
    assert weights[0, 3] > 0 and weights[-1, 0] > 0
    assert np.allclose(np.diff(latents[:, 0]), 0.5)


def test_separate_states_are_the_maps() -> None:
    state = np.random.default_rng(0).dirichlet(np.ones(3), 20).astype(np.float32)
    path = path_weights(state, np.arange(3), 7, separate=True)
    assert np.array_equal(path.weights, state) and np.array_equal(path.latents, [[0], [1], [2]])
    with pytest.raises(InputError, match="No particle"):
        path_weights(np.zeros((5, 3), np.float32), np.arange(3), 2)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """300 noisy images of each of two models, in one set."""
    folder = tmp_path_factory.mktemp("states")
    for name, seed in (("a", 0), ("b", 1)):
        (folder / name).mkdir()
        particle_set(str(folder / name), 300, BOX, PIXEL, gaussian_model(22, 6.0, seed=seed), snr=1.0, seed=seed + 5)
    return folder


def _map(path: Path) -> torch.Tensor:
    return torch.from_numpy(read_map(str(path)).data.copy())


def _joined(data: Path):
    """Both sets as one table: the second one's stack follows the first one's."""
    from cryolearn.engine.io.star import CtfTable, ParticleTable

    parts = [read_particles(str(data / name / "particles.star")) for name in "ab"]
    ctf = CtfTable(**{name: np.concatenate([getattr(part.ctf, name) for part in parts]) for name, values in vars(parts[0].ctf).items() if values is not None})
    return ParticleTable(
        ids=np.arange(1, 601), image_file=[part.image_file[0] for part in parts], file_index=np.repeat([0, 1], 300),
        image_index=np.concatenate([part.image_index for part in parts]), pixel_size_angst=PIXEL, box=BOX,
        angles_deg=np.concatenate([part.angles_deg for part in parts]), origin_angst=np.concatenate([part.origin_angst for part in parts]), ctf=ctf,
    )


@pytest.mark.parametrize("device", DEVICES)
def test_hard_weights_are_what_reconstruct_makes_of_the_subset(data: Path, tmp_path: Path, device: str) -> None:
    table = _joined(data)
    half = split_halves(table, np.arange(600))
    weights = np.repeat(np.eye(2, dtype=np.float32), 300, axis=0)
    path = PathWeights(weights, np.array([[-1.0], [1.0]]))
    entries = write_path_maps(str(tmp_path), table, path, half=half, conventions=PLAIN, batch=77, device=device)
    assert [entry["particles"] for entry in entries] == [300, 300] == [round(entry["weight"]) for entry in entries]
    assert [entry["latent"] for entry in entries] == [[-1.0], [1.0]]
    assert entries[0]["particles_half1"] == int((half[:300] == 1).sum())
    (tmp_path / "alone").mkdir()
    reconstruct(ReconstructConfig(particles=str(data / "a/particles.star"), output=str(tmp_path / "alone"), threads=1))
    ours, theirs = _map(tmp_path / "map_001.mrc"), _map(tmp_path / "alone/map.mrc")
    assert float((ours - theirs).abs().max()) < 1e-3 * float(theirs.max())
    report = json.loads((tmp_path / "reconstructions.json").read_text())
    assert report["reconstructions"] == entries
    for name in ("map_002_half1.mrc", "map_002_half2.mrc", "map_002_fsc.csv", "figures/slices.png", "figures/fsc.png"):
        assert (tmp_path / name).stat().st_size > 0
    # each map is its own model and not the other (the Gaussians reach 17.6 Å with 10 % of their amplitude: shell 7)
    mask = sphere_mask(BOX, 0.45 * BOX, 0.05 * BOX)
    for number, own, other in ((1, "a", "b"), (2, "b", "a")):
        found = _map(tmp_path / f"map_{number:03d}.mrc")
        curves = [fsc(found, _map(data / name / "true.mrc"), mask)[3:8].mean() for name in (own, other)]
        assert curves[0] > 0.9 and curves[0] > curves[1] + 0.3


def test_weights_mix_states_linearly(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The effective count by hand; passes over the images, batches and the order of the states change nothing."""
    table = _joined(data)
    half = split_halves(table, np.arange(600))
    state = np.repeat(np.array([[0.8, 0.2], [0.2, 0.8]], np.float32), 300, axis=0)
    first = write_path_maps(str(tmp_path / "one"), table, PathWeights(state, np.array([[0.0], [1.0]])), half=half, conventions=PLAIN)
    monkeypatch.setattr(trajectory_maps, "_MEMORY_BYTES", 1)
    turned = PathWeights(state[:, ::-1].copy(), np.array([[1.0], [0.0]]))
    second = write_path_maps(str(tmp_path / "two"), table, turned, half=half, conventions=PLAIN, batch=50)
    # (300 (0.8 + 0.2))^2 / (300 (0.64 + 0.04))
    assert first[0]["weight"] == pytest.approx(300 / 0.68, rel=1e-5)
    assert second[0]["weight"] == pytest.approx(first[1]["weight"])
    a, b = _map(tmp_path / "one/map_001.mrc"), _map(tmp_path / "two/map_002.mrc")
    assert float((a - b).abs().max()) < 1e-3 * float(a.max())


def test_ctf_and_contrast_are_passed_on(data: Path, tmp_path: Path) -> None:
    table = read_particles(str(data / "a/particles.star"))
    half, path = split_halves(table, np.arange(300)), PathWeights(np.ones((300, 1), np.float32), np.zeros((1, 1)))

    def made(name: str, **options: bool) -> torch.Tensor:
        write_path_maps(str(tmp_path / name), table, path, half=half, conventions=ImageConventions(**options))
        return _map(tmp_path / name / "map_001.mrc")

    plain = made("plain")
    assert float((made("inverted", invert_contrast=True) + plain).abs().max()) < 1e-3 * float(plain.max())
    truth, mask = _map(data / "a/true.mrc"), sphere_mask(BOX, 0.45 * BOX, 0.05 * BOX)
    assert fsc(made("blind", ignore_ctf=True), truth, mask)[3:8].mean() < fsc(plain, truth, mask)[3:8].mean()


def test_maps_of_too_few_particles_are_left_out(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    table = read_particles(str(data / "a/particles.star"))
    half = split_halves(table, np.arange(300))
    weights = np.zeros((300, 2), np.float32)
    weights[:, 0] = 1
    weights[np.flatnonzero(half == 1)[0], 1] = 1
    entries = write_path_maps(str(tmp_path), table, PathWeights(weights, np.array([[0.0], [1.0]])), half=half, conventions=PLAIN)
    assert [entry["name"] for entry in entries] == ["map_001"]
    assert json.loads((tmp_path / "reconstructions.json").read_text())["left_out"] == {"map_002": 1.0}
    assert "map_002" in capsys.readouterr().out
