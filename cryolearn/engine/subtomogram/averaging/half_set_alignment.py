"""What the two half sets share: which class is which, how one lies in the other's frame, and the curve of their agreement."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from ....common.fsc import HALF_MAP_THRESHOLD, first_shell_below
from ...alignment.fourier_band import FourierBand
from ...alignment.fourier_images import FourierImages
from ...alignment.half_set_frames import Frame
from ...alignment.reference import Reference
from ...imaging.fourier import rfftn_centred, shell_sum
from ...imaging.fsc import fsc
from .aligner import Aligner, Plan
from .averages import turned_average

__all__ = ["LOST", "ClassFrames", "halves_agreement", "into_frame", "kept_shells", "match_classes"]

LOST = HALF_MAP_THRESHOLD
_LEAST_SHELLS = 3  # that a map keeps, however little its halves agree


@dataclass(frozen=True, kw_only=True)
class ClassFrames:
    """How the second half set's classes lie in the first's.

    Attributes
    ----------
    partner : (K,) class of the first half that each class of the second is the same as
    frame : (K,) poses at which the first half's maps appear in the second's
    """

    partner: NDArray[np.int64]
    frame: Frame

    def compose(self, number: Tensor, rotation: Tensor, shift_px: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Classes and poses of the second half's subtomograms in the first half's frame."""
        return torch.from_numpy(self.partner).to(number)[number], *self.frame.rows(number).compose(rotation, shift_px)


def match_classes(maps: Tensor, counts: Tensor, curves: Tensor, plan: Plan) -> ClassFrames:
    """Align every map of the second half set with every map of the first and pair those that agree best.

    Six numbers a pair are all that the halves learn of each other here.

    Parameters
    ----------
    maps
        (2, K, n, n, n) masked maps.
    counts
        (2, K) subtomograms; a map of none is paired last.
    curves
        (K, shells) filters of the first half's maps.
    plan
        Steps and ranges of the search over rotations and shifts.
    """
    box, classes = maps.shape[-1], maps.shape[1]
    band = FourierBand.up_to(box, plan.fine_px, 3, device=maps.device)
    transforms = band.gather(rfftn_centred(maps, 3))
    particles = FourierImages(band=band, data=transforms[1], noise=torch.ones(band.rings, device=maps.device))
    power = shell_sum(rfftn_centred(maps, 3).abs() ** 2, box, 3)
    score = np.full((classes, classes), -1.0)
    rotation, shift = maps.new_zeros(classes, classes, 3, 3), maps.new_zeros(classes, classes, 3)
    for first in range(classes):
        if not int(counts[0, first]):
            continue
        # whitened by what this map holds, and by how far the halves agreed before
        weight = (curves[first].to(maps).square() / power[0, first].clamp(min=1e-20))[band.ring]
        if not bool((weight > 0).any()):
            continue
        aligned = Aligner([Reference(maps[0, first])], band, weight / weight.max(), plan).align(particles)
        score[first] = aligned.score[:, 0].cpu().numpy()
        rotation[first], shift[first] = aligned.rotation, aligned.shift_px
    score[:, (counts[1] == 0).cpu().numpy()] = -1.0
    partner_of_first = linear_sum_assignment(-score)[1]
    partner = np.argsort(partner_of_first)  # class of the first half of each class of the second
    own = torch.arange(classes, device=maps.device)
    found = torch.from_numpy(partner).to(maps.device)
    picked, moved = rotation[found, own], shift[found, own]
    lost = picked.abs().sum((1, 2)) == 0
    picked[lost] = torch.eye(3, device=maps.device)
    return ClassFrames(partner=partner.astype(np.int64), frame=Frame(rotation=picked, shift=moved))


def into_frame(maps: Tensor, frames: ClassFrames) -> Tensor:
    """Maps (K, n, n, n) of the second half, ordered and turned as those of the first."""
    turned = torch.empty_like(maps)
    for own, partner in enumerate(frames.partner.tolist()):
        turned[partner] = turned_average(maps[own], frames.frame.rotation[own], frames.frame.shift[own])
    return turned


def halves_agreement(maps: Tensor, counts: Tensor, mask: Tensor) -> Tensor:
    """FSC (K, shells) of the half maps (2, K, n, n, n) within the mask; 0 for a class with an empty half."""
    curves = fsc(maps[0], maps[1], mask)
    curves[(counts == 0).any(0).to(curves.device)] = 0
    curves[:, 0] = 1
    return curves


def kept_shells(curve: Tensor) -> Tensor:
    """Wiener filter of a half map, its FSC, without what comes after the first shell below 0.143; the first shells are always kept."""
    kept = curve.clamp(min=0).clone()
    kept[first_shell_below(kept, LOST) :] = 0
    kept[: _LEAST_SHELLS + 1] = kept[: _LEAST_SHELLS + 1].clamp(min=LOST)
    return kept
