"""Tomograms tables of RELION 5, RELION 4 and WarpTools: where each tilt of a series looks from, its defocus and its dose.

``P`` takes the tomogram's axes to those of the tilt's image, the beam along z. A particle with pose ``A`` (from its own axes to the tomogram's) is seen in
the image with pose ``P A``. Its defocus is that of the tilt plus ``hand x slope x depth``, the depth being the z of ``P (position - centre)``, as RELION has
it (``Tomogram::getCtf``).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial.transform import Rotation

from ...common.strict_json import parse_json
from ..exceptions import InputError
from .column_numbers import finite_numbers
from .file_lookup import find_file
from .star_columns import require_columns
from .star_text import Block, read_star

__all__ = ["TiltTable", "euler_angles", "euler_matrices", "number_lists", "read_tilt_tables"]

_PROJECTION = ("rlnTomoProjX", "rlnTomoProjY", "rlnTomoProjZ")
_ANGLES = ("rlnTomoXTilt", "rlnTomoYTilt", "rlnTomoZRot")
_SIZE = ("rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ")
_SERIES_FILE = "rlnTomoTiltSeriesStarFile"
_SERIES_PIXEL = "rlnTomoTiltSeriesPixelSize"
_DOSE = "rlnMicrographPreExposure"
_B_PER_DOSE = "rlnCtfBfactorPerElectronDose"
_B_FACTOR = "rlnCtfBfactor"
_OF_THE_CTF = ("rlnDefocusU", "rlnDefocusV", "rlnDefocusAngle", "rlnPhaseShift", "rlnCtfScalefactor", _B_FACTOR)
_NOT_A_ROTATION = 1e-2  # WarpTools and RELION write six digits and more


@dataclass(frozen=True, kw_only=True)
class TiltTable:
    """The tilts of one tomogram.

    Attributes
    ----------
    matrix : (t, 3, 3) from the tomogram's axes to those of each tilt's image
    ctf : columns of the CTF that the table has, by RELION's labels, (t,) each
    dose : (t,) e/Å^2 that the specimen received before each tilt; None is not said
    exposure_filter : the dose weakens a tilt by the exposure filter; else by a B factor, which is in ``ctf``
    pixel_size_angst : of the tilt series
    centre_px : (3,) of the tomogram in pixels of the tilt series; None is not said
    hand, slope : of the defocus along the depth
    by_warp : the matrices hold no translation, as those of WarpTools
    file : where the tilts are from
    """

    matrix: NDArray[np.float64]
    ctf: Block
    dose: NDArray[np.float64] | None
    exposure_filter: bool
    pixel_size_angst: float
    centre_px: NDArray[np.float64] | None
    hand: float
    slope: float
    by_warp: bool
    file: str

    def __len__(self) -> int:
        return len(self.matrix)


def read_tilt_tables(path: str, names: list[str], datadir: str = "") -> dict[str, TiltTable]:
    """Read the tilts of some tomograms.

    Parameters
    ----------
    path : str
        Tomograms table: a block ``global``, and a block or a file (``rlnTomoTiltSeriesStarFile``) for each tomogram.
    names : list of str
        The tomograms (``rlnTomoName``).
    datadir : str
        Folder in which files are looked up first.

    Raises
    ------
    InputError
        naming the tomogram or the column that is not there, or the tilt whose matrix is no rotation.
    """
    blocks = read_star(path)
    if "global" not in blocks:
        raise InputError(f"The STAR file '{path}' has no block data_global: give the tomograms table of the particles (tomograms.star).")
    overall = blocks["global"]
    require_columns(path, "global", overall, "rlnTomoName")
    row_of = {str(name): row for row, name in enumerate(overall["rlnTomoName"])}
    found = {}
    for name in names:
        if name not in row_of:
            raise InputError(f"The tomogram '{name}' of the particles is not in the tomograms table '{path}': give the table that belongs to them.")
        row = {label: column[row_of[name] : row_of[name] + 1] for label, column in overall.items()}
        if name in blocks:
            found[name] = _tilts(path, row, name, blocks[name])
        elif _SERIES_FILE in row:
            series = find_file(path, str(row[_SERIES_FILE][0]), datadir)
            own = read_star(series)
            found[name] = _tilts(series, row, name, own.get(name, next(iter(own.values()))))
        else:
            raise InputError(f"The tomograms table '{path}' has no block data_{name} and no column {_SERIES_FILE}: its tilts are not known.")
    return found


def _tilts(path: str, overall: Block, name: str, tilts: Block) -> TiltTable:
    number = np.arange(1, len(next(iter(tilts.values()))) + 1)

    def numbers(label: str) -> NDArray[np.float64]:
        return finite_numbers(path, tilts[label], label, number, row_is="tilt")

    def of_all(label: str, default: float) -> float:
        return float(finite_numbers(path, overall[label], label, np.array([name]), row_is="tomogram")[0]) if label in overall else default

    translations = np.zeros(1)
    if all(label in tilts for label in _PROJECTION):
        rows = np.stack([number_lists(path, tilts[label], label, number) for label in _PROJECTION], 1)
        if rows.shape[2] != 4:
            raise InputError(f"The columns rlnTomoProjX, rlnTomoProjY and rlnTomoProjZ of '{path}' do not hold four numbers each.")
        matrix, translations = rows[:, :, :3], rows[:, :, 3]
    elif _ANGLES[1] in tilts:
        x, y, z = (np.deg2rad(numbers(label)) if label in tilts else np.zeros(len(number)) for label in _ANGLES)
        matrix = _about(2, z) @ _about(1, y) @ _about(0, x)
    else:
        raise InputError(f"The tilts of '{name}' in '{path}' have neither {_PROJECTION[0]} nor {_ANGLES[1]}: align the tilt series first.")
    off = np.abs(matrix @ matrix.transpose(0, 2, 1) - np.eye(3)).max((1, 2))
    wrong = np.flatnonzero(~(off <= _NOT_A_ROTATION) | (np.linalg.det(matrix) < 0))
    if len(wrong):
        raise InputError(f"The projection matrix of tilt {wrong[0] + 1} of '{name}' in '{path}' is not a rotation: its tilt series cannot be used.")
    ctf = {label: numbers(label) for label in _OF_THE_CTF if label in tilts}
    dose, per_dose = numbers(_DOSE) if _DOSE in tilts else None, of_all(_B_PER_DOSE, 0.0)
    if per_dose > 0 and dose is not None:
        ctf[_B_FACTOR] = ctf.get(_B_FACTOR, np.zeros(len(number))) + per_dose * dose
    return TiltTable(
        matrix=matrix, ctf=ctf, dose=dose, exposure_filter=not per_dose > 0, pixel_size_angst=of_all(_SERIES_PIXEL, 0.0),
        centre_px=np.array([of_all(label, 0) for label in _SIZE]) / 2 if set(_SIZE) <= set(overall) else None,
        hand=of_all("rlnTomoHand", 0.0), slope=of_all("rlnTomoDefocusSlope", 1.0), by_warp=_PROJECTION[0] in tilts and not translations.any(),
        file=path,
    )


def _about(axis: int, angle_rad: NDArray[np.float64]) -> NDArray[np.float64]:
    """(t, 3, 3) right-handed rotations about an axis."""
    first, second = (axis + 1) % 3, (axis + 2) % 3
    found = np.zeros((len(angle_rad), 3, 3))
    found[:, axis, axis] = 1
    found[:, first, first] = found[:, second, second] = np.cos(angle_rad)
    found[:, second, first] = np.sin(angle_rad)
    found[:, first, second] = -np.sin(angle_rad)
    return found


def number_lists(path: str, texts: NDArray[np.object_], label: str, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """Lists of equally many numbers, ``[a,b,c]`` in each row, as (n, k)."""
    rows = []
    for text, number in zip(texts, ids):
        try:
            rows.append([float(value) for value in parse_json(str(text))])
        except (ValueError, TypeError):
            raise InputError(f"The column {label} of '{path}' does not hold a list of numbers such as [1,0,0,0] in row {number}: '{text}'.") from None
    if len({len(row) for row in rows}) > 1:
        raise InputError(f"The column {label} of '{path}' holds lists of several lengths.")
    return np.array(rows, np.float64)


def euler_matrices(angles_deg: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3, 3) matrices of RELION's rot, tilt and psi (n, 3)."""
    return np.asarray(Rotation.from_euler("ZYZ", angles_deg, degrees=True).inv().as_matrix())


def euler_angles(matrix: NDArray[np.float64]) -> NDArray[np.float64]:
    """(n, 3) rot, tilt, psi in degrees of matrices (n, 3, 3); where only their sum is defined, psi is 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # of the gimbal lock
        return np.asarray(Rotation.from_matrix(matrix).inv().as_euler("ZYZ", degrees=True))
