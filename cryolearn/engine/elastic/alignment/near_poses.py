"""Starting points near given poses: every conformer at small turns of each particle's pose, by the matched filter at low resolution."""

from __future__ import annotations

import math

import torch

from ...batches import BatchPlan
from ...imaging.poses import random_rotations, so3_exp
from .forward_model import ForwardModel
from .global_search import Candidates
from .levenberg_marquardt import Observed

__all__ = ["near_candidates"]

_SEARCH_TILTS = 9  # of a particle that are looked at; the refinement takes all


def near_candidates(
    forward: ForwardModel, observed: Observed, pose: tuple[torch.Tensor, torch.Tensor], conformers: torch.Tensor, range_deg: float, keep: int,
    plan: BatchPlan,
) -> Candidates:
    """Best starting points of each of ``B`` particles among all conformers at turns up to ``range_deg``.

    Parameters
    ----------
    forward
        Projections on the band of the search.
    observed
        Whitened samples on that band.
    pose
        Present poses (B, 3, 3) and shifts (B, 2) Å, or (B, 3) of tilt-series particles.
    conformers : (C, K)
        Amplitudes that are tried.
    range_deg
        Largest turn.
    keep
        How many starting points of each particle.
    plan
        Projections that are worked on together.
    """
    rotation, shift = pose
    turns = _turns(range_deg).to(rotation)
    tried = len(turns) * len(conformers)
    observed = observed.thinned(_SEARCH_TILTS)
    _, moved = observed.seen(rotation, shift)
    centred = Observed(observed.data * forward.band.phase(-moved), observed.transfer, observed.tilts)
    start = torch.zeros_like(shift)

    def scores(part: slice) -> torch.Tensor:
        number = torch.arange(part.start, part.stop, device=rotation.device)
        particle, trial = number // tried, number % tried
        some = centred.subset(particle)
        poses, _ = some.seen(turns[trial // len(conformers)] @ rotation[particle], start[particle])
        model = forward.project(poses, some.each(conformers[trial % len(conformers)])) * some.transfer
        agreement, power = (model.conj() * some.data).real.sum(1), torch.view_as_real(model).square().sum((1, 2))
        return some.pooled(agreement) / some.pooled(power).clamp_min(1e-20).sqrt()

    found = torch.cat(plan.run(len(rotation) * tried, scores, observed.images_each)).view(len(rotation), tried)
    score, trial = found.topk(min(keep, tried))
    poses = turns[trial // len(conformers)] @ rotation[:, None]
    return Candidates(
        rotation=poses, shift_angst=shift[:, None].expand(-1, score.shape[1], -1), amplitudes=conformers[trial % len(conformers)], score=score)


def _turns(range_deg: float) -> torch.Tensor:
    """Rotations within ``range_deg`` of none: none itself and shells of random, but always the same, axes."""
    generator = torch.Generator().manual_seed(0)
    shells = max(0, round(range_deg / 10.0))
    turns = [torch.eye(3)[None]]
    for shell in range(1, shells + 1):
        axes = random_rotations(6 * shell**2, generator)[:, :, 2].float()
        turns.append(so3_exp(axes * math.radians(range_deg * shell / shells)))
    return torch.cat(turns)
