"""Alternation of trajectory and poses, half sets apart."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..imaging.poses import angle_between_deg, so3_exp, so3_log
from ..progress import Progress
from .curve import Curve, curve_volumes, fit_curve
from .particles import GaussianImages
from .pose_search import REACH, VALUES_AT_A_TIME, PosePrior, Slicer, refine_poses
from .slices import SliceGrid

__all__ = ["Alternation", "alternate", "recalibrate"]


def recalibrate(images: GaussianImages, volumes: Tensor, grid: SliceGrid, posterior: Tensor) -> GaussianImages:
    """The images with radial gain and noise measured against the states they are in, where :func:`calibrate` takes all motion for noise.

    ``posterior`` (n, G) weighs the states; rows that add up to less than 1 count less.
    """
    band, device = images.band, images.device
    flat = replace(images, gain=torch.ones_like(images.gain), noise_power=torch.ones_like(images.noise_power))
    slicer = Slicer(flat, volumes, grid)
    sums = torch.zeros(3, band.rings, device=device, dtype=torch.float64)
    counted = torch.zeros(band.rings, device=device, dtype=torch.float64)
    for batch in flat.batches(chunk=max(1, VALUES_AT_A_TIME[device.type] // (6 * slicer.count * len(band)))):
        weight = posterior[batch.rows]
        total = weight.sum(1)
        slices = slicer.slices(batch.rotation, batch.transfer)
        expected = (weight[:, None] @ slices)[:, 0]
        data = torch.cat((batch.data.real, batch.data.imag), dim=-1)
        parts = expected * data, (weight[:, None] @ slices.square())[:, 0], total[:, None] * data.square()
        for row, part in zip(sums, parts, strict=True):
            row += band.ring_sum((part[:, : len(band)] + part[:, len(band) :]).double()).sum(0)
        counted += band.ring_sum(total.double()[:, None].expand(-1, len(band))).sum(0)
    cross, own, power = sums
    gain = cross / own.clamp(min=1e-30)
    gain = gain.clamp(min=1e-3 * float(cross.sum() / own.sum()))
    left = (power - 2 * gain * cross + gain.square() * own) / counted.clamp(min=1e-30)
    return replace(images, gain=gain.float(), noise_power=left.clamp(min=1e-6 * float(left.max())).float())


@dataclass
class Alternation:
    """Attributes
    ----------
    images : with the refined poses
    posterior : (n, G) from the last round, each half set's own, poses integrated out
    sigma : (n, 5) standard deviations of the poses
    curves : the trajectory of each half set
    prior : width of the changes
    turn_deg, move_angst : (n,) changes of the poses
    history : of each round: median turn, median move, mean log-likelihood
    """

    images: GaussianImages
    posterior: Tensor
    sigma: Tensor
    curves: dict[int, Curve]
    prior: PosePrior
    turn_deg: Tensor
    move_angst: Tensor
    history: list[tuple[float, float, float]] = field(default_factory=list)


def alternate(
    images: GaussianImages, curve: Curve, posterior: Tensor, half: NDArray[np.int64], *, rounds: int, fit_rounds: int = 3, range_deg: float,
    range_angst: float, prior: PosePrior | None = None, about: tuple[Tensor, Tensor] | None = None,
) -> Alternation:
    """Rounds of: fit each half set's trajectory, refine the half set's poses against it.

    The half sets share the trajectory they start from and nothing after it. Changes count from the first poses throughout, so a range is a range
    over all rounds. A turn or a move of all particles together would only turn the model with them: it is taken out of the changes of each half set,
    which also keeps the halves in one frame. Memory: half of the images' coefficients at a time.

    Parameters
    ----------
    posterior
        (n, G) weights of the images over the path's grid.
    half
        (n,) 1 or 2.
    prior
        First width of the changes; without it one that the ranges hold.
    about
        Rotations (n, 3, 3) and shifts (n, 2) from which changes count; without it the present ones.
    """
    device = images.device
    first_rotation, first_shift = (images.rotation, images.shift_angst) if about is None else about
    prior = prior or PosePrior(range_deg / REACH, range_angst / 2)
    rotation, shift, weights = images.rotation.clone(), images.shift_angst.clone(), posterior.clone()
    sigma = torch.empty(len(images), 5, device=device)
    parts = [int(number) for number in np.unique(half)]
    curves, priors = dict.fromkeys(parts, curve), dict.fromkeys(parts, prior)
    progress = Progress("Poses", rounds, "rounds")
    history = []
    for _ in range(rounds):
        mean = 0.0
        for part in parts:
            rows = np.flatnonzero(half == part)
            at = torch.from_numpy(rows).to(device)
            own = replace(images.subset(rows), rotation=rotation[at], shift_angst=shift[at])
            fit = fit_curve(own, curves[part], weights[at], fit_rounds, what=f"Trajectory of half set {part}")
            grid = SliceGrid(own.band)
            volumes = curve_volumes(fit.curve, grid)
            own = recalibrate(own, volumes, grid, fit.posterior)
            found = refine_poses(own, volumes, grid, fit.curve.population, priors[part], range_deg=range_deg, range_angst=range_angst,
                                 about=(first_rotation[at], first_shift[at]))
            trust = fit.posterior.sum(1, keepdim=True)
            weights[at] = trust * torch.softmax(found.evidence + fit.curve.population.log(), 1)
            rotation[at], shift[at] = _without_common((found.rotation, found.shift_angst), (first_rotation[at], first_shift[at]))
            curves[part], priors[part], sigma[at] = fit.curve, found.prior, found.sigma
            mean += float(found.log_likelihood.double().sum()) / len(images)
        turn, move = angle_between_deg(rotation, first_rotation), (shift - first_shift).norm(dim=1)
        history.append((float(turn.median()), float(move.median()), mean))
        progress.step(note=f"poses changed by {history[-1][0]:.2f} degrees and {history[-1][1]:.2f} Å, log-likelihood {mean:.4f}")
    wide = PosePrior(max(item.deg for item in priors.values()), max(item.angst for item in priors.values()))
    moved = replace(images, rotation=rotation, shift_angst=shift)
    return Alternation(moved, weights, sigma, curves, wide, turn, move, history)


def _without_common(pose: tuple[Tensor, Tensor], origin: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Poses less the turn and the move of the particle, in its own frame, that they share against ``origin``."""
    rotation, shift = pose
    turn = so3_log(origin[0].transpose(1, 2) @ rotation).mean(0)
    plane = rotation[:, :2]
    normal = (plane.transpose(1, 2) @ plane).sum(0)
    move = torch.linalg.lstsq(normal, (plane.transpose(1, 2) @ (shift - origin[1])[..., None]).sum(0)).solution[:, 0]
    return rotation @ so3_exp(-turn), shift - plane @ move
