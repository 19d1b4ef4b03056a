"""Global search over views, in-plane rotations, shifts and conformers at low resolution.

A deformed particle seen from the wrong conformer is often mistaken for another view, so conformers are searched
together with poses. One bank of clean projections serves all images: the CTF and the whitening go into the image
(a matched filter) and, ring by ring, into the norms of the templates.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass, replace

import torch
from torch.nn.functional import grid_sample

from ...alignment.fourier_band import FourierBand
from ...imaging.poses import rotation_z, view_grid
from .forward_model import ForwardModel, band_to
from .levenberg_marquardt import ElasticPose, Observed

_SEARCHED_MODES = 3  # amplitudes of further modes start at zero and are found by the refinement
_TEMPLATES_AT_ONCE = 2048


@dataclass(frozen=True, kw_only=True)
class Candidates(ElasticPose):
    """Starting points of ``B`` images, ``S`` each, best first; ``score`` is the matched-filter response in sigma."""

    score: torch.Tensor


def conformer_grid(modes: int, per_mode: int, amplitude_range: float) -> torch.Tensor:
    """Amplitudes (C, modes): all combinations of ``per_mode`` cell centres between ``+-amplitude_range``."""
    centres = (torch.arange(per_mode) + 0.5) / per_mode * 2 - 1
    searched = min(modes, _SEARCHED_MODES)
    grid = torch.tensor(list(itertools.product((centres * amplitude_range).tolist(), repeat=searched)))
    return torch.cat([grid, torch.zeros(len(grid), modes - searched)], 1)


class TemplateBank:
    """Low-resolution projections of all views and conformers, sampled on a disc around the particle.

    Memory is ``views * conformers * points * 4`` bytes, where a disc of 40 Å at 4 Å has 320 points.
    """

    def __init__(
        self, forward: ForwardModel, *, views: int, conformers: torch.Tensor, sample_angst: float,
        shifts: torch.Tensor, in_plane_step_deg: float = 10.0,
    ) -> None:
        band, reference = forward.band, forward.reference
        device = reference.coordinates.device
        self.band = band
        self.views = view_grid(views).to(device=device, dtype=torch.float32)
        self.conformers = conformers.to(device)
        self.shifts = shifts.to(device)
        self.angles_deg = torch.arange(0, 360, in_plane_step_deg, device=device)
        reach = reference.radius_angst(float(conformers.abs().max()))
        half = int(math.ceil(min(reach + sample_angst, band.length / 2) / sample_angst))
        line = sample_angst * torch.arange(-half, half + 1, device=device)
        points = torch.cartesian_prod(line, line)
        self.points = points[points.norm(dim=1) <= half * sample_angst]
        back = band.phase(-self.points).T  # each frequency stands for its Friedel mate too
        to_points = 2 * torch.cat([back.real, -back.imag])
        templates, powers = [], []
        for conformer in self.conformers:
            for some in self.views.split(16):
                samples = forward.project(some, conformer.expand(len(some), -1))
                templates.append(torch.cat([samples.real, samples.imag], 1) @ to_points)
                powers.append(2 * band.ring_sum(samples.abs().square()))
        self.templates = torch.cat(templates)
        self.powers = torch.cat(powers)

    def _matched_images(self, observed: Observed, oversampling: int = 2) -> torch.Tensor:
        """Real images (B, P, P) of data times transfer, on a grid fine enough for bilinear sampling."""
        size = 2 * (self.band.radius + 1) * oversampling
        fine = replace(self.band, box=size)
        values = observed.data * observed.transfer
        spectrum = torch.zeros(len(values), size * (size // 2 + 1), dtype=torch.complex64, device=values.device)
        own, mates = fine.mates  # irfft2 reads the column kx = 0 in full
        spectrum[:, fine.index], spectrum[:, mates] = values, values[:, own].conj()
        return torch.fft.irfft2(spectrum.view(-1, size, size // 2 + 1), s=(size, size), norm="forward")

    def _variants(self, matched: torch.Tensor) -> torch.Tensor:
        """One image, turned back and shifted back: (angles * shifts, points)."""
        turned = self.points @ rotation_z(self.angles_deg)[:, :2, :2].transpose(1, 2)
        wanted = turned[:, None] + self.shifts[None, :, None]  # (A, S, points, 2) Å
        size = matched.shape[-1]
        # the image is periodic with its origin at index 0: wrap it around so that grid_sample never leaves it
        pixel = torch.remainder(wanted / self.band.length, 1.0) * size
        wrapped = torch.nn.functional.pad(matched[None, None], (0, 1, 0, 1), mode="circular")
        grid = pixel / size * 2 - 1
        sampled = grid_sample(wrapped, grid.reshape(1, -1, len(self.points), 2), align_corners=True, mode="bilinear")
        return sampled[0, 0]

    def search(self, observed: Observed, keep: int, min_angle_deg: float = 12.0) -> Candidates:
        """Best ``keep`` starting points of each image that differ by pose (``min_angle_deg``) or by conformer."""
        matched = self._matched_images(observed)
        norms = (self.powers @ self.band.ring_mean(observed.transfer.square()).T).clamp_min(1e-20).sqrt()
        found = [self._search_one(image, norms[:, i], keep, min_angle_deg) for i, image in enumerate(matched)]
        return Candidates.stack(found)

    def _search_one(self, matched: torch.Tensor, norm: torch.Tensor, keep: int, min_angle_deg: float) -> Candidates:
        variants = self._variants(matched).T.contiguous()
        best, where = [], []
        for some in self.templates.split(_TEMPLATES_AT_ONCE):
            value, index = (some @ variants).max(1)
            best.append(value)
            where.append(index)
        score, variant = torch.cat(best) / norm, torch.cat(where)
        order = score.topk(min(16 * keep, len(score))).indices
        conformer = order // len(self.views)
        angle = self.angles_deg[variant[order] // len(self.shifts)]
        rotation = rotation_z(angle) @ self.views[order % len(self.views)]
        chosen = _spread(rotation, conformer, keep, min_angle_deg)
        order = order[chosen]
        shift = self.shifts[variant[order] % len(self.shifts)]
        return Candidates(rotation=rotation[chosen], shift_angst=shift, amplitudes=self.conformers[conformer[chosen]], score=score[order])


def _spread(rotation: torch.Tensor, conformer: torch.Tensor, keep: int, min_angle_deg: float) -> torch.Tensor:
    """Indices of the first ``keep`` entries that differ from all earlier ones by pose or conformer."""
    cosine = (torch.einsum("aij,bij->ab", rotation, rotation) - 1) / 2
    same = ((cosine > math.cos(math.radians(min_angle_deg))) & (conformer[:, None] == conformer)).cpu()
    chosen: list[int] = []
    for index in range(len(same)):
        if not same[index, chosen].any():
            chosen.append(index)
        if len(chosen) == keep:
            break
    # too few that differ: fill up with the next best, so that every image has as many candidates
    rest = (index for index in range(len(same)) if index not in set(chosen))
    chosen += list(itertools.islice(rest, keep - len(chosen)))
    return torch.tensor(chosen, device=rotation.device)


def search_band(box: int, pixel_size_angst: float, search_pixel_angst: float, device: torch.device | str) -> FourierBand:
    """Band of the global search: 0.8 of the Nyquist frequency of its pixel size."""
    finest = max(2 * search_pixel_angst / 0.8, 2.2 * pixel_size_angst)
    return band_to(box, pixel_size_angst, finest, device)
