"""Maps, structures, modes, result tables and models: round trips and refusals."""

from __future__ import annotations

import os

import gemmi
import mrcfile
import numpy as np
import prody
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io import map_grid, maps, mode_formats, models, modes, structures, tables
from cryolearn.engine.io.stacks import write_stack

DATA = os.path.join(os.path.dirname(prody.__file__), "tests", "datafiles")
AK = os.path.join(DATA, "4akeA_alg_fixed.pdb")
prody.confProDy(verbosity="none")


# --- maps


def test_a_map_keeps_values_voxel_size_and_origin(tmp_path):
    data = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
    path = str(tmp_path / "a.mrc")
    maps.write_map(path, data, 1.37, (10.5, -3.25, 7.0))
    back = maps.read_map(path)
    assert np.array_equal(back.data, data) and back.origin_angst == (10.5, -3.25, 7.0)
    assert back.pixel_size_angst == pytest.approx(1.37, rel=1e-6)
    assert back.centre_angst == pytest.approx([10.5 + 3 * 1.37, -3.25 + 2 * 1.37, 7 + 2 * 1.37], rel=1e-6)
    with mrcfile.open(path) as handle:
        assert handle.is_volume() and float(handle.header.origin.y) == -3.25


def test_nstart_places_a_map_without_origin(tmp_path):
    path = str(tmp_path / "a.mrc")
    maps.write_map(path, np.zeros((4, 4, 4)), 2.0)
    with mrcfile.open(path, "r+") as handle:
        handle.nstart = (5, -6, 7)
    assert maps.read_map(path).origin_angst == (10, -12, 14)


def test_axes_in_another_order_are_brought_to_zyx(tmp_path):
    """gemmi writes a map whose fastest axis is z; both readers must see the same voxel at the same place."""
    grid = gemmi.FloatGrid(np.arange(4 * 6 * 8, dtype=np.float32).reshape(4, 6, 8))  # gemmi's index is [u, v, w] along x, y, z
    grid.set_unit_cell(gemmi.UnitCell(8, 12, 16, 90, 90, 90))
    ccp4 = gemmi.Ccp4Map()
    ccp4.grid = grid
    ccp4.update_ccp4_header()
    path = str(tmp_path / "a.ccp4")
    ccp4.write_ccp4_map(path)
    with mrcfile.open(path) as handle:
        stored, header = handle.data.copy(), handle.header.copy()
    expected = np.array(grid).transpose(2, 1, 0)
    assert np.array_equal(maps.read_map(path).data, expected)
    header["mapc"], header["mapr"], header["maps"] = 3, 1, 2  # columns along z, rows along x, sections along y
    header["nx"], header["ny"], header["nz"] = 8, 4, 6
    header["nxstart"], header["nystart"], header["nzstart"] = 30, 10, 20
    turned = stored.transpose(1, 2, 0)  # (z, y, x) -> (y, x, z)
    with open(path, "wb") as handle:
        handle.write(header.tobytes() + np.ascontiguousarray(turned).tobytes())
    back = maps.read_map(path)
    assert np.array_equal(back.data, expected) and back.origin_angst == (20, 40, 60)


def test_maps_that_cannot_be_used_are_refused(tmp_path):
    path = str(tmp_path / "bad.mrc")
    write_stack(path, np.full((2, 2, 2), np.nan), 1.0)
    with pytest.raises(InputError, match=r"bad\.mrc' holds NaN"):
        maps.read_map(path)
    maps.write_map(path, np.zeros((2, 2, 2)), 0.0)
    with pytest.raises(InputError, match=r"bad\.mrc' has no voxel size"):
        maps.read_map(path)
    maps.write_map(path, np.zeros((2, 2, 2)), 1.0)
    with mrcfile.open(path, "r+") as handle:
        handle.voxel_size = (1.0, 1.0, 1.5)
    with pytest.raises(InputError, match=r"bad\.mrc' has different voxel sizes"):
        maps.read_map(path)
    with open(path, "ab") as handle:
        handle.write(b"more")
    with pytest.raises(InputError, match=r"bad\.mrc' does not fit"):
        maps.read_map(path)
    with pytest.raises(InputError, match=r"absent\.mrc"):
        maps.read_map(str(tmp_path / "absent.mrc"))


# --- structures


@pytest.mark.parametrize("read", [maps.read_map, map_grid.read_map_grid])
def test_a_stack_of_volumes_is_no_map(tmp_path, read):
    with maps.MapSeriesWriter(str(tmp_path / "a.mrc"), 3, 8, 2.0) as series:
        for number in range(3):
            series.write(number, np.full((8, 8, 8), number))
    with pytest.raises(InputError, match=r"a stack of 3 maps of 8 sections"):
        read(str(tmp_path / "a.mrc"))
    with maps.MapSeriesWriter(str(tmp_path / "b.mrc"), 1, 8, 2.0) as series:
        series.write(0, np.ones((8, 8, 8)))
    assert read(str(tmp_path / "b.mrc")).data.shape == (8, 8, 8)


@pytest.mark.parametrize("ending", ["pdb", "cif"])
@pytest.mark.parametrize("name", ["4akeA_alg_fixed.pdb", "pdb3enl.pdb", "mmcif_1ake_chimerax.cif"])
def test_a_structure_survives_either_format(tmp_path, name, ending):
    structure = structures.read_structure(os.path.join(DATA, name))
    path = str(tmp_path / f"a.{ending}")
    structures.write_structure(path, structure)
    back = structures.read_structure(path)
    assert np.abs(back.coordinates - structure.coordinates).max() <= 5.1e-4
    for field in ("element", "atomic_number", "b_factor", "occupancy", "atom_name", "residue_number", "residue_name", "insertion_code"):
        assert np.array_equal(getattr(back, field), getattr(structure, field)), field


def test_the_atoms_are_those_that_prody_reads():
    structure = structures.read_structure(AK)
    atoms = prody.parsePDB(AK)
    assert np.abs(structure.coordinates - atoms.getCoords()).max() == 0
    assert list(structure.atom_name) == list(atoms.getNames()) and list(structure.residue_number) == list(atoms.getResnums())
    assert int((structure.atomic_number > 1).sum()) == 1656  # heavy atoms of 4AKE chain A


def test_the_most_occupied_alternative_is_kept(tmp_path):
    path = tmp_path / "alt.pdb"
    path.write_text(
        "ATOM      1  CA AALA A   1       1.000   0.000   0.000  0.30 10.00           C\n"
        "ATOM      2  CA BALA A   1       2.000   0.000   0.000  0.60 20.00           C\n"
        "ATOM      3  CB  ALA A   1       3.000   0.000   0.000  0.50 30.00           C\nEND\n"
    )
    structure = structures.read_structure(str(path))
    assert structure.coordinates[:, 0].tolist() == [2, 3] and structure.b_factor.tolist() == [20, 30]
    assert structure.occupancy == pytest.approx([0.9, 0.5])
    assert structures.atom_weights(structure) == pytest.approx([5.4, 3.0])


def test_models_are_written_one_behind_the_other(tmp_path):
    structure = structures.read_structure(AK)
    path = str(tmp_path / "a.pdb")
    structures.write_models(path, structure, [structure.coordinates, structure.coordinates + 1])
    document = gemmi.read_structure(path)
    assert len(document) == 2 and document[1][0][0][0].pos.x == pytest.approx(structure.coordinates[0, 0] + 1, abs=1e-3)


def test_an_atom_scatters_as_its_gaussian_does():
    """Over 20 to 3 Å the Gaussian follows the tabulated scattering factor of the elements of life within 6 %."""
    g = np.linspace(1 / 20, 1 / 3, 50)
    for number in (6, 7, 8, 15, 16):
        sigma = structures.element_sigma(number)
        factor = np.array([gemmi.Element(number).c4322.calculate_sf(x) for x in (g / 2) ** 2])
        gaussian = np.exp(-2 * np.pi**2 * sigma**2 * g**2)
        scale = (factor * gaussian).sum() / (gaussian**2).sum()
        assert np.abs(factor / (scale * gaussian) - 1).max() < 0.06


def test_widths_add_element_and_b_factor():
    structure = structures.read_structure(AK).subset(slice(0, 3))
    structure.b_factor[:] = 8 * np.pi**2 * np.array([0, 1, 4])
    element = np.array([structures.element_sigma(int(z)) for z in structure.atomic_number])
    assert structures.atom_sigmas(structure) == pytest.approx(np.sqrt(element**2 + [0, 1, 4]))
    structure.atomic_number[:] = 0
    assert structures.atom_sigmas(structure) == pytest.approx([0, 1, 2])
    assert structures.atom_weights(structure) == pytest.approx(structure.occupancy)


def test_structures_that_cannot_be_used_are_refused(tmp_path):
    for name, content, words in (("empty.pdb", "END\n", "has no atoms"), ("bad.cif", "data_x\nloop_\n_a.b\n'open\n", "cannot be read")):
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match=words) as caught:
            structures.read_structure(str(tmp_path / name))
        assert name in str(caught.value)
    with pytest.raises(InputError, match=r"absent\.pdb"):
        structures.read_structure(str(tmp_path / "absent.pdb"))


# --- modes


def _modes(count=4, atoms=12, seed=0):
    rng = np.random.default_rng(seed)
    coordinates = rng.normal(size=(atoms, 3)) * 10
    vectors = rng.normal(size=(count, atoms, 3))
    return modes.make_modes(
        coordinates, vectors, np.arange(7, 7 + count), weights=rng.uniform(1, 8, atoms), sigma_angst=rng.uniform(1, 2, atoms),
        eigenvalues=rng.uniform(0.1, 1, count), collectivity=rng.uniform(0, 1, count), score=rng.uniform(0, 1, count),
    )


def test_modes_survive_their_file(tmp_path):
    path = str(tmp_path / "modes.npz")
    modes.write_modes(path, _modes())
    back = modes.read_modes(path)
    assert all(np.array_equal(values, getattr(back, name)) for name, values in vars(_modes()).items())


@settings(max_examples=30, deadline=None)
@given(amplitudes=st.lists(st.floats(-300, 300), min_size=1, max_size=1), seed=st.integers(0, 100))
def test_rmsd_of_one_mode_is_amplitude_over_root_n(amplitudes, seed):
    one = _modes(seed=seed).select([8])
    moved = one.displaced(amplitudes)
    assert np.sqrt(((moved - one.coordinates) ** 2).sum(axis=1).mean()) == pytest.approx(abs(amplitudes[0]) / np.sqrt(12), abs=1e-9)


def test_displacement_is_linear_and_broadcasts():
    all_modes = _modes()
    amplitudes = np.random.default_rng(1).normal(size=(2, 3, 4))
    expected = all_modes.coordinates + sum(amplitudes[..., k, None, None] * all_modes.eigenvectors[k] for k in range(4))
    assert np.allclose(all_modes.displaced(amplitudes), expected)


def test_selection_keeps_the_order_asked_for_and_refuses_what_is_not_there():
    all_modes = _modes()
    part = all_modes.select([10, 7])
    assert list(part.mode_numbers) == [10, 7] and np.array_equal(part.eigenvectors, all_modes.eigenvectors[[3, 0]])
    for numbers, words in (([6], "Mode 6"), ([7, 11], "Mode 11"), ([7, 7], "Mode 7 is named twice"), ([], "No mode")):
        with pytest.raises(InputError, match=words):
            all_modes.select(numbers)


def test_mode_files_that_cannot_be_used_are_refused(tmp_path):
    path = str(tmp_path / "modes.npz")
    good = vars(_modes())
    for change, words in (
        ({"eigenvectors": good["eigenvectors"] * 2}, "norm 2"), ({"weights": good["weights"][:-1]}, "'weights'"),
        ({"sigma_angst": good["sigma_angst"] * np.nan}, "'sigma_angst'"),
    ):
        np.savez(path, **{**good, **change})
        with pytest.raises(InputError, match=words):
            modes.read_modes(path)
    np.savez(path, **{name: values for name, values in good.items() if name != "score"})
    with pytest.raises(InputError, match="no array 'score'"):
        modes.read_modes(path)
    np.savez(path, coordinates=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="no array"):
        modes.read_modes(path)


def _prody_anm():
    atoms = prody.parsePDB(os.path.join(DATA, "pdb1ubi.pdb")).select("name CA")
    anm = prody.ANM("ubi")
    anm.buildHessian(atoms.getCoords())
    anm.calcModes(5)
    return anm, atoms


@pytest.mark.filterwarnings(r"ignore:.*a\.nmd:pytest.PytestUnraisableExceptionWarning", r"ignore:unclosed file .*a\.nmd:ResourceWarning")  # left open by ProDy
def test_prody_reads_our_nmd(tmp_path):
    anm, atoms = _prody_anm()
    path = str(tmp_path / "a.nmd")
    mine = modes.make_modes(atoms.getCoords(), anm.getEigvecs().T.reshape(5, -1, 3), np.arange(7, 12), eigenvalues=anm.getEigvals())
    mode_formats.write_nmd(path, mine, None)
    theirs, _ = prody.parseNMD(path)
    assert np.abs(theirs.getEigvecs() - anm.getEigvecs()).max() < 1e-6
    heads = [line.split()[1:3] for line in open(path) if line.startswith("mode ")]
    assert [int(number) for number, _ in heads] == [7, 8, 9, 10, 11]  # the rigid ones are counted
    assert [float(scale) ** -2 for _, scale in heads] == pytest.approx(anm.getEigvals(), rel=1e-4)


def test_scipion_mode_texts_in_and_out(tmp_path):
    some = _modes()
    paths = mode_formats.write_mode_texts(str(tmp_path / "modes"), some)
    assert [os.path.basename(path) for path in paths] == ["vec.7", "vec.8", "vec.9", "vec.10"]
    back = mode_formats.read_mode_texts(paths, some.mode_numbers, some.coordinates)
    assert np.abs(back.eigenvectors - some.eigenvectors).max() < 1e-10
    with pytest.raises(InputError, match=r"vec\.7' has 12 rows"):
        mode_formats.read_mode_texts(paths, some.mode_numbers, some.coordinates[:-1])


# --- result tables


def test_a_table_keeps_columns_and_meta(tmp_path):
    path = str(tmp_path / "a.npz")
    columns = {"id": np.array([5, 2, 9]), "rotation": np.random.default_rng(0).normal(size=(3, 3, 3)), "label": np.array(["a", "bb", ""])}
    tables.write_table(path, columns, {"pixel": np.float32(2), "modes": np.array([7, 8]), "text": "Å"})
    back, meta = tables.read_table(path)
    assert all(np.array_equal(back[name], values) for name, values in columns.items()) and set(back) == set(columns)
    assert meta == {"pixel": 2.0, "modes": [7, 8], "text": "Å"} and os.listdir(tmp_path) == ["a.npz"]


@settings(max_examples=50, deadline=None)
@given(st.lists(st.integers(-(2**40), 2**40), unique=True, min_size=1, max_size=30), st.randoms(use_true_random=False))
def test_join_finds_every_item(ids, random):
    shuffled = list(ids)
    random.shuffle(shuffled)
    wanted = [random.choice(ids) for _ in range(5)]
    rows = tables.join({"id": wanted}, {"id": shuffled})
    assert [shuffled[row] for row in rows] == wanted


def test_tables_that_cannot_be_used_are_refused(tmp_path):
    path = str(tmp_path / "a.npz")
    for columns, words in (
        ({"x": [1]}, "no column 'id'"), ({"id": [1, 1]}, "id 1 is"), ({"id": [1.5]}, "whole numbers"),
        ({"id": [1, 2], "x": [1]}, "'x'"), ({"id": [1], "x": [{}]}, "Python objects"), ({"id": [1], "x": 3}, "'x'"),
    ):
        with pytest.raises(InputError, match=words):
            tables.write_table(path, columns)
    np.savez(path, id=np.array([1]), x=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="without pickles"):
        tables.read_table(path)
    with open(path, "wb") as handle:
        handle.write(b"PK\x03\x04 damaged")
    with pytest.raises(InputError, match=r"a\.npz"):
        tables.read_table(path)
    with pytest.raises(InputError, match="id 4 is missing"):
        tables.join([1, 4], [1, 2, 3])
    with pytest.raises(InputError, match="id 2 is in the table more than once"):
        tables.join([1], [1, 2, 2])


# --- models


def test_a_model_survives_its_folder(tmp_path):
    net = torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))
    folder = str(tmp_path / "model")
    models.save_model(folder, net.state_dict(), {"architecture": "small", "box": 128, "mean": np.float32(0.5)})
    weights, description = models.load_model(folder)
    assert all(torch.equal(weights[name], tensor) for name, tensor in net.state_dict().items())
    assert description["architecture"] == "small" and description["mean"] == 0.5 and description["versions"]["torch"] == torch.__version__
    assert sorted(os.listdir(folder)) == ["model.json", "weights.safetensors"]


def test_a_pickled_or_damaged_model_is_refused(tmp_path):
    folder = tmp_path / "model"
    with pytest.raises(InputError, match=r"model\.json"):
        models.load_model(str(folder))
    models.save_model(str(folder), {"a": torch.ones(2)}, {})
    torch.save({"a": torch.ones(2)}, folder / "weights.safetensors")
    with pytest.raises(InputError, match=r"weights\.safetensors"):
        models.load_model(str(folder))
    (folder / "model.json").write_text("[1]")
    with pytest.raises(InputError, match=r"model\.json"):
        models.load_model(str(folder))
