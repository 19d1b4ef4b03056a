"""Files of the Gaussian method that other programs open, and its figures drawn from plain arrays."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import gemmi
import numpy as np
import pytest
import torch

from cryolearn.engine.figures import save_figure
from cryolearn.engine.gaussian.report import figures as report
from cryolearn.engine.gaussian.report import result_files
from cryolearn.engine.imaging.poses import euler_to_matrix, matrix_to_euler, random_rotations
from cryolearn.engine.io.motions import MotionModel
from cryolearn.engine.io.pseudo_atoms import gaussian_structure, write_pseudo_atoms
from cryolearn.engine.io.star import read_particles, write_particles
from cryolearn.engine.io.star_text import read_star
from cryolearn.engine.io.structures import atom_sigmas, atom_weights, read_structure
from cryolearn.engine.io.tables import read_table

from .imaging_cases import gaussian_model, particle_set

COUNT = 60


@pytest.fixture(scope="module")
def model() -> MotionModel:
    random = np.random.default_rng(3)
    return MotionModel(
        positions_angst=random.normal(0, 25, (COUNT, 3)),
        weights=random.uniform(0.5, 2, COUNT) * 40,
        sigma_angst=random.uniform(2, 4.5, COUNT),
        displacement=random.normal(0, 3, (2, COUNT, 3)),
        weight_change=np.zeros((2, COUNT)),
        basis="polynomial",
        meta={"box": 33, "pixel_size_angst": 4.0, "origin_angst": [-10.0, 5.0, 2.5]},
    )


def test_positions_are_in_the_map_files_frame(model: MotionModel) -> None:
    """Voxel n // 2 lies at ORIGIN + n // 2 pixels."""
    assert np.allclose(result_files.map_positions(model) - model.positions_angst, np.array([-10.0, 5.0, 2.5]) + 16 * 4.0)
    frames = np.zeros((2, COUNT, 3))
    assert np.allclose(result_files.map_positions(model, frames), np.array([54.0, 69.0, 66.5]))


def test_gaussian_files_say_the_same(model: MotionModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    random = np.random.default_rng(0)
    flexibility, excursion, moves = random.uniform(0, 3, COUNT), random.uniform(0, 30, COUNT), np.arange(COUNT) > 20
    result_files.write_gaussian_files(str(tmp_path), model, flexibility, excursion, moves)
    columns, meta = read_table(str(tmp_path / "gaussians.npz"))
    assert np.array_equal(columns["moves"], moves) and np.allclose(columns["excursion_angst"], excursion)
    assert np.allclose(columns["flexibility"], flexibility)
    assert meta["shape"] == [33, 33, 33] and meta["origin_angst"] == [-10.0, 5.0, 2.5] and meta["pixel_size_angst"] == 4.0
    assert np.allclose(columns["position_angst"], result_files.map_positions(model))
    for name, decimals in (("gaussians.cif", 3), ("gaussians.pdb", 2)):
        atoms = read_structure(str(tmp_path / name))
        assert np.abs(atoms.coordinates - columns["position_angst"]).max() < 6e-4
        assert np.abs(atom_weights(atoms) - model.weights / model.weights.mean()).max() < 0.0051
        fits = np.ones(COUNT, bool) if decimals == 3 else 8 * np.pi**2 * model.sigma_angst**2 < 999.99
        assert np.abs(atom_sigmas(atoms) - model.sigma_angst)[fits].max() < 0.01
    assert "gaussians.cif" in capsys.readouterr().out  # some are wider than a PDB file can say
    coloured = read_structure(str(tmp_path / "gaussians_flexibility.pdb"))
    assert np.abs(coloured.b_factor - 100 * flexibility / flexibility.max()).max() < 0.0051


def test_pseudo_atoms_follow_the_columns_of_the_pdb_format(model: MotionModel, tmp_path: Path) -> None:
    """What viewers read: fixed columns of ATOM records, one residue a Gaussian, and an mmCIF loop that gemmi's own checker takes."""
    result_files.write_gaussian_files(str(tmp_path), model, np.ones(COUNT), np.ones(COUNT), np.ones(COUNT, bool))
    lines = [line for line in (tmp_path / "gaussians.pdb").read_text().splitlines() if line.startswith(("ATOM", "HETATM"))]
    assert len(lines) == COUNT
    for number, line in enumerate(lines, start=1):
        assert int(line[6:11]) == number == int(line[22:26]) and line[12:16].strip() == "CA" and line[17:20] == "GAU" and line[21] == "A"
        x, y, z, occupancy, b_factor = (float(line[a:b]) for a, b in ((30, 38), (38, 46), (46, 54), (54, 60), (60, 66)))
        assert np.allclose((x, y, z), result_files.map_positions(model)[number - 1], atol=6e-4) and occupancy > 0 and 0 < b_factor <= 999.99
    loop = gemmi.cif.read(str(tmp_path / "gaussians.cif")).sole_block().find("_atom_site.", ["id", "Cartn_x", "label_seq_id", "auth_seq_id"])
    assert len(loop) == COUNT


def test_many_gaussians_fit_the_pdb_format(tmp_path: Path) -> None:
    """Residue numbers have four columns: the 10,000th Gaussian begins chain B; after 62 chains their names have two letters."""
    count = 12000
    places = np.random.default_rng(0).uniform(-99, 99, (count, 3))
    structure = gaussian_structure(places, np.ones(count), np.full(count, 2.0))
    write_pseudo_atoms(str(tmp_path / "many"), structure)
    for kind in ("pdb", "cif"):
        again = read_structure(str(tmp_path / f"many.{kind}"))
        assert np.abs(again.coordinates - places).max() < 6e-4
        assert again.residue_number[9998:10000].tolist() == [9999, 1] and again.chain[9998:10000].tolist() == ["A", "B"]
    names = gaussian_structure(np.zeros((63 * 9999, 3)), np.ones(63 * 9999), np.ones(63 * 9999)).chain
    assert len(set(names.tolist())) == 63 and names[-1] == "AA"


def test_arrows_are_bild_records_of_the_motion(model: MotionModel, tmp_path: Path) -> None:
    """From minus to plus one standard deviation about the place, all lengthened by the factor that the file names."""
    random = np.random.default_rng(1)
    vectors = random.normal(size=(2, COUNT, 3))
    vectors[:, 30:] *= 1e-3  # too short to be drawn
    vectors /= np.linalg.norm(vectors, axis=(1, 2), keepdims=True)
    deviations = np.array([80.0, 2.0])
    result_files.write_gaussian_files(str(tmp_path), model, np.ones(COUNT), np.ones(COUNT), np.ones(COUNT, bool), vectors=vectors, std_angst=deviations,
                                significant=[True, False])
    places = result_files.map_positions(model)
    for number in (1, 2):
        text = (tmp_path / f"eigen_motion_{number}.bild").read_text()
        assert all(re.match(r"\.(comment|note|color|arrow) \S", line) for line in text.splitlines())
        factor = float(re.search(r"drawn (\S+) times", text).group(1))
        assert (factor == 1.0) == (number == 1)
        assert ("than noise" in text) == (number == 2)
        arrows = np.array([line.split()[1:] for line in text.splitlines() if line.startswith(".arrow")], float)
        assert arrows.shape[1] == 9 and (arrows[:, 7] > arrows[:, 6]).all() and (arrows[:, 8] == 0.75).all()
        assert 15 <= len(arrows) <= 30
        step = vectors[number - 1] * deviations[number - 1]
        used = np.linalg.norm(step, axis=1) >= 0.1 * np.linalg.norm(step, axis=1).max()
        assert np.allclose((arrows[:, :3] + arrows[:, 3:6]) / 2, places[used], atol=1e-3)
        assert np.allclose((arrows[:, 3:6] - arrows[:, :3]) / 2, factor * step[used], rtol=2e-3, atol=2e-3)
    script = (tmp_path / "eigen_motions.cxc").read_text()
    opened = re.findall(r"^open (\S+)", script, re.M)
    assert opened == ["gaussians_flexibility.pdb", "eigen_motion_1.bild", "eigen_motion_2.bild"]
    assert all((tmp_path / name).exists() for name in opened)


@pytest.fixture(scope="module")
def particles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Particles with columns that this software does not know."""
    folder = tmp_path_factory.mktemp("particles")
    table = particle_set(str(folder), 40, 24, 4.0, gaussian_model(20, 5.0), snr=1.0)
    table.extra = {"rlnMicrographName": np.array([f"mic_{i % 3}.mrc" for i in range(40)], dtype=object), "rlnAutopickFigureOfMerit": np.arange(40) / 8,
                   "cryolearnLatent2": np.ones(40)}
    write_particles(str(folder / "particles.star"), table)
    return folder


def test_particles_keep_their_columns(particles: Path) -> None:
    table = read_particles(str(particles / "particles.star"))
    random = np.random.default_rng(0)
    latents, errors, weight = random.normal(size=(40, 1)), random.uniform(0, 1, (40, 1)), random.uniform(0, 1, 40)
    path = result_files.write_particles_star(str(particles), table, latents, errors, weight, np.arange(40) % 3 + 1, name="found.star")
    before, after = (read_star(str(particles / name), ("optics", "particles")) for name in ("particles.star", "found.star"))
    assert {label: list(column) for label, column in before["optics"].items()} == {label: list(column) for label, column in after["optics"].items()}
    old, new = before["particles"], after["particles"]
    for label in set(old) - {"cryolearnLatent2"}:
        assert list(old[label]) == list(new[label]), label
    assert set(new) - set(old) == {"cryolearnLatent1", "cryolearnLatentError1", "cryolearnWeight", "cryolearnClass"}
    assert "cryolearnLatent2" not in new  # of an earlier run with two coordinates
    assert np.allclose(new["cryolearnLatent1"], latents[:, 0], atol=1e-6) and np.allclose(new["cryolearnWeight"], weight, atol=1e-6)
    assert read_particles(path).extra["cryolearnClass"].tolist() == (np.arange(40) % 3 + 1).tolist()


def test_refined_poses_replace_the_old_ones(particles: Path) -> None:
    table = read_particles(str(particles / "particles.star"))
    rotation = random_rotations(40, torch.Generator().manual_seed(2), torch.float64)
    shift = np.random.default_rng(4).normal(size=(40, 2))
    table = table.with_poses(matrix_to_euler(rotation).numpy(), -shift)
    path = result_files.write_particles_star(str(particles), table, np.zeros((40, 2)), np.zeros((40, 2)), name="posed.star")
    again = read_particles(path)
    assert again.angles_deg is not None and again.origin_angst is not None
    assert float((euler_to_matrix(torch.from_numpy(again.angles_deg)) - rotation).abs().max()) < 1e-6
    assert np.allclose(again.origin_angst, -shift, atol=1e-6)
    assert "cryolearnWeight" not in again.extra and "cryolearnLatentError2" in again.extra


@pytest.mark.relion
def test_relion_reads_the_particles(particles: Path, tmp_path: Path) -> None:
    """relion_reconstruct makes of our STAR the map that it makes of the original; relion_star_handler takes it as well."""
    table = read_particles(str(particles / "particles.star"))
    result_files.write_particles_star(str(particles), table, np.ones((40, 1)), np.ones((40, 1)), np.ones(40), np.ones(40, int), name="ours.star")

    def relion(program: str, *arguments: str) -> None:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed (Debian: apt-get install relion)")
        done = subprocess.run([program, *arguments], cwd=particles, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]

    for name in ("particles", "ours"):
        relion("relion_reconstruct", "--i", f"{name}.star", "--o", str(tmp_path / f"{name}.mrc"), "--ctf")
    assert (tmp_path / "particles.mrc").read_bytes()[1024:] == (tmp_path / "ours.mrc").read_bytes()[1024:]
    relion("relion_star_handler", "--i", "ours.star", "--o", str(tmp_path / "handled.star"), "--select", "rlnAutopickFigureOfMerit", "--minval", "2")
    assert len(read_star(str(tmp_path / "handled.star"), ("particles",))["particles"]["rlnImageName"]) == 40 - 16


@pytest.mark.usefixtures("every_picture")
def test_figures_are_drawn_from_plain_arrays(model: MotionModel, tmp_path: Path) -> None:
    """Every figure, on awkward input too: one component, fixed Gaussians, empty places of the path, infinite error bars."""
    random = np.random.default_rng(0)
    places, grid = model.positions_angst, np.linspace(-1, 1, 9)
    vector = random.normal(size=(COUNT, 3)) / 10
    energy = np.where(np.arange(9) == 4, np.inf, grid**2)
    latent, error = random.uniform(-1, 1, 300), np.where(np.arange(300) % 50, 0.1, np.inf)
    figures = {
        "one": report.draw_explained_variance([0.2], [0.02]),
        "explained": report.draw_explained_variance([0.3, 0.02, 0.01], [[0.02, 0.02, 0.019], [0.025, 0.021, 0.02]]),
        "flexibility": report.draw_flexibility(places, np.ones(COUNT)),
        "focus": report.draw_flexibility(places, random.uniform(0, 1, COUNT), moves=places[:, 0] > 0),
        "arrows": report.draw_eigen_motion(places, vector, 3.0, 1, 0.3),
        "still": report.draw_eigen_motion(places, 0 * vector),
        "amplitudes": report.draw_eigen_motion(places, vector[:, :1], 3.0, 2),
        "trajectory": report.draw_trajectory(model.conformation(grid[:, None])[0], grid),
        "energy": report.draw_free_energy(grid, np.arange(9), energy, np.full(9, 0.1)),
        "states": report.draw_free_energy(np.arange(3), [5, 6, 7], [0.3, 0.1, 0], separate=True),
        "landscape": report.draw_landscape(latent, error, ["latent 1"]),
        "landscape2": report.draw_landscape(random.normal(size=(300, 3)), random.uniform(size=(300, 3)), ["one", "two", "three"]),
        "same": report.draw_half_agreement(latent, latent + 0.1),
        "halves": report.draw_half_agreement(latent, -latent),
    }
    for name, figure in figures.items():
        path = save_figure(figure, str(tmp_path / f"{name}.png"), dpi=40)
        assert Path(path).stat().st_size > 1000
    assert "rank correlation 1.000" in figures["same"].axes[0].get_title()
    assert "rank correlation -1.000" in figures["halves"].axes[0].get_title()
    heights = [bar.get_height() for bar in figures["explained"].axes[0].patches[:3]]
    assert np.allclose(heights, [30, 2, 1])
    offsets = figures["flexibility"].axes[0].collections[1].get_offsets()
    assert len(offsets) == COUNT
