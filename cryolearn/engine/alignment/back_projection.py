"""Sums of images at their poses, from which the next reference is made."""

from __future__ import annotations

import torch
from torch import Tensor

from ..imaging.reconstruction import Reconstructor
from .fourier_images import FourierImages
from .posterior import Poses

__all__ = ["back_projected", "imposed"]

_BATCH_VALUES = {"cpu": 1 << 22, "cuda": 1 << 26}  # coefficients of images at all their poses held at a time
_LEAST_WEIGHT = 1e-3


def back_projected(
    images: FourierImages, poses: Poses, box: int, halves: Tensor | int = 1, symmetry: Tensor | None = None,
) -> Reconstructor:
    """Sums of filtered images and of their power at weighted poses.

    Parameters
    ----------
    images
        Images up to a radius, with their CTFs.
    poses
        (n, K) poses of each image, with weights.
    box
        Side of the map, as long as the images; the band lies below its Nyquist frequency.
    halves
        Half set 1 or 2, of all images or (n,).
    symmetry
        (g, 3, 3) point group that is imposed.
    """
    per_image = poses.weight.shape[1]
    halves = torch.as_tensor(halves, device=images.device).expand(len(images))
    step = _BATCH_VALUES.get(images.device.type, 1 << 22) // (per_image * len(images.band))
    frequencies = tuple(images.band.points.T)

    def make(rows: Tensor) -> list[Tensor]:
        own = Reconstructor(box, images.band.length / box, device=images.device)
        for some in images.batches(step, rows):
            data, power = images.filtered(some)
            power = torch.ones_like(data.real) if power is None else power
            weight = poses.weight[some, :, None]
            values = data[:, None] * images.band.phase(-poses.shift[some]) * weight
            used = (poses.weight[some] > _LEAST_WEIGHT).flatten()
            own.insert_samples(values.flatten(0, 1)[used], (power[:, None] * weight).flatten(0, 1)[used],
                               poses.rotation[some].flatten(0, 1)[used], frequencies, halves[some].repeat_interleave(per_image)[used])
        return [*own.numerator, *own.denominator]

    sums = Reconstructor(box, images.band.length / box, device=images.device)
    first, second, first_weight, second_weight = images.summed(make)
    sums.numerator, sums.denominator = [first, second], [first_weight, second_weight]
    return imposed(sums, symmetry)


def imposed(sums: Reconstructor, symmetry: Tensor | None) -> Reconstructor:
    """The sums with a point group (g, 3, 3) imposed."""
    if symmetry is not None and len(symmetry) > 1:
        sums.symmetrise(symmetry)
    return sums
