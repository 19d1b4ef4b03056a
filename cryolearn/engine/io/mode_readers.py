"""Normal modes of other programs, by what their files are: NMD (ProDy, NMWiz), npz of ProDy, a folder of ContinuousFlex, text files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from .mode_formats import read_mode_texts
from .modes import RIGID_MODES, Modes, load_arrays, make_modes

__all__ = ["read_foreign_modes", "read_nmd", "read_prody_npz", "rigid_overlap"]

# a rigid motion lies in the span of three translations and three rotations; a vibration does not
_RIGID_OVERLAP = 0.9
_SAME_PLACE_ANGST = 0.5  # RMSD of a structure to itself, written with three decimals or fewer
_VECTOR = re.compile(r"vec\.(\d+)")
_VARIANCES = ("PCA", "EDA")  # models whose eigenvalues are variances


def read_foreign_modes(sources: Sequence[str], mode_numbers: Sequence[int], coordinates: ArrayLike) -> Modes:
    """Read modes of another program for atoms at ``coordinates`` (N, 3) Å; weights and widths are 1.

    Parameters
    ----------
    sources : sequence of str
        One NMD file, one npz of ProDy's ``saveModel``, one folder with files ``vec.K`` (ContinuousFlex), or a text file for each mode.
    mode_numbers : sequence of int
        Numbers of the modes in text files; of the others, the modes to take (all when empty).
    coordinates : array_like
        (N, 3) Å, of the structure that the modes belong to.

    Raises
    ------
    InputError
        when a file cannot be read or belongs to another structure, or a number is missing.
    """
    try:
        return _read(sources, mode_numbers, coordinates)
    except InputError as error:
        if not sources or any(name in str(error) for name in sources):
            raise
        raise InputError(f"Modes of '{sources[0]}': {error}") from error


def _read(sources: Sequence[str], mode_numbers: Sequence[int], coordinates: ArrayLike) -> Modes:
    if len(sources) == 1 and os.path.isdir(sources[0]):
        found = _folder_texts(sources[0])
        return _chosen(read_mode_texts(list(found.values()), list(found), coordinates), mode_numbers, sources[0])
    if len(sources) == 1 and sources[0].lower().endswith(".nmd"):
        modes = read_nmd(sources[0])
        _require_same_atoms(sources[0], modes, np.asarray(coordinates, np.float64))
        return _chosen(modes, mode_numbers, sources[0])
    if len(sources) == 1 and sources[0].lower().endswith(".npz"):
        return _chosen(read_prody_npz(sources[0], coordinates), mode_numbers, sources[0])
    if len(sources) != len(mode_numbers):
        raise InputError(f"{len(sources)} mode files are given with {len(mode_numbers)} numbers: give one number a file.")
    return read_mode_texts(sources, mode_numbers, coordinates)


def _folder_texts(folder: str) -> dict[int, str]:
    """Files ``vec.K`` by number, of a folder or of ``modes`` in it (a run of ContinuousFlex keeps them in ``extra/modes``)."""
    for place in (folder, os.path.join(folder, "modes"), os.path.join(folder, "extra", "modes")):
        names = os.listdir(place) if os.path.isdir(place) else []
        found = {int(match[1]): os.path.join(place, name) for name in names if (match := _VECTOR.fullmatch(name))}
        if found:
            return dict(sorted(found.items()))
    raise InputError(f"The folder '{folder}' has no modes: there is no file vec.7 or the like in it, in 'modes' or in 'extra/modes'.")


def _chosen(modes: Modes, numbers: Sequence[int], source: str) -> Modes:
    if not numbers:
        return modes
    missing = [number for number in numbers if number not in modes.mode_numbers]
    if missing:
        raise InputError(f"'{source}' has no mode {missing[0]}: it has the modes {modes.mode_numbers.min()} to {modes.mode_numbers.max()}.")
    return modes.select(numbers)


def _require_same_atoms(path: str, modes: Modes, reference: NDArray[np.float64]) -> None:
    if len(modes.coordinates) != len(reference):
        raise InputError(
            f"The modes '{path}' belong to {len(modes.coordinates)} atoms, the structure has {len(reference)}: give the atoms that the modes were computed for."
        )
    rmsd = float(np.sqrt(np.square(modes.coordinates - reference).sum(axis=1).mean()))
    if rmsd > _SAME_PLACE_ANGST:
        raise InputError(f"The atoms of the modes '{path}' are {rmsd:.1f} Å (RMSD) from those of the structure: give the one that they belong to.")


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

    Eigenvalues of principal components, which are variances, are inverted.

    Raises
    ------
    InputError
        when the file is absent, holds no modes or modes without directions (GNM), or modes of another number of atoms.
    """
    arrays = load_arrays(path)
    reference = np.asarray(coordinates, np.float64)
    if "_array" not in arrays or "_eigvals" not in arrays:
        raise InputError(f"'{path}' is not a model saved by ProDy: it has no arrays '_array' and '_eigvals'.")
    kind, rows = str(arrays.get("type", "")), arrays["_array"].shape[0]
    if kind == "GNM" or rows == len(reference):
        raise InputError(f"The modes '{path}' are those of a Gaussian network (GNM), which have no directions: give those of an ANM or NMA.")
    if rows != reference.size:
        raise InputError(f"The modes '{path}' belong to {rows // 3} atoms, the structure has {len(reference)}.")
    vectors = arrays["_array"].T.reshape(-1, len(reference), 3)
    numbers = _numbered(reference, vectors, np.arange(1, len(vectors) + 1))
    values = np.asarray(arrays["_eigvals"], np.float64)
    return make_modes(reference, vectors, numbers, eigenvalues=1 / values if kind in _VARIANCES else values)


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
