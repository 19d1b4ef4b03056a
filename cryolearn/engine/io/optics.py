"""Optics groups of a particle set: what each says of its images beyond the CTF of a particle.

Columns and conventions are those of RELION 3.1 (tests hold them against relion_project and relion_reconstruct).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from .column_numbers import finite_numbers
from .star_columns import require_columns
from .star_text import Block

__all__ = ["MAGNIFICATION", "OpticsGroups", "read_optics_groups", "same_pixel", "unused_columns"]

MAGNIFICATION = ("rlnMagMat00", "rlnMagMat01", "rlnMagMat10", "rlnMagMat11")
_TILT = ("rlnBeamTiltX", "rlnBeamTiltY")
_COMA = slice(3, 5)  # odd Zernike coefficients that hold the beam tilt
_OF_GROUPS = (*MAGNIFICATION, *_TILT, "rlnOddZernike", "rlnEvenZernike")
# Relative difference of pixel sizes below which images of two groups need no resampling: rounding in the file's last digit. PIXEL_SIZE_TOLERANCE, by which two
# files are taken to mean the same pixel size, is wider: within a set each group's own value is believed, as refined pixel sizes differ by .1 % and less.
_SAME_PIXEL = 1e-5
_NYQUIST = 1e-3  # images that end so much before the Nyquist frequency miss no shell


@dataclass(frozen=True, kw_only=True)
class OpticsGroups:
    """What optics groups say; all arrays have one row a group.

    Attributes
    ----------
    number : (g,) ``rlnOpticsGroup``
    pixel_size_angst, box : (g,) of the images as they are in their files; a box of 0 is not said
    magnification : (g, 2, 2) matrix that takes the frequencies of an image, by its pixel size, to the true ones
    beam_tilt_mrad : (g, 2) along x and y
    odd_zernike, even_zernike : (g, k) coefficients in rad for frequencies in 1/Å
    premultiplied : (g,) whether the images were multiplied by their CTF
    """

    number: NDArray[np.int64]
    pixel_size_angst: NDArray[np.float64]
    box: NDArray[np.int64]
    magnification: NDArray[np.float64]
    beam_tilt_mrad: NDArray[np.float64]
    odd_zernike: NDArray[np.float64]
    even_zernike: NDArray[np.float64]
    premultiplied: NDArray[np.bool_]

    def rows(self, group: ArrayLike) -> NDArray[np.int64]:
        """Rows of the optics groups with these numbers."""
        order = np.argsort(self.number)
        return order[np.searchsorted(self.number[order], np.asarray(group))]

    def most_common(self, rows: NDArray[np.int64]) -> int:
        """Row of the group whose pixel size and box most of the particles have, given the row of each."""
        count = np.bincount(rows, minlength=len(self.number))
        alike = same_pixel(self.pixel_size_angst[:, None], self.pixel_size_angst) & (self.box[:, None] == self.box)
        return int((alike @ count * (count > 0)).argmax())

    def limits(self, pixel_size_angst: float) -> NDArray[np.float64]:
        """Frequencies along x and y in 1/Å (g,) from which on images hold nothing at this pixel size; infinity where they reach its Nyquist frequency.

        Images of coarser pixels end at their own Nyquist frequency, and anisotropic magnification moves that of one direction inwards.
        """
        reach = 0.5 / self.pixel_size_angst / np.abs(np.linalg.inv(self.magnification)).sum(2).max(1)
        return np.where(reach * pixel_size_angst < 0.5 * (1 - _NYQUIST), reach, np.inf)


def same_pixel(first: ArrayLike, second: ArrayLike) -> NDArray[np.bool_]:
    """Whether pixel sizes are the same up to rounding in a file."""
    one, other = np.asarray(first, np.float64), np.asarray(second, np.float64)
    return np.asarray(np.abs(one - other) <= _SAME_PIXEL * np.abs(one))


def read_optics_groups(path: str, optics: Block) -> OpticsGroups:
    """Read the columns of data_optics.

    Parameters
    ----------
    path
        STAR file, for messages.
    optics
        Its block data_optics.

    Raises
    ------
    InputError
        naming the column that holds what cannot be used.
    """
    number = np.asarray(optics["rlnOpticsGroup"], np.int64)
    count = len(number)

    def numbers(label: str, default: float) -> NDArray[np.float64]:
        return finite_numbers(path, optics[label], label, number, row_is="optics group") if label in optics else np.full(count, default)

    pixel = numbers("rlnImagePixelSize", 0)
    if any(label in optics for label in MAGNIFICATION):
        require_columns(path, "optics", optics, *MAGNIFICATION)
    magnification = np.stack([numbers(label, float(label[-1] == label[-2])) for label in MAGNIFICATION], 1).reshape(count, 2, 2)
    wrong = np.flatnonzero(~(np.abs(magnification - np.eye(2)).max((1, 2)) < 0.5))
    if len(wrong):
        raise InputError(f"The STAR file '{path}' gives optics group {number[wrong[0]]} a magnification matrix (rlnMagMat00 to 11) that is far from 1.")
    odd = _coefficients(path, optics, "rlnOddZernike")
    if any(label in optics for label in _TILT) and odd.shape[1]:
        odd[:, _COMA] = 0  # RELION writes what is beyond the beam tilt, and puts the tilt in the place of these
    return OpticsGroups(
        number=number, pixel_size_angst=pixel, box=numbers("rlnImageSize", 0).astype(np.int64), magnification=magnification,
        beam_tilt_mrad=np.stack([numbers(label, 0) for label in _TILT], 1), odd_zernike=odd, even_zernike=_coefficients(path, optics, "rlnEvenZernike"),
        premultiplied=numbers("rlnCtfDataAreCtfPremultiplied", 0) != 0,
    )


def _coefficients(path: str, optics: Block, label: str) -> NDArray[np.float64]:
    """Zernike coefficients (g, k) of a column of lists ``[a,b,...]``; shorter lists end in zeros."""
    rows: list[list[float]] = []
    for text in optics.get(label, ()):
        try:
            rows.append([float(word) for word in str(text).strip("[] ").split(",") if word.strip()])
        except ValueError:
            rows.append([np.nan])
    if not np.isfinite([value for row in rows for value in row]).all():
        raise InputError(f"The column {label} of the STAR file '{path}' does not hold lists of numbers such as [0,0,1.5].")
    result = np.zeros((len(optics["rlnOpticsGroup"]), max(map(len, rows), default=0)))
    for values, row in zip(result, rows):
        values[: len(row)] = row
    return result


def unused_columns(path: str, optics: Block, columns: Block) -> list[str]:
    """One sentence for each thing that a STAR file says of the image formation and that is not used.

    Parameters
    ----------
    path
        STAR file.
    optics, columns
        Its blocks data_optics and data_particles.
    """
    found = []
    misplaced = [label for label in _OF_GROUPS if label in columns]
    if misplaced:
        found.append(f"{', '.join(misplaced)} of data_particles in '{path}' are not used: they belong in data_optics.")
    mirrored = columns.get("rlnIsFlip")
    if mirrored is not None and np.any(_truth(mirrored)):
        found.append(f"rlnIsFlip in '{path}' is not used: mirrored images are taken as they are.")
    if len(set(map(str, optics.get("rlnMtfFileName", ())))) > 1:
        found.append(f"rlnMtfFileName in '{path}' is not used: the optics groups' images count as if they had one detector.")
    return found


def _truth(values: NDArray[Any]) -> NDArray[np.bool_]:
    return np.asarray([str(value).lower() not in ("0", "0.0", "false", "none") for value in values])
