"""Likelihood of every pose of a grid over SO(3) and of shifts, as matrix products of images with slices."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from .fourier_images import FourierImages
from .reference import Poses, Reference

__all__ = ["MOST_SHIFTS", "GridSums", "best_poses", "expected_slices"]

_SCORES = {"cpu": 1 << 25, "cuda": 1 << 29}  # log-likelihoods held at a time, 4 bytes each; twice that is in use
MOST_SHIFTS = 80


class _Bank:
    """Whitened slices of all poses of the grid."""

    def __init__(self, images: FourierImages, reference: Reference, rotations: Tensor, shifts: Tensor, about: Tensor | None = None) -> None:
        self.images, self.count, self.shifts, self.about = images, len(rotations), shifts, about
        white = images.whitening()
        self.slices = reference.slices(images, rotations)
        self.table = torch.cat((self.slices[0] * white, self.slices[1] * white), dim=1)
        energy = self.table.square()
        points = len(white)
        self.energy = (energy[:, :points] + energy[:, points:]) if images.ctf is not None else energy.sum(1)
        if images.ctf is not None:  # squares ring by ring: the CTF hardly changes within one
            self.energy = energy.new_zeros(self.count, images.rings + 1).index_add_(1, images.ring, self.energy)
        self.white = white.repeat(2)
        self.waves = images.waves(shifts)

    def scores(self, rows: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        """Log-likelihoods (b, S, R) against noise alone, images C Y shifted back (b, S, 2 P), transfer (b, P)."""
        transfer = self.images.transfer(rows)
        data = self.images.data[rows] if transfer is None else self.images.data[rows] * transfer
        if self.about is not None:
            data = data * self.images.waves(self.about[rows])
        moved = data[:, None] * self.waves
        parts = torch.cat((moved.real, moved.imag), dim=-1)
        found = ((parts * self.white).flatten(0, 1) @ self.table.T).mul_(2).view(len(rows), len(self.shifts), self.count)
        if transfer is None:
            found -= self.energy
        else:
            found -= (self.images.ring_mean(transfer.square()) @ self.energy.T)[:, None]
        return found, parts, transfer

    def batches(self) -> tuple[Tensor, ...]:
        step = max(1, _SCORES.get(self.images.device.type, 1 << 25) // (self.count * len(self.shifts)))
        return torch.arange(len(self.images), device=self.images.device).split(step)


@dataclass
class GridSums:
    """What expectation over a grid gives.

    Attributes
    ----------
    signal : (R, P) complex sums of C Y over all images, weighted by posterior
    power : (R, P) sums of C^2
    rotations : (R, 3, 3)
    residual : (rings + 1,) expected power of what the slices leave unexplained
    evidence : (n,) log-likelihood with the poses integrated out
    """

    signal: Tensor
    power: Tensor
    rotations: Tensor
    residual: Tensor
    evidence: Tensor


def expected_slices(images: FourierImages, reference: Reference, rotations: Tensor, shifts: Tensor, temperature: float = 1.0) -> GridSums:
    """Weighted means of images over the posterior of their poses, tempered by ``temperature`` (1 is the posterior itself).

    Memory: ``16 R P`` bytes and 256 MiB (4 GiB on a GPU).
    """
    bank = _Bank(images, reference, rotations, shifts)
    points = len(images.kx)
    total = bank.table.new_zeros(bank.count, 2 * points)
    power = bank.table.new_zeros(bank.count, points)
    evidence = bank.table.new_empty(len(images))
    for rows in bank.batches():
        found, parts, transfer = bank.scores(rows)
        flat = found.flatten(1)
        evidence[rows] = torch.logsumexp(flat, 1) - math.log(flat.shape[1])
        share = torch.softmax(flat / temperature, 1).view_as(found)
        total += share.flatten(0, 1).T @ parts.flatten(0, 1)
        over_shifts = share.sum(1)
        power += over_shifts.sum(0)[:, None] if transfer is None else over_shifts.T @ transfer.square()
    real, imaginary = bank.slices
    explained = power * (real.square() + imaginary.square()) - 2 * (real * total[:, :points] + imaginary * total[:, points:])
    left = (images.data.abs().square().sum(0) + explained.sum(0)) / len(images)
    return GridSums(torch.complex(total[:, :points], total[:, points:]), power, rotations, images.ring_mean(left), evidence)


def best_poses(
    images: FourierImages, reference: Reference, rotations: Tensor, shifts: Tensor, keep: int, near_deg: float, group: Tensor | None = None,
    about: Tensor | None = None, centre: Tensor | None = None,
) -> tuple[Poses, Tensor, Tensor]:
    """The ``keep`` likeliest rotations of each image with their posterior weights, the likeliest shift at each.

    Shifts are counted from ``about`` (n, 2). The confidence is that of the rotations ``centre`` (n, 3, 3) where these are given.

    Returns
    -------
    poses
    confidence : (n,) posterior of all rotations within ``near_deg`` of the likeliest one, or of ``centre`` (modulo ``group``)
    evidence : (n,) log-likelihood with the poses integrated out
    """
    bank = _Bank(images, reference, rotations, shifts, about)
    flat_rotations = rotations.flatten(1)
    least_trace = 1 + 2 * math.cos(math.radians(near_deg))
    count, device = len(images), images.device
    weight, where = torch.empty(count, keep, device=device), torch.empty(count, keep, dtype=torch.long, device=device)
    shift = torch.empty(count, keep, 2, device=device)
    confidence, evidence = torch.empty(count, device=device), torch.empty(count, device=device)
    for rows in bank.batches():
        found, _, _ = bank.scores(rows)
        over_shifts = torch.logsumexp(found, 1)
        evidence[rows] = torch.logsumexp(over_shifts, 1) - math.log(found[0].numel())
        best = over_shifts.topk(keep, dim=1)
        where[rows], weight[rows] = best.indices, torch.softmax(best.values, 1)
        moved = found.gather(2, best.indices[:, None].expand(-1, len(shifts), -1)).argmax(1)
        shift[rows] = shifts[moved] + (0 if about is None else about[rows, None])
        top = rotations[best.indices[:, 0]] if centre is None else centre[rows]
        near = torch.zeros_like(over_shifts, dtype=torch.bool)
        for element in (group if group is not None else torch.eye(3, device=device)[None]).to(rotations):
            near |= (top @ element).flatten(1) @ flat_rotations.T >= least_trace
        confidence[rows] = (torch.softmax(over_shifts, 1) * near).sum(1).clamp(max=1)
    return Poses(rotations[where], shift, weight), confidence, evidence
