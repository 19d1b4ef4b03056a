"""Command ``import-modes``: normal modes of other programs (text files of Scipion's plugins) as the engine's file."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from ..config import check_config, require
from ..exceptions import InputError
from ..io.mode_formats import read_mode_texts
from ..io.modes import write_modes
from ..io.structures import atom_sigmas, atom_weights, read_structure, write_fitting
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
    if len(config.mode_files) != len(config.mode_numbers):
        raise InputError(f"{len(config.mode_files)} mode files are given with {len(config.mode_numbers)} numbers: give one number a file.")
    structure = read_structure(config.structure)
    modes = read_mode_texts(config.mode_files, config.mode_numbers, structure.coordinates)
    share = collectivity(modes.eigenvectors)
    modes = dataclasses.replace(
        modes, weights=atom_weights(structure), sigma_angst=atom_sigmas(structure), collectivity=share, score=collectivity_score(share),
    )
    out = Path(config.output)
    out.mkdir(parents=True, exist_ok=True)
    write_fitting(str(out / "structure"), structure)
    write_modes(str(out / "modes.npz"), modes)
    write_summary(out, ModesSummary(atoms=len(structure), modes=len(modes)))
    print(f"{len(modes)} modes of {len(structure)} atoms imported")
