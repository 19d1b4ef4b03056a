"""What sets of particles and of subtomograms have in common: ids, poses, half sets, optics groups, and their columns in a STAR file of RELION 3.1 or later."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from .column_numbers import whole_numbers
from .mrc_header import read_header
from .star_columns import number_columns, only_value, optics_rows, particle_blocks, refuse_contradictions, refuse_repeats
from .star_text import Block, write_star

__all__ = ["DECIMALS", "StarTable", "read_sampling", "read_shared_columns", "write_set"]

DECIMALS = 6  # of poses and defocus, as RELION writes them
_ANGLES = ("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi")
_SHARED = {"rlnImageName", "rlnImageId", "rlnOpticsGroup", "rlnRandomSubset", *_ANGLES}


@dataclass(kw_only=True)
class StarTable:
    """A set of images or volumes; all arrays have one row each.

    Attributes
    ----------
    ids : (n,) int64
        ``rlnImageId``, else 1 to n; every table is joined by them.
    pixel_size_angst, box : float, int
        Pixel size in Å and side in pixels of the whole set; images of other optics groups are brought to it where they are read.
    angles_deg : (n, 3) or None
        rot, tilt, psi in degrees.
    random_subset : (n,) int or None
        Half set, 1 or 2.
    optics_group : (n,) int
        Optics group of each; the groups' own columns are in ``optics`` (one row a group).
    extra : dict
        All other columns, which are written back unchanged.
    """

    dimensions: ClassVar[int]
    of_the_set: ClassVar[frozenset[str]] = frozenset({"pixel_size_angst", "box", "optics"})  # fields without a row for each

    ids: NDArray[np.int64]
    pixel_size_angst: float
    box: int
    angles_deg: NDArray[np.float64] | None = None
    random_subset: NDArray[np.int64] | None = None
    optics_group: NDArray[np.int64] | None = None
    optics: Block = field(default_factory=dict)
    extra: Block = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.optics_group is None:
            self.optics_group = np.ones(len(self.ids), np.int64)
        if not self.optics:
            groups, first = np.unique(np.asarray(self.optics_group), return_index=True)
            self.optics = {
                "rlnOpticsGroupName": np.array([f"opticsGroup{group}" for group in groups], dtype=object),
                "rlnOpticsGroup": groups,
                "rlnImagePixelSize": np.full(len(groups), self.pixel_size_angst),
                "rlnImageSize": np.full(len(groups), self.box),
                "rlnImageDimensionality": np.full(len(groups), self.dimensions),
                **self._microscope(first),
            }

    def __len__(self) -> int:
        return len(self.ids)

    def _microscope(self, rows: NDArray[np.int64]) -> Block:
        """Columns of the optics groups for their acquisition, from one row of the set for each group."""
        return {}

    def subset(self, rows: ArrayLike | slice) -> Self:
        """The items in ``rows`` (indices, a mask or a slice), in that order, with their ids."""
        at: Any = rows
        if not isinstance(rows, slice):
            at = np.asarray(rows)
            at = np.flatnonzero(at) if at.dtype == bool else at.astype(np.int64)
        return replace(self, **{name: _pick(values, at) for name, values in vars(self).items() if name not in self.of_the_set})


def _pick(values: Any, at: NDArray[np.int64] | slice) -> Any:
    if isinstance(values, dict):
        return {label: column[at] for label, column in values.items()}
    if isinstance(values, list) and not isinstance(at, slice):
        return [values[row] for row in at]
    if values is None or isinstance(values, (list, np.ndarray)):
        return None if values is None else values[at]
    return values.subset(at)


def read_shared_columns(path: str, blocks: dict[str, Block], what: str, own: set[str]) -> tuple[dict[str, Any], Block, NDArray[np.int64]]:
    """Read a STAR file's optics and particles.

    Parameters
    ----------
    path, blocks
        STAR file and its blocks.
    what
        What it holds, in the plural.
    own
        Labels that the caller reads itself: they are not among the ``extra`` ones.

    Returns
    -------
    fields of :class:`StarTable` but for pixel size and box, all columns, and (n,) rows of the optics table

    Raises
    ------
    InputError
        naming the missing column, or the id, optics group or number that cannot be used.
    """
    optics, columns = particle_blocks(path, blocks, what)
    ids = whole_numbers(path, columns["rlnImageId"], "rlnImageId") if "rlnImageId" in columns else np.arange(1, len(columns["rlnImageName"]) + 1)
    refuse_repeats(path, ids)
    group, group_row = optics_rows(path, optics, columns, ids)
    used, group_row = np.unique(group_row, return_inverse=True)  # groups may be left without particles where a subset was selected
    optics = {label: np.asarray(values)[used] for label, values in optics.items()}
    refuse_contradictions(path, optics, columns, group_row, ids)
    fields = {
        "ids": ids, "angles_deg": number_columns(path, columns, _ANGLES, ids), "optics_group": group, "optics": optics,
        "random_subset": whole_numbers(path, columns["rlnRandomSubset"], "rlnRandomSubset") if "rlnRandomSubset" in columns else None,
        "extra": {label: values for label, values in columns.items() if label not in _SHARED | own},
    }
    return fields, columns, group_row


def read_sampling(path: str, optics: Block, first_file: str) -> tuple[float, int]:
    """Pixel size in Å and side in pixels, which all optics groups must share; the side is that of the first file where they do not say it."""
    pixel_size = only_value(path, optics["rlnImagePixelSize"], "pixel sizes", "Å")
    return pixel_size, int(only_value(path, optics["rlnImageSize"], "box sizes", "px")) if "rlnImageSize" in optics else read_header(first_file).shape[2]


def write_set(path: str, table: StarTable, names: list[str], own: Block) -> None:
    """Write a set as a STAR file: names of the images or volumes, the shared columns and those of its kind."""
    columns: Block = {"rlnImageName": np.array(names, dtype=object), "rlnImageId": table.ids}
    if table.angles_deg is not None:
        columns.update(zip(_ANGLES, np.round(np.asarray(table.angles_deg).T, DECIMALS)))
    columns.update(own)
    assert table.optics_group is not None
    columns["rlnOpticsGroup"] = table.optics_group
    if table.random_subset is not None:
        columns["rlnRandomSubset"] = table.random_subset
    columns.update(table.extra)
    count = len(table.optics["rlnOpticsGroup"])
    needed: Block = {"rlnImageSize": np.full(count, table.box), "rlnImageDimensionality": np.full(count, table.dimensions)}
    write_star(path, {"optics": {**table.optics, **{label: values for label, values in needed.items() if label not in table.optics}}, "particles": columns})
