"""Grey scales of the images of a set, gathered as they are read: sets of several grey scales, and images that nobody normalised, are pointed out."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from ..io.star import ParticleTable
from .unusable_images import FACTOR, REMEDY

__all__ = ["ImageScales"]

_OFFSET = 2.0  # of the background's mean in standard deviations; it is 0 where images were normalised


class ImageScales:
    """Mean of the background (outside the circle in the box) and standard deviation of each image, both in the images' own units.

    Parameters
    ----------
    table : ParticleTable
        Particles whose images are read.
    """

    def __init__(self, table: ParticleTable) -> None:
        self._table = table
        self._mean, self._deviation = np.full((2, len(table)), np.nan)
        axis = np.arange(table.box) - table.box // 2
        self._outside = (axis**2 + axis[:, None] ** 2) > (table.box / 2) ** 2

    def add(self, rows: NDArray[np.int64], images: ArrayLike) -> None:
        """Take note of the images (b, y, x) of ``rows`` (b,) of the table."""
        values = np.asarray(images)
        self._mean[rows] = values[:, self._outside].mean(axis=1, dtype=np.float64)
        self._deviation[rows] = (values - values[:, :1, :1]).std(axis=(1, 2), dtype=np.float64)  # a constant image has exactly 0

    def columns(self, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """What was noted of some images, for another process, which takes it by :meth:`take`."""
        return {"mean": self._mean[rows], "deviation": self._deviation[rows]}

    def take(self, rows: NDArray[np.int64], columns: Mapping[str, NDArray[np.float64]]) -> None:
        """Take over what another process noted of its images."""
        self._mean[rows], self._deviation[rows] = columns["mean"], columns["deviation"]

    @property
    def rows(self) -> NDArray[np.int64]:
        """Rows of the images that were read."""
        return np.flatnonzero(np.isfinite(self._deviation))

    def refuse_constant(self) -> None:
        """Refuse a set none of whose images can be used."""
        if not np.nan_to_num(self._deviation).any():
            raise InputError("None of the images can be used: they are constant, masked or saturated.")

    def warnings(self) -> list[str]:
        """One sentence for each thing that is odd."""
        seen = self.rows
        mean, deviation, ids = self._mean[seen], self._deviation[seen], self._table.ids[seen]
        constant = deviation == 0  # or set to 0 as it cannot be used, which the stack says
        found = []
        middle = float(np.median(deviation[~constant]))
        ratio = deviation / middle
        odd = ~constant & ((ratio > FACTOR) | (ratio < 1 / FACTOR))
        if odd.any():
            worst = int(np.argmax(np.where(odd, np.abs(np.log(np.maximum(ratio, 1e-300))), 0)))
            found.append(
                f"{int(odd.sum())} of the {len(seen)} images have a standard deviation more than {FACTOR:g} times above or below the median (particle "
                f"{ids[worst]}: {ratio[worst]:.3g} times), by hot pixels or another grey scale: {REMEDY}."
            )
        offset = float(np.median(np.abs(mean[~constant]) / deviation[~constant]))
        if offset > _OFFSET:
            found.append(f"The background of the images is not 0, but {offset:.3g} standard deviations (median): {REMEDY}.")
        return found
