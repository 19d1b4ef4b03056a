"""Alternation of trajectory and poses, half sets apart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...imaging.poses import angle_between_deg, so3_exp, so3_log
from ...io.records import Stage
from ...io.tables import write_table
from ...progress import Progress
from ..model.fourier_particles import GaussianImages
from ..model.gain_and_noise import calibrate, split_noise
from ..model.projection import Gaussians
from ..model.slices import SliceGrid, envelope
from ..trajectory.trajectory_em import Curve, CurveFit, curve_volumes, fit_curve
from .pose_search import REACH, VALUES_AT_A_TIME, PosePrior, refine_poses
from .state_slices import Slicer

__all__ = ["Alternation", "RefinedPoses", "alternate", "pose_notes", "recalibrate", "refine_with_search", "write_poses"]

_STILL_DEG = 0.01


def recalibrate(images: GaussianImages, volumes: Tensor, grid: SliceGrid, posterior: Tensor) -> GaussianImages:
    """The images with radial gain and noise measured against the states they are in, where :func:`calibrate` takes all motion for noise.

    ``posterior`` (n, G) weighs the states; rows that add up to less than 1 count less.
    """
    band, device = images.band, images.device
    flat = replace(images, gain=torch.ones_like(images.gain), noise_power=torch.ones_like(images.noise_power), ctf_noise=None)
    slicer = Slicer(flat, volumes, grid)
    sums = torch.zeros(8, band.rings, device=device, dtype=torch.float64)
    counted = torch.zeros(band.rings, device=device, dtype=torch.float64)
    for batch in flat.batches(chunk=max(1, VALUES_AT_A_TIME[device.type] // (6 * slicer.count * len(band)))):
        weight = posterior[batch.rows]
        total = weight.sum(1)
        slices = slicer.slices(batch.rotation, batch.transfer)
        expected = (weight[:, None] @ slices)[:, 0]
        data = torch.cat((batch.data.real, batch.data.imag), dim=-1)
        halves = expected * data, (weight[:, None] @ slices.square())[:, 0], total[:, None] * data.square()
        parts = [part[:, : len(band)] + part[:, len(band) :] for part in halves]
        passed, counts = batch.transfer.square(), total[:, None]
        for row, part in zip(sums, [*parts, *(part * passed for part in parts), counts * passed, counts * passed.square()], strict=True):
            row += band.ring_sum(part.double()).sum(0)
        counted += band.ring_sum(total.double()[:, None].expand(-1, len(band))).sum(0)
    cross, own = sums[:2]
    gain = cross / own.clamp(min=1e-30)
    gain = gain.clamp(min=1e-3 * float(cross.sum() / own.sum()))
    noise, ctf_noise = split_noise(gain, sums / counted.clamp(min=1e-30))
    return replace(images, gain=gain.float(), noise_power=noise, ctf_noise=None if images.ctf is None else ctf_noise)


@dataclass(kw_only=True)
class Alternation:
    """Result of the alternation of trajectory and poses.

    Attributes
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
    over all rounds. A turn or a move of all particles together, or in step with their places along the path, could as well be a motion of the whole
    model: it is taken out of the changes of each half set, so that the path is seen in the frame of the first poses and the halves stay in one frame.
    Memory: half of the images' coefficients at a time.

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
            share = torch.softmax(found.evidence + fit.curve.population.log(), 1)
            weights[at] = fit.posterior.sum(1, keepdim=True) * share
            factors = torch.cat((torch.ones(len(rows), 1, device=device), share @ fit.curve.phi), dim=1)
            rotation[at], shift[at] = _without_common((found.rotation, found.shift_angst), (first_rotation[at], first_shift[at]), factors)
            curves[part], priors[part], sigma[at] = fit.curve, found.prior, found.sigma
            mean += float(found.log_likelihood.double().sum()) / len(images)
        turn, move = angle_between_deg(rotation, first_rotation), (shift - first_shift).norm(dim=1)
        history.append((float(turn.median()), float(move.median()), mean))
        progress.step(note=f"poses changed by {history[-1][0]:.2f} degrees and {history[-1][1]:.2f} Å, log-likelihood {mean:.4f}")
    wide = PosePrior(max(item.deg for item in priors.values()), max(item.angst for item in priors.values()))
    moved = replace(images, rotation=rotation, shift_angst=shift)
    return Alternation(images=moved, posterior=weights, sigma=sigma, curves=curves, prior=wide, turn_deg=turn, move_angst=move, history=history)


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


@dataclass
class RefinedPoses:
    """Poses refined together with the conformations.

    Attributes
    ----------
    images : with the refined poses, calibrated anew
    turn_deg, move_angst : (n,) changes of the poses
    sigma : (n, 5) standard deviations of rotation vector (degrees, about the image's axes) and shift (Å)
    prior : width of the changes
    history : of each round: median turn, median move, mean log-likelihood
    """

    images: GaussianImages
    turn_deg: Tensor
    move_angst: Tensor
    sigma: Tensor
    prior: PosePrior
    history: list[tuple[float, float, float]]


def refine_with_search(
    images: GaussianImages, model: Gaussians, search: Callable[[GaussianImages, int], CurveFit], half: NDArray[np.int64], *, rounds: int,
    range_deg: float, range_angst: float, about: tuple[Tensor, Tensor] | None = None, prior: PosePrior | None = None, centre: bool = True,
    record: Stage | None = None,
) -> RefinedPoses:
    """Poses from scratch: shifts against the still model, then rounds of a new search for the trajectory and a round of :func:`alternate`.

    Poses that are wrong look like a motion, so a trajectory that was found with them may be one of the errors; with better poses it is looked for anew.
    Rotations are not refined against the still model: what moves would pull them along.

    Parameters
    ----------
    search
        Finds the trajectory of images in round 0, 1, ...
    about
        Poses from which changes count, twice the ranges at most; without it the present ones.
    centre
        Refine shifts against the still model first; not for poses that were refined before.
    record
        Keeps the poses after each round; work goes on from it.
    """
    about = (images.rotation, images.shift_angst) if about is None else about
    prior = prior or PosePrior(range_deg / REACH, range_angst / 2)
    done, sigma = 0, torch.full((len(images), 5), float("nan"), device=images.device)
    history: list[tuple[float, float, float]] = []
    if record is not None and (kept := record.read()):
        rotation, shift, sigma = (torch.as_tensor(kept[0][name], device=images.device) for name in ("rotation", "shift_angst", "sigma"))
        done, prior, history = kept[1]["done"], PosePrior(*kept[1]["prior"]), [tuple(row) for row in kept[1]["history"]]
        images = replace(images, rotation=rotation, shift_angst=shift)
    elif centre:
        images = _centred(images, model, about, prior, 2 * range_angst)
    for number in range(done, rounds):
        images = calibrate(images, model)
        fit = search(images, number)
        found = alternate(images, fit.curve, fit.posterior, half, rounds=1, range_deg=2 * range_deg, range_angst=2 * range_angst, prior=prior, about=about)
        images, prior, sigma = found.images, found.prior, found.sigma
        history += found.history
        if record is not None:
            _keep(record, images, sigma, number + 1, prior, history)
    turn, move = angle_between_deg(images.rotation, about[0]), (images.shift_angst - about[1]).norm(dim=1)
    return RefinedPoses(calibrate(images, model), turn, move, sigma, prior, history)


def _centred(images: GaussianImages, model: Gaussians, about: tuple[Tensor, Tensor], prior: PosePrior, range_angst: float) -> GaussianImages:
    """The images with shifts refined against the still model."""
    grid = SliceGrid(images.band)
    volume = grid.volumes(model.positions_angst[None], (model.amplitudes / envelope(model.positions_angst, grid.band))[None], model.sigma_angst)
    found = refine_poses(images, volume, grid, torch.ones(1, device=images.device), PosePrior(_STILL_DEG, prior.angst), range_deg=_STILL_DEG,
                         range_angst=range_angst, about=about)
    return replace(images, shift_angst=found.shift_angst)


def _keep(record: Stage, images: GaussianImages, sigma: Tensor, done: int, prior: PosePrior, history: list[tuple[float, float, float]]) -> None:
    arrays = {"rotation": images.rotation, "shift_angst": images.shift_angst, "sigma": sigma}
    record.write({name: value.cpu().numpy() for name, value in arrays.items()}, {"done": done, "prior": [prior.deg, prior.angst], "history": history})


def pose_notes(found: RefinedPoses) -> dict[str, Any]:
    """What a summary says of refined poses."""
    return {
        "pose_rounds": len(found.history), "median_turn_deg": float(found.turn_deg.median()), "median_move_angst": float(found.move_angst.median()),
        "pose_prior_deg": found.prior.deg, "pose_prior_angst": found.prior.angst}


def write_poses(output: Path, ids: NDArray[np.int64], found: RefinedPoses) -> None:
    """Write ``poses.npz``: by how much each pose was changed and its standard deviations."""
    values = {"turn_deg": found.turn_deg, "move_angst": found.move_angst, "sigma": found.sigma}
    write_table(str(output / "poses.npz"), {"id": ids, **{name: value.double().cpu().numpy() for name, value in values.items()}},
                {"sigma": ["turn about x, degrees", "about y", "about z", "move along x, Angstrom", "along y"]})
