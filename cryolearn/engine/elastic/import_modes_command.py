"""Command ``import-modes``: normal modes of other programs as the engine's files."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from ..config import check_config, require
from ..io.mode_formats import write_mode_table, write_mode_texts, write_nmd
from ..io.mode_readers import read_foreign_modes
from ..io.modes import RIGID_MODES, write_modes
from ..io.structures import atom_sigmas, atom_weights, read_dry_atoms, read_structure, write_fitting
from ..io.summary import ModesSummary, write_summary
from .config import ImportModesConfig
from .normal_modes_command import collectivity, collectivity_score

__all__ = ["run"]


def run(config: ImportModesConfig) -> None:
    """Read the vectors, give them unit norm, and write them with their structure.

    Raises
    ------
    InputError
        when files and numbers differ in count, or a file does not belong to the structure.
    """
    check_config(config)
    require(config, "structure", "mode_files")
    read_dry_atoms(config.structure)  # refuses one of water alone
    structure = read_structure(config.structure)
    modes = read_foreign_modes(config.mode_files, config.mode_numbers, structure.coordinates)
    share, moving = collectivity(modes.eigenvectors), modes.mode_numbers > RIGID_MODES
    score = np.zeros(len(modes))
    score[moving] = collectivity_score(np.concatenate([np.zeros(RIGID_MODES), share[moving]]))[RIGID_MODES:]
    modes = dataclasses.replace(
        modes, weights=atom_weights(structure), sigma_angst=atom_sigmas(structure), collectivity=share, score=score,
    )
    out = Path(config.output)
    out.mkdir(parents=True, exist_ok=True)
    write_fitting(str(out / "structure"), structure)
    write_modes(str(out / "modes.npz"), modes)
    write_mode_texts(str(out / "modes"), modes)
    write_nmd(str(out / "modes.nmd"), modes, structure)
    selected = (share >= config.collectivity_threshold) & moving
    write_mode_table(str(out / "modes.csv"), modes, selected)
    write_summary(out, ModesSummary(atoms=len(structure), modes=len(modes), selected=int(selected.sum())))
    print(f"{len(modes)} modes of {len(structure)} atoms imported")
