"""Correlation of subtomograms with a reference over the frequencies that both know: on a grid of poses, and around given poses.

With the measured part M of a subtomogram F (the missing wedge, in the frame of the tomogram), the known part C of the reference R (turned with
it) and weights w, the score of a pose A and a shift s is the constrained correlation of Förster et al. (J. Struct. Biol. 161 (2008) 276),

    sum M C w Re[R(A^T k)* F(k) exp(2 pi i k s)] / sqrt(sum M C w |R(A^T k)|^2 . sum M C w |F(k)|^2).

On a grid the three sums are matrix products of the subtomograms with the references turned to all rotations.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ...alignment.fourier_band import FourierBand
from ...alignment.fourier_images import FourierImages
from ...alignment.reference import Reference
from ...imaging.poses import so3_exp

__all__ = ["Candidates", "GridSearch", "correlation_around", "cube_offsets", "refine"]

_SCORES = {"cpu": 1 << 24, "cuda": 1 << 28}  # correlations held at a time, 4 bytes each; twice that is in use
_SAMPLES = {"cpu": 1 << 20, "cuda": 1 << 25}  # frequencies sampled at a time around given poses
_TINY = 1e-30


@dataclass(frozen=True, kw_only=True)
class Candidates:
    """Poses of n subtomograms, c each: rotation (n, c, 3, 3), shift_px (n, c, 3), score (n, c)."""

    rotation: Tensor
    shift_px: Tensor
    score: Tensor

    def pick(self, which: Tensor) -> Candidates:
        """One candidate (n,) of each subtomogram."""
        rows = torch.arange(len(which), device=which.device)
        return Candidates(rotation=self.rotation[rows, which][:, None], shift_px=self.shift_px[rows, which][:, None], score=self.score[rows, which][:, None])


class GridSearch:
    """A reference turned to all rotations of a grid.

    Parameters
    ----------
    reference
        Map with its coverage.
    rotations
        (R, 3, 3) poses.
    band
        Frequencies to compare.
    weight
        (P,) weights w.

    Memory: ``12 R P`` bytes (``16 R P`` when the reference is incomplete), and 128 MiB (2 GiB on a GPU) for the correlations.
    """

    def __init__(self, reference: Reference, rotations: Tensor, band: FourierBand, weight: Tensor) -> None:
        self.rotations, self.band = rotations, band
        values, known = torch.complex(*reference.slices(band, rotations)), reference.coverage_at(band, rotations)
        self.root = weight.sqrt()
        values = values * self.root
        self.energy = values.real.square() + values.imag.square()
        self.known: Tensor | None = None
        if known is not None:
            self.energy = self.energy * known
            values = values * known
            self.known = known
        self.table = torch.cat((values.real, values.imag), dim=1)

    def correlations(self, particles: FourierImages, shifts_px: Tensor, about_px: Tensor | None) -> tuple[Tensor, Tensor]:
        """Correlation (n, R) at the best of the shifts (S, 3), counted from ``about_px`` (n, 3), and which shift it is (n, R)."""
        coverage, group = particles.tilt_ranges()
        measured = coverage[group]
        data = particles.data * measured * self.root
        if about_px is not None:
            data = data * self.band.phase(-about_px)
        moved = data[:, None] * self.band.phase(-shifts_px)
        parts = torch.cat((moved.real, moved.imag), dim=-1).flatten(0, 1)
        found = (parts @ self.table.T).view(len(data), len(shifts_px), -1)
        score, which = found.max(1)
        reference_energy = (coverage @ self.energy.T)[group]
        power = (particles.data * self.root).abs().square() * measured
        own_energy = power.sum(1, keepdim=True) if self.known is None else power @ self.known.T
        return score * torch.rsqrt((reference_energy * own_energy).clamp(min=_TINY)), which

    def best(self, particles: FourierImages, shifts_px: Tensor, about_px: Tensor | None, keep: int, apart_deg: float) -> Candidates:
        """The ``keep`` best rotations of each subtomogram that lie more than ``apart_deg`` from each other, each with its best shift."""
        step = max(1, _SCORES.get(self.table.device.type, 1 << 24) // (len(self.rotations) * len(shifts_px)))
        flat = self.rotations.flatten(1)
        near = 1 + 2 * float(torch.cos(torch.deg2rad(torch.tensor(apart_deg))))  # trace of a rotation by that angle
        parts: list[list[Tensor]] = []
        for rows in torch.arange(len(particles), device=self.table.device).split(step):
            score, which = self.correlations(particles.rows(rows), shifts_px, None if about_px is None else about_px[rows])
            columns = torch.arange(len(rows), device=rows.device)
            chosen = []
            for _ in range(keep):
                top, at = score.max(1)
                chosen.append((self.rotations[at], shifts_px[which[columns, at]], top))
                score = score.masked_fill(flat[at] @ flat.T > near, -2.0)
            parts.append([torch.stack(values, 1) for values in zip(*chosen)])
        rotation, shift, score = (torch.cat(values) for values in zip(*parts))
        return Candidates(rotation=rotation, shift_px=shift if about_px is None else shift + about_px[:, None], score=score)


def cube_offsets(step: float, device: torch.device | str | None = None) -> Tensor:
    """The 27 offsets (x, y, z) of a step along each axis, none first."""
    axis = torch.tensor([0.0, -1.0, 1.0], device=device) * step
    return torch.cartesian_prod(axis, axis, axis)


def correlation_around(
    reference: Reference, particles: FourierImages, rotation: Tensor, shift_px: Tensor, offsets_px: Tensor, weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Correlation (m, q) of each subtomogram at its own q rotations (m, q, 3, 3), at the best of the shifts ``shift_px + offsets_px``.

    Parameters
    ----------
    reference
        Map with its coverage.
    particles
        Transforms of m subtomograms with the coverage of their tilt ranges.
    rotation
        (m, q, 3, 3) orientations to be tried.
    shift_px
        (m, 3) shifts in voxels from which the offsets count.
    offsets_px
        (S, 3) changes of the shift in voxels.
    weight
        (P,) weights w of the frequencies.

    Returns
    -------
    score, which
        (m, q) each; ``which`` is the offset.
    """
    band, turns = particles.band, rotation.shape[1]
    waves = band.phase(-offsets_px)
    table = torch.cat((waves.real, -waves.imag), dim=1).T
    step = max(1, _SAMPLES.get(waves.device.type, 1 << 20) // (turns * len(band)))
    scores, choices = [], []
    for rows in torch.arange(len(particles), device=waves.device).split(step):
        some = particles.rows(rows)
        values, known = torch.complex(*reference.slices(band, rotation[rows])), reference.coverage_at(band, rotation[rows])
        coverage, group = some.tilt_ranges()
        measured = coverage[group] * weight
        data = some.data * band.phase(-shift_px[rows]) * measured
        shared = measured[:, None] if known is None else measured[:, None] * known
        cross = values.conj() * data[:, None]
        if known is not None:
            cross = cross * known
        reference_energy = ((values.real.square() + values.imag.square()) * shared).sum(-1)
        own_energy = (some.data.abs().square()[:, None] * shared).sum(-1)
        top, which = (torch.cat((cross.real, cross.imag), dim=-1) @ table).max(-1)
        scores.append(top * torch.rsqrt((reference_energy * own_energy).clamp(min=_TINY)))
        choices.append(which)
    return torch.cat(scores), torch.cat(choices)


def refine(
    reference: Reference, particles: FourierImages, start: Candidates, step_deg: float, step_px: float, weight: Tensor, rounds: int = 2,
    largest_px: float | None = None,
) -> Candidates:
    """Climb from one pose a subtomogram: in each round the six turns by ``step_deg`` about the axes and all shifts by ``step_px`` are tried.

    Parameters
    ----------
    reference
        Map with its coverage.
    particles
        Transforms of n subtomograms with the coverage of their tilt ranges.
    start
        One candidate a subtomogram (n, 1).
    step_deg, step_px
        Steps of the rotation in degrees and of the shift in voxels, the same in all rounds.
    weight
        (P,) weights w of the frequencies.
    rounds
        Steps that each pose may take.
    largest_px
        Shifts are kept within this distance of the box's centre.
    """
    device = particles.data.device
    turns = torch.cat((torch.zeros(1, 3), torch.eye(3), -torch.eye(3))) * torch.deg2rad(torch.tensor(step_deg))
    turns = so3_exp(turns.to(device))
    offsets = cube_offsets(step_px, device)
    rotation, shift = start.rotation[:, 0], start.shift_px[:, 0]
    score = start.score[:, 0]
    rows = torch.arange(len(particles), device=device)
    for _ in range(rounds):
        tried = turns @ rotation[:, None]
        scores, which = correlation_around(reference, particles, tried, shift, offsets, weight)
        score, at = scores.max(1)
        rotation = tried[rows, at]
        shift = shift + offsets[which[rows, at]]
        if largest_px is not None:
            length = shift.norm(dim=1, keepdim=True)
            shift = shift * (largest_px / length.clamp(min=largest_px))
    return Candidates(rotation=rotation[:, None], shift_px=shift[:, None], score=score[:, None])
