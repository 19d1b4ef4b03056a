"""Symmetric particles: each subunit with a conformation of its own, and how the subunits of a particle go together.

Symmetry expansion takes each image once for each operator S of the point group with the pose ``A S``, which puts that subunit where the focus is. The
other subunits of the particle are then part of the still background (first pass). That background is wrong where they moved, which makes the error bars
wide and, since neighbours overlap in projection, lets them look alike. So a second pass takes from each image what the others are expected to
add to their mean, given their own posteriors (a mean-field step: the terms that are left out do not depend on the subunit in question).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..figures import new_figure
from ..imaging.poses import matrix_to_euler
from ..io.star import ParticleTable
from .curve import Curve, CurveFit, curve_volumes, fit_curve
from .particles import GaussianImages
from .slices import SliceGrid

__all__ = [
    "ExpandedImages", "SubunitCorrelation", "draw_subunit_correlation", "expand", "expand_table", "fit_subunits", "ring_distance", "search_subunits",
    "subunit_correlation",
]

_NULL_RUNS = 200
_LEAST_RELIABILITY = 0.05
_TOLERANCE = 1e-4
_SEARCH_HEAT = (8.0, 4.0, 2.0)
_SEARCH_ROUNDS = 6


class _Rows:
    """Rows of an array, each as often as wanted, without copies: what is asked for is made when it is asked for."""

    def __init__(self, source: Any, index: NDArray[np.int64]) -> None:
        self.source, self.index = source, index

    def __len__(self) -> int:
        return len(self.index)

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and coefficients."""
        return len(self.index), self.source.shape[1]

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, tuple):  # [:, columns]
            return _Rows(self.source[:, item[1]], self.index)
        return self.source[self.index[item]]

    def part(self, rows: NDArray[np.int64]) -> _Rows:
        """Some of the rows."""
        return _Rows(self.source, self.index[rows])


class _WithoutOthers(_Rows):
    """Coefficients less what the other subunits of the particle add to their mean.

    ``deviation`` (rows, G): posterior less population of every expanded row; ``volumes`` (G, z, y, x).
    """

    def __init__(self, images: GaussianImages, volumes: Tensor, deviation: Tensor, copies: int) -> None:
        rows = cast(_Rows, images.transforms)
        super().__init__(rows.source, rows.index)
        self.images, self.deviation, self.copies = images, deviation, copies
        self.grid = SliceGrid(images.band)
        parts = volumes.flatten(1).T
        self.table = torch.cat((parts.real, parts.imag), dim=1).contiguous()

    def __getitem__(self, item: Any) -> Any:
        if isinstance(item, tuple):
            raise ValueError("make images coarser before the other subunits are taken away")
        rows = np.arange(len(self))[item]
        return super().__getitem__(item) - self._others(rows).cpu().numpy()

    def _others(self, rows: NDArray[np.int64]) -> Tensor:
        images, copies = self.images, self.copies
        particles, where = np.unique(rows // copies, return_inverse=True)
        result = torch.empty(len(rows), len(images.band), dtype=torch.complex64, device=images.device)
        step = max(1, self.grid.images_at_a_time(len(self.deviation[0]), images.device) // copies)
        for start in range(0, len(particles), step):
            block = particles[start : start + step]
            every = (block[:, None] * copies + np.arange(copies)).ravel()
            corners = self.grid.corners(images.rotation[every])
            found = self.grid.sample(self.table, corners).view(len(every), len(images.band), 2, -1)
            mean = (found @ self.deviation[every][:, None, :, None])[..., 0]  # (rows, P, 2)
            own = torch.complex(mean[..., 0], mean[..., 1] * corners.sign) * images.transfer(every)
            own = images.band.shifted(own, images.shift_angst[every]).view(len(block), copies, -1)
            others = (own.sum(1, keepdim=True) - own).flatten(0, 1)
            wanted = np.flatnonzero((where >= start) & (where < start + len(block)))
            result[wanted] = others[(where[wanted] - start) * copies + rows[wanted] % copies]
        return result

    def part(self, rows: NDArray[np.int64]) -> _Rows:
        raise ValueError("take subsets before the other subunits are taken away")


@dataclass
class ExpandedImages(GaussianImages):
    """Images of which one set of coefficients serves several rows."""

    def subset(self, rows: NDArray[np.int64]) -> GaussianImages:
        """The rows in ``rows``; no coefficients are copied."""
        at = torch.from_numpy(rows).to(self.rotation.device)
        ctf = None if self.ctf is None else self.ctf.subset(rows)
        part = cast(_Rows, self.transforms).part(rows)
        return replace(self, transforms=cast(Any, part), rotation=self.rotation[at], shift_angst=self.shift_angst[at], ctf=ctf)


def expand(images: GaussianImages, matrices: Tensor) -> GaussianImages:
    """Each image once for each of (S, 3, 3) operators: row ``i S + s`` is image i with the pose ``A_i S_s``. Coefficients are shared."""
    copies = len(matrices)
    index = np.repeat(np.arange(len(images)), copies)
    turned = (images.rotation[:, None] @ matrices.to(images.rotation)).flatten(0, 1)
    return ExpandedImages(
        images.band, cast(Any, _Rows(images.transforms, index)), turned, images.shift_angst.repeat_interleave(copies, 0),
        None if images.ctf is None else images.ctf.subset(index), images.phase_flipped, images.device, images.gain, images.noise_power)


def expand_table(table: ParticleTable, rotation: Tensor, copies: int) -> ParticleTable:
    """The table's rows ``copies`` times each with the (n copies, 3, 3) poses; ids are counted anew from 1."""
    index = np.repeat(np.arange(len(table)), copies)
    origin = np.zeros((len(table), 2)) if table.origin_angst is None else table.origin_angst
    many = table.subset(index).with_poses(matrix_to_euler(rotation.double().cpu()).numpy(), origin[index])
    return replace(many, ids=np.arange(1, len(index) + 1))


def fit_subunits(images: GaussianImages, fit: CurveFit, copies: int, *, passes: int = 2, rounds: int = 2) -> CurveFit:
    """The second pass: the trajectory and all posteriors again, with the other subunits of each particle held at their own conformations.

    Time: each pass costs about twice as many readings of slices as the rounds of :func:`fit_curve`.

    Parameters
    ----------
    images
        As :func:`expand` makes them, whole particles in order.
    fit
        Of the first pass.
    copies
        Subunits of a particle.
    passes, rounds
        Exchanges of expectations, and rounds of expectation-maximisation in each.
    """
    grid = SliceGrid(images.band)
    before: Tensor | None = None
    for number in range(passes):
        posterior = fit.posterior / fit.posterior.sum(1, keepdim=True).clamp(min=1e-12)
        deviation = (posterior - posterior.mean(0)) * fit.posterior.sum(1, keepdim=True)
        # all subunits change at once, so half of the old expectation is kept against oscillation
        deviation = deviation if before is None else (deviation + before) / 2
        before = deviation
        rest = replace(images, transforms=cast(Any, _WithoutOthers(images, curve_volumes(fit.curve, grid), deviation, copies)))
        fit = fit_curve(rest, fit.curve, fit.posterior, rounds, what=f"Subunits, pass {number + 1} of {passes}")
    return fit


def search_subunits(images: GaussianImages, curve: Curve, starts: Sequence[Tensor], rounds: int, *, record: Path | None = None) -> CurveFit:
    """The likeliest trajectory from several first posteriors, all of them at the full resolution.

    A subunit is a small part of what an image shows: at half of the resolution, where :func:`search_curve` compares starts of a whole particle, too little
    is left to tell a motion of it from its neighbours'.
    """
    if record is not None and record.exists():
        return fit_curve(images, curve, starts[0], rounds, record=record)
    fits = [fit_curve(images, curve, start, _SEARCH_ROUNDS, temperatures=_SEARCH_HEAT, what=f"Trajectory, start {number} of {len(starts)}")
            for number, start in enumerate(starts, 1)]
    best = max(fits, key=lambda fit: fit.history[-1])
    return fit_curve(images, best.curve, best.posterior, rounds, record=record)


def ring_distance(matrices: Tensor, centre_angst: ArrayLike) -> NDArray[np.float64]:
    """(S, S) distances in Å between the places of the subunits, of which the first is at ``centre_angst`` (x, y, z)."""
    places = matrices.double().cpu().numpy() @ np.asarray(centre_angst, np.float64)
    return np.asarray(np.linalg.norm(places[:, None] - places[None], axis=-1))


@dataclass
class SubunitCorrelation:
    """Attributes
    ----------
    distance_angst : (D,) distances between subunits, in rising order; pairs as far apart count together
    correlation : (D,) of the conformations, corrected for the error bars
    raw : (D,) of the latents as they are
    error : (D,) standard error of ``correlation``, by leaving out tenths of the particles
    null : (D,) 95 % of shuffled particles are below, in absolute value
    pairs : (D,) pairs a particle
    reliability : part of the conformations' variance that the latents hold
    """

    distance_angst: NDArray[np.float64]
    correlation: NDArray[np.float64]
    raw: NDArray[np.float64]
    error: NDArray[np.float64]
    null: NDArray[np.float64]
    pairs: NDArray[np.int64]
    reliability: float


def subunit_correlation(latents: ArrayLike, sigma: ArrayLike, distance_angst: ArrayLike, seed: int = 1) -> SubunitCorrelation:
    """Correlation between subunits of a particle as a function of their distance.

    Posterior means shrink towards the population: of the variance t of the conformations they hold only ``k = Var(m) / t``, where by the law of total
    variance ``t = Var(m) + E[sigma^2]``, and covariances between subunits shrink by k^2. So the correlation of the means is divided by k, the
    reliability (Spearman 1904, correction for attenuation).

    Parameters
    ----------
    latents, sigma
        (n, S) posterior means and standard deviations.
    distance_angst
        (S, S), see :func:`ring_distance`.
    """
    means, errors, apart = (np.asarray(values, np.float64) for values in (latents, sigma, distance_angst))
    count, copies = means.shape
    first, second = np.triu_indices(copies, 1)
    levels, group = _grouped(apart[first, second])
    members = np.stack([group == number for number in range(len(levels))]).astype(np.float64)
    members /= members.sum(1, keepdims=True)

    def measure(values: NDArray[np.float64], noise: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        centred = values - values.mean()
        variance = float((centred**2).mean())
        covariance = members @ (centred[:, first] * centred[:, second]).mean(0)
        reliable = variance / max(variance + float((noise**2).mean()), 1e-30)
        raw = covariance / max(variance, 1e-30)
        return raw / max(reliable, _LEAST_RELIABILITY), raw, reliable

    corrected, raw, reliability = measure(means, errors)
    blocks = np.arange(count) * 10 // count
    jack = np.stack([measure(means[blocks != block], errors[blocks != block])[0] for block in np.unique(blocks)])
    error = np.sqrt((len(jack) - 1) * jack.var(axis=0))
    random = np.random.default_rng(seed)
    shuffled = np.stack([measure(np.stack([random.permutation(column) for column in means.T], axis=1), errors)[0] for _ in range(_NULL_RUNS)])
    return SubunitCorrelation(levels, corrected, raw, error, np.quantile(np.abs(shuffled), 0.95, axis=0), np.bincount(group), reliability)


def _grouped(values: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Distinct values in rising order, and which of them each is."""
    order = np.argsort(values, kind="stable")
    new = np.diff(values[order], prepend=values[order[0]]) > _TOLERANCE * max(float(values.max()), 1e-12)
    group = np.empty(len(values), np.int64)
    group[order] = np.cumsum(new)
    levels = np.bincount(group, values) / np.bincount(group)
    return levels, group


def draw_subunit_correlation(found: SubunitCorrelation, places: Sequence[float] | None = None) -> Any:
    """Figure of the correlation against distance, with its null."""
    figure = new_figure(5.6, 3.8)
    axes = figure.add_subplot()
    x = found.distance_angst if places is None else np.asarray(places)
    axes.fill_between(x, -found.null, found.null, color="0.88", label="shuffled particles, 95 %")
    axes.axhline(0, color="0.5", linewidth=0.8)
    axes.plot(x, found.raw, "o--", color="0.45", label="latents as they are")
    axes.errorbar(x, found.correlation, 2 * found.error, fmt="o-", capsize=3, label="corrected for error bars (± 2 s.e.)")
    axes.set(xlabel="distance between subunits (Å)", ylabel="correlation of conformations", title="How subunits of a particle go together")
    axes.legend(fontsize=8)
    return figure
