"""Symmetric particles: each subunit with a conformation of its own.

Symmetry expansion takes each image once for each operator S of the point group with the pose ``A S``, which puts that subunit where the focus is. The
other subunits of the particle are then part of the still background (first pass). That background is wrong where they moved, which makes the error bars
wide and, since neighbours overlap in projection, lets them look alike. So a second pass takes from each image what the others are expected to
add to their mean, given their own posteriors (a mean-field step: the terms that are left out do not depend on the subunit in question).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...imaging.poses import matrix_to_euler
from ...io.records import Stage
from ...io.star import ParticleTable
from ..model.fourier_particles import Coefficients, GaussianImages
from ..model.slices import SliceGrid
from ..trajectory.trajectory_em import CurveFit, fit_curve
from ..trajectory.trajectory_model import Curve, curve_volumes

__all__ = ["ExpandedImages", "expand", "expand_table", "fit_subunits", "search_subunits"]

_SEARCH_HEAT = (8.0, 4.0, 2.0)
_SEARCH_ROUNDS = 6


class _Rows:
    """Rows of an array, each as often as wanted, without copies: what is asked for is made when it is asked for."""

    def __init__(self, source: Coefficients, index: NDArray[np.int64]) -> None:
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

    def __init__(self, images: ExpandedImages, volumes: Tensor, deviation: Tensor, copies: int) -> None:
        super().__init__(images.transforms.source, images.transforms.index)
        self.images, self.deviation, self.copies = images, deviation, copies
        self.grid = SliceGrid(images.band)
        self.table = self.grid.table(volumes)

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
            own = (own * images.band.phase(images.shift_angst[every])).view(len(block), copies, -1)
            others = (own.sum(1, keepdim=True) - own).flatten(0, 1)
            wanted = np.flatnonzero((where >= start) & (where < start + len(block)))
            result[wanted] = others[(where[wanted] - start) * copies + rows[wanted] % copies]
        return result

    def part(self, rows: NDArray[np.int64]) -> _Rows:
        raise ValueError("take subsets before the other subunits are taken away")


@dataclass(kw_only=True)
class ExpandedImages(GaussianImages):
    """Images of which one set of coefficients serves several rows."""

    transforms: _Rows

    def subset(self, rows: NDArray[np.int64]) -> ExpandedImages:
        """The rows in ``rows``; no coefficients are copied."""
        return self._with_rows(self.transforms.part(rows), rows)


def expand(images: GaussianImages, matrices: Tensor) -> ExpandedImages:
    """Each image once for each of (S, 3, 3) operators: row ``i S + s`` is image i with the pose ``A_i S_s``. Coefficients are shared."""
    copies = len(matrices)
    index = np.repeat(np.arange(len(images)), copies)
    turned = (images.rotation[:, None] @ matrices.to(images.rotation)).flatten(0, 1)
    return ExpandedImages(
        band=images.band, transforms=_Rows(images.transforms, index), rotation=turned, shift_angst=images.shift_angst.repeat_interleave(copies, 0),
        ctf=None if images.ctf is None else images.ctf.subset(index), phase_flipped=images.phase_flipped, device=images.device, gain=images.gain,
        noise_power=images.noise_power, ctf_noise=images.ctf_noise)


def expand_table(table: ParticleTable, rotation: Tensor, copies: int) -> ParticleTable:
    """The table's rows ``copies`` times each with the (n copies, 3, 3) poses; ids are counted anew from 1."""
    index = np.repeat(np.arange(len(table)), copies)
    origin = np.zeros((len(table), 2)) if table.origin_angst is None else table.origin_angst
    many = table.subset(index).with_poses(matrix_to_euler(rotation.double().cpu()).numpy(), origin[index])
    return replace(many, ids=np.arange(1, len(index) + 1))


def fit_subunits(images: ExpandedImages, fit: CurveFit, copies: int, *, passes: int = 2, rounds: int = 2) -> CurveFit:
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
        rest = replace(images, transforms=_WithoutOthers(images, curve_volumes(fit.curve, grid), deviation, copies))
        fit = fit_curve(rest, fit.curve, fit.posterior, rounds, what=f"Subunits, pass {number + 1} of {passes}")
    return fit


def search_subunits(images: GaussianImages, curve: Curve, starts: Sequence[Tensor], rounds: int, *, record: Stage | None = None) -> CurveFit:
    """The likeliest trajectory from several first posteriors, all of them at the full resolution.

    A subunit is a small part of what an image shows: at half of the resolution, where :func:`search_curve` compares starts of a whole particle, too little
    is left to tell a motion of it from its neighbours'.
    """
    fits = [fit_curve(images, curve, start, _SEARCH_ROUNDS, temperatures=_SEARCH_HEAT, what=f"Trajectory, start {number} of {len(starts)}")
            for number, start in enumerate(starts, 1)]
    best = max(fits, key=lambda fit: fit.history[-1])
    return fit_curve(images, best.curve, best.posterior, rounds, record=record)
