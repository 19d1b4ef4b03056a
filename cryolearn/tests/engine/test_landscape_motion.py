"""Trajectories of Gaussian models: frames by hand, maps against the analytic density, closed paths, states, what is refused."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path

import mrcfile
import numpy as np
import pytest
import torch

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.gaussians import render_gaussians_3d
from cryolearn.engine.io.maps import MapSeriesWriter, read_map, write_map
from cryolearn.engine.io.motions import MotionModel, write_motion
from cryolearn.engine.io.structures import read_structure
from cryolearn.engine.io.tables import read_table, write_table
from cryolearn.engine.landscape.config import TrajectoryConfig
from cryolearn.engine.landscape.trajectory_command import run

COUNT, BOX, PIXEL = 30, 24, 4.0
ORIGIN = np.array([-20.0, 7.0, 3.0])
CENTRE = ORIGIN + BOX // 2 * PIXEL


def _model(basis: str = "polynomial", terms: int = 1) -> MotionModel:
    random = np.random.default_rng(0)
    displacement = random.normal(0, 4, (terms, COUNT, 3)) * (np.arange(COUNT) >= 20)[:, None]
    change = np.zeros((terms, COUNT))
    change[:, :5] = -0.5
    layers = [(np.eye(terms), np.zeros(terms))] if basis == "network" else []
    return MotionModel(
        positions_angst=random.normal(0, 12, (COUNT, 3)),
        weights=random.uniform(1, 2, COUNT) * 500,
        sigma_angst=random.uniform(4, 5, COUNT),
        displacement=displacement,
        weight_change=change,
        basis=basis,
        layers=layers,
        meta={"box": BOX, "pixel_size_angst": PIXEL, "origin_angst": ORIGIN.tolist(), "latent_names": ["opening"] if terms == 1 else []},
    )


def _run(folder: Path, model: MotionModel, latents: np.ndarray, **options) -> Path:
    folder.mkdir(exist_ok=True)
    write_motion(str(folder / "motion.npz"), model)
    write_table(str(folder / "conformations.npz"), {"id": np.arange(len(latents)) * 3 + 1, "amplitudes": latents}, {"latent_names": ["opening"]})
    run(TrajectoryConfig(output=str(folder / "out"), table=str(folder / "conformations.npz"), motion=str(folder / "motion.npz"), **options))
    return folder / "out"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, MotionModel]:
    """Five frames from -1 to 1 of a path whose particles lie evenly on it."""
    model = _model()
    latents = np.linspace(-1, 1, 401)[:, None]
    return _run(tmp_path_factory.mktemp("open"), model, latents, frames=5, extent_percent=100.0), model


def test_frames_are_the_models_conformations(made: tuple[Path, MotionModel]) -> None:
    out, model = made
    columns, meta = read_table(str(out / "trajectory.npz"))
    assert np.allclose(columns["vectors"][:, 0], [-1, -0.5, 0, 0.5, 1])
    assert np.allclose(columns["position"], [0, 0.5, 1, 1.5, 2]) and columns["population"].sum() == 401
    assert abs(columns["population"] - np.array([50, 100, 100, 100, 50])).max() <= 1
    assert meta["basis"] == "polynomial" and meta["latent_names"] == ["opening"] and "mode_numbers" not in meta
    places, weights = model.conformation(columns["vectors"])
    for number in range(1, 6):
        for kind, decimals in (("cif", 1e-3), ("pdb", 1e-3)):
            frame = read_structure(str(out / f"frame_{number:03d}.{kind}"))
            assert np.abs(frame.coordinates - places[number - 1] - CENTRE).max() <= decimals
            assert np.abs(frame.occupancy - weights[number - 1] / model.weights.mean()).max() < 0.0051
    shift = np.linalg.norm(places[4] - model.positions_angst, axis=1)
    rmsd = np.sqrt((shift**2 * model.weights).sum() / model.weights.sum())
    summary = json.loads((out / "summary.json").read_text())
    assert columns["rmsd_angst"][4] == pytest.approx(rmsd) and columns["rmsd_angst"][2] == pytest.approx(0, abs=1e-12)
    assert summary["largest_rmsd_angst"] == pytest.approx(rmsd) and summary["frames"] == 5 and summary["gaussians"] == COUNT
    with open(out / "frames.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [float(row["opening"]) for row in rows] == [-1, -0.5, 0, 0.5, 1]
    assert float(rows[4]["largest_shift_angst"]) == pytest.approx(shift.max(), abs=1e-4)
    assert float(rows[4]["weight"]) == pytest.approx(1 - 0.5 * model.weights[:5].sum() / model.weights.sum(), abs=1e-4)
    for name in ("trajectory.cif", "trajectory.pdb", "movie.mrc", "figures/population.png", "figures/frames.png"):
        assert (out / name).stat().st_size > 0, name
    assert not (out / "geometry.csv").exists()  # bonds are for atoms


def test_maps_are_the_density_of_the_frame(made: tuple[Path, MotionModel]) -> None:
    """The model's own box by default, its voxel n // 2 where the model's is; weights change with the frame."""
    out, model = made
    for number, latent in ((1, -1.0), (4, 0.5)):
        density = read_map(str(out / f"frame_{number:03d}.mrc"))
        assert density.data.shape == (BOX,) * 3 and density.pixel_size_angst == pytest.approx(PIXEL)
        assert np.allclose(density.origin_angst, ORIGIN) and np.allclose(density.centre_angst, CENTRE)
        places, weights = (torch.as_tensor(values, dtype=torch.float32) for values in model.conformation([latent]))
        exact = render_gaussians_3d(places, weights, torch.as_tensor(model.sigma_angst, dtype=torch.float32), BOX, PIXEL).numpy()
        assert np.abs(density.data - exact).max() < 1e-5 * exact.max()
        assert density.data.sum(dtype=float) * PIXEL**3 == pytest.approx(float(weights.sum()), rel=1e-3)  # weights are integrals


def test_another_box_keeps_the_place(made: tuple[Path, MotionModel], tmp_path: Path) -> None:
    out = _run(tmp_path, _model(), np.linspace(-1, 1, 20)[:, None], frames=2, box=48, pixel_size_angst=2.0)
    density = read_map(str(out / "frame_001.mrc"))
    assert density.data.shape == (48,) * 3 and np.allclose(density.centre_angst, CENTRE)


def test_movie_is_a_stack_of_volumes(made: tuple[Path, MotionModel]) -> None:
    """As MRC2014 has it: space group 401, MZ sections a volume; mrcfile, the reference reader, takes it as such."""
    out, _ = made
    with mrcfile.open(out / "movie.mrc") as movie:
        assert movie.is_volume_stack() and movie.data.shape == (5, BOX, BOX, BOX)
        assert int(movie.header.ispg) == 401 and int(movie.header.mz) == BOX and int(movie.header.nz) == 5 * BOX
        assert float(movie.voxel_size.z) == pytest.approx(PIXEL)
        assert np.allclose([float(movie.header.origin[axis]) for axis in "xyz"], ORIGIN)
        for number in range(5):
            assert np.array_equal(movie.data[number], read_map(str(out / f"frame_{number + 1:03d}.mrc")).data)
    assert mrcfile.validate(str(out / "movie.mrc"))
    assert not list(out.glob("*.part"))


def test_an_unfinished_movie_does_not_look_finished(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), MapSeriesWriter(str(tmp_path / "movie.mrc"), 2, 16, 1.0) as movie:
        movie.write(0, np.zeros((16, 16, 16)))
        raise RuntimeError
    assert not (tmp_path / "movie.mrc").exists()


def test_chimerax_script_opens_what_is_there(made: tuple[Path, MotionModel]) -> None:
    out, _ = made
    script = (out / "trajectory.cxc").read_text()
    assert re.search(r"^open trajectory\.cif coordsets true", script, re.M) and re.search(r"^open frame_\*\.mrc vseries true", script, re.M)
    import gemmi

    assert [len(gemmi.read_structure(str(out / f"trajectory.{kind}"))) for kind in ("cif", "pdb")] == [5, 5]


def test_a_closed_path_is_a_whole_turn(tmp_path: Path) -> None:
    """Frames at -1, -0.5, 0, 0.5; particles beyond 0.75 are nearest to the frame at -1, across the seam."""
    latents = np.array([[-0.9], [0.9], [-0.45], [0.0], [0.1], [0.55]])
    out = _run(tmp_path, _model("periodic", 2), latents, frames=4, volumes=False)
    columns, _ = read_table(str(out / "trajectory.npz"))
    assert np.allclose(columns["vectors"][:, 0], [-1, -0.5, 0, 0.5])
    assert columns["population"].tolist() == [2, 1, 2, 1]
    assert json.loads((out / "summary.json").read_text())["length"] == pytest.approx(2)


def test_centres_of_clusters_on_a_closed_path_are_circular(tmp_path: Path) -> None:
    latents = np.array([[-0.9], [0.9], [-0.6], [-0.4]])
    write_table(str(tmp_path / "clusters.npz"), {"id": np.arange(4) * 3 + 1, "class": np.array([1, 1, 2, 2])})
    out = _run(tmp_path, _model("periodic", 2), latents, frames=2, volumes=False, path="clusters", clusters=str(tmp_path / "clusters.npz"))
    found = read_table(str(out / "trajectory.npz"))[0]["vectors"][:, 0]
    assert np.allclose(np.exp(1j * np.pi * found), np.exp(1j * np.pi * np.array([1.0, -0.5]))) and abs(found[1] - found[0]) == pytest.approx(0.5)


def test_each_separate_state_is_a_frame(tmp_path: Path) -> None:
    latents = np.repeat([0.0, 1.0, 2.0], [5, 7, 2])[:, None]
    out = _run(tmp_path, _model("states", 3), latents, frames=10, volumes=False)
    columns, _ = read_table(str(out / "trajectory.npz"))
    assert columns["vectors"][:, 0].tolist() == [0, 1, 2] and columns["population"].tolist() == [5, 7, 2]


@pytest.mark.parametrize("basis", ["linear", "network"])
def test_frames_beyond_all_particles_are_moved_back(basis: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    latents = np.random.default_rng(0).uniform(-1, 2, (50, 2))
    out = _run(tmp_path, _model(basis, 2), latents, path="frames", points=[0.0, 0.0, 9.0, -9.0], volumes=False)
    found = read_table(str(out / "trajectory.npz"))[0]["vectors"]
    assert np.allclose(found, [[0, 0], [latents[:, 0].max(), latents[:, 1].min()]])
    text = capsys.readouterr().out
    assert "WARNING: 1 frame(s), the first is 2" in text
    assert (out / "figures" / "path.png").exists()


@pytest.mark.parametrize(("basis", "change", "words"), [
    ("polynomial", dict(path="points", points=[-1.0, 1.5]), "Frame 9 is at 1.22"), ("polynomial", dict(path="frames", points=[0.0, -2.0]), "Frame 2 is at -2"),
    ("states", dict(path="frames", points=[0.0, 3.0]), "asks for state 3"), ("states", dict(path="frames", points=[0.5]), "asks for state 0.5"),
    ("states", dict(path="clusters"), "no path between them"), ("linear", {}, "has 1 coordinates, but the motion of .* has 3"),
    ("polynomial", dict(modes="modes.npz"), "give one of them"), ("polynomial", dict(box=8), "at least 16 px"),
    ("polynomial", dict(column="weights"), "no column 'weights'"),
])
def test_what_the_motion_cannot_show_is_refused(basis: str, change: dict, words: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=words):
        _run(tmp_path, _model(basis, 3), np.array([[0.0], [1.0], [1.0]]), **{"volumes": False, **change})
    assert not (tmp_path / "out" / "summary.json").exists()


def test_neither_modes_nor_motion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="either normal modes"):
        run(TrajectoryConfig(output=str(tmp_path), table="alignment.npz"))
    with pytest.raises(InputError, match="motion.npz"):
        _table = str(tmp_path / "t.npz")
        write_table(_table, {"id": np.arange(3), "amplitudes": np.zeros((3, 1))})
        run(TrajectoryConfig(output=str(tmp_path), table=_table, motion=str(tmp_path / "motion.npz")))


def test_a_second_run_leaves_none_of_the_first(tmp_path: Path) -> None:
    latents = np.linspace(-1, 1, 20)[:, None]
    for frames, volumes in ((4, True), (2, False)):
        out = _run(tmp_path, _model(), latents, frames=frames, volumes=volumes)
    assert sorted(path.name for path in out.glob("frame_*")) == ["frame_001.cif", "frame_001.pdb", "frame_002.cif", "frame_002.pdb"]
    assert not (out / "movie.mrc").exists()


def test_frames_on_the_consensus_map(tmp_path: Path) -> None:
    """Of particles seen without noise the mean over their frames is the consensus map, and each frame differs from it as the Gaussians do."""
    model = _model()
    latents = np.linspace(-1, 1, 9)[:, None]
    detail = np.random.default_rng(1).normal(size=(BOX,) * 3).astype(np.float32)  # what no Gaussian can hold
    write_map(str(tmp_path / "consensus.mrc"), detail, PIXEL)
    options = dict(path="frames", points=latents[:, 0].tolist())
    plain = _run(tmp_path / "plain", model, latents, **options)
    on_map = _run(tmp_path / "map", model, latents, consensus=str(tmp_path / "consensus.mrc"), **options)
    own, built = (np.stack([read_map(str(out / f"frame_{number:03d}.mrc")).data for number in range(1, 10)]) for out in (plain, on_map))
    np.testing.assert_allclose(built.mean(axis=0), detail, atol=1e-4 * own.max())
    np.testing.assert_allclose(built - detail, own - own.mean(axis=0), atol=1e-4 * own.max())
    write_map(str(tmp_path / "other.mrc"), detail[:20, :20, :20], PIXEL)
    with pytest.raises(InputError, match="box of 20, but the motion was found with 24"):
        _run(tmp_path / "map", model, latents, consensus=str(tmp_path / "other.mrc"), **options)
    with pytest.raises(InputError, match="leave both at 0"):
        _run(tmp_path / "map", model, latents, consensus=str(tmp_path / "consensus.mrc"), box=32, **options)
