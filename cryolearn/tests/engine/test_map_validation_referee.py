"""cctbx as referee of EMRinger, of the correlations of map and model, and of the Q-score.

cctbx is heavy and no dependency: ``CRYOLEARN_CCTBX_PYTHON`` names an interpreter that has it (``python3.11 -m venv E; E/bin/pip install
cctbx-base pandas``). Its values stand as constants in test_map_validation_emringer.py and test_map_validation_scores.py; run this file with ``-s``
to print them.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import gemmi
import numpy as np
import pytest

from cryolearn.engine.io.maps import Map, read_map, write_map
from cryolearn.engine.io.side_chains import find_residues, find_side_chains
from cryolearn.engine.io.structures import Structure, gemmi_model, read_structure
from cryolearn.engine.map_validation.emringer import emringer
from cryolearn.engine.map_validation.map_model_agreement import correlations
from cryolearn.engine.map_validation.q_score import mean_by_residue, q_scores

from .map_cases import jittered, polymer, sharp_map

VARIABLE = "CRYOLEARN_CCTBX_PYTHON"
PYTHON = os.environ.get(VARIABLE, "")
pytestmark = pytest.mark.skipif(
    not PYTHON or subprocess.run([PYTHON, "-c", "import mmtbx.ringer, pandas"], capture_output=True).returncode != 0,
    reason=f"{VARIABLE} names no interpreter that can import cctbx and pandas",
)
CASES = {"1ubi 2": (polymer, "1ubi", 2.0), "3enl 3": (polymer, "3enl", 3.0), "1ubi moved": (jittered, "1ubi", 3.0), "3enl moved": (jittered, "3enl", 2.0)}


def _referee(folder: Path, structure: Structure, volume: Map, resolution: float) -> tuple[dict[str, object], Structure, Map]:
    document = gemmi.Structure()
    z, y, x = (side * volume.pixel_size_angst for side in volume.data.shape)
    document.cell, document.spacegroup_hm = gemmi.UnitCell(x, y, z, 90, 90, 90), "P 1"
    document.add_model(gemmi_model(structure.with_coordinates(structure.coordinates - np.asarray(volume.origin_angst))))
    document.setup_entities()
    model_file, map_file = str(folder / "model.pdb"), str(folder / "map.mrc")
    document.write_pdb(model_file)
    write_map(map_file, volume.data, volume.pixel_size_angst)
    script = str(Path(__file__).parent / "cctbx_referee.py")
    output = subprocess.run([PYTHON, script, model_file, map_file, str(resolution)], capture_output=True, text=True, check=True, cwd=folder).stdout
    return json.loads(output.strip().splitlines()[-1]), read_structure(model_file), read_map(map_file)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_scores_equal_those_of_cctbx(case: str, tmp_path: Path) -> None:
    make, name, resolution = CASES[case]
    theirs, structure, volume = _referee(tmp_path, make(name), sharp_map(name, resolution), resolution)
    print({key: value for key, value in theirs.items() if key != "q"}, "mean q", np.mean(theirs["q"]))
    score = emringer(volume, find_side_chains(structure))
    assert (score.residues, score.score) == (theirs["residues"], pytest.approx(theirs["emringer"], abs=5e-5))
    found = correlations(volume, structure, resolution)
    mine = {"cc_box": found.box, "cc_mask": found.mask, "cc_volume": found.volume, "cc_peaks": found.peaks}
    assert mine == pytest.approx({key: theirs[key] for key in mine}, abs=0.001)
    # cctbx takes 32 fixed points a shell instead of a search for 8 free ones, and no centre: alike, not equal
    q = q_scores([volume], structure.coordinates, sigma_angst=0.6)[0]
    residues = find_residues(structure)
    ours, referee = (mean_by_residue(np.asarray(values), residues.of_atom, len(residues)) for values in (q, theirs["q"]))
    if "moved" in case:  # where residues differ by how well they fit, and not only by how many points are free
        assert np.corrcoef(ours, referee)[0, 1] > 0.9
    assert np.abs(ours - referee).mean() < 0.03
