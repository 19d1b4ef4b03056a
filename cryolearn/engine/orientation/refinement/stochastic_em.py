"""Orientations from nothing: annealed expectation-maximisation at low resolution, several starts, the likeliest kept.

Each start draws its poses at random. In every step the posterior over a grid of poses of a random part of the images is found against the
present map, and the map moves towards their mean slices (online expectation-maximisation). Three things keep it from settling too early: the band
grows from three Fourier pixels (of a box that the particle just fills) to eight, posteriors are tempered, and the noise is taken from what the
map leaves unexplained, so that it is large as long as the map is wrong (Scheres, J. Mol. Biol. 415 (2012) 406; Punjani et al., Nat. Methods 14 (2017) 290).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...alignment.grids import pose_grid, shift_grid
from ...imaging.poses import random_rotations
from ...progress import Progress
from .fourier_images import FourierImages
from .grid_search import MOST_SHIFTS, best_poses, expected_slices
from .reference import Poses, Reference, back_projected, new_sums, particle_mask

__all__ = ["RandomStart", "start_from_nothing"]

_STEPS = 40
_BATCH = 200  # images of one step
_FOLLOW = 0.5  # part of the new sums in the running ones
_COARSE_DEG, _FINE_DEG = 20.0, 12.0
_HOTTEST = 5.0
_COARSE_RINGS, _FINE_RINGS = 3, 8  # of a box that is 1.25 times the particle's diameter
_WIENER = 0.03
_JUDGED = 1000  # images on which starts are compared


@dataclass
class RandomStart:
    """Poses of all images from the best start.

    Attributes
    ----------
    poses : single poses
    evidence : (starts,) mean log-likelihood of an image, each start
    resolution_angst : of the band they come from
    """

    poses: Poses
    evidence: Tensor
    resolution_angst: float


def start_from_nothing(
    images: FourierImages, diameter_angst: float, shift_range_angst: float, starts: int, seed: int, symmetry: Tensor | None = None,
) -> RandomStart:
    """Find poses of all images without any reference.

    1,000 images take about 3 s on one CPU core a start without symmetry; memory is that of :func:`expected_slices` beside the images.
    """
    stretch = max(1.0, images.length_angst / (1.25 * diameter_angst))
    coarse, fine = (max(2, min(images.rings, round(rings * stretch))) for rings in (_COARSE_RINGS, _FINE_RINGS))
    progress = Progress("Random starts", starts * _STEPS, "steps")
    work = images.band(fine)
    found = [_one_start(work, coarse, diameter_angst, shift_range_angst, seed + 7919 * number, symmetry, progress) for number in range(starts)]
    noise = torch.stack([power for _, power in found]).mean(0)
    work = replace(work, noise=noise)
    generator = torch.Generator().manual_seed(seed)
    judged = work.rows(torch.randperm(len(work), generator=generator)[:_JUDGED].to(work.device))
    grid, shifts = pose_grid(_FINE_DEG, symmetry, generator, images.device), _shifts(work, shift_range_angst)
    evidence = torch.stack([best_poses(judged, Reference(volume), grid, shifts, 1, _FINE_DEG, symmetry)[2].mean() for volume, _ in found])
    best = Reference(found[int(evidence.argmax())][0])
    grid = pose_grid(_FINE_DEG / 1.5, symmetry, generator, images.device)
    poses, _, _ = best_poses(work, best, grid, shifts, 1, _FINE_DEG, symmetry)
    return RandomStart(poses, evidence.cpu(), images.length_angst / fine)


def _one_start(
    images: FourierImages, coarse: int, diameter_angst: float, shift_range_angst: float, seed: int, symmetry: Tensor | None, progress: Progress,
) -> tuple[Tensor, Tensor]:
    """Map in the box of the band and noise (rings + 1,) of one start."""
    generator = torch.Generator().manual_seed(seed)
    mask = particle_mask(images, diameter_angst)
    noise = total_power = images.ring_mean(images.data.abs().square().mean(0))
    rows = _some_rows(images, generator)
    rotations = random_rotations(len(rows), generator, device=images.device)
    sums = back_projected(images.rows(rows), Poses.single(rotations, rotations.new_zeros(len(rows), 2)), 1, symmetry)
    volume = sums.finish(constant=_WIENER) * mask
    for step in range(1, _STEPS):
        part = step / (_STEPS - 1)
        rings = round(coarse + (images.rings - coarse) * min(1.0, 1.25 * part))
        band = replace(images, noise=noise).rows(_some_rows(images, generator)).band(rings)
        grid = pose_grid(_COARSE_DEG + (_FINE_DEG - _COARSE_DEG) * part, symmetry, generator, images.device)
        found = expected_slices(band, Reference(volume), grid, _shifts(band, shift_range_angst), _temperature(part))
        noise = total_power.clone()
        noise[: rings + 1] = torch.maximum(found.residual, 1e-3 * total_power[: rings + 1])
        fresh = new_sums(images)
        weight = found.power.mean(1)
        used = weight > 1e-3 * float(weight.max())
        fresh.insert_samples(found.signal[used], found.power[used], found.rotations[used], (band.kx, band.ky))
        if symmetry is not None and len(symmetry) > 1:
            fresh.symmetrise(symmetry)
        sums.numerator[0] = (1 - _FOLLOW) * sums.numerator[0] + _FOLLOW * fresh.numerator[0]
        sums.denominator[0] = (1 - _FOLLOW) * sums.denominator[0] + _FOLLOW * fresh.denominator[0]
        volume = sums.finish(constant=_WIENER) * mask
        progress.step(2 if step == 1 else 1)
    return volume, noise


def _shifts(band: FourierImages, range_angst: float) -> Tensor:
    """Shifts a third of the band's resolution apart."""
    return shift_grid(range_angst, band.length_angst / (3 * band.rings), most=MOST_SHIFTS, device=band.device)


def _some_rows(images: FourierImages, generator: torch.Generator) -> Tensor:
    return torch.randperm(len(images), generator=generator)[:_BATCH].to(images.device)


def _temperature(part: float) -> float:
    """From 5 to 1 over the first two thirds, linear in its inverse."""
    return 1 / min(1.0, 1 / _HOTTEST + (1 - 1 / _HOTTEST) * 1.5 * part)
