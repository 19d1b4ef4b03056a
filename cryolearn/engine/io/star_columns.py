"""Columns of particle STAR files held to what they must be: whole numbers, numbers, one value for all, files that are there."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InputError
from .star_text import Block

__all__ = [
    "find_file", "finite_numbers", "number_columns", "only_value", "optics_rows", "particle_blocks", "refuse_repeats", "require_columns",
    "whole_numbers", "written_name",
]


def particle_blocks(path: str, blocks: dict[str, Block], what: str = "particles") -> tuple[Block, Block]:
    """Optics and particles of a STAR file of RELION 3.1 or later.

    Raises
    ------
    InputError
        when a block or a column that everything needs is absent, or there are no particles.
    """
    for name in ("optics", "particles"):
        if name not in blocks:
            raise InputError(
                f"The STAR file '{path}' has no block data_{name}: give a particle STAR of RELION 3.1 or later "
                "(relion_convert_star converts older ones)."
            )
    optics, columns = blocks["optics"], blocks["particles"]
    require_columns(path, "optics", optics, "rlnOpticsGroup", "rlnImagePixelSize")
    require_columns(path, "particles", columns, "rlnImageName")
    if not len(columns["rlnImageName"]):
        raise InputError(f"The STAR file '{path}' has no {what}.")
    return optics, columns


def require_columns(path: str, block: str, columns: Block, *labels: str) -> None:
    """Refuse a block that lacks one of the columns."""
    for label in labels:
        if label not in columns:
            raise InputError(f"The block data_{block} of the STAR file '{path}' has no column {label}.")


def find_file(path: str, name: str) -> str:
    """A file that a STAR file names: beside it, else in the current (project) folder."""
    beside = os.path.join(os.path.dirname(os.path.abspath(path)), name)
    for candidate in (beside, os.path.abspath(name)):
        if os.path.isfile(candidate):
            return os.path.normpath(candidate)
    raise InputError(
        f"The STAR file '{path}' names the image file '{name}', which is neither beside the STAR file nor in the folder "
        f"'{os.getcwd()}': copy or link it there."
    )


def optics_rows(path: str, optics: Block, columns: Block, ids: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Optics group of each particle, and its row in the optics table."""
    groups = whole_numbers(path, optics["rlnOpticsGroup"], "rlnOpticsGroup")
    if "rlnOpticsGroup" not in columns and len(groups) > 1:
        raise InputError(f"The STAR file '{path}' has {len(groups)} optics groups, but no column rlnOpticsGroup for its particles.")
    group = whole_numbers(path, columns["rlnOpticsGroup"], "rlnOpticsGroup") if "rlnOpticsGroup" in columns else np.full(len(ids), groups[0])
    order = np.argsort(groups)
    place = np.minimum(np.searchsorted(groups[order], group), len(groups) - 1)
    rows = order[place]
    wrong = np.flatnonzero(groups[rows] != group)
    if len(wrong):
        row = wrong[0]
        raise InputError(f"The STAR file '{path}' puts particle {ids[row]} in optics group {group[row]}, which it does not describe.")
    return group, rows


def only_value(path: str, values: NDArray[Any], what: str, unit: str) -> float:
    """The one value of a column of optics groups; groups that differ are refused."""
    numbers = np.asarray(values, np.float64)
    different = np.flatnonzero(~(np.abs(numbers - numbers[0]) <= 1e-5 * abs(numbers[0])))
    if len(different):
        raise InputError(
            f"The STAR file '{path}' mixes {what}: {numbers[0]:g} {unit} and {numbers[different[0]]:g} {unit} "
            f"(row {different[0] + 1} of data_optics); bring all particles to one."
        )
    return float(numbers[0])


def finite_numbers(path: str, values: NDArray[Any], label: str, ids: NDArray[np.int64]) -> NDArray[np.float64]:
    """A column of numbers; text and NaN are refused."""
    if values.dtype.kind not in "iuf":
        raise InputError(f"The column {label} of the STAR file '{path}' holds text where numbers belong.")
    numbers = np.asarray(values, np.float64)
    bad = np.flatnonzero(~np.isfinite(numbers))
    if len(bad):
        raise InputError(f"The STAR file '{path}' gives no number as {label} of particle {ids[bad[0]]}.")
    return numbers


def whole_numbers(path: str, values: NDArray[Any], label: str) -> NDArray[np.int64]:
    """A column of whole numbers."""
    if values.dtype.kind not in "iuf" or not np.array_equal(values, np.round(values)):
        raise InputError(f"The column {label} of the STAR file '{path}' does not hold whole numbers only.")
    return np.asarray(values, np.int64)


def refuse_repeats(path: str, ids: NDArray[np.int64]) -> None:
    """Refuse an id that comes twice."""
    ranked = np.sort(ids)
    twice = np.flatnonzero(ranked[1:] == ranked[:-1])
    if len(twice):
        raise InputError(f"The STAR file '{path}' has rlnImageId {ranked[twice[0]]} more than once: give every particle its own id.")


def number_columns(path: str, columns: Block, labels: tuple[str, ...], ids: NDArray[np.int64]) -> NDArray[np.float64] | None:
    """Columns of numbers side by side, (n, len(labels)); None when none of them is there."""
    if not any(label in columns for label in labels):
        return None
    require_columns(path, "particles", columns, *labels)
    return np.stack([finite_numbers(path, columns[label], label, ids) for label in labels], axis=1)


def written_name(path: str, stack: str) -> str:
    """Name of a file in a STAR file: relative to it or to the current folder when it lies below, else its whole path."""
    target = os.path.abspath(stack)
    for folder in (os.path.dirname(os.path.abspath(path)), os.getcwd()):
        if target.startswith(os.path.join(folder, "")):
            return os.path.relpath(target, folder)
    return target
