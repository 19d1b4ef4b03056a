"""Posterior of images or subtomograms over classes, a grid of poses and shifts, as matrix products with slices.

With independent normal noise of variance s^2 the log-likelihood of a class, pose and shift, against noise alone, is

    sum_k (2 Re[S_k* exp(2 pi i k shift) F_k] - P_k |S_k|^2) / s_k^2

of the filtered image F and its power P (:class:`FourierImages`). All classes, poses and shifts are equally likely before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from .fourier_images import FourierImages
from .reference import Reference

__all__ = ["Expected", "PoseGrid", "PoseSearch", "Poses", "best_poses", "expected_slices", "log_evidence", "scores_bytes"]

_SCORES = {"cpu": 1 << 25, "cuda": 1 << 29}  # log-likelihoods held at a time, 4 bytes each; up to three times that is in use
_NEGLIGIBLE = 1e-7  # posterior of a class and shift of one image: less than single precision resolves


def scores_bytes(device_type: str) -> int:
    """Memory of the log-likelihoods that are held at a time; the best poses take it twice, sums over the posterior four times."""
    return 4 * _SCORES.get(device_type, 1 << 25)


@dataclass(frozen=True, kw_only=True)
class Poses:
    """Poses of images with their weights, T each: ``rotation`` (n, T, 3, 3), ``shift`` (n, T, d), ``weight`` (n, T) of sum 1, best first."""

    rotation: Tensor
    shift: Tensor
    weight: Tensor

    @classmethod
    def single(cls, rotation: Tensor, shift: Tensor) -> Poses:
        """One pose (n, 3, 3), (n, d) an image."""
        return cls(rotation=rotation[:, None], shift=shift[:, None], weight=torch.ones_like(shift[:, :1]))

    @property
    def best(self) -> tuple[Tensor, Tensor]:
        """The heaviest pose of each image."""
        return self.rotation[:, 0], self.shift[:, 0]


@dataclass(frozen=True, kw_only=True)
class PoseGrid:
    """Poses that a search tries: ``rotations`` (R, 3, 3) times ``shifts`` (S, d); point group ``group`` (g, 3, 3), None is C1."""

    rotations: Tensor
    shifts: Tensor
    group: Tensor | None = None


class _Bank:
    """Whitened slices of all classes at all poses of a grid."""

    def __init__(
        self, images: FourierImages, references: Sequence[Reference], rotations: Tensor, shifts: Tensor, about: Tensor | None = None,
    ) -> None:
        self.images, self.shifts, self.about = images, shifts, about
        white = images.whitening()
        self.slices = [reference.slices(images.band, rotations) for reference in references]
        self.tables = [torch.cat((real * white, imaginary * white), dim=1) for real, imaginary in self.slices]
        points = len(white)
        self.energies = [images.energy_table(table[:, :points].square() + table[:, points:].square()) for table in self.tables]
        self.white = white.repeat(2)
        self.phase = images.band.phase(-shifts)
        self.shape = len(references), len(shifts), len(rotations)

    def scores(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Log-likelihoods (b, K, S, R), filtered images moved back by the shifts (b, S, 2 P), and their power (b, P)."""
        data, power = self.images.filtered(rows)
        if self.about is not None:
            data = data * self.images.band.phase(-self.about[rows])
        moved = data[:, None] * self.phase
        parts = torch.cat((moved.real, moved.imag), dim=-1)
        flat = (parts * self.white).flatten(0, 1)
        found = torch.stack([(flat @ table.T).mul_(2).view(len(rows), *self.shape[1:]) for table in self.tables], 1)
        for number, energy in enumerate(self.energies):
            found[:, number] -= self.images.energies(energy, rows, power)[:, None]
        return found, parts, power

    def batches(self) -> Iterator[Tensor]:
        """Rows of the images, some at a time."""
        return self.images.batches(_SCORES.get(self.images.device.type, 1 << 25) // math.prod(self.shape))


@dataclass(frozen=True, kw_only=True)
class Expected:
    """Sums over the posterior.

    Attributes
    ----------
    signal : (K, R, P) complex sums of filtered images
    power : (K, R, P) sums of their power
    residual : (rings,) expected power of what the slices leave unexplained where it was measured
    evidence : (n,) log-likelihood with class, pose and shift integrated out
    """

    signal: Tensor
    power: Tensor
    residual: Tensor
    evidence: Tensor


def expected_slices(
    images: FourierImages, references: Sequence[Reference], rotations: Tensor, shifts: Tensor, temperature: float = 1.0,
) -> Expected:
    """Weighted sums of images over the posterior of class, pose and shift.

    Parameters
    ----------
    images
        (n,) images or subtomograms up to a radius.
    references
        One a class.
    rotations
        (R, 3, 3) poses.
    shifts
        (S, d) in the unit of the band.
    temperature
        By which log-likelihoods are divided; 1 is the posterior itself.

    Notes
    -----
    Memory: ``24 K R P`` bytes and 400 MiB (6 GiB on a GPU).
    """
    bank, points = _Bank(images, references, rotations, shifts), len(images.band)
    total = [torch.zeros_like(table) for table in bank.tables]
    power = [table.new_zeros(len(rotations), points) for table in bank.tables]
    evidence = bank.white.new_empty(len(images))
    for rows in bank.batches():
        found, parts, own_power = bank.scores(rows)
        flat = found.flatten(1)
        evidence[rows] = torch.logsumexp(flat, 1) - math.log(flat.shape[1])
        weight, flat_parts = torch.softmax(flat / temperature, 1).view_as(found), parts.flatten(0, 1)
        for number in range(len(references)):
            share = weight[:, number].flatten(0, 1)
            used = share.sum(1) > _NEGLIGIBLE  # most shifts have no weight once the references are known
            total[number] += share[used].T @ flat_parts[used]
            over_shifts = weight[:, number].sum(1)
            power[number] += over_shifts.sum(0)[:, None] if own_power is None else over_shifts.T @ own_power
    left, amount = images.measured_power()
    for (real, imaginary), sums, weighed in zip(bank.slices, total, power, strict=True):
        explained = weighed * (real.square() + imaginary.square()) - 2 * (real * sums[:, :points] + imaginary * sums[:, points:])
        left = left + explained.sum(0)
    signal = torch.stack([torch.complex(sums[:, :points], sums[:, points:]) for sums in total])
    return Expected(signal=signal, power=torch.stack(power), residual=images.band.ring_mean(left / amount.clamp(min=1e-6)), evidence=evidence)


def log_evidence(images: FourierImages, references: Sequence[Reference], rotations: Tensor, shifts: Tensor) -> Tensor:
    """(n,) log-likelihood of each image against noise alone, with class, pose and shift integrated out."""
    bank = _Bank(images, references, rotations, shifts)
    parts = [bank.scores(rows)[0].flatten(1) for rows in bank.batches()]
    return torch.cat([torch.logsumexp(part, 1) - math.log(part.shape[1]) for part in parts])


@dataclass(frozen=True, kw_only=True)
class PoseSearch:
    """What a search over all poses of a grid gives.

    Attributes
    ----------
    poses : the likeliest rotations of each image, with the likeliest shift at each
    confidence : (n,) posterior of all rotations near the likeliest one, or near a given one
    evidence : (n,) log-likelihood with pose and shift integrated out
    """

    poses: Poses
    confidence: Tensor
    evidence: Tensor


def best_poses(
    images: FourierImages, reference: Reference, grid: PoseGrid, keep: int, near_deg: float, about: Tensor | None = None, centre: Tensor | None = None,
) -> PoseSearch:
    """The likeliest rotations of each image on a grid, with their posterior weights and the likeliest shift at each.

    Parameters
    ----------
    images
        (n,) images or subtomograms up to a radius.
    reference
        What they are compared with.
    grid
        Rotations and shifts that are tried.
    keep
        Number of rotations of each image.
    near_deg
        Reach of the neighbourhood that the confidence is the posterior of.
    about
        (n, d) shifts from which those of the grid are counted.
    centre
        (n, 3, 3) rotations whose neighbourhood is looked at; the likeliest ones without it.
    """
    rotations, shifts, device = grid.rotations, grid.shifts, images.device
    bank, flat_rotations = _Bank(images, [reference], rotations, shifts, about), rotations.flatten(1)
    least_trace, count = 1 + 2 * math.cos(math.radians(near_deg)), len(images)
    group = (torch.eye(3, device=device)[None] if grid.group is None else grid.group).to(rotations)
    weight, where = torch.empty(count, keep, device=device), torch.empty(count, keep, dtype=torch.long, device=device)
    shift = torch.empty(count, keep, shifts.shape[1], device=device)
    confidence, evidence = torch.empty(count, device=device), torch.empty(count, device=device)
    for rows in bank.batches():
        found = bank.scores(rows)[0][:, 0]
        over_shifts = torch.logsumexp(found, 1)
        evidence[rows] = torch.logsumexp(over_shifts, 1) - math.log(found[0].numel())
        best = over_shifts.topk(keep, dim=1)
        where[rows], weight[rows] = best.indices, torch.softmax(best.values, 1)
        moved = found.gather(2, best.indices[:, None].expand(-1, len(shifts), -1)).argmax(1)
        shift[rows] = shifts[moved] + (0 if about is None else about[rows, None])
        top = rotations[best.indices[:, 0]] if centre is None else centre[rows]
        near = torch.zeros_like(over_shifts, dtype=torch.bool)
        for element in group:
            near |= (top @ element).flatten(1) @ flat_rotations.T >= least_trace
        confidence[rows] = (torch.softmax(over_shifts, 1) * near).sum(1).clamp(max=1)
    return PoseSearch(poses=Poses(rotation=rotations[where], shift=shift, weight=weight), confidence=confidence, evidence=evidence)
