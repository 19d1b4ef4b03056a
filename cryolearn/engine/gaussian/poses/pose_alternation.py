"""Alternation of trajectory and poses, half sets apart."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...exceptions import EXTREMES, require_finite
from ...imaging.poses import angle_between_deg, so3_exp, so3_log
from ...io.records import Stage
from ...io.tables import write_table
from ...progress import Progress
from ..model.fourier_particles import GaussianImages
from ..model.gain_and_noise import calibrate, line_sums, split_noise
from ..model.projection import Gaussians
from ..model.slices import SliceGrid
from ..summary import SummaryNotes
from ..trajectory.trajectory_em import CurveFit, fit_curve
from ..trajectory.trajectory_model import curve_volumes
from .pose_search import VALUES_AT_A_TIME, PosePrior, PoseRange, refine_poses
from .state_slices import Slicer

__all__ = ["RefinedPoses", "first_poses", "pose_notes", "recalibrate", "refine_round", "write_poses"]

_STILL_DEG = 0.01
_FIT_ROUNDS = 3  # of expectation-maximisation for the trajectory of a half set


def recalibrate(images: GaussianImages, volumes: Tensor, grid: SliceGrid, posterior: Tensor) -> GaussianImages:
    """The images with radial gain and noise measured against the states they are in, where :func:`calibrate` takes all motion for noise.

    ``posterior`` (n, G) weighs the states; rows that add up to less than 1 count less.
    """
    band, device = images.band, images.device
    flat = replace(images, gain=torch.ones_like(images.gain), noise_power=torch.ones_like(images.noise_power), ctf_noise=None)
    slicer = Slicer(flat, volumes, grid)
    sums = torch.zeros(9, band.rings, device=device, dtype=torch.float64)
    for batch in flat.batches(chunk=max(1, VALUES_AT_A_TIME[device.type] // (6 * slicer.count * len(band)))):
        weight = posterior[batch.rows]
        total = weight.sum(1)
        slices = slicer.slices(batch.rotation, batch.transfer)
        expected = (weight[:, None] @ slices)[:, 0]
        data = torch.cat((batch.data.real, batch.data.imag), dim=-1)
        halves = expected * data, (weight[:, None] @ slices.square())[:, 0], total[:, None] * data.square()
        parts = [part[:, : len(band)] + part[:, len(band) :] for part in halves]
        found = line_sums(parts, batch.transfer.square(), images.noise_kept(batch.rows))
        for row, part in zip(sums, [*found[:6], *(total[:, None] * part for part in found[6:])], strict=True):
            row += band.ring_sum(part.double()).sum(0)
    cross, own = sums[:2]
    gain = cross / own.clamp(min=1e-30)
    gain = gain.clamp(min=1e-3 * float(cross.sum() / own.sum()))
    noise, ctf_noise = split_noise(gain, sums[:-1] / sums[-1].clamp(min=1e-30))
    return replace(images, gain=gain.float(), noise_power=noise, ctf_noise=None if images.ctf is None else ctf_noise)


@dataclass(frozen=True, kw_only=True)
class RefinedPoses:
    """Poses refined together with the conformations.

    Attributes
    ----------
    images : with the refined poses, calibrated against the model at rest
    limits : of the changes over all rounds
    prior : width of the changes
    sigma : (n, 5) standard deviations of rotation vector (degrees, about the image's axes) and shift (Å)
    history : of each round: median turn, median move, mean log-likelihood
    """

    images: GaussianImages
    limits: PoseRange
    prior: PosePrior
    sigma: Tensor
    history: tuple[tuple[float, float, float], ...] = ()

    @property
    def turn_deg(self) -> Tensor:
        """(n,) changes of the rotations."""
        return angle_between_deg(self.images.rotation, self.limits.centre(self.images)[0])

    @property
    def move_angst(self) -> Tensor:
        """(n,) changes of the shifts."""
        return (self.images.shift_angst - self.limits.centre(self.images)[1]).norm(dim=1)


def first_poses(images: GaussianImages, model: Gaussians, limits: PoseRange, *, centre: bool = True, record: Stage | None = None) -> RefinedPoses:
    """Poses before the first round, or those that a killed run left in ``record``.

    Rotations are not refined against the model at rest: what moves would pull them along.

    Parameters
    ----------
    images
        Particles with the poses that they came with.
    model
        Gaussians at rest.
    limits
        Of one round; all rounds together may go twice as far.
    centre
        Refine shifts against the model at rest; not for poses that were refined before.
    record
        State after the last finished round, if there is one.
    """
    prior = limits.prior()
    limits = PoseRange(deg=2 * limits.deg, angst=2 * limits.angst, about=limits.centre(images))
    sigma, history = torch.full((len(images), 5), float("nan"), device=images.device), []
    if record is not None and (kept := record.read()):
        rotation, shift, sigma = (torch.as_tensor(kept[0][name], device=images.device) for name in ("rotation", "shift_angst", "sigma"))
        prior, history = PosePrior(*kept[1]["prior"]), kept[1]["history"]
        images = replace(images, rotation=rotation, shift_angst=shift)
    elif centre:
        grid, even = SliceGrid(images.band), torch.ones(1, device=images.device)
        still = replace(limits, deg=_STILL_DEG)
        found = refine_poses(images, grid.model_volume(model), grid, even, PosePrior(_STILL_DEG, prior.angst), still)
        images = replace(images, shift_angst=found.shift_angst)
    return RefinedPoses(
        images=calibrate(images, model), limits=limits, prior=prior, sigma=sigma, history=tuple((row[0], row[1], row[2]) for row in history))


def refine_round(poses: RefinedPoses, model: Gaussians, fit: CurveFit, half: NDArray[np.int64], record: Stage | None = None) -> RefinedPoses:
    """Fit the trajectory to each half set alone, then refine the half set's poses against its own.

    The half sets share the trajectory they start from and nothing after it. A turn or a move of all particles together, or in step with their places
    along the path, could as well be a motion of the whole model: it is taken out of the changes of each half set, so that the path is seen in the frame
    of the first poses and the halves stay in one frame. Memory: half of the images' coefficients at a time.

    Parameters
    ----------
    poses
        Present poses, their prior and the range of their changes.
    model
        Gaussians at rest, against which all images are calibrated at the end.
    fit
        Of all images, found anew with their present poses: poses that are wrong look like a motion, so an earlier trajectory may be one of the errors.
    half
        (n,) 1 or 2.
    record
        Keeps the refined poses.
    """
    images, device = poses.images, poses.images.device
    about = poses.limits.centre(images)
    rotation, shift, sigma = images.rotation.clone(), images.shift_angst.clone(), torch.empty(len(images), 5, device=device)
    progress = Progress("Poses", 1, "rounds")
    priors, mean = [], 0.0
    for part in np.unique(half):
        rows = np.flatnonzero(half == part)
        at = torch.from_numpy(rows).to(device)
        own = images.subset(rows)
        ours = fit_curve(own, fit.curve, fit.posterior[at], _FIT_ROUNDS, what=f"Trajectory of half set {part}")
        grid = SliceGrid(own.band)
        volumes = curve_volumes(ours.curve, grid)
        own, first = recalibrate(own, volumes, grid, ours.posterior), (about[0][at], about[1][at])
        found = refine_poses(own, volumes, grid, ours.curve.population, poses.prior, replace(poses.limits, about=first))
        share = torch.softmax(found.evidence + ours.curve.population.log(), 1)
        factors = torch.cat((torch.ones(len(rows), 1, device=device), share @ ours.curve.phi), dim=1)
        rotation[at], shift[at] = _without_common((found.rotation, found.shift_angst), first, factors)
        sigma[at] = found.sigma
        priors.append(found.prior)
        mean += float(found.log_likelihood.double().sum()) / len(images)
    require_finite(mean, "The log-likelihood of the poses", EXTREMES)
    prior = PosePrior(max(item.deg for item in priors), max(item.angst for item in priors))
    refined = replace(poses, images=calibrate(replace(images, rotation=rotation, shift_angst=shift), model), prior=prior, sigma=sigma)
    row = float(refined.turn_deg.median()), float(refined.move_angst.median()), mean
    progress.step(note=f"poses changed by {row[0]:.2f} degrees and {row[1]:.2f} Å, log-likelihood {mean:.4f}")
    refined = replace(refined, history=(*poses.history, row))
    if record is not None:
        arrays = {"rotation": rotation, "shift_angst": shift, "sigma": sigma}
        record.write({name: value.cpu().numpy() for name, value in arrays.items()},
                     {"done": len(refined.history), "prior": [prior.deg, prior.angst], "history": refined.history})
    return refined


def _without_common(pose: tuple[Tensor, Tensor], origin: tuple[Tensor, Tensor], factors: Tensor) -> tuple[Tensor, Tensor]:
    """Poses less the turn and the move of the particle, in its own frame, that follow ``factors`` (n, F) in the changes against ``origin``."""
    rotation, shift = pose
    turns = so3_log(origin[0].transpose(1, 2) @ rotation)
    turn = torch.linalg.lstsq(factors.double(), turns.double()).solution.float()
    turned = rotation @ so3_exp(-(factors @ turn))
    plane = turned[:, :2]
    design = (factors[:, None, :, None] * plane[:, :, None]).flatten(2).flatten(0, 1).double()  # of (F, 3) moves
    move = torch.linalg.lstsq(design, (shift - origin[1]).flatten()[:, None].double()).solution.float().view(-1, 3)
    return turned, shift - (plane @ (factors @ move)[..., None])[..., 0]


def pose_notes(found: RefinedPoses) -> SummaryNotes:
    """What a summary says of refined poses."""
    return {
        "pose_rounds": len(found.history), "median_turn_deg": float(found.turn_deg.median()), "median_move_angst": float(found.move_angst.median()),
        "pose_prior_deg": found.prior.deg, "pose_prior_angst": found.prior.angst}


def write_poses(output: Path, ids: NDArray[np.int64], found: RefinedPoses) -> None:
    """Write ``poses.npz``: by how much each pose was changed and its standard deviations."""
    values = {"turn_deg": found.turn_deg, "move_angst": found.move_angst, "sigma": found.sigma}
    write_table(str(output / "poses.npz"), {"id": ids, **{name: value.double().cpu().numpy() for name, value in values.items()}},
                {"sigma": ["turn about x, degrees", "about y", "about z", "move along x, Angstrom", "along y"]})
