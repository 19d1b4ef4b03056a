"""Atomic models with faults that public trouble reports tell of: what is mended in silence, what is said, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import gemmi
import numpy as np
import prody
import pytest

from cryolearn.engine.elastic.config import NormalModesConfig
from cryolearn.engine.elastic.modes.atom_selection import select_atoms
from cryolearn.engine.elastic.normal_modes_command import run
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.atomic_model import element_sigma
from cryolearn.engine.io.modes import read_modes
from cryolearn.engine.io.polymer_elements import polymer_element
from cryolearn.engine.io.structures import Structure, read_structure

UBIQUITIN = os.path.join(os.path.dirname(prody.__file__), "tests", "datafiles", "pdb1ubi.pdb")
LINES = [line for line in Path(UBIQUITIN).read_text().splitlines() if line.startswith("ATOM")]


def _write(folder: Path, lines: list[str], name: str = "a.pdb") -> str:
    path = folder / name
    path.write_text("\n".join([*lines, "END", ""]))
    return str(path)


@pytest.fixture(scope="module")
def plain() -> Structure:
    structure = read_structure(UBIQUITIN, quiet=True)
    return structure.subset(~structure.hetero)


def _name(line: str) -> str:
    return line[12:16].strip()


@pytest.mark.parametrize("change", [
    lambda line: line[:12] + f"{_name(line):<4}" + line[16:76], lambda line: line[:12] + f"{_name(line):>4}" + line[16:66],
    lambda line: line[:76] + f"{line[76:78].strip():<2}", lambda line: line[:76] + line[76:78].lower(), lambda line: line.lower(),
], ids=["names at the left", "names at the right", "elements at the left", "small letters", "all in small letters"])
def test_elements_of_polymers_do_not_need_their_columns(tmp_path: Path, plain: Structure, change) -> None:  # type: ignore[no-untyped-def]
    found = read_structure(_write(tmp_path, [change(line) for line in LINES]), quiet=True)
    assert np.array_equal(found.atomic_number, plain.atomic_number)


@pytest.mark.parametrize(("name", "residue", "element"), [
    ("CA", "GLY", "C"), ("HG", "SER", "H"), ("1HB", "ALA", "H"), ("SE", "MSE", "SE"), ("SG", "CYS", "S"), ("P", "DA", "P"), ("D", "LEU", "D"),
    ("CA", "CA", ""), ("HG", "HG", ""), ("C210", "POPE", ""),
])
def test_an_element_by_the_names_of_atom_and_residue(name: str, residue: str, element: str) -> None:
    assert polymer_element(name, residue) == element


def _cif(folder: Path, columns: list[str], plain: Structure, **values: str) -> str:
    block = gemmi.cif.Block("x")
    loop = block.init_loop("_atom_site.", columns)
    for row in range(len(plain)):
        said = {
            "id": str(row + 1), "type_symbol": plain.element[row], "label_alt_id": ".", "pdbx_PDB_model_num": "1",
            **{f"{who}_atom_id": plain.atom_name[row] for who in ("label", "auth")}, **{f"{who}_comp_id": plain.residue_name[row] for who in ("label", "auth")},
            **{f"{who}_asym_id": "A" for who in ("label", "auth")}, **{f"{who}_seq_id": str(plain.residue_number[row]) for who in ("label", "auth")},
            **{f"Cartn_{axis}": f"{x:.3f}" for axis, x in zip("xyz", plain.coordinates[row])}, **values,
        }
        loop.add_row([gemmi.cif.quote(said[name]) if said[name] not in "?." else said[name] for name in columns])
    document = gemmi.cif.Document()
    document.add_copied_block(block)
    path = folder / "a.cif"
    path.write_text(document.as_string())
    return str(path)


PLACES = ["Cartn_x", "Cartn_y", "Cartn_z"]
LABEL = ["label_atom_id", "label_comp_id", "label_asym_id", "label_seq_id"]
AUTH = ["auth_atom_id", "auth_comp_id", "auth_asym_id", "auth_seq_id"]


@pytest.mark.parametrize(("columns", "values"), [
    (["id", "type_symbol", *LABEL, *PLACES], {}), (["id", "type_symbol", *AUTH, *PLACES], {}), ([*LABEL, *PLACES], {}),
    (["id", "type_symbol", *LABEL, *PLACES], {"type_symbol": "?"}),
], ids=["label names alone", "author names alone", "neither id nor element", "elements unknown"])
def test_columns_that_mmcif_leaves_out_come_from_others(tmp_path: Path, plain: Structure, columns: list[str], values: dict[str, str]) -> None:
    found = read_structure(_cif(tmp_path, columns, plain, **values), quiet=True)
    for name in ("atomic_number", "atom_name", "residue_name", "residue_number", "coordinates"):
        assert np.array_equal(getattr(found, name), getattr(plain, name)), name


def test_an_mmcif_without_coordinates_is_refused(tmp_path: Path, plain: Structure) -> None:
    with pytest.raises(InputError, match=r"no column _atom_site\.Cartn_z"):
        read_structure(_cif(tmp_path, ["id", "type_symbol", *LABEL, *PLACES[:2]], plain))


@pytest.mark.parametrize(("start", "text", "words"), [
    (54, "******", "602 atoms have no occupancy"), (60, "******", "602 atoms have no number as B factor"),
    (60, "   nan", "602 atoms have no number as B factor"),
    (54, "100.00", "602 of 602 atoms have an occupancy above 1 (up to 100)"),
])
def test_odd_occupancies_and_b_factors_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str], start: int, text: str, words: str) -> None:
    found = read_structure(_write(tmp_path, [line[:start] + text + line[start + 6:] for line in LINES]))
    assert words in capsys.readouterr().out
    assert np.isfinite(found.b_factor).all() and found.occupancy.min() >= 1


def test_atoms_without_an_element_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    unknown = "HETATM  900 UNK  UNX A 200      30.000  30.000  30.000  1.00 20.00           X"
    assert len(read_structure(_write(tmp_path, [*LINES, unknown]))) == 603
    assert "1 of 603 atoms have no element that is known" in capsys.readouterr().out


def _in_nm(line: str) -> str:
    return line[:30] + "".join(f"{float(line[at : at + 8]) / 10:8.3f}" for at in (30, 38, 46)) + line[54:]


def _overflowing(line: str) -> str:
    return line[:30] + "".join(f"{float(line[at : at + 8]) + 31000:.3f}" for at in (30, 38, 46)) + "  1.00999.99"


REFUSED = {
    "charges in place of occupancies": ([line[:54] + " -0.40  1.85" + line[66:] for line in LINES], "602 of the 602 atoms .* negative occupancy.*PQR"),
    "coordinates in nm": ([_in_nm(line) for line in LINES], r"0\.1\d Å from their nearest.*nm"),
    "every atom twice": (LINES + LINES, "lie at the place of another atom: remove the copies"),
    "numbers beyond their columns": ([_overflowing(line) for line in LINES], "Line 1 .*beyond the columns of the PDB format.*mmCIF"),
}


@pytest.mark.parametrize(("lines", "words"), REFUSED.values(), ids=REFUSED)
def test_what_no_model_has_is_refused(tmp_path: Path, lines: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        read_structure(_write(tmp_path, lines))


@pytest.mark.parametrize("ending", [".pqr", ".gro", ".xyz", ".mol2", ".pdbqt", ".bcif"])
def test_other_formats_are_refused_by_name(tmp_path: Path, ending: str) -> None:
    with pytest.raises(InputError, match="cannot be read: convert it to PDB or mmCIF"):
        read_structure(_write(tmp_path, LINES, f"a{ending}"))


def test_an_element_without_scattering_is_refused() -> None:
    with pytest.raises(InputError, match="scattering of Es"):
        element_sigma(gemmi.Element("Es").atomic_number)


def test_deuterium_is_hydrogen_to_selections(tmp_path: Path) -> None:
    heavy = [line for line in LINES if int(line[22:26]) < 20]
    deuterium = [line[:12] + " D  " + line[16:30] + f"{float(line[30:38]) + 0.9:8.3f}" + line[38:76] + " D" for line in heavy if _name(line) == "N"]
    found, atoms = select_atoms(_write(tmp_path, heavy + deuterium), "not hydrogen")
    assert len(found) == len(atoms) == len(heavy)


def test_atoms_at_one_place_make_no_network(tmp_path: Path) -> None:
    lines = [*LINES[:200], *(line[:30] + "".join(["   0.000"] * 3) + line[54:] for line in LINES[200:205])]
    with pytest.raises(InputError, match="5 of the atoms selected .* lie at the place of another .first: .*/26 and "):
        select_atoms(_write(tmp_path, lines), "all")


@pytest.mark.parametrize("number", [8, 30, 35, 36])
def test_as_many_modes_as_a_small_network_has(tmp_path: Path, number: int) -> None:
    lines = [line for line in LINES if _name(line) == "CA"][:12]  # 36 degrees of freedom
    run(NormalModesConfig(structure=_write(tmp_path, lines), method="anm_ca", cutoff_angst=30.0, number=number, output=str(tmp_path / "modes"), threads=1))
    assert len(read_modes(str(tmp_path / "modes" / "modes.npz")).eigenvalues) == number
