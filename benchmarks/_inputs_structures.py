"""Every structure inside ProDy's package: atoms read against atoms in the file, and chain names of a ribosome through normal modes and a trajectory."""

from __future__ import annotations

import contextlib
import io
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import prody
from _results import Row

from cryolearn.engine.elastic.config import NormalModesConfig
from cryolearn.engine.elastic.normal_modes_command import run as normal_modes
from cryolearn.engine.io.structures import find_structure, read_structure, write_fitting
from cryolearn.engine.io.tables import write_table
from cryolearn.engine.landscape.config import TrajectoryConfig
from cryolearn.engine.landscape.trajectory_command import run as trajectory

__all__ = ["atoms_in_file", "ribosome_rows", "structure_rows"]

DATA = Path(prody.__file__).parent / "tests" / "datafiles"
RIBOSOME = "mmcif_6zu5.cif"
_ALTERNATES = re.compile(r"(\d+) of \d+ atoms are alternate locations that are left out")
_RIBOSOME_CHAINS = "SE0 SG0 SI0 LB0 LC0"  # of the small and the large subunit


def atoms_in_file(path: Path) -> int:
    """ATOM and HETATM records of a file's first model, counted from its lines alone."""
    lines = path.read_text().splitlines()
    records = [line for line in lines if re.match(r"(ATOM|HETATM)", line)]
    if path.suffix != ".cif":
        end = next((row for row, line in enumerate(lines) if line.startswith("ENDMDL")), len(lines))
        return sum(line.startswith(("ATOM", "HETATM")) for line in lines[:end])
    columns = [line.split(".")[1].strip() for line in lines if line.startswith("_atom_site.")]
    models = [line.split()[columns.index("pdbx_PDB_model_num")] for line in records]
    return models.count(models[0])


def structure_rows() -> Iterator[Row]:
    """Atoms read, and read again after writing, of each structure inside ProDy's package."""
    for path in sorted([*DATA.glob("*.pdb"), *DATA.glob("*.cif")]):
        expected, said = atoms_in_file(path), io.StringIO()
        with contextlib.redirect_stdout(said):
            structure = read_structure(str(path))
        left_out = sum(map(int, _ALTERNATES.findall(said.getvalue())))
        with tempfile.TemporaryDirectory() as folder:
            written = write_fitting(f"{folder}/structure", structure)
            again = read_structure(written, quiet=True)
        same = len(again) == len(structure) and all(np.array_equal(getattr(again, name), getattr(structure, name)) for name in (
            "atom_name", "residue_name", "residue_number", "insertion_code", "element"))
        named = np.where(structure.chain == "", structure.segment, structure.chain)  # mmCIF has no chains without a name
        same = same and (np.array_equal(again.chain, named) or np.array_equal(again.chain, structure.chain))
        same = same and float(np.abs(again.coordinates - structure.coordinates).max()) < 6e-4
        holds = len(structure) + left_out == expected and same
        verdict = "the same" if same else "DIFFERENT"
        measured = f"{len(structure)} read, {left_out} said to be left out, written as {Path(written).suffix[1:]} and read {verdict}"
        yield Row("atoms read equal atoms in the file or the difference is said", f"ProDy's {path.name}", f"{expected} atoms", measured, holds)


def ribosome_rows() -> Iterator[Row]:
    """Chain names of 6ZU5 (of two and three letters) in the structure beside the modes, the frames and the trajectory."""
    source = read_structure(str(DATA / RIBOSOME), quiet=True)
    names = _RIBOSOME_CHAINS.split()
    keep = np.isin(source.chain, names) & (source.atom_name == "CA") & (source.element == "C")
    expected = source.chain[keep].tolist()
    with tempfile.TemporaryDirectory() as text, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(text)
        selection = f"chain {_RIBOSOME_CHAINS} and name CA and not ion"
        normal_modes(NormalModesConfig(structure=str(DATA / RIBOSOME), selection=selection, output=str(folder / "modes"), number=10, method="anm_ca",
                                       cutoff_angst=40.0))
        amplitudes = np.random.default_rng(0).normal(0, 50, (40, 2))
        write_table(str(folder / "amplitudes.npz"), {"id": np.arange(1, 41), "amplitudes": amplitudes}, {"mode_numbers": [7, 8]})
        modes = str(folder / "modes" / "modes.npz")
        trajectory(TrajectoryConfig(table=str(folder / "amplitudes.npz"), column="amplitudes", modes=modes, mode_numbers=[7, 8], frames=3,
                                    output=str(folder / "frames")))
        files = [find_structure(str(folder / "modes")), *(find_structure(str(folder / "frames"), stem) for stem in ("frame_001", "frame_003", "trajectory"))]
        found = [(Path(name).name, read_structure(name, quiet=True).chain.tolist()) for name in files]
    for name, chains in found:
        yield Row(
            "chain names unchanged", f"ribosome 6ZU5, {len(names)} chains, normal modes and trajectory: {name}", f"{len(expected)} atoms of {', '.join(names)}",
            f"{len(chains)} atoms of {', '.join(dict.fromkeys(chains))}", chains == expected,
        )
