"""Columns of particle STAR files held to what they must be: whole numbers, numbers, one value for all, no contradictions."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...common.limits import PIXEL_SIZE_TOLERANCE
from ..exceptions import InputError
from ..launch import say_once
from .column_numbers import finite_numbers, whole_numbers
from .star_text import Block
from .star_versions import particles_with_optics

_ORIGIN_ROUNDING = 0.01  # Å, and relative: what rounding of either column explains

__all__ = [
    "number_columns", "only_value", "optics_rows", "particle_blocks", "refuse_contradictions", "refuse_repeats", "require_columns", "warn_of_repeated_images",
]
_OF_ANY_GROUP = ("rlnImagePixelSize", "rlnImageSize", "rlnImageDimensionality")


def particle_blocks(path: str, blocks: dict[str, Block], what: str = "particles") -> tuple[Block, Block]:
    """Optics and particles of a STAR file of any RELION version, as RELION 3.1 has them.

    Raises
    ------
    InputError
        when a column that everything needs is absent, or there are no particles.
    """
    optics, columns = particles_with_optics(path, blocks)
    require_columns(path, "optics", optics, "rlnOpticsGroup", "rlnImagePixelSize")
    require_columns(path, "particles", columns, "rlnImageName")
    if not len(columns["rlnImageName"]):
        raise InputError(f"The file '{path}' has no {what}.")
    return optics, columns


def require_columns(path: str, block: str, columns: Block, *labels: str) -> None:
    """Refuse a block that lacks one of the columns."""
    for label in labels:
        if label not in columns:
            raise InputError(f"The block data_{block} of the file '{path}' has no column {label}.")


def optics_rows(path: str, optics: Block, columns: Block, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Optics group of each particle, and its row in the optics table, whose pixel and box sizes are held against what images have."""
    groups = whole_numbers(path, optics["rlnOpticsGroup"], "rlnOpticsGroup")
    if not len(groups):
        raise InputError(f"The block data_optics of the file '{path}' has no optics group.")
    if "rlnOpticsGroup" not in columns and len(groups) > 1:
        raise InputError(f"The file '{path}' has {len(groups)} optics groups, but no column rlnOpticsGroup for its particles.")
    group = whole_numbers(path, columns["rlnOpticsGroup"], "rlnOpticsGroup") if "rlnOpticsGroup" in columns else np.full(len(ids), groups[0])
    order = np.argsort(groups, kind="stable")
    twice = np.flatnonzero(np.diff(groups[order]) == 0)
    if len(twice):
        number = groups[order][twice[0]]
        raise InputError(f"The file '{path}' describes optics group {number} more than once in data_optics: give each group its own number.")
    place = np.minimum(np.searchsorted(groups[order], group), len(groups) - 1)
    rows = order[place]
    wrong = np.flatnonzero(groups[rows] != group)
    if len(wrong):
        row = wrong[0]
        raise InputError(f"The file '{path}' puts particle {ids[row]} in optics group {group[row]}, which it does not describe.")
    used = np.unique(rows)
    for label in _OF_ANY_GROUP:
        if label in optics:
            finite_numbers(path, np.asarray(optics[label])[used], label, groups[used], row_is="optics group")
    return group, rows


def only_value(path: str, values: NDArray[Any], what: str, unit: str) -> float:
    """The one value of a column of optics groups; groups that differ are refused."""
    numbers = np.asarray(values, np.float64)
    different = np.flatnonzero(~(np.abs(numbers - numbers[0]) <= 1e-5 * abs(numbers[0])))
    if len(different):
        raise InputError(
            f"The file '{path}' mixes {what}: {numbers[0]:g} {unit} and {numbers[different[0]]:g} {unit} "
            f"(row {different[0] + 1} of data_optics); bring all particles to one."
        )
    return float(numbers[0])


def refuse_repeats(path: str, ids: NDArray[np.int64]) -> None:
    """Refuse an id that comes twice."""
    ranked = np.sort(ids)
    twice = np.flatnonzero(ranked[1:] == ranked[:-1])
    if len(twice):
        raise InputError(f"The file '{path}' has rlnImageId {ranked[twice[0]]} more than once: give every particle its own id.")


def number_columns(path: str, columns: Block, labels: tuple[str, ...], ids: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Columns of numbers side by side, (n, len(labels)); None when none of them is there."""
    if not any(label in columns for label in labels):
        return None
    require_columns(path, "particles", columns, *labels)
    return np.stack([finite_numbers(path, columns[label], label, ids) for label in labels], axis=1)


def refuse_contradictions(path: str, optics: Block, columns: Block, group_row: NDArray[np.int64], ids: NDArray[np.int64]) -> None:
    """Refuse a table that says two things of one: origins in pixels and in Å, or a pixel size in both blocks, that differ."""
    pixel = np.asarray(optics["rlnImagePixelSize"], np.float64)[group_row]
    for axis in "XYZ":
        pixels, angst = f"rlnOrigin{axis}", f"rlnOrigin{axis}Angst"
        if pixels in columns and angst in columns:
            first, second = (finite_numbers(path, columns[label], label, ids) for label in (pixels, angst))
            off = np.flatnonzero(np.abs(first * pixel - second) > _ORIGIN_ROUNDING * (1 + np.abs(second)))
            if len(off):
                row = off[0]
                raise InputError(
                    f"The file '{path}' contradicts itself: {pixels} of particle {ids[row]} is {first[row]:g} pixels of {pixel[row]:g} Å, {angst} is "
                    f"{second[row]:g} Å; remove the wrong column."
                )
    if "rlnImagePixelSize" in columns:
        own = finite_numbers(path, columns["rlnImagePixelSize"], "rlnImagePixelSize", ids)
        off = np.flatnonzero(np.abs(own - pixel) > PIXEL_SIZE_TOLERANCE * pixel)
        if len(off):
            row = off[0]
            raise InputError(
                f"The file '{path}' contradicts itself: rlnImagePixelSize of particle {ids[row]} is {own[row]:g} Å, that of its optics group "
                f"{pixel[row]:g} Å; remove the wrong one."
            )


def warn_of_repeated_images(path: str, file_index: NDArray[np.int64], image_index: NDArray[np.int64]) -> None:
    """Say when particles share an image: right after symmetry expansion, an error of joining otherwise."""
    order = np.lexsort((image_index, file_index))
    same = (np.diff(file_index[order]) == 0) & (np.diff(image_index[order]) == 0)
    if same.any():
        say_once(
            f"WARNING: {int(same.sum())} of the {len(order)} particles of '{path}' have an image that another particle has already (right after symmetry "
            "expansion; else remove the copies: they are in both half sets)."
        )
