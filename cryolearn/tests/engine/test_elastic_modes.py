"""Normal modes against the published facts of adenylate kinase (4AKE chain A, 1,656 heavy atoms)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import prody
import pytest

from cryolearn.engine.elastic.config import NormalModesConfig
from cryolearn.engine.elastic.modes.atom_selection import rigid_blocks, select_atoms
from cryolearn.engine.elastic.normal_modes_command import (
    collectivity,
    compute_modes,
    fix_signs,
    relative_cutoff,
    run,
)
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.modes import read_modes

DATA = Path(prody.__file__).parent / "tests" / "datafiles"
OPEN = str(DATA / "4akeA_alg_fixed.pdb")


@pytest.fixture(scope="module")
def atoms() -> prody.AtomGroup:
    prody.confProDy(verbosity="none")
    return select_atoms(OPEN, "not hydrogen")[1]


@pytest.fixture(scope="module")
def modes(atoms: prody.AtomGroup) -> tuple[np.ndarray, np.ndarray]:
    return compute_modes(atoms, "rtb", 8.0, 10, 20)


def test_eigenvalues_and_collectivity_are_those_of_the_authors_settings(modes: tuple[np.ndarray, np.ndarray]) -> None:
    values, vectors = modes
    np.testing.assert_allclose(values[6:12], [0.05400, 0.12556, 0.23380, 0.43187, 0.5231, 0.83453], rtol=5e-4)
    np.testing.assert_allclose(collectivity(vectors)[6:12], [0.467, 0.532, 0.440, 0.532, 0.480, 0.374], atol=1.5e-3)
    assert np.abs(values[:6]).max() < 1e-10
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=(1, 2)), 1.0, atol=1e-9)


def test_modes_overlap_with_a_c_alpha_network(atoms: prody.AtomGroup, modes: tuple[np.ndarray, np.ndarray]) -> None:
    carbon = np.flatnonzero(atoms.getNames() == "CA")
    anm = prody.ANM()
    anm.buildHessian(atoms.getCoords()[carbon], cutoff=15.0)
    anm.calcModes(20)
    part = modes[1][6:12, carbon].reshape(6, -1)
    part /= np.linalg.norm(part, axis=1, keepdims=True)
    overlap = np.abs(np.diag(part @ anm.getEigvecs()[:, :6]))
    np.testing.assert_allclose(overlap, [0.987, 0.959, 0.921, 0.839, 0.928, 0.074], atol=0.005)


def test_modes_explain_the_closing_of_adenylate_kinase(atoms: prody.AtomGroup, modes: tuple[np.ndarray, np.ndarray]) -> None:
    closed = prody.parsePDB(str(DATA / "pdb1ake.pdb"), chain="A").select("name N CA C O and protein")
    place = {key: index for index, key in enumerate(zip(closed.getResnums(), closed.getNames(), strict=True))}
    keys = list(zip(atoms.getResnums(), atoms.getNames(), strict=True))
    common = [(index, place[key]) for index, key in enumerate(keys) if key in place]
    ours, theirs = (np.array(column) for column in zip(*common, strict=True))
    target, reference = closed.getCoords()[theirs], atoms.getCoords()[ours]
    motion = prody.calcTransformation(target, reference).apply(target) - reference
    part = modes[1][6:12, ours]
    overlap = np.abs((part * motion).sum((1, 2))) / np.linalg.norm(part, axis=(1, 2)) / np.linalg.norm(motion)
    np.testing.assert_allclose(overlap, [0.85, 0.24, 0.20, 0.21, 0.27, 0.01], atol=0.01)


def test_an_amplitude_of_200_is_an_rmsd_of_4_91_angstrom(modes: tuple[np.ndarray, np.ndarray]) -> None:
    displacement = 200 * modes[1][6]
    assert np.sqrt((displacement**2).sum(1).mean()) == pytest.approx(4.9147, abs=1e-4)


def test_c_alpha_modes_are_extended_to_all_atoms_and_agree(atoms: prody.AtomGroup, modes: tuple[np.ndarray, np.ndarray]) -> None:
    values, vectors = compute_modes(atoms, "anm_ca", 15.0, 10, 12)
    assert vectors.shape == (12, 1656, 3)
    assert abs((vectors[6] * modes[1][6]).sum()) > 0.95  # the slowest motion is the same whatever the network


def test_the_sign_does_not_depend_on_the_solver(modes: tuple[np.ndarray, np.ndarray]) -> None:
    vectors = modes[1][6:]
    np.testing.assert_array_equal(fix_signs(vectors), fix_signs(-vectors))


def test_the_relative_cutoff_holds_its_percentage(atoms: prody.AtomGroup) -> None:
    low, high = relative_cutoff(atoms.getCoords(), 50), relative_cutoff(atoms.getCoords(), 99)
    assert 1.0 < low < high < 12.0


def test_blocks_stay_inside_chains_and_small_ones_join_the_nearest() -> None:
    names, chains = ["ALA"] * 24 + ["ATP", "MG", "HOH"], ["A"] * 12 + ["B"] * 12 + ["A"] * 3
    atoms_of = [4] * 24 + [31, 1, 1]
    residue = np.repeat(np.arange(27), atoms_of)
    group = prody.AtomGroup("model")
    place = np.arange(27) * 5.0
    place[-2:] = place[23] + 1.0, place[24] + 1.0  # the ion is beside the end of chain B, the water beside ATP
    group.setCoords(np.stack((place[residue], np.zeros(len(residue)), np.arange(len(residue)) * 1e-3), 1))
    group.setNames(np.where(residue < 24, "CA", "X"))
    group.setResnames(np.array(names)[residue])
    group.setChids(np.array(chains)[residue])
    group.setSegnames(np.full(len(residue), ""))
    group.setResnums(residue + 1)
    blocks = rigid_blocks(group, 10)
    sets = {tuple(np.unique(residue[blocks == one]) + 1) for one in range(blocks.max() + 1)}
    assert sets == {tuple(range(1, 11)), (11, 12), tuple(range(13, 23)), (23, 24, 26), (25, 27)}


def test_the_command_writes_what_others_read(tmp_path: Path) -> None:
    run(NormalModesConfig(output=str(tmp_path), structure=OPEN, number=12))
    found = read_modes(str(tmp_path / "modes.npz"))
    assert list(found.mode_numbers) == list(range(1, 13))
    vector = np.loadtxt(tmp_path / "modes" / "vec.7")
    np.testing.assert_allclose(vector, found.eigenvectors[6], atol=1e-9)
    assert prody.parseNMD(str(tmp_path / "modes.nmd")) is not None
    assert (tmp_path / "figures" / "modes.png").stat().st_size > 10_000


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (dict(selection="chain Z"), "keeps 0 atoms"),
        (dict(selection="no such ("), "not valid"),
        (dict(method="anm_ca", cutoff_angst=4.0), "falls apart"),
        (dict(number=1000, residues_per_block=100), "only"),
        (dict(structure=""), "structure"),
    ],
)
def test_bad_input_is_refused_by_name(tmp_path: Path, change: dict[str, object], words: str) -> None:
    settings: dict[str, object] = dict(output=str(tmp_path), structure=OPEN) | change
    with pytest.raises(InputError, match=words):
        run(NormalModesConfig(**settings))  # type: ignore[arg-type]
