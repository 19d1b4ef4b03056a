"""Orientations from nothing: poses of all images against the likeliest map of several random starts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ...alignment.fourier_images import FourierImages
from ...alignment.grids import pose_grid
from ...alignment.posterior import PoseGrid, Poses, best_poses
from ...alignment.reference import Reference
from ...alignment.stochastic_em import StochasticEM
from ...io.records import RunRecord
from ...launch import is_first_process
from ...progress import Progress
from .half_set_references import SOFT_EDGE, map_box, stretch
from .projection_matching import MOST_SHIFTS
from .settings import MatchingSettings

__all__ = ["RandomStart", "start_from_nothing"]

_STEPS = 39
_BATCH = 200  # images of one step
_COARSE_DEG, _FINE_DEG = 20.0, 12.0
_COARSE_RINGS, _FINE_RINGS = 3, 8  # of a box that is 1.25 times the particle's diameter
_JUDGED = 1000  # images on which starts are compared


@dataclass(frozen=True, kw_only=True)
class RandomStart:
    """Poses of all images from the best start.

    Attributes
    ----------
    poses : single poses
    evidence : (starts,) mean log-likelihood of an image, each start
    resolution_angst : of the band they come from
    """

    poses: Poses
    evidence: Tensor
    resolution_angst: float


def start_from_nothing(images: FourierImages, starts: int, settings: MatchingSettings, record: RunRecord | None = None) -> RandomStart:
    """Find poses of all images without any reference; finished starts, and the poses, are kept in ``record``, which several processes need.

    1,000 images take about 3 s on one CPU core a start without symmetry; memory is that of :func:`expected_slices` beside the images.
    """
    stage = record.stage("random_start") if record is not None else None
    if stage is not None and (kept := stage.read()):
        found_before = {name: torch.from_numpy(kept[0][name]).to(images.device) for name in ("rotation", "shift", "weight")}
        return RandomStart(poses=Poses(**found_before), evidence=torch.from_numpy(kept[0]["evidence"]), resolution_angst=kept[1]["resolution_angst"])
    widening, symmetry, seed = stretch(images.band, settings.diameter_angst), settings.symmetry, settings.seed
    coarse, fine = (max(2, min(images.band.radius, round(rings * widening))) for rings in (_COARSE_RINGS, _FINE_RINGS))
    work = images.within(fine + 0.5)
    search = StochasticEM(
        box=map_box(work), mask_radius=settings.diameter_angst / 2, shift_range=settings.shift_range_angst, group=symmetry, steps=_STEPS, batch=_BATCH,
        judged=_JUDGED, coarse_deg=_COARSE_DEG, fine_deg=_FINE_DEG, coarse_radius=coarse, most_shifts=MOST_SHIFTS, soft_edge=SOFT_EDGE, first_done=1 / _STEPS)
    progress = Progress("Random starts", starts * _STEPS, "steps")
    found = search.starts(work, starts, seed, progress.step, record)
    generator = torch.Generator().manual_seed(seed)
    evidence = search.evidence(work, found, generator)
    work = replace(work, noise=torch.stack([start.noise for start in found]).mean(0))
    grid = PoseGrid(rotations=pose_grid(_FINE_DEG / 1.5, symmetry, generator, images.device), shifts=search.shifts(work), group=symmetry)
    poses = _best_poses(work, Reference(found[int(evidence.argmax())].maps[0]), grid)
    found_poses = RandomStart(poses=poses, evidence=evidence.cpu(), resolution_angst=work.band.length / fine)
    if stage is not None and is_first_process():
        arrays = {name: getattr(poses, name).cpu().numpy() for name in ("rotation", "shift", "weight")}
        stage.write({**arrays, "evidence": evidence.cpu().numpy()}, {"resolution_angst": found_poses.resolution_angst})
    return found_poses


def _best_poses(images: FourierImages, reference: Reference, grid: PoseGrid) -> Poses:
    """The likeliest pose of each image on a grid; processes share the images."""
    mine, count = images.mine, len(images)
    rotation, shift = torch.zeros(count, 1, 3, 3, device=images.device), torch.zeros(count, 1, 2, device=images.device)
    if len(mine):
        poses = best_poses(images.rows(mine), reference, grid, 1, _FINE_DEG).poses
        rotation[mine], shift[mine] = poses.rotation, poses.shift
    return Poses.single(*images.gathered(rotation[:, 0], shift[:, 0]))
