"""Normal modes of a structure: the vectors that deform it, with what is known about each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.packed_files import load_npz
from ..exceptions import InputError
from .atomic import write_npz

RIGID_MODES = 6
_LARGEST = 1e9  # Å, and electrons of an atom or Gaussian
_NORM_TOLERANCE = 1e-3


@dataclass
class Modes:
    """Normal modes of N atoms (or pseudo-atoms).

    A conformation is ``coordinates + sum_k amplitude_k eigenvectors[k]``; with eigenvectors of unit norm over all
    atoms its RMSD to the reference is ``||amplitudes|| / sqrt(N)``.

    Attributes
    ----------
    coordinates : (N, 3)
        Reference in Å, as in the structure file.
    origin_angst : (3,)
        Unweighted centroid of the reference, which is the centre of projections.
    weights : (N,)
        Weight of an atom's Gaussian: electrons x occupancy.
    sigma_angst : (N,)
        Width (standard deviation) of an atom's Gaussian in Å.
    eigenvectors : (K, N, 3)
        Unit norm over all atoms.
    eigenvalues : (K,)
        With springs of constant 1.
    mode_numbers : (K,) int
        Counted from 1, the six rigid ones included.
    collectivity, score : (K,)
        Part of the atoms that move, and (rank by collectivity + mode number) / 2K; NaN when not known.
    """

    coordinates: NDArray[np.float64]
    origin_angst: NDArray[np.float64]
    weights: NDArray[np.float64]
    sigma_angst: NDArray[np.float64]
    eigenvectors: NDArray[np.float64]
    eigenvalues: NDArray[np.float64]
    mode_numbers: NDArray[np.int64]
    collectivity: NDArray[np.float64]
    score: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.mode_numbers)

    @property
    def centred(self) -> NDArray[np.float64]:
        """Reference (N, 3) in Å relative to the centre of projections."""
        return self.coordinates - self.origin_angst

    def select(self, mode_numbers: Sequence[int]) -> Modes:
        """The modes of these numbers, in this order.

        Raises
        ------
        InputError
            for a rigid mode (1 to 6), a mode that is not there, or one named twice.
        """
        present = {int(number): row for row, number in enumerate(self.mode_numbers)}
        rows = []
        for number in mode_numbers:
            if number <= RIGID_MODES:
                raise InputError(
                    f"Mode {number} cannot be used: modes 1 to {RIGID_MODES} move the structure as a rigid body; choose 7 or higher."
                )
            if number not in present:
                raise InputError(f"Mode {number} was not computed: modes up to {max(present, default=0)} are there; compute more modes.")
            if present[number] in rows:
                raise InputError(f"Mode {number} is named twice.")
            rows.append(present[number])
        if not rows:
            raise InputError("No mode was chosen: name at least one, 7 or higher.")
        names = ("eigenvectors", "eigenvalues", "mode_numbers", "collectivity", "score")
        return replace(self, **{name: getattr(self, name)[rows] for name in names})

    def displaced(self, amplitudes: ArrayLike) -> NDArray[np.float64]:
        """Conformations (..., N, 3) in Å, in the frame of the structure file, for amplitudes (..., K)."""
        return self.coordinates + np.einsum("...k,kni->...ni", np.asarray(amplitudes, np.float64), self.eigenvectors)


def make_modes(coordinates: ArrayLike, eigenvectors: ArrayLike, mode_numbers: ArrayLike, *, weights: ArrayLike | None = None,
               sigma_angst: ArrayLike | None = None, eigenvalues: ArrayLike | None = None, collectivity: ArrayLike | None = None,
               score: ArrayLike | None = None) -> Modes:
    """Modes from coordinates (N, 3) and vectors (K, N, 3), which are brought to unit norm; what is not given is 1 or NaN."""
    reference = np.asarray(coordinates, np.float64)
    vectors = np.array(eigenvectors, np.float64)
    count, atoms = len(vectors), len(reference)
    if vectors.shape != (count, atoms, 3):
        raise InputError(f"The modes do not fit the structure: vectors of shape {vectors.shape} for {atoms} atoms.")
    norms = np.sqrt(np.square(vectors).sum(axis=(1, 2)))
    if not (np.isfinite(norms).all() and np.isfinite(reference).all()):
        raise InputError("The modes, or the places of their atoms, hold NaN, infinity or numbers beyond all lengths.")
    if not np.all(norms > 0):
        raise InputError(f"The mode in place {int(np.argmin(norms)) + 1} does not move any atom.")

    def filled(values: ArrayLike | None, length: int, default: float) -> NDArray[np.float64]:
        return np.full(length, default) if values is None else np.asarray(values, np.float64)

    return Modes(
        coordinates=reference, origin_angst=reference.mean(axis=0), weights=filled(weights, atoms, 1.0),
        sigma_angst=filled(sigma_angst, atoms, 1.0), eigenvectors=vectors / norms[:, None, None],
        eigenvalues=filled(eigenvalues, count, np.nan), mode_numbers=np.asarray(mode_numbers, np.int64),
        collectivity=filled(collectivity, count, np.nan), score=filled(score, count, np.nan),
    )


def write_modes(path: str, modes: Modes) -> None:
    """Write modes as npz; a reader sees the old file or the whole new one."""
    write_npz(path, vars(modes))


def read_modes(path: str) -> Modes:
    """Read modes that :func:`write_modes` wrote.

    Raises
    ------
    InputError
        when the file is absent or damaged, misses an array, or its arrays do not fit each other.
    """
    arrays = load_arrays(path)
    missing = [item.name for item in fields(Modes) if item.name not in arrays]
    if missing:
        raise InputError(f"'{path}' is not a file of normal modes of this software: it has no array '{missing[0]}'.")
    text = next((item.name for item in fields(Modes) if arrays[item.name].dtype.kind not in ("iu" if item.name == "mode_numbers" else "iuf")), None)
    if text is not None:
        raise InputError(f"The array '{text}' of the normal modes '{path}' does not hold numbers.")
    modes = Modes(**{item.name: arrays[item.name] for item in fields(Modes)})
    count, atoms = len(modes.mode_numbers), len(modes.coordinates)
    shapes = {
        "coordinates": (atoms, 3), "origin_angst": (3,), "weights": (atoms,), "sigma_angst": (atoms,),
        "eigenvectors": (count, atoms, 3), "eigenvalues": (count,), "collectivity": (count,), "score": (count,),
    }
    for name, shape in shapes.items():
        if arrays[name].shape != shape:
            raise InputError(f"The array '{name}' of the normal modes '{path}' is {arrays[name].shape}, but {shape} belongs there.")
    for name in ("coordinates", "weights", "sigma_angst", "eigenvectors"):
        if not (np.abs(arrays[name]) <= _LARGEST).all():
            raise InputError(f"The array '{name}' of the normal modes '{path}' holds NaN, infinite or impossible values.")
    if not (modes.weights.sum() > 0):
        raise InputError(f"The atoms of the normal modes '{path}' have no weight: they show nothing.")
    if len(np.unique(modes.mode_numbers)) < count:
        raise InputError(f"The normal modes '{path}' have a mode number twice.")
    norms = np.sqrt(np.square(modes.eigenvectors).sum(axis=(1, 2)))
    off = np.flatnonzero(np.abs(norms - 1) > _NORM_TOLERANCE)
    if len(off):
        number = modes.mode_numbers[off[0]]
        raise InputError(f"Mode {number} of '{path}' has norm {norms[off[0]]:g}, but eigenvectors have unit norm over all atoms.")
    return modes


def load_arrays(path: str) -> dict[str, NDArray[Any]]:
    """Arrays of an npz file, never unpickled (those that would need it are left out).

    Raises
    ------
    InputError
        when the file is absent or damaged.
    """
    try:
        return load_npz(path, skip_objects=True)
    except FileNotFoundError:
        raise InputError(f"The file '{path}' does not exist.") from None
    except (OSError, ValueError) as error:
        raise InputError(f"'{path}' cannot be read as an npz file without pickles: {error}.") from error
