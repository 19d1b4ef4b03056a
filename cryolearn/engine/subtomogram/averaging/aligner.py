"""Class and pose of subtomograms against the maps of their half set: over all rotations on a grid, then climbing from the best."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...alignment.fourier_band import FourierBand
from ...alignment.fourier_images import FourierImages
from ...alignment.grids import pose_grid, shift_grid
from ...alignment.reference import Reference
from .correlation_search import Candidates, GridSearch, correlation_around, refine

__all__ = ["Aligned", "Aligner", "Plan"]

_KEEP = 3  # rotations of each class that are followed from the grid
_ROUNDS = 2
_FINEST_PX = 0.1
_MOST_SHIFTS = 515  # of the grid search: a ball of five steps
_LEAST_COARSE = 4  # Fourier pixels
_RIM_PERIODS = 0.85  # by which a step of the grid may move the particle's rim
_SHIFTS_A_PERIOD = 2.5  # of the outermost shell of the grid search


@dataclass(kw_only=True)
class Plan:
    """How finely to search.

    Attributes
    ----------
    step_deg, finest_deg : first and last step of rotations
    fine_px : radius of the band in Fourier pixels
    particle_px : radius of the particle in voxels
    shift_px : largest shift in voxels
    group : (g, 3, 3) rotations of the point group, or None
    seed : of the turn of the grid, which is another one in each iteration
    local : search around given poses only
    """

    step_deg: float
    finest_deg: float
    fine_px: float
    particle_px: float
    shift_px: float
    group: Tensor | None = None
    seed: int = 1
    local: bool = False

    def coarse_px(self, box: int) -> float:
        """Radius of the band of the grid search: beyond it a step moves the particle's rim by nearly a period."""
        rim = self.particle_px * math.radians(self.step_deg)
        return min(self.fine_px, max(_RIM_PERIODS * box / rim, _LEAST_COARSE))


@dataclass(frozen=True, kw_only=True)
class Aligned:
    """The best of n subtomograms.

    Attributes
    ----------
    number : (n,) class from 0
    rotation, shift_px : (n, 3, 3), (n, 3)
    score : (n, K) correlation with each class at its best pose; NaN for a class without a map
    """

    number: Tensor
    rotation: Tensor
    shift_px: Tensor
    score: Tensor


class Aligner:
    """Aligns subtomograms to several maps.

    Parameters
    ----------
    references
        A map a class; None for a class that has lost all its subtomograms.
    band
        Frequencies up to ``plan.fine_px``.
    weight
        (P,) weights of the frequencies.
    plan
        How finely to search.

    Memory: what :class:`GridSearch` says for each class.
    """

    def __init__(self, references: list[Reference | None], band: FourierBand, weight: Tensor, plan: Plan) -> None:
        self.references, self.band, self.weight, self.plan = references, band, weight, plan
        device = band.points.device
        self.coarse = band.within(plan.coarse_px(band.box) + 0.5)
        self.grid: list[GridSearch | None] = []
        if not plan.local:
            rotations = pose_grid(plan.step_deg, plan.group, torch.Generator().manual_seed(plan.seed), device)
            near = weight[: len(self.coarse)]
            self.grid = [None if item is None else GridSearch(item, rotations, self.coarse, near) for item in references]
        self.step_px = band.box / (_SHIFTS_A_PERIOD * self.coarse.radius_px)
        self.shifts = shift_grid(plan.shift_px, self.step_px, 3, most=_MOST_SHIFTS, device=device)

    def align(self, particles: FourierImages, rotation: Tensor | None = None, shift_px: Tensor | None = None) -> Aligned:
        """Best class and pose of each subtomogram; from ``rotation`` (n, 3, 3) and ``shift_px`` (n, 3) on when the search is local."""
        found: list[Candidates | None] = []
        for number, reference in enumerate(self.references):
            if reference is None:
                found.append(None)
                continue
            if self.plan.local:
                assert rotation is not None and shift_px is not None
                first = Candidates(rotation=rotation[:, None], shift_px=shift_px[:, None], score=rotation.new_zeros(len(rotation), 1))
            else:
                grid = self.grid[number]
                assert grid is not None
                first = grid.best(particles.within(self.coarse.radius_px), self.shifts, None, _KEEP, 1.5 * self.plan.step_deg)
            found.append(self._climb(reference, particles.within(self.coarse.radius_px), first))
        # classes are told apart with all frequencies, each at its own best pose
        here = torch.zeros(1, 3, device=self.weight.device)
        scores = torch.stack([
            torch.full((len(particles),), float("nan"), device=self.weight.device) if item is None or reference is None
            else correlation_around(reference, particles, item.rotation, item.shift_px[:, 0], here, self.weight)[0][:, 0]
            for item, reference in zip(found, self.references)
        ], dim=1)
        return self._finish(particles, found, torch.nan_to_num(scores, nan=-2.0).argmax(1), scores)

    def _climb(self, reference: Reference, particles: FourierImages, first: Candidates) -> Candidates:
        """Two halvings of the step from each candidate; the best of them."""
        count = first.score.shape[1]
        weight = self.weight[: len(particles.band)]
        climbed = []
        for one in range(count):
            item = first.pick(torch.full((len(particles),), one, device=weight.device))
            for level in (1, 2):
                size = 0.5**level
                item = refine(
                    reference,
                    particles,
                    start=item,
                    step_deg=self.plan.step_deg * size,
                    step_px=self.step_px * size,
                    weight=weight,
                    rounds=_ROUNDS,
                    largest_px=self.plan.shift_px,
                )
            climbed.append(item)
        joined = Candidates(**{name: torch.cat([getattr(item, name) for item in climbed], dim=1) for name in ("rotation", "shift_px", "score")})
        return joined.pick(joined.score.argmax(1))

    def _finish(self, particles: FourierImages, found: list[Candidates | None], number: Tensor, scores: Tensor) -> Aligned:
        """Climb on in the whole band, in the class of each subtomogram only."""
        rotation = particles.band.points.new_zeros(len(particles), 3, 3)
        shift = particles.band.points.new_zeros(len(particles), 3)
        scores = scores.clone()
        for one, (item, reference) in enumerate(zip(found, self.references)):
            rows = torch.nonzero(number == one).flatten()
            if item is None or reference is None or not len(rows):
                continue
            some = particles.rows(rows)
            best = Candidates(rotation=item.rotation[rows], shift_px=item.shift_px[rows], score=item.score[rows])
            degrees, pixels = self.plan.step_deg / 8, self.step_px / 8
            while True:
                best = refine(
                    reference,
                    some,
                    start=best,
                    step_deg=degrees,
                    step_px=max(pixels, _FINEST_PX),
                    weight=self.weight,
                    rounds=_ROUNDS,
                    largest_px=self.plan.shift_px,
                )
                if degrees <= self.plan.finest_deg:
                    break
                degrees, pixels = max(degrees / 2, self.plan.finest_deg), pixels / 2
            rotation[rows], shift[rows], scores[rows, one] = best.rotation[:, 0], best.shift_px[:, 0], best.score[:, 0]
        return Aligned(number=number, rotation=rotation, shift_px=shift, score=scores)
