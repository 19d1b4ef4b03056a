"""Atomic models as plain arrays, and their atoms as Gaussians."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from functools import cache

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError

# band in which an element's scattering is replaced by one Gaussian: 20 Å to 3 Å
_FIT_BAND_PER_ANGST = (0.05, 1.0 / 3.0)


@dataclass
class Structure:
    """Atoms of one model; all arrays have one row an atom.

    Attributes
    ----------
    coordinates : (N, 3) float64
        x, y, z in Å.
    element, atomic_number : (N,) str, int
        0 and 'X' for pseudo-atoms.
    b_factor : (N,) float64
        Å^2.
    occupancy : (N,) float64
        Summed over the alternate positions of an atom, of which the most occupied one is kept.
    atom_name, residue_name, chain, insertion_code : (N,) str
    residue_number : (N,) int
    hetero : (N,) bool
        Written as HETATM.
    segment : (N,) str
        Segment name (columns 73 to 76 of a PDB file), by which simulation programs tell chains; '' where there is none.
    """

    coordinates: NDArray[np.float64]
    element: NDArray[np.str_]
    atomic_number: NDArray[np.int64]
    b_factor: NDArray[np.float64]
    occupancy: NDArray[np.float64]
    atom_name: NDArray[np.str_]
    residue_number: NDArray[np.int64]
    residue_name: NDArray[np.str_]
    chain: NDArray[np.str_]
    insertion_code: NDArray[np.str_]
    hetero: NDArray[np.bool_]
    segment: NDArray[np.str_] = field(default_factory=lambda: np.empty(0, "U1"))

    def __post_init__(self) -> None:
        if len(self.segment) != len(self.coordinates):
            self.segment = np.full(len(self.coordinates), "", "U1")

    def __len__(self) -> int:
        return len(self.coordinates)

    def subset(self, rows: ArrayLike | slice) -> Structure:
        """The atoms in ``rows`` (indices, a mask or a slice)."""
        at = rows if isinstance(rows, slice) else np.asarray(rows)
        return Structure(**{name: values[at] for name, values in vars(self).items()})

    def with_coordinates(self, coordinates: ArrayLike) -> Structure:
        """The same atoms at other coordinates (N, 3) in Å."""
        moved = np.asarray(coordinates, np.float64)
        if moved.shape != self.coordinates.shape:
            raise ValueError(f"{len(self)} atoms need coordinates (N, 3), not {moved.shape}")
        return replace(self, coordinates=moved)


def atom_weights(structure: Structure) -> NDArray[np.float64]:
    """Weight of each atom's Gaussian (N,): electrons x occupancy; a pseudo-atom's is its occupancy."""
    return np.maximum(structure.atomic_number, 1) * structure.occupancy


def atom_sigmas(structure: Structure) -> NDArray[np.float64]:
    """Width (standard deviation, Å) of each atom's Gaussian (N,).

    The element's electron scattering between 20 and 3 Å as one Gaussian, widened by the B factor:
    sigma^2 = sigma_element^2 + B / (8 pi^2). A pseudo-atom has the width of its B factor.
    """
    element = np.array([element_sigma(int(number)) for number in structure.atomic_number])
    return np.sqrt(element**2 + np.maximum(structure.b_factor, 0.0) / (8 * math.pi**2))


@cache
def element_sigma(atomic_number: int) -> float:
    """Standard deviation in Å of the Gaussian nearest to an element's electron scattering factor between 20 and 3 Å.

    A Gaussian of width sigma scatters as exp(-2 pi^2 sigma^2 g^2), so log f is fitted by a line in g^2, weighted by
    f^2 g (the power, times the number of Fourier samples of an image at g). Scattering factors: gemmi's C4322,
    International Tables C 4.3.2.2. 0 for pseudo-atoms.

    Raises
    ------
    InputError
        when the tables do not have the element.
    """
    if atomic_number == 0:
        return 0.0
    g = np.linspace(*_FIT_BAND_PER_ANGST, 200)
    coefficients = gemmi.Element(atomic_number).c4322
    if coefficients is None:
        raise InputError(
            f"The scattering of {gemmi.Element(atomic_number).name}, as which an atom of the structure is read, is not known: give the elements in columns "
            "77-78 of the PDB file, or _atom_site.type_symbol of the mmCIF file."
        )
    factor = np.array([coefficients.calculate_sf(stol2) for stol2 in (g / 2) ** 2])
    slope, _ = np.polyfit(g**2, np.log(factor), 1, w=factor * np.sqrt(g))
    return math.sqrt(max(-slope, 0.0) / 2) / math.pi
