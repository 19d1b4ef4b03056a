"""Particle tables of any RELION version as those of RELION 3.1: an optics table, and particles that name their group."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.limits import same_pixel_size
from ..exceptions import InputError
from .star_text import Block

__all__ = ["holds_tilt_stacks", "particles_with_optics", "refuse_tilt_stacks", "refuse_volumes"]

_MICROSCOPE = ("rlnVoltage", "rlnSphericalAberration", "rlnAmplitudeContrast")
_TILT = ("rlnBeamTiltX", "rlnBeamTiltY")
_MOST_GROUPS = 5000  # optics groups of distinct beam tilts; images are read group by group
_PIXEL_SIZES = ("rlnImagePixelSize", "rlnPixelSize")
_DETECTOR = ("rlnDetectorPixelSize", "rlnMagnification")
# a label that a file without particles has (or how it begins), and what it is
_OTHER_FILES = {
    "cisTEM": "particles of cisTEM (export them for RELION)", "rlnExperimentalDataStarFile": "names that of its particles in rlnExperimentalDataStarFile",
    "rlnReferenceImage": "maps of classes (the particles are in *_data.star)", "rlnMicrographName": "micrographs or coordinates (extract the particles)",
    "rlnCoordinateX": "coordinates (extract the particles)",
}
_MICROMETRE_ANGST = 1e4
_TILTS = ("rlnTomoTiltSeriesPixelSize", "rlnTomoSubtomogramBinning")


def particles_with_optics(path: str, blocks: dict[str, Block]) -> tuple[Block, Block]:
    """Optics and particles of a STAR file.

    A table of RELION 3.0 or older, without ``data_optics``, gets an optics group for each acquisition in it: pixel size (``rlnImagePixelSize``,
    ``rlnPixelSize``, or ``rlnDetectorPixelSize`` over ``rlnMagnification``), voltage, Cs, amplitude contrast and beam tilt, as RELION's own converter does.

    Raises
    ------
    InputError
        when there are no particles, several tables of them, no pixel size, or a beam tilt for each particle.
    """
    found = [name for name, block in blocks.items() if "rlnImageName" in block]
    if len(found) > 1:
        raise InputError(f"The STAR file '{path}' has image names in the blocks {' and '.join('data_' + name for name in found)}: keep one of them.")
    if not found and "particles" not in blocks:
        raise InputError(
            f"The STAR file '{path}' has no block data_particles with the column rlnImageName{_what_it_is(blocks)}: give a STAR file of particles."
        )
    columns = blocks["particles" if "particles" in blocks else found[0]]  # older versions say data_images or data_
    if "optics" not in blocks:
        return _made_optics(path, columns)
    optics = blocks["optics"]
    if "rlnImagePixelSize" not in optics and "rlnPixelSize" in optics:
        optics = {**optics, "rlnImagePixelSize": optics["rlnPixelSize"]}
    elif "rlnImagePixelSize" not in optics and set(_TILTS) <= set(optics):
        optics = {**optics, "rlnImagePixelSize": np.asarray(optics[_TILTS[0]], np.float64) * np.asarray(optics[_TILTS[1]], np.float64)}
    return optics, columns


def holds_tilt_stacks(blocks: dict[str, Block]) -> bool:
    """Whether a row is a particle with a stack of the images of all its tilts, as RELION 5 and WarpTools write them."""
    general, particles = blocks.get("general", {}), blocks.get("particles", {})
    said = np.asarray(general.get("rlnTomoSubTomosAre2DStacks", [0]))
    flat = (np.asarray(blocks.get("optics", {}).get("rlnImageDimensionality", [3])) == 2).any()
    return bool((said == 1).any() or (flat and "rlnTomoVisibleFrames" in particles))


def _what_it_is(blocks: dict[str, Block]) -> str:
    """', but ...' where other columns tell what the file is."""
    labels = {label for block in blocks.values() for label in block}
    return next((f", but {what}" for label, what in _OTHER_FILES.items() if any(one.startswith(label) for one in labels)), "")


def refuse_tilt_stacks(path: str, blocks: dict[str, Block]) -> None:
    """Refuse two-dimensional tilt stacks where volumes are needed.

    Raises
    ------
    InputError
        saying what they are.
    """
    if holds_tilt_stacks(blocks):
        raise InputError(
            f"The STAR file '{path}' holds 2D tilt stacks of RELION 5 or WarpTools (one stack of tilt images a particle), not subtomograms: use reconstruct, "
            "elastic-align or gaussian-heterogeneity, or export 3D subtomograms (WarpTools ts_export_particles --3d)."
        )


def refuse_volumes(path: str, optics: Block) -> None:
    """Refuse subtomograms where images are needed."""
    if (np.asarray(optics.get("rlnImageDimensionality", [2])) == 3).any():
        raise InputError(f"The file '{path}' holds subtomograms (rlnImageDimensionality 3), not images: use the commands for subtomograms.")


def _made_optics(path: str, columns: Block) -> tuple[Block, Block]:
    if "rlnImageName" not in columns:
        raise InputError(f"The block data_particles of the STAR file '{path}' has no column rlnImageName.")
    pixel = _pixel_sizes(path, columns)
    needed = [label for label in _MICROSCOPE if label not in columns]
    if "rlnDefocusU" in columns and needed:
        raise InputError(f"The STAR file '{path}' has no block data_optics, and its particles have a defocus, but no column {needed[0]}: add it.")
    values = {"rlnImagePixelSize": np.round(pixel, 6)}
    values.update((label, np.asarray(columns[label])) for label in _MICROSCOPE + _TILT if label in columns)
    for label, column in values.items():
        if column.dtype.kind not in "iuf":
            raise InputError(f"The column {label} of the STAR file '{path}' holds text where numbers belong.")
    groups, group = np.unique(np.stack([np.asarray(column, np.float64) for column in values.values()]), axis=1, return_inverse=True)
    number = np.arange(1, groups.shape[1] + 1)
    if len(number) > _MOST_GROUPS:
        raise InputError(
            f"The STAR file '{path}' has no block data_optics, and its particles have {len(number)} different acquisitions ({', '.join(values)}), more than "
            f"{_MOST_GROUPS} optics groups: give particles of one beam tilt class (rlnBeamTiltX, rlnBeamTiltY) the same values."
        )
    optics: Block = {"rlnOpticsGroupName": np.array([f"opticsGroup{one}" for one in number], dtype=object), "rlnOpticsGroup": number}
    optics.update(zip(values, groups))
    moved = {*values, *_PIXEL_SIZES, *_DETECTOR}
    return optics, {**{label: column for label, column in columns.items() if label not in moved}, "rlnOpticsGroup": number[group.ravel()]}


def _pixel_sizes(path: str, columns: Block) -> NDArray[np.float64]:
    numbers = {label: np.asarray(columns[label]) for label in (*_PIXEL_SIZES, *_DETECTOR) if label in columns}
    text = next((label for label, values in numbers.items() if values.dtype.kind not in "iuf"), None)
    if text is not None:
        raise InputError(f"The column {text} of the STAR file '{path}' holds text where numbers belong.")
    found: dict[str, NDArray[Any]] = {label: numbers[label] for label in _PIXEL_SIZES if label in numbers}
    if set(_DETECTOR) <= set(numbers) and (numbers["rlnMagnification"] > 0).all():
        found["rlnDetectorPixelSize over rlnMagnification"] = _MICROMETRE_ANGST * numbers["rlnDetectorPixelSize"] / numbers["rlnMagnification"]
    if not found:
        raise InputError(
            f"The STAR file '{path}' has no block data_optics, and its particles have no pixel size (rlnImagePixelSize, or rlnDetectorPixelSize with "
            "rlnMagnification, as in RELION 3.0): add a column rlnImagePixelSize in Å."
        )
    (label, first), *others = found.items()
    for other, sizes in others:
        row = int(np.argmax(np.abs(first - sizes))) if len(sizes) else 0
        if len(sizes) and not same_pixel_size(float(first[row]), float(sizes[row])):
            raise InputError(
                f"The STAR file '{path}' contradicts itself: {label} of particle {row + 1} is {first[row]:g} Å and {other} is {sizes[row]:g} Å; "
                "remove the wrong one."
            )
    return first
