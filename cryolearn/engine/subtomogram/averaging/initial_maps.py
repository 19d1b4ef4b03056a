"""First maps of several classes of subtomograms from nothing, in the lowest shells: :class:`StochasticEM` under the missing wedge."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ...alignment.fourier_images import FourierImages
from ...alignment.stochastic_em import StochasticEM

__all__ = ["STEPS", "first_maps", "low_resolution_box"]

STEPS = 20
_BATCH = 120  # subtomograms of one step
_COARSE_DEG, _FINE_DEG = 24.0, 16.0
_COARSE_SHELLS = 3
_JUDGED = 300  # subtomograms on which starts are compared
_MOST_SHIFTS = 123
_SOFT_EDGE = 0.08  # of the box


def low_resolution_box(shells: int) -> int:
    """Side of the small even box of the maps of a band of that many shells."""
    return 2 * (shells + 2)


def first_maps(
    particles: FourierImages, classes: int, mask_radius_px: float, shift_range_px: float, starts: int, seed: int, group: Tensor | None = None,
    report: Callable[[int], None] = lambda steps: None,
) -> tuple[Tensor, Tensor]:
    """Maps of ``classes`` classes without any reference.

    Parameters
    ----------
    particles
        All that is known of the subtomograms in the band of the start.
    classes
        Number of classes.
    mask_radius_px, shift_range_px
        Radius of the particle and largest shift in voxels of the box.
    starts, seed
        Number of random starts, and their seed.
    group
        (g, 3, 3) rotations of the particle's point group.
    report
        Called with the number of steps done, of ``starts * STEPS`` in all.

    Returns
    -------
    maps, evidence
        (classes, b, b, b) in the small box of the band, of the same length as the box; (starts,) mean log-likelihoods.
    """
    search = StochasticEM(
        box=low_resolution_box(particles.band.radius), mask_radius=mask_radius_px, shift_range=shift_range_px, classes=classes, group=group, steps=STEPS,
        batch=_BATCH, judged=_JUDGED, coarse_deg=_COARSE_DEG, fine_deg=_FINE_DEG, coarse_radius=_COARSE_SHELLS, most_shifts=_MOST_SHIFTS,
        soft_edge=_SOFT_EDGE)
    found = search.starts(particles, starts, seed, report)
    evidence = search.evidence(particles, found, torch.Generator().manual_seed(seed))
    return found[int(evidence.argmax())].maps, evidence.cpu()
