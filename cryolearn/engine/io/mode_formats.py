"""Normal modes in other programs' files: NMD (ProDy, NMWiz), ProDy npz, and Scipion's text files."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from .atomic import open_whole, write_npz
from .modes import RIGID_MODES, Modes, load_arrays, make_modes
from .structures import Structure

# a rigid motion lies in the span of three translations and three rotations; a vibration does not
_RIGID_OVERLAP = 0.9


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


def read_nmd(path: str) -> Modes:
    """Read modes from NMD; weights and widths are 1.

    ProDy counts modes from the first that is not rigid; such files are recognised by their first vector
    and numbered from 7 on.

    Raises
    ------
    InputError
        when the file is absent, has no coordinates or no modes, or a mode that does not fit them.
    """
    coordinates: NDArray[np.float64] | None = None
    numbers: list[int] = []
    scales: list[float] = []
    vectors: list[NDArray[np.float64]] = []
    try:
        with open(path, encoding="utf-8", errors="replace") as handle:
            for line in handle:
                word, _, rest = line.strip().partition(" ")
                if word == "coordinates":
                    coordinates = np.array(rest.split(), np.float64).reshape(-1, 3)
                elif word == "mode" and coordinates is not None:
                    values = np.array(rest.split(), np.float64)
                    before = len(values) - coordinates.size
                    if before not in (0, 1, 2):
                        raise InputError(f"Mode {len(vectors) + 1} of '{path}' has {len(values)} numbers for {len(coordinates)} atoms.")
                    vectors.append(values[before:].reshape(-1, 3))
                    numbers.append(int(values[0]) if before == 2 else len(vectors))
                    scales.append(values[before - 1] if before else 1.0)
    except OSError as error:
        raise InputError(f"The modes '{path}' cannot be read: {error.strerror or error}.") from error
    except ValueError as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"The modes '{path}' cannot be read as NMD: {error}.") from error
    if coordinates is None or not vectors:
        raise InputError(f"'{path}' is not an NMD file with coordinates and modes.")
    with np.errstate(divide="ignore"):
        eigenvalues = 1 / np.square(scales)
    shifted = _numbered(coordinates, np.array(vectors), np.array(numbers))
    return make_modes(coordinates, vectors, shifted, eigenvalues=eigenvalues)


def read_prody_npz(path: str, coordinates: ArrayLike) -> Modes:
    """Read the npz file of ProDy's ``saveModel`` for atoms at ``coordinates`` (N, 3) Å; weights and widths are 1.

    Raises
    ------
    InputError
        when the file is absent, holds no modes, or holds modes of another number of atoms.
    """
    arrays = load_arrays(path)
    reference = np.asarray(coordinates, np.float64)
    if "_array" not in arrays or "_eigvals" not in arrays:
        raise InputError(f"'{path}' is not a model saved by ProDy: it has no arrays '_array' and '_eigvals'.")
    if arrays["_array"].shape[0] != reference.size:
        raise InputError(f"The modes '{path}' belong to {arrays['_array'].shape[0] // 3} atoms, the structure has {len(reference)}.")
    vectors = arrays["_array"].T.reshape(-1, len(reference), 3)
    numbers = _numbered(reference, vectors, np.arange(1, len(vectors) + 1))
    return make_modes(reference, vectors, numbers, eigenvalues=arrays["_eigvals"])


def write_prody_npz(path: str, modes: Modes, title: str = "modes") -> None:
    """Write the modes that are not rigid as a file for ProDy's ``loadModel``."""
    keep = np.asarray(modes.mode_numbers) > RIGID_MODES
    values = modes.eigenvalues[keep]
    write_npz(path, {
        "type": "NMA", "_title": title, "_array": modes.eigenvectors[keep].reshape(int(keep.sum()), -1).T, "_eigvals": values, "_vars": 1 / values,
        "_trace": (1 / values).sum(), "_n_atoms": len(modes.coordinates), "_dof": 3 * len(modes.coordinates), "_n_modes": int(keep.sum()),
    })


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


def rigid_overlap(coordinates: ArrayLike, vector: ArrayLike) -> float:
    """Part (0 to 1) of a displacement (N, 3)'s norm that moves atoms at ``coordinates`` (N, 3) as a rigid body."""
    centred = np.asarray(coordinates, np.float64)
    centred = centred - centred.mean(axis=0)
    basis = [np.broadcast_to(axis, centred.shape) for axis in np.eye(3)] + [np.cross(axis, centred) for axis in np.eye(3)]
    span, _ = np.linalg.qr(np.array(basis).reshape(6, -1).T)
    flat = np.asarray(vector, np.float64).ravel()
    return float(np.linalg.norm(span.T @ flat) / np.linalg.norm(flat))


def _numbered(coordinates: NDArray[np.float64], vectors: NDArray[np.float64], numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    """Mode numbers that count the rigid modes, whether or not the file does."""
    counts_rigid = numbers.min() > RIGID_MODES or rigid_overlap(coordinates, vectors[numbers.argmin()]) > _RIGID_OVERLAP
    return numbers if counts_rigid else numbers + RIGID_MODES
