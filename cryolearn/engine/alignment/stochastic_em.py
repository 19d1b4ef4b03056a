"""First maps from nothing: annealed stochastic expectation-maximisation at low resolution, several starts, the likeliest kept.

Each start draws poses and classes at random. In every step the posterior of some of the images over classes, a grid of poses and shifts is found
against the present maps, and the maps move towards the weighted means (online expectation-maximisation). Three things keep it from settling too
early: the band grows, posteriors are tempered, and the noise is what the maps leave unexplained, so that it is large as long as the maps are wrong
(Scheres, J. Mol. Biol. 415 (2012) 406; Punjani et al., Nat. Methods 14 (2017) 290; with a missing wedge: Scheres et al., Structure 17 (2009) 1563).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..imaging.masks import sphere_mask
from ..imaging.poses import random_rotations
from ..imaging.reconstruction import Reconstructor
from ..io.records import RunRecord
from ..training.process_group import processes, total
from .back_projection import back_projected, imposed
from .fourier_images import FourierImages
from .grids import pose_grid, shift_grid
from .posterior import Poses, expected_slices, log_evidence
from .reference import Reference

__all__ = ["Start", "StochasticEM"]

_FOLLOW = 0.5  # weight of the new sums in the running ones
_HOTTEST = 5.0
_WIENER = 0.03
_SEED_STEP = 7919  # between starts
_LARGEST_RADIUS = 0.48  # of the box
_NEGLIGIBLE = 1e-3  # of the largest power of a pose


@dataclass(frozen=True, kw_only=True)
class Start:
    """Maps (K, box, box, box) and noise (rings,) of one start."""

    maps: Tensor
    noise: Tensor


@dataclass(frozen=True, kw_only=True)
class StochasticEM:
    """Random starts of images or subtomograms, with or without classes.

    Attributes
    ----------
    box : side of the maps, whose Nyquist frequency lies beyond the band
    mask_radius, shift_range : radius of the particle and largest shift, in the unit of the band
    classes : number of classes
    group : (g, 3, 3) point group, None is C1
    steps, batch : number of steps, and of images in each of them
    judged : number of images on which starts are compared
    coarse_deg, fine_deg : step of the pose grid in the first and in the last step
    coarse_radius : ring up to which the first step looks; the last looks at the whole band
    most_shifts : largest number of shifts
    soft_edge : width of the mask's edge over the box
    first_done : place of the first step on the annealing schedule, which runs from 0 to 1
    """

    box: int
    mask_radius: float
    shift_range: float
    classes: int = 1
    group: Tensor | None = None
    steps: int
    batch: int
    judged: int
    coarse_deg: float
    fine_deg: float
    coarse_radius: int
    most_shifts: int
    soft_edge: float
    first_done: float = 0.0

    def starts(
        self, images: FourierImages, count: int, seed: int, report: Callable[[int], None] = lambda steps: None, record: RunRecord | None = None,
    ) -> list[Start]:
        """Independent starts; ``report`` is called with the number of steps done, of ``count * steps`` in all; finished ones are kept in ``record``.

        Processes that are connected share the starts, and find those of others in ``record``.
        """
        total_power, (rank, world) = images.mean_power(), processes()
        if record is None:
            return [self._start(images, total_power, seed + _SEED_STEP * number, report) for number in range(count)]
        stages = [record.stage(f"start_{number:03d}") for number in range(count)]
        for number in range(rank, count, world):
            if stages[number].read() is None:
                start = self._start(images, total_power, seed + _SEED_STEP * number, report)
                stages[number].write({"maps": start.maps.cpu().numpy(), "noise": start.noise.cpu().numpy()})
            else:
                report(self.steps)
        found = [stage.awaited()[0] for stage in stages]
        return [Start(**{name: torch.from_numpy(values).to(images.device) for name, values in kept.items()}) for kept in found]

    def evidence(self, images: FourierImages, starts: Sequence[Start], generator: torch.Generator) -> Tensor:
        """Mean log-likelihood (starts,) of some images, drawn by ``generator``, given the maps of each start and the same noise."""
        images = replace(images, noise=torch.stack([start.noise for start in starts]).mean(0))
        judged = images.loaded(torch.randperm(len(images), generator=generator)[: self.judged].to(images.device))
        grid, shifts = pose_grid(self.fine_deg, self.group, generator, images.device), self.shifts(images)
        rank, world = processes()
        found = torch.zeros(len(starts), device=images.device)
        for number in range(rank, len(starts), world):
            found[number] = log_evidence(judged, [Reference(volume) for volume in starts[number].maps], grid, shifts).mean()
        return total(found)

    def shifts(self, images: FourierImages) -> Tensor:
        """Shifts a third of the band's resolution apart."""
        band = images.band
        return shift_grid(self.shift_range, band.length / (3 * band.radius_px), band.dims, most=self.most_shifts, device=images.device)

    def _start(self, images: FourierImages, total_power: Tensor, seed: int, report: Callable[[int], None]) -> Start:
        generator = torch.Generator().manual_seed(seed)
        device, band = images.device, images.band
        mask = sphere_mask(self.box, min(self.mask_radius * self.box / band.length, _LARGEST_RADIUS * self.box), self.soft_edge * self.box, device=device)
        coarse = min(self.coarse_radius, band.radius)
        noise = total_power
        sums = self._random_sums(images.loaded(self._some(images, generator)), generator)
        for step in range(self.steps):
            done = self.first_done + (1 - self.first_done) * step / (self.steps - 1)
            maps = [Reference(work.finish(constant=_WIENER) * mask) for work in sums]
            radius = round(coarse + (band.radius - coarse) * min(1.0, 1.25 * done))
            some = replace(images, noise=noise).within(radius + 0.5).loaded(self._some(images, generator))
            grid = pose_grid(self.coarse_deg + (self.fine_deg - self.coarse_deg) * done, self.group, generator, device)
            found = expected_slices(some, maps, grid, self.shifts(some), _temperature(done))
            noise = total_power.clone()
            noise[: some.band.rings] = torch.maximum(found.residual, 1e-3 * total_power[: some.band.rings])
            for work, signal, power in zip(sums, found.signal, found.power, strict=True):
                fresh = Reconstructor(self.box, band.length / self.box, device=device)
                weight = power.mean(1)
                used = weight > _NEGLIGIBLE * float(weight.max())
                fresh.insert_samples(signal[used], power[used], grid[used], tuple(some.band.points.T))
                imposed(fresh, self.group)
                work.numerator[0] = (1 - _FOLLOW) * work.numerator[0] + _FOLLOW * fresh.numerator[0]
                work.denominator[0] = (1 - _FOLLOW) * work.denominator[0] + _FOLLOW * fresh.denominator[0]
            report(1)
        return Start(maps=torch.stack([work.finish(constant=_WIENER) * mask for work in sums]), noise=noise)

    def _some(self, images: FourierImages, generator: torch.Generator) -> Tensor:
        return torch.randperm(len(images), generator=generator)[: self.batch].to(images.device)

    def _random_sums(self, images: FourierImages, generator: torch.Generator) -> list[Reconstructor]:
        """Sums of each class over images at random poses."""
        rotations = random_rotations(len(images), generator, device=images.device)
        own = torch.zeros(len(images), dtype=torch.long)
        if self.classes > 1:
            own = torch.randint(self.classes, (len(images),), generator=generator)
        sums = []
        for number in range(self.classes):
            rows = torch.nonzero(own == number).flatten().to(images.device)
            poses = Poses.single(rotations[rows], rotations.new_zeros(len(rows), images.band.dims))
            sums.append(back_projected(images.rows(rows), poses, self.box, 1, self.group))
        return sums


def _temperature(done: float) -> float:
    """From 5 to 1 over the first two thirds, linear in its inverse."""
    return 1 / min(1.0, 1 / _HOTTEST + (1 - 1 / _HOTTEST) * 1.5 * done)
