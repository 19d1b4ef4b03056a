"""A symmetry that the particle has and nobody declared, looked for in the half maps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...alignment.grids import rotation_lattice
from ...imaging.fourier import fourier_resize
from ...imaging.fourier_volume import slice_channels
from ...imaging.interpolate import sample_half_volume
from ...imaging.masks import sphere_mask
from ...imaging.poses import rotation_grid, so3_exp

__all__ = ["hidden_symmetry"]

_RINGS = 8  # of a box 1.25 times the particle's diameter
_STEP_DEG = 10.0
_LEAST_DEG = 40.0  # a turn by less is near the identity, under which every map looks the same
_ALIKE = 0.93  # of the agreement that the half maps have without a turn
_POINTS = 600


def hidden_symmetry(half1: Tensor, half2: Tensor, pixel_size_angst: float, diameter_angst: float, known: Tensor) -> float | None:
    """Angle in degrees of a turn under which one half map agrees with the other nearly as well as without a turn; None when there is no such turn.

    Turns of the ``known`` group (g, 3, 3), and those near them, are left out.
    """
    box = half1.shape[-1]
    rings = min(round(_RINGS * max(1.0, box * pixel_size_angst / (1.25 * diameter_angst))), box // 2 - 1)
    mask = sphere_mask(box, diameter_angst / 2 / pixel_size_angst, 0.05 * box)
    channels = [slice_channels(fourier_resize((half - (half * mask).sum() / mask.sum()) * mask, 2 * (rings + 1), 3), 2.0)[0] for half in (half1, half2)]
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(_POINTS, 3, generator=generator)
    points = points / points.norm(dim=1, keepdim=True) * (1 + (rings - 1) * torch.rand(_POINTS, 1, generator=generator))
    still = _agreement(channels, points, torch.eye(3)[None])[0]
    if not still > 0:
        return None
    turns = rotation_grid(_STEP_DEG)
    traces = torch.stack([torch.einsum("rij,ij->r", turns, element.float()) for element in known]).amax(0)
    turns = turns[traces < 1 + 2 * math.cos(math.radians(_LEAST_DEG))]
    found = _agreement(channels, points, turns)
    lattice = so3_exp(rotation_lattice(8.0, 2.5, points.device))
    for index in found.argsort(descending=True)[:5].tolist():
        near = lattice @ turns[index]
        again = _agreement(channels, points, near)
        away = torch.stack([torch.einsum("rij,ij->r", near, element.float()) for element in known]).amax(0)
        again[away >= 1 + 2 * math.cos(math.radians(_LEAST_DEG))] = 0
        if float(again.max() / still) > _ALIKE:
            best = near[int(again.argmax())]
            return math.degrees(math.acos(max(-1.0, min(1.0, (float(best.trace()) - 1) / 2))))
    return None


def _agreement(channels: list[Tensor], points: Tensor, turns: Tensor) -> Tensor:
    """Correlation (R,) of the first map with the second after turns (R, 3, 3), over the points."""
    here = sample_half_volume(channels[0], points * 2)
    # every ring counts alike: else the particle's overall shape hides its details
    ring = points.norm(dim=1).round().long()
    power = torch.zeros(int(ring.max()) + 1).index_add_(0, ring, here.square().sum(0)) / torch.bincount(ring).clamp(min=1)
    white = power[ring].clamp(min=1e-6 * float(power.max())).rsqrt()
    here = here * white
    there = torch.cat([sample_half_volume(channels[1], 2 * points @ some) for some in turns.split(1024)], dim=1) * white
    cross = (here[:, None] * there).sum((0, 2))
    return cross / (here.square().sum() * there.square().sum((0, 2))).sqrt()
