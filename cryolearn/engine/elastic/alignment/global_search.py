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
from ...batches import BatchPlan
from ...imaging.poses import rotation_z, view_grid
from .forward_model import ForwardModel, band_to
from .levenberg_marquardt import ElasticPose, Observed

_SEARCHED_MODES = 3  # amplitudes of further modes start at zero and are found by the refinement
_TEMPLATES_AT_ONCE = {"cpu": 2048}
_MANY_TEMPLATES = 1 << 14  # at once on a GPU
_VIEWS_ON_CPU = 16
_OVERSAMPLING = 2  # of the images that variants are sampled from


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

    Memory is ``views * conformers * points * 4`` bytes, where a disc of 40 Å at 4 Å has 320 points. Its ``plan`` says how many images are
    searched together.
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

        def render(part: slice) -> tuple[torch.Tensor, torch.Tensor]:
            number = torch.arange(part.start, part.stop, device=device)
            samples = forward.project(self.views[number % views], self.conformers[number // views])
            return torch.cat([samples.real, samples.imag], 1) @ to_points, 2 * band.ring_sum(samples.abs().square())

        plan = BatchPlan.fitting("templates", forward.bytes_per_projection, device, _VIEWS_ON_CPU)
        rendered = plan.run(views * len(conformers), render)
        self.templates, self.powers = (torch.cat(parts) for parts in zip(*rendered, strict=True))
        self._at_once = _TEMPLATES_AT_ONCE.get(device.type, _MANY_TEMPLATES)
        variants = len(self.angles_deg) * len(self.shifts)
        each = 4 * variants * (3 * len(self.points) + 2 * min(self._at_once, len(self.templates))) + 32 * len(self.templates)
        self.plan = BatchPlan.fitting("images in the global search", each, device, 1)
        self._places = self._variant_places()

    def _variant_places(self) -> torch.Tensor:
        """Where the points of every in-plane turn and shift lie in an image (1, angles * shifts, points, 2), in the unit of ``grid_sample``."""
        turned = self.points @ rotation_z(self.angles_deg)[:, :2, :2].transpose(1, 2)
        wanted = turned[:, None] + self.shifts[None, :, None]  # (A, S, points, 2) Å
        return (torch.remainder(wanted / self.band.length, 1.0) * 2 - 1).reshape(1, -1, len(self.points), 2)

    def _matched_images(self, observed: Observed) -> torch.Tensor:
        """Real images (B, P, P) of data times transfer, on a grid fine enough for bilinear sampling."""
        size = 2 * (self.band.radius + 1) * _OVERSAMPLING
        fine = replace(self.band, box=size)
        values = observed.data * observed.transfer
        spectrum = torch.zeros(len(values), size * (size // 2 + 1), dtype=torch.complex64, device=values.device)
        own, mates = fine.mates  # irfft2 reads the column kx = 0 in full
        spectrum[:, fine.index], spectrum[:, mates] = values, values[:, own].conj()
        return torch.fft.irfft2(spectrum.view(-1, size, size // 2 + 1), s=(size, size), norm="forward")

    def _variants(self, matched: torch.Tensor) -> torch.Tensor:
        """Images (b, P, P), turned back and shifted back: (points, b * angles * shifts)."""
        # an image is periodic with its origin at index 0: wrap it around so that grid_sample never leaves it
        wrapped = torch.nn.functional.pad(matched[None], (0, 1, 0, 1), mode="circular")
        sampled = grid_sample(wrapped, self._places, align_corners=True, mode="bilinear")[0]
        return sampled.permute(2, 0, 1).reshape(len(self.points), -1)

    def search(self, observed: Observed, keep: int, min_angle_deg: float = 12.0) -> Candidates:
        """Best ``keep`` starting points of each image that differ by pose (``min_angle_deg``) or by conformer."""
        matched = self._matched_images(observed)
        norms = (self.powers @ self.band.ring_mean(observed.transfer.square()).T).clamp_min(1e-20).sqrt()
        count = min(16 * keep, len(self.templates))
        found = self.plan.run(len(matched), lambda some: self._best(matched[some], norms[:, some], count))
        score, template, variant = (torch.cat(parts) for parts in zip(*found, strict=True))
        conformer = template // len(self.views)
        rotation = rotation_z(self.angles_deg[variant // len(self.shifts)]) @ self.views[template % len(self.views)]
        flat = rotation.flatten(2)
        near = (flat @ flat.transpose(1, 2) - 1) / 2 > math.cos(math.radians(min_angle_deg))
        chosen = first_distinct(near & (conformer[:, :, None] == conformer[:, None]), keep)
        image = torch.arange(len(score), device=score.device)[:, None]
        shift = self.shifts[variant[image, chosen] % len(self.shifts)]
        return Candidates(
            rotation=rotation[image, chosen], shift_angst=shift, amplitudes=self.conformers[conformer[image, chosen]], score=score[image, chosen])

    def _best(self, matched: torch.Tensor, norms: torch.Tensor, count: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Of images (b, P, P) the best scores (b, count), best first, with the templates and variants (b, count) that they are of."""
        variants = self._variants(matched)
        values, where = [], []
        for some in self.templates.split(self._at_once):
            value, index = (some @ variants).view(len(some), len(matched), -1).max(2)
            values.append(value)
            where.append(index)
        score, template = (torch.cat(values) / norms).T.topk(count)
        return score, template, torch.cat(where).T.gather(1, template)


def first_distinct(same: torch.Tensor, keep: int) -> torch.Tensor:
    """Indices (b, keep) of the first of the entries of each image that are not the same as an earlier one that was taken.

    Where too few differ, the next best follow, so that every image has as many.

    Parameters
    ----------
    same
        (b, m, m) which of an image's entries, best first, are the same; each is the same as itself.
    keep
        How many are taken.
    """
    limit = torch.where(same, 1, 2).to(torch.int32)
    rank = torch.full_like(limit[:, 0], 2)  # 2: differs from all that were taken, 1: does not, 0: was taken
    taken = []
    for _ in range(min(keep, rank.shape[1])):
        best = rank.argmax(1, keepdim=True)  # the first of the largest
        taken.append(best)
        near = limit.gather(1, best[..., None].expand(-1, -1, rank.shape[1]))[:, 0]
        rank = torch.minimum(rank, near).scatter_(1, best, 0)
    return torch.cat(taken, 1)


def search_band(box: int, pixel_size_angst: float, search_pixel_angst: float, device: torch.device | str) -> FourierBand:
    """Band of the global search: 0.8 of the Nyquist frequency of its pixel size."""
    finest = max(2 * search_pixel_angst / 0.8, 2.2 * pixel_size_angst)
    return band_to(box, pixel_size_angst, finest, device)
