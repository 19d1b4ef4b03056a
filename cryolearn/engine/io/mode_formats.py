"""Normal modes in other programs' files: NMD (ProDy, NMWiz) and Scipion's text files."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from ..exceptions import InputError
from .atomic import open_whole, write_csv
from .modes import RIGID_MODES, Modes, make_modes
from .structures import Structure


def write_nmd(path: str, modes: Modes, structure: Structure | None = None, title: str = "modes") -> None:
    """Write modes as NMD, which NMWiz and ProDy read.

    The scale of a mode is 1/sqrt(eigenvalue); modes with eigenvalue 0 (rigid) are left out, and numbers count from 1
    with the rigid ones included. ``structure`` adds the atoms' names, residues and chains.
    """
    with open_whole(path) as handle:
        handle.write(f"name {title.replace(' ', '_')}\n")
        if structure is not None:
            handle.writelines(f"{label} {' '.join(map(str, values))}\n" for label, values in (
                ("atomnames", structure.atom_name), ("resnames", structure.residue_name), ("resids", structure.residue_number),
                ("chainids", [chain or "A" for chain in structure.chain]), ("bfactors", [f"{b:.2f}" for b in structure.b_factor]),
            ))
        handle.write("coordinates " + " ".join(f"{x:.3f}" for x in modes.coordinates.ravel()) + "\n")
        for number, value, vector in zip(modes.mode_numbers, modes.eigenvalues, modes.eigenvectors):
            if number > RIGID_MODES:
                scale = 1 / np.sqrt(value) if value > 0 else 1.0
                handle.write(f"mode {number} {scale:.6g} " + " ".join(f"{x:.7f}" for x in vector.ravel()) + "\n")


def write_mode_table(path: str, modes: Modes, selected: ArrayLike) -> None:
    """Write ``modes.csv``: a row a mode; ``selected`` (K,) says which are collective and not rigid. The frequency of an unknown eigenvalue is 0."""
    values = np.nan_to_num(np.asarray(modes.eigenvalues, np.float64))
    write_csv(path, ["mode", "eigenvalue", "frequency", "collectivity", "score", "selected"], (
        [int(number), f"{value:.6g}", f"{np.sqrt(max(value, 0.0)):.6g}", f"{modes.collectivity[k]:.4f}", f"{modes.score[k]:.4f}", int(chosen)]
        for k, (number, value, chosen) in enumerate(zip(modes.mode_numbers, values, np.asarray(selected, bool)))
    ))


def write_mode_texts(folder: str, modes: Modes) -> list[str]:
    """Write each mode as Scipion's text file ``vec.NUMBER``, one line of x y z an atom; returns the paths."""
    os.makedirs(folder, exist_ok=True)
    paths = [os.path.join(folder, f"vec.{number}") for number in modes.mode_numbers]
    for path, vector in zip(paths, modes.eigenvectors):
        with open_whole(path) as handle:
            np.savetxt(handle, vector, fmt="%.10e")
    return paths


def read_mode_texts(paths: Sequence[str], mode_numbers: Sequence[int], coordinates: ArrayLike) -> Modes:
    """Read Scipion's mode text files for atoms at ``coordinates`` (N, 3) Å; weights and widths are 1.

    Raises
    ------
    InputError
        naming the file that is absent, holds no numbers, or belongs to another number of atoms.
    """
    reference = np.asarray(coordinates, np.float64)
    vectors = []
    for path in paths:
        try:
            vector = np.loadtxt(path, ndmin=2)
        except (OSError, ValueError) as error:
            raise InputError(f"The mode file '{path}' cannot be read as three numbers an atom: {error}.") from error
        if vector.shape != reference.shape:
            rows = f"{vector.shape[0]} rows of {vector.shape[1]} numbers"
            raise InputError(f"The mode file '{path}' has {rows}, the structure has {len(reference)} atoms.")
        vectors.append(vector)
    return make_modes(reference, np.array(vectors).reshape(-1, *reference.shape), np.asarray(mode_numbers))
