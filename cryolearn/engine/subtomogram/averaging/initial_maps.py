"""First maps of several classes from nothing: annealed expectation-maximisation at low resolution, several starts, the likeliest kept.

Each start draws poses and classes at random. In every step the posterior of some subtomograms over classes, a grid of rotations and shifts is
found against the present maps, under the missing wedge, and the maps move towards the weighted means (online expectation-maximisation). As for
images (orientation.random_start), the band grows from three shells, posteriors are tempered, and the noise is what the maps leave unexplained.
(Scheres, J. Mol. Biol. 415 (2012) 406; with a missing wedge: Scheres et al., Structure 17 (2009) 1563.)
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from ...alignment.grids import pose_grid, shift_grid
from ...imaging.masks import sphere_mask
from ...imaging.poses import random_rotations
from ...imaging.reconstruction import Reconstructor
from .fourier_band import Band, Particles
from .references import Reference

__all__ = ["STEPS", "Expected", "expectation", "first_maps", "low_resolution_box"]

STEPS = 20
_BATCH = 120  # subtomograms of one step
_FOLLOW = 0.5  # part of the new sums in the running ones
_COARSE_DEG, _FINE_DEG = 24.0, 16.0
_HOTTEST = 5.0
_COARSE_SHELLS = 3
_WIENER = 0.03
_JUDGED = 300  # subtomograms on which starts are compared
_MOST_SHIFTS = 123
_NEGLIGIBLE = 1e-4  # posterior of a class and shift of one subtomogram
_SCORES = {"cpu": 1 << 24, "cuda": 1 << 28}  # log-likelihoods held at a time, 4 bytes each; three times that is in use
_PIXEL = 1.0  # maps of this module are scale-free


@dataclass
class Expected:
    """What one expectation step gives.

    Attributes
    ----------
    signal : (K, R, P) complex sums of M F over all subtomograms, weighted by posterior
    power : (K, R, P) sums of M
    residual : (P,) expected power of what the maps leave unexplained where it was measured
    evidence : (n,) log-likelihood with class and pose integrated out
    """

    signal: Tensor
    power: Tensor
    residual: Tensor
    evidence: Tensor


def low_resolution_box(shells: int) -> int:
    """Side of the smallest even box that holds a band of that many shells."""
    return 2 * (shells + 2)


def expectation(
    particles: Particles, maps: list[Reference], rotations: Tensor, shifts_px: Tensor, noise: Tensor, temperature: float = 1.0, sums: bool = True,
) -> Expected:
    """Weighted means over the posterior of class, rotation and shift, tempered by ``temperature`` (1 is the posterior itself).

    ``noise`` (P,) is the power of the noise. Memory: ``24 K R P`` bytes and 200 MiB (3 GiB on a GPU); without ``sums`` a third of the former.
    """
    band, count = particles.band, len(maps)
    seen = [reference.seen(rotations, band)[0] for reference in maps]
    white = torch.rsqrt(noise)
    tables = [torch.cat((values.real * white, values.imag * white), dim=1) for values in seen]
    energies = [particles.coverage @ (values.abs() * white).square().T for values in seen]
    points = len(band)
    total = [torch.zeros_like(table) for table in tables] if sums else []
    power = [table.new_zeros(len(rotations), points) for table in tables] if sums else []
    evidence = white.new_empty(len(particles))
    waves = band.waves(shifts_px)
    step = max(1, _SCORES.get(white.device.type, 1 << 24) // (count * len(rotations) * len(shifts_px)))
    for rows in torch.arange(len(particles), device=white.device).split(step):
        measured = particles.coverage[particles.group[rows]]
        moved = (particles.data[rows] * measured)[:, None] * waves
        parts = torch.cat((moved.real, moved.imag), dim=-1)
        flat = (parts * white.repeat(2)).flatten(0, 1)
        scores = torch.stack([(flat @ table.T).mul_(2).view(len(rows), len(shifts_px), -1) for table in tables], 1)
        for number, energy in enumerate(energies):
            scores[:, number] -= energy[particles.group[rows]][:, None]
        joined = scores.flatten(1)
        evidence[rows] = torch.logsumexp(joined, 1) - math.log(joined.shape[1])
        if sums:
            share = torch.softmax(joined / temperature, 1).view_as(scores)
            flat_parts = parts.flatten(0, 1)
            for number in range(count):
                own = share[:, number].flatten(0, 1)
                used = own.sum(1) > _NEGLIGIBLE  # most shifts of a subtomogram have no weight once the maps are known
                total[number] += own[used].T @ flat_parts[used]
                power[number] += share[:, number].sum(1).T @ measured
    if not sums:
        return Expected(white.new_zeros(0), white.new_zeros(0), noise, evidence)
    signal = torch.stack([torch.complex(item[:, :points], item[:, points:]) for item in total])
    weight = torch.stack(power)
    values = torch.stack(seen)
    measured = particles.coverage[particles.group]
    explained = weight * values.abs().square() - 2 * (values.conj() * signal).real
    left = ((particles.data.abs().square() * measured).sum(0) + explained.sum((0, 1))) / measured.sum(0).clamp(min=1e-6)
    return Expected(signal, weight, left, evidence)


def first_maps(
    particles: Particles, classes: int, mask_radius_px: float, shift_range_px: float, starts: int, seed: int, group: Tensor | None = None,
    report: Callable[[int], None] = lambda steps: None,
) -> tuple[Tensor, Tensor]:
    """Maps of ``classes`` classes without any reference.

    Parameters
    ----------
    particles
        All that is known of the subtomograms in the band of the start.
    mask_radius_px
        Radius of the particle in voxels of the box.
    report
        Called with the number of steps done, of ``starts * STEPS`` in all.

    Returns
    -------
    maps, evidence
        `(classes, b, b, b)` in the small box of the band, of the same length as the box; `(starts,)` mean log-likelihoods.
    """
    found = [_one_start(particles, classes, mask_radius_px, shift_range_px, seed + 7919 * number, group, report) for number in range(starts)]
    noise = torch.stack([power for _, power in found]).mean(0)[particles.band.shell]
    generator = torch.Generator().manual_seed(seed)
    device = particles.data.device
    judged = particles.rows(torch.randperm(len(particles), generator=generator)[:_JUDGED].to(device))
    grid, shifts = pose_grid(_FINE_DEG, group, generator, device), _shifts(particles.band, shift_range_px, device)
    evidence = torch.stack([
        expectation(judged, [Reference(volume) for volume in maps], grid, shifts, noise, sums=False).evidence.mean() for maps, _ in found
    ])
    return found[int(evidence.argmax())][0], evidence.cpu()


def _one_start(
    particles: Particles, classes: int, mask_radius_px: float, shift_range_px: float, seed: int, group: Tensor | None,
    report: Callable[[int], None],
) -> tuple[Tensor, Tensor]:
    """Maps and noise (shells,) of one start."""
    generator = torch.Generator().manual_seed(seed)
    device, band = particles.data.device, particles.band
    shells = int(band.shell.max())
    small = low_resolution_box(shells)
    mask = sphere_mask(small, min(mask_radius_px * small / band.box, 0.48 * small), 0.08 * small, device=device)
    total_power = _shell_mean(particles.data.abs().square(), particles.coverage[particles.group], band)
    noise = total_power.clone()
    some = _some(particles, generator)
    rotations = random_rotations(len(some), generator, device=device)
    own = torch.randint(classes, (len(some),), generator=generator).to(device)
    measured = some.coverage[some.group]
    sums = []
    for number in range(classes):
        work = Reconstructor(small, _PIXEL, device=device)
        _insert(work, some.data * measured, measured, rotations, band, own == number)
        sums.append(_symmetric(work, group))
    for step in range(STEPS):
        part = step / (STEPS - 1)
        maps = [Reference(work.finish(constant=_WIENER) * mask) for work in sums]
        radius = round(_COARSE_SHELLS + (shells - _COARSE_SHELLS) * min(1.0, 1.25 * part)) if shells > _COARSE_SHELLS else shells
        some = _some(particles, generator).within(radius + 0.5)
        grid = pose_grid(_COARSE_DEG + (_FINE_DEG - _COARSE_DEG) * part, group, generator, device)
        shifts = _shifts(some.band, shift_range_px, device)
        found = expectation(some, maps, grid, shifts, noise[some.band.shell], 1 / min(1.0, 1 / _HOTTEST + (1 - 1 / _HOTTEST) * 1.5 * part))
        noise = total_power.clone()
        left = _shell_mean(found.residual[None], torch.ones_like(found.residual)[None], some.band)
        noise[: len(left)] = torch.maximum(left, 1e-3 * total_power[: len(left)])
        for number, work in enumerate(sums):
            fresh = Reconstructor(small, _PIXEL, device=device)
            weight = found.power[number].mean(1)
            _insert(fresh, found.signal[number], found.power[number], grid, some.band, weight > 1e-3 * float(weight.max()))
            _symmetric(fresh, group)
            work.numerator[0] = (1 - _FOLLOW) * work.numerator[0] + _FOLLOW * fresh.numerator[0]
            work.denominator[0] = (1 - _FOLLOW) * work.denominator[0] + _FOLLOW * fresh.denominator[0]
        report(1)
    return torch.stack([work.finish(constant=_WIENER) * mask for work in sums]), noise


def _insert(work: Reconstructor, values: Tensor, power: Tensor, rotations: Tensor, band: Band, used: Tensor) -> None:
    if bool(used.any()):
        work.insert_samples(values[used], power[used], rotations[used], tuple(band.points.T))


def _symmetric(work: Reconstructor, group: Tensor | None) -> Reconstructor:
    if group is not None and len(group) > 1:
        work.symmetrise(group)
    return work


def _some(particles: Particles, generator: torch.Generator) -> Particles:
    return particles.rows(torch.randperm(len(particles), generator=generator)[:_BATCH].to(particles.data.device))


def _shifts(band: Band, range_px: float, device: torch.device) -> Tensor:
    """Shifts a third of the band's resolution apart."""
    return shift_grid(range_px, band.box / (3 * band.radius_px), 3, most=_MOST_SHIFTS, device=device)


def _shell_mean(values: Tensor, weight: Tensor, band: Band) -> Tensor:
    """Weighted means (shells + 1,) of (n, P) values; shell 0, which the band leaves out, is 1."""
    count = int(band.shell.max()) + 1
    total = torch.zeros(count, device=values.device).index_add_(0, band.shell, (values * weight).sum(0))
    amount = torch.zeros(count, device=values.device).index_add_(0, band.shell, weight.sum(0))
    mean = total / amount.clamp(min=1e-6)
    mean[0] = 1.0
    return mean
