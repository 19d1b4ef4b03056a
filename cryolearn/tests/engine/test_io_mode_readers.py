"""Normal modes of ProDy, NMWiz and ContinuousFlex, and the command that imports them."""

from __future__ import annotations

import csv
import os
import shutil

import numpy as np
import prody
import pytest

from cryolearn.engine.__main__ import main
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io import mode_formats, mode_readers, modes

DATA = os.path.join(os.path.dirname(prody.__file__), "tests", "datafiles")
prody.confProDy(verbosity="none")


@pytest.fixture
def ubiquitin(tmp_path):
    """Modes 7 to 11 of C-alpha atoms as ProDy has them, and a PDB file of these atoms."""
    atoms = prody.parsePDB(os.path.join(DATA, "pdb1ubi.pdb")).select("name CA")
    anm = prody.ANM("ubi")
    anm.buildHessian(atoms.getCoords())
    anm.calcModes(5)
    prody.writePDB(str(tmp_path / "ca.pdb"), atoms)
    return anm, atoms, str(tmp_path / "ca.pdb")


def _vectors(anm):
    return anm.getEigvecs().T.reshape(5, -1, 3)


def test_nmd_of_prody_in_and_out(tmp_path, ubiquitin):
    anm, atoms, _ = ubiquitin
    path = str(tmp_path / "a.nmd")
    prody.writeNMD(path, anm, atoms)
    back = mode_readers.read_nmd(path)
    assert list(back.mode_numbers) == [7, 8, 9, 10, 11]  # ProDy counts from the first that is not rigid
    assert np.abs(back.eigenvectors - _vectors(anm)).max() < 1e-3  # three decimals in the file
    mode_formats.write_nmd(path, modes.make_modes(atoms.getCoords(), _vectors(anm), np.arange(7, 12), eigenvalues=anm.getEigvals()), None)
    assert np.abs(prody.parseNMD(path)[0].getEigvecs() - anm.getEigvecs()).max() < 1e-6
    again = mode_readers.read_nmd(path)
    assert list(again.mode_numbers) == [7, 8, 9, 10, 11] and again.eigenvalues == pytest.approx(anm.getEigvals(), rel=1e-4)


def test_npz_of_prody(tmp_path, ubiquitin):
    anm, atoms, _ = ubiquitin
    path = prody.saveModel(anm, str(tmp_path / "a"))
    back = mode_readers.read_prody_npz(path, atoms.getCoords())
    assert list(back.mode_numbers) == [7, 8, 9, 10, 11] and back.eigenvalues == pytest.approx(anm.getEigvals())
    assert np.allclose(back.eigenvectors, _vectors(anm))
    with pytest.raises(InputError, match="76 atoms, the structure has 75"):
        mode_readers.read_prody_npz(path, atoms.getCoords()[:-1])
    gnm = prody.GNM("ubi")
    gnm.buildKirchhoff(atoms.getCoords())
    gnm.calcModes(5)
    with pytest.raises(InputError, match="Gaussian network"):
        mode_readers.read_prody_npz(prody.saveModel(gnm, str(tmp_path / "g")), atoms.getCoords())


def test_rigid_motions_are_told_from_vibrations():
    coordinates = np.random.default_rng(0).normal(size=(12, 3)) * 10
    assert mode_readers.rigid_overlap(coordinates, np.ones_like(coordinates)) == pytest.approx(1)
    assert mode_readers.rigid_overlap(coordinates, np.cross([1, 2, 3], coordinates)) == pytest.approx(1)
    assert mode_readers.rigid_overlap(coordinates, coordinates - coordinates.mean(axis=0)) == pytest.approx(0, abs=1e-9)  # breathing


def _sources(folder, anm, atoms):
    run = folder / "run"
    texts = mode_formats.write_mode_texts(str(run / "extra" / "modes"), modes.make_modes(atoms.getCoords(), _vectors(anm), np.arange(7, 12)))
    prody.writeNMD(str(folder / "a.nmd"), anm, atoms)
    return {
        "NMD": ([str(folder / "a.nmd")], []), "npz": ([prody.saveModel(anm, str(folder / "a"))], []), "folder": ([str(run / "extra" / "modes")], []),
        "run": ([str(run)], []), "texts": (texts, [7, 8, 9, 10, 11]),
    }


@pytest.mark.parametrize("kind", ["NMD", "npz", "folder", "run", "texts"])
def test_the_command_imports_each_kind(tmp_path, ubiquitin, kind):
    anm, atoms, structure = ubiquitin
    files, numbers = _sources(tmp_path, anm, atoms)[kind]
    options = ["--structure", structure, "--mode_files", str(files).replace("'", '"')]
    assert main(["import-modes", *options, "--mode_numbers", str(numbers), "--output", str(tmp_path / "out")]) == 0
    found = modes.read_modes(str(tmp_path / "out" / "modes.npz"))
    assert list(found.mode_numbers) == [7, 8, 9, 10, 11]
    assert np.abs(np.abs((found.eigenvectors * _vectors(anm)).sum(axis=(1, 2))) - 1).max() < 2e-5  # NMD: 228 numbers of three decimals, 228 / 2 (1e-3)^2 / 12
    with open(tmp_path / "out" / "modes.csv", newline="") as handle:
        rows = list(csv.DictReader(handle))
    assert [int(row["mode"]) for row in rows] == [7, 8, 9, 10, 11] and all(0 < float(row["score"]) <= 1 for row in rows)
    assert (tmp_path / "out" / "modes" / "vec.9").exists()
    if kind != "texts":
        assert main(["import-modes", *options, "--mode_numbers", "[9, 7]", "--output", str(tmp_path / "some")]) == 0
        assert list(modes.read_modes(str(tmp_path / "some" / "modes.npz")).mode_numbers) == [9, 7]


def test_modes_of_another_structure_are_refused(tmp_path, ubiquitin):
    anm, atoms, _ = ubiquitin
    files, _ = _sources(tmp_path, anm, atoms)["NMD"]
    coordinates = atoms.getCoords()
    with pytest.raises(InputError, match="76 atoms, the structure has 75"):
        mode_readers.read_foreign_modes(files, [], coordinates[:-1])
    with pytest.raises(InputError, match=r"10\.0 Å"):
        mode_readers.read_foreign_modes(files, [], coordinates + [10, 0, 0])
    with pytest.raises(InputError, match="no mode 12: it has the modes 7 to 11"):
        mode_readers.read_foreign_modes(files, [12], coordinates)
    shutil.rmtree(tmp_path / "run" / "extra" / "modes")
    with pytest.raises(InputError, match=r"no file vec\.7"):
        mode_readers.read_foreign_modes([str(tmp_path / "run")], [], coordinates)
