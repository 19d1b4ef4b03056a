"""Columns of numbers and the range of each: what no microscope, image or refinement has is refused by name wherever it is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ...common.limits import LARGEST_BOX_PX
from ..exceptions import InputError

__all__ = ["finite_numbers", "refuse_pixel_size", "whole_numbers"]

_SMALLEST_PIXEL_ANGST, _LARGEST_PIXEL_ANGST = 0.05, 1000.0
_SMALLEST_BOX_PX = 2


_SHOWN = 40  # letters of what is no number
_LARGEST_WHOLE = 9.2e18  # of 64 bits


class _Limit(NamedTuple):
    """Smallest and largest value, their unit in a sentence, what other values are probably given in, and whether fractions are refused."""

    low: float
    high: float
    unit: str
    other: str = ""
    whole: bool = False


_ANGLE = _Limit(-3600, 3600, "in degrees")
_ORIGIN = _Limit(-1e5, 1e5, "in Å")  # wider than a micrograph
_COORDINATE = _Limit(-1e7, 1e7, "in px")
_DEFOCUS = _Limit(-1e7, 1e7, "in Å")  # 1 mm
_PIXEL = _Limit(_SMALLEST_PIXEL_ANGST, _LARGEST_PIXEL_ANGST, "in Å")
_YES_OR_NO = _Limit(0, 1, "as 0 or 1", whole=True)
_ANYTHING = _Limit(-1e9, 1e9, "as a number")
_LIMITS: Mapping[str, _Limit] = {
    "rlnVoltage": _Limit(10, 3000, "in kV", "V or MV"), "rlnSphericalAberration": _Limit(-100, 100, "in mm", "µm"),
    "rlnAmplitudeContrast": _Limit(0, 1, "as a fraction", "percent"),
    "rlnDefocusU": _DEFOCUS, "rlnDefocusV": _DEFOCUS, "rlnDefocusAngle": _ANGLE, "rlnPhaseShift": _ANGLE,
    "rlnCtfBfactor": _Limit(-1000, 5000, "in Å^2"), "rlnCtfScalefactor": _Limit(0, 100, "as a factor"),
    "rlnCtfBfactorPerElectronDose": _Limit(-100, 100, "in Å^4"),
    "rlnCtfDataArePhaseFlipped": _YES_OR_NO, "rlnCtfDataAreCtfPremultiplied": _YES_OR_NO,
    "rlnImagePixelSize": _PIXEL, "rlnPixelSize": _PIXEL, "rlnTomoTiltSeriesPixelSize": _PIXEL, "rlnDetectorPixelSize": _Limit(1e-3, 1e3, "in µm"),
    "samplingRate": _PIXEL, "ctfSamplingRate": _PIXEL,
    "rlnMagnification": _Limit(1, 1e9, "as a factor"), "rlnImageSize": _Limit(_SMALLEST_BOX_PX, LARGEST_BOX_PX, "in px", whole=True),
    "rlnTomoSubtomogramBinning": _Limit(0.1, 1000, "as a factor"),
    **dict.fromkeys(("rlnBeamTiltX", "rlnBeamTiltY"), _Limit(-1000, 1000, "in mrad")),
    "rlnRandomSubset": _Limit(0, 2, "as 1 or 2", whole=True), "rlnTomoHand": _Limit(-1, 1, "as 1 or -1"), "rlnTomoDefocusSlope": _Limit(-10, 10, "as a factor"),
    "rlnMicrographPreExposure": _Limit(0, 1e4, "in e/Å^2"),
    **dict.fromkeys(("rlnOriginXAngst", "rlnOriginYAngst", "rlnOriginZAngst", "rlnOriginX", "rlnOriginY", "rlnOriginZ"), _ORIGIN),
    **dict.fromkeys(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi", "rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi", "rlnTomoXTilt",
                     "rlnTomoYTilt", "rlnTomoZRot"), _ANGLE),
    **dict.fromkeys(("rlnCenteredCoordinateXAngst", "rlnCenteredCoordinateYAngst", "rlnCenteredCoordinateZAngst", "rlnCoordinateX", "rlnCoordinateY",
                     "rlnCoordinateZ", "rlnTomoSizeX", "rlnTomoSizeY", "rlnTomoSizeZ"), _COORDINATE),
}


def finite_numbers(path: str, values: NDArray[Any], label: str, ids: NDArray[np.int64], row_is: str = "particle") -> NDArray[np.float64]:
    """A column of numbers; text, NaN and what its column cannot hold are refused, naming what the row is and its id."""
    if values.dtype.kind not in "iuf":
        row = next((row for row, value in enumerate(values) if not _is_number(value)), 0)
        raise InputError(f"The column {label} of the file '{path}' holds text where numbers belong: '{str(values[row])[:_SHOWN]}' for {row_is} {ids[row]}.")
    numbers = np.asarray(values, np.float64)
    _refuse_impossible(path, label, numbers, ids, row_is)
    return numbers


def _is_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return "_" not in str(value)  # 1_000 is a number in Python alone


def whole_numbers(path: str, values: NDArray[Any], label: str) -> NDArray[np.int64]:
    """A column of whole numbers."""
    if values.dtype.kind not in "iuf":
        found = next((value for value in values if not _is_number(value)), "")
        raise InputError(f"The column {label} of the file '{path}' does not hold whole numbers only, but text: '{str(found)[:_SHOWN]}'.")
    wrong = np.flatnonzero(values != np.round(values))  # NaN is one of them
    if len(wrong):
        raise InputError(f"The column {label} of the file '{path}' does not hold whole numbers only: {values[wrong[0]]:g} in row {wrong[0] + 1}.")
    large = np.flatnonzero(np.abs(np.asarray(values, np.float64)) > _LARGEST_WHOLE)
    if len(large):
        raise InputError(f"The column {label} of the file '{path}' holds a number of more than 18 digits: {values[large[0]]:g} in row {large[0] + 1}.")
    if label in _LIMITS:
        _refuse_impossible(path, label, np.asarray(values, np.float64), np.arange(1, len(values) + 1), "row")
    return np.asarray(values, np.int64)


def _refuse_impossible(path: str, label: str, values: NDArray[np.float64], ids: NDArray[np.int64], row_is: str = "particle") -> None:
    """Refuse a number that its column cannot hold, NaN among them.

    Parameters
    ----------
    path : str
        File, for messages.
    label : str
        Name of the column, as RELION has it.
    values : (n,)
        Its numbers.
    ids : (n,)
        What the rows are called, and ``row_is`` what they are.
    row_is : str
        See ``ids``.

    Raises
    ------
    InputError
        naming the column, the row, and the range and unit that are needed.
    """
    limit = _LIMITS.get(label, _ANYTHING)
    with np.errstate(invalid="ignore"):
        fits = (values >= limit.low) & (values <= limit.high)
        wrong = np.flatnonzero(~(fits & (values == np.round(values)) if limit.whole else fits))
    if not len(wrong):
        return
    row = wrong[0]
    if not np.isfinite(values[row]):
        raise InputError(f"The file '{path}' gives no number as {label} of {row_is} {ids[row]}.")
    needed = f"{limit.unit} ({limit.low:g} to {limit.high:g})" + (f", not in {limit.other}" if limit.other else "")
    raise InputError(f"The file '{path}' gives {label} {values[row]:g} for {row_is} {ids[row]}: it is needed {needed}.")


def refuse_pixel_size(what: str, pixel_size_angst: float) -> None:
    """Refuse the pixel size of a header or a model that no image has.

    Parameters
    ----------
    what : str
        Start of the sentence: "The map 'path'".
    pixel_size_angst : float
        Pixel or voxel size in Å.

    Raises
    ------
    InputError
        with the range.
    """
    if not _SMALLEST_PIXEL_ANGST <= pixel_size_angst <= _LARGEST_PIXEL_ANGST:
        raise InputError(f"{what} has a pixel size of {pixel_size_angst:g} Å: it is needed in Å ({_SMALLEST_PIXEL_ANGST:g} to {_LARGEST_PIXEL_ANGST:g}).")
