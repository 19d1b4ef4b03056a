"""Images that cannot be used, found as a set is read: constant, masked and saturated ones, and those of another grey scale than the rest.

A single such image would change what is estimated from all (noise, gain, half maps), so it is taken as an image that holds no frequency: nothing is estimated
from it, and its own result is flagged. What most images of a set have (a mask, few grey levels) is the set's way and makes none of them unusable.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InputError

__all__ = ["FACTOR", "REMEDY", "UnusableImages", "unusable_sentences"]

REMEDY = "normalise the images (relion_preprocess --norm, with --white_dust and --black_dust against hot pixels), or remove them"

_SAMPLE = 100
_EQUAL_BACKGROUND = 0.5  # of the pixels outside the circle in the box, all of one value: masked
_AT_THE_ENDS = 0.25  # of all pixels, at the least or largest value: saturated
FACTOR = 10.0  # of standard deviations: normalised images differ by less than 2, raw ones of one microscope by a few
_COMMON = 0.1  # of the sample: what more images have is no fault of theirs
_SMALL_BOX, _STEPS = 64, (7, 11, 13, 17)
_USABLE, _CONSTANT, _MASKED, _SATURATED, _SCALE = range(5)


class UnusableImages:
    """Which images of a set cannot be used, as far as they have been read.

    Parameters
    ----------
    count : int
        Images of the set.
    sample : callable
        Reads images (b, y, x), as they are in their files, of at most so many rows spread evenly over the set, in batches.
    """

    def __init__(self, count: int, sample: Callable[[int], Iterable[NDArray[np.float32]]]) -> None:
        self.reason = np.zeros(count, np.int8)
        self.ratio = np.ones(count)  # of each image's standard deviation and the median one
        self._sample = sample

    @property
    def found(self) -> NDArray[np.bool_]:
        """The images (n,) that cannot be used."""
        return self.reason != _USABLE

    def judge(self, rows: NDArray[np.int64], images: NDArray[np.float32]) -> None:
        """Take note of images (b, y, x) as they are in their files, and set those that cannot be used to 0."""
        middle, common = self._usual
        deviation, traits = _traits(images, middle)
        reason = np.select([trait & ~usual for trait, usual in zip(traits, common)], [_CONSTANT, _MASKED, _SATURATED, _SCALE], _USABLE)
        images[reason != _USABLE] = 0
        self.reason[rows], self.ratio[rows] = reason, deviation / middle

    @cached_property
    def _usual(self) -> tuple[float, NDArray[np.bool_]]:
        """Median standard deviation of the images that are not constant, and which traits (4,) many of them have."""
        parts = [_traits(images, math.nan) for images in self._sample(_SAMPLE)]
        deviation, traits = np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts], axis=1)
        seen = deviation > 0
        if not seen.any():
            raise InputError("All images are constant: they show nothing.")
        middle = float(np.median(deviation[seen]))
        traits[-1] = _off_scale(deviation, middle)
        return middle, traits[:, seen].mean(1) > _COMMON

    def of_the_set(self) -> list[str]:
        """One sentence for each fault that many of the images have, so that it is no reason to leave some out."""
        common = self._usual[1]
        said = {_MASKED: "Many of the images are masked: their background is of one value, so that noise cannot be estimated from it; give images with their "
                         "background.",
                _SATURATED: "Many of the images are saturated, or have a few grey levels only: what lies beyond is lost; extract them again."}
        return [text for reason, text in said.items() if common[reason - 1]]

    def sentences(self, ids: NDArray[np.int64]) -> list[str]:
        """One sentence for each reason why images that were read cannot be used; ``ids`` (n,) are those of their particles."""
        said = {_CONSTANT: "are constant ({first}) and show nothing: remove them.",
                _MASKED: "are masked ({first}), and the others are not: extract them again, or remove them.",
                _SATURATED: "are saturated ({first}): extract them again from movies or micrographs of a wider range, or remove them.",
                _SCALE: "have a standard deviation more than {factor:g} times above or below the median (particle {worst}: {ratio:.3g} times), by hot pixels "
                        "or another grey scale: {remedy}."}
        found = self.of_the_set() if "_usual" in self.__dict__ else []  # nothing is read for it
        for reason, text in said.items():
            rows = np.flatnonzero(self.reason == reason)
            if len(rows):
                worst = rows[np.argmax(np.abs(np.log(np.maximum(self.ratio[rows], 1e-300))))]
                filled = text.format(first=f"first: particle {ids[rows[0]]}", factor=FACTOR, worst=ids[worst], ratio=self.ratio[worst], remedy=REMEDY)
                found.append(f"{len(rows)} of the {len(ids)} images {filled}")
        return found


def unusable_sentences(ids: NDArray[np.int64], unusable: NDArray[np.bool_]) -> list[str]:
    """A warning that names the first of the images that cannot be used, ``unusable`` (n,), of particles ``ids`` (n,); none when there are none."""
    if not unusable.any():
        return []
    return [f"{int(unusable.sum())} of the {len(ids)} particles (first: particle {ids[unusable][0]}) have images that are constant, masked, saturated or on a "
            "grey scale of their own: nothing is estimated from them, and they are flagged."]


def _traits(images: NDArray[np.float32], middle: float) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Standard deviation (b,) of images or volumes, and whether (4, b) they are constant, masked, saturated, and far from the deviation ``middle``."""
    box, sides = images.shape[-1], images.shape[1:]
    values = images.reshape(len(images), -1)
    low, high = values.min(axis=1, keepdims=True), values.max(axis=1, keepdims=True)
    step = 1 if box < _SMALL_BOX else next(step for step in _STEPS if box % step)  # a part of the pixels of large images, from all columns
    some = values[:, ::step]
    square = sum((axis - side // 2) ** 2 for axis, side in zip(np.ogrid[tuple(slice(side) for side in sides)], sides))
    outside = some[:, np.asarray(square > (box / 2) ** 2).ravel()[::step]]
    mean = some.mean(axis=1, keepdims=True, dtype=np.float64)
    furthest = np.maximum(high - mean, mean - low)[:, 0]  # a single hot pixel may not be among those looked at
    variance = some.var(axis=1, dtype=np.float64) + (furthest**2 / values.shape[1] if step > 1 else 0.0)
    deviation = np.where((high > low)[:, 0], np.sqrt(variance), 0.0)
    saturated = ((some == low) | (some == high)).mean(axis=1) > _AT_THE_ENDS
    masked = ((outside == outside[:, :1]).mean(axis=1) > _EQUAL_BACKGROUND) & ~saturated
    return deviation, np.stack((deviation == 0, masked, saturated, _off_scale(deviation, middle)))


def _off_scale(deviation: NDArray[np.float64], middle: float) -> NDArray[np.bool_]:
    return (deviation > FACTOR * middle) | ((deviation < middle / FACTOR) & (deviation > 0))
