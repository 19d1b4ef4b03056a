"""Refinement of the network's hypotheses by the elastic alignment's Levenberg-Marquardt steps."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...imaging.poses import angle_between_deg
from ..alignment.aligner import Aligned, ElasticAligner, choose_best
from ..alignment.global_search import first_distinct
from ..alignment.levenberg_marquardt import ElasticPose, Observed, Refined, refine
from .architectures import Hypotheses

__all__ = ["Start", "distinct_hypotheses", "refine_hypotheses"]

_DISTINCT_DEG = 15.0
# coarse log likelihoods tell solutions apart less sharply than fine ones: within this, both are refined to the end
_UNDECIDED_LOG_LIKELIHOOD = 15.0


@dataclass(frozen=True, kw_only=True)
class Start(ElasticPose):
    """Starting points of b images, h each, with their ``probability`` (b, h)."""

    probability: torch.Tensor


def distinct_hypotheses(found: Hypotheses, count: int) -> Start:
    """The most probable ``count`` hypotheses that lie at least 15 degrees apart, as far as there are so many."""
    order = found.probability.argsort(dim=1, descending=True, stable=True)
    row = torch.arange(len(order), device=order.device)[:, None]
    rotation = found.rotation[row, order]
    index = order.gather(1, first_distinct(angle_between_deg(rotation[:, :, None], rotation[:, None]) < _DISTINCT_DEG, count))
    return Start(
        rotation=found.rotation[row, index],
        shift_angst=found.shift_angst[row, index],
        amplitudes=found.amplitudes[row, index],
        probability=found.probability[row, index],
    )


def refine_hypotheses(aligner: ElasticAligner, coarse: Observed, fine: Observed, start: Start, iterations: int) -> Aligned:
    """Refine all hypotheses at low resolution, the best one (two where it is undecided) at full resolution.

    Parameters
    ----------
    aligner
        Forward models at both resolutions, and the prior on the amplitudes.
    coarse, fine
        Whitened samples of b images at low and at full resolution (:meth:`ElasticAligner.observe`).
    start
        Starting points of b images, h hypotheses each.
    iterations
        Levenberg-Marquardt steps at low resolution; at full resolution half as many and one more follow.
    """
    batch, count = start.probability.shape
    device = start.probability.device
    image = torch.arange(batch, device=device)
    rough = refine(
        aligner.coarse, coarse, image.repeat_interleave(count), start.flat(), iterations, prior_sigma=aligner.prior_sigma, plan=aligner.plans.coarse,
    )
    cost = rough.cost.reshape(batch, count)
    offset = count * image
    first = cost.argmin(1) + offset
    same = aligner.same_solution(rough, first.repeat_interleave(count), torch.arange(batch * count, device=device)).reshape(batch, count)
    other = torch.where(same, torch.full_like(cost, float("inf")), cost)
    margin = (other.amin(1) - rough.cost[first]) / 2
    undecided = (margin < _UNDECIDED_LOG_LIKELIHOOD).nonzero()[:, 0]
    chosen = torch.cat([first, other.argmin(1)[undecided] + offset[undecided]])
    begin = rough.subset(chosen)
    end = refine(
        aligner.fine, fine, torch.cat([image, undecided]), begin, iterations // 2 + 1, prior_sigma=aligner.prior_sigma, plan=aligner.plans.fine,
    )
    # two solutions an image for the choice; where there was one, the second is itself
    second = image.clone()
    second[undecided] = batch + torch.arange(len(undecided), device=device)
    pairs: Refined = end.subset(torch.stack([image, second], 1).flatten())
    aligned = choose_best(aligner, pairs, batch)
    decided = torch.isinf(aligned.margin)
    return Aligned(aligned.best, torch.where(decided, margin, aligned.margin), aligned.flags)
