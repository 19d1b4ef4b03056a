"""Orientations and shifts of the images, searched together with their place along the trajectory, in alternation with the trajectory itself.

1. About its present pose x (turn in degrees, shift in Å) the likelihood of an image under state g is quadratic,
   ``L_g(x + u) = L_g + b_g u - u H_g u / 2`` with the Gauss-Newton curvature ``H_g = 2 Re J* J / noise`` of the slice of that state. With a normal
   prior on the whole change of the pose, each state has a best pose, an error ellipsoid and an evidence (Laplace's integral over poses); the states'
   evidences give their weights, the weighted poses the step.
2. The likelihood over rotations often has several maxima, so all rotations of a lattice in a ball are compared, with the shift integrated at each.
   The mean over rotations and states has the least mean square error. Where the images say more than the lattice resolves, the steps of 1. go on
   from its best point instead.

The prior's width is estimated from all images, so that noise moves no pose that was right before.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from ...alignment.gauss_newton import halve_where_worse
from ...alignment.grids import bcc_ball
from ...imaging.poses import angle_between_deg, so3_exp, so3_log
from ..model.fourier_particles import Batch, GaussianImages
from ..model.slices import SliceGrid
from .state_slices import Quadratic, Slicer

__all__ = ["VALUES_AT_A_TIME", "PoseFit", "PosePrior", "PoseRange", "refine_poses"]

VALUES_AT_A_TIME = {"cpu": 1 << 24, "cuda": 1 << 28}  # numbers of the slices and their five derivatives that are held together, 4 bytes each
_LEAST_SIGMA = 0.05  # degrees and Å
_REACH = 2.8  # of the ball, in the prior's standard deviations: 95 % of rotation vectors lie inside
_COARSEST = 2.0  # points of the lattice may be this many standard deviations of the images' own certainty apart
_FEWEST, _MOST = 27, 257  # points in the ball
_STEPS = 2  # Gauss-Newton steps before the lattice


@dataclass(frozen=True)
class PosePrior:
    """Standard deviations of the change of a pose: of each component of the rotation vector in degrees, of each component of the shift in Å."""

    deg: float
    angst: float

    def precision(self, device: torch.device) -> Tensor:
        """(5,) diagonal."""
        return torch.tensor([self.deg**-2] * 3 + [self.angst**-2] * 2, device=device)


@dataclass(frozen=True, kw_only=True)
class PoseRange:
    """Largest change of a pose.

    Attributes
    ----------
    deg, angst : of rotation and shift
    about : rotations (n, 3, 3) and shifts (n, 2) from which changes count; None takes the images' own
    """

    deg: float
    angst: float
    about: tuple[Tensor, Tensor] | None = None

    def centre(self, images: GaussianImages) -> tuple[Tensor, Tensor]:
        """Rotations and shifts from which changes count."""
        return (images.rotation, images.shift_angst) if self.about is None else self.about

    def prior(self) -> PosePrior:
        """The widest prior whose changes the range holds."""
        return PosePrior(self.deg / _REACH, self.angst / 2)


@dataclass(kw_only=True)
class PoseFit:
    """Poses of particles, given the volumes of all states.

    Attributes
    ----------
    rotation : (n, 3, 3) refined poses
    shift_angst : (n, 2)
    turn_deg, move_angst : (n,) changes from the poses that the prior is centred on
    sigma : (n, 5) standard deviations of rotation vector (degrees) and shift (Å)
    evidence : (n, G) log-likelihood of each state with the pose integrated out
    log_likelihood : (n,) over all states and poses
    prior : widths of the changes, estimated from all images
    """

    rotation: Tensor
    shift_angst: Tensor
    turn_deg: Tensor
    move_angst: Tensor
    sigma: Tensor
    evidence: Tensor
    log_likelihood: Tensor
    prior: PosePrior


def refine_poses(
    images: GaussianImages, volumes: Tensor, grid: SliceGrid, population: Tensor, prior: PosePrior, limits: PoseRange, estimate_prior: bool = True,
) -> PoseFit:
    """Refine all poses against the states' volumes, summing over states.

    Deterministic; images do not influence one another but through the prior's width. Memory: the table of the volumes (8 G bytes a point) and a few
    arrays of 64 MiB (1 GiB on a GPU).

    Parameters
    ----------
    images
        Particles with their present poses, gain and noise.
    volumes
        (G, z, y, x) coefficients on ``grid``, corrected for the fading of the interpolation. To keep half sets apart the caller gives
        each half the volumes of its own.
    grid
        Frequencies of the volumes.
    population
        (G,) or (n, G) parts of the particles in each state.
    prior
        First widths of the changes; with ``estimate_prior`` they are estimated again after each pass (expectation-maximisation).
    limits
        Largest changes of a pose, and the poses from which they count.
    estimate_prior
        Estimate the widths of the prior from all images; else they stay as they are.
    """
    work = _Search(
        images,
        Slicer(images, volumes, grid),
        log_population=population.clamp(min=1e-12).log().expand(len(images), -1),
        limits=limits,
        prior=prior,
        estimate_prior=estimate_prior,
    )
    for _ in range(_STEPS):
        work.step()
    fine = work.lattice()
    if not fine:
        work.step()
        work.step()
    turn, move = angle_between_deg(work.rotation, work.origin[0]), (work.shift - work.origin[1]).norm(dim=1)
    return PoseFit(
        rotation=work.rotation,
        shift_angst=work.shift,
        turn_deg=turn,
        move_angst=move,
        sigma=work.sigma,
        evidence=work.evidence,
        log_likelihood=torch.logsumexp(work.evidence + work.log_population, 1),
        prior=work.prior,
    )


class _Search:
    """Present poses of all images and the passes over them."""

    def __init__(self, images: GaussianImages, slicer: Slicer, log_population: Tensor, limits: PoseRange, prior: PosePrior,
                 estimate_prior: bool) -> None:
        self.images, self.slicer, self.log_population, self.origin = images, slicer, log_population, limits.centre(images)
        self.prior, self.estimate_prior = prior, estimate_prior
        self.limits = torch.tensor([limits.deg, limits.angst], device=images.device)
        self.rotation, self.shift = images.rotation.clone(), images.shift_angst.clone()
        self.evidence = torch.empty(len(images), slicer.count, device=images.device)
        self.sigma = torch.empty(len(images), 5, device=images.device)
        self.chunk = max(1, VALUES_AT_A_TIME[images.device.type] // (12 * slicer.count * len(images.band)))

    def batches(self) -> Iterator[tuple[Tensor, Batch, tuple[Tensor, Tensor], tuple[Tensor, Tensor]]]:
        """Rows, images, the poses changes are counted from and the present ones, both with shifts relative to the batch's."""
        for batch in self.images.batches(chunk=self.chunk):
            rows = torch.as_tensor(batch.rows, device=self.images.device)
            placed = self.images.shift_angst[rows]
            yield rows, batch, (self.origin[0][rows], self.origin[1][rows] - placed), (self.rotation[rows], self.shift[rows] - placed)

    def keep(self, rows: Tensor, target: Tensor, variance: Tensor) -> Tensor:
        """Note poses at ``target`` (b, 5) from the origin, with variances (b, 5); returns the second moments (2,) of turn and move."""
        self.rotation[rows] = so3_exp(torch.deg2rad(target[:, :3])) @ self.origin[0][rows]
        self.shift[rows] = self.origin[1][rows] + target[:, 3:]
        self.sigma[rows] = variance.clamp(min=0).sqrt()
        second = (target.square() + variance).double()
        return torch.stack((second[:, :3].sum(), second[:, 3:].sum()))

    def widen(self, second: Tensor) -> None:
        """The prior of the next pass."""
        if self.estimate_prior:
            deg, angst = (float(part) / (axes * len(self.images)) for part, axes in zip(second, (3, 2), strict=True))
            self.prior = PosePrior(max(_LEAST_SIGMA, math.sqrt(deg)), max(_LEAST_SIGMA, math.sqrt(angst)))

    def step(self) -> None:
        """A Gauss-Newton step of all poses, halved where the likelihood would fall."""
        second = torch.zeros(2, dtype=torch.float64, device=self.images.device)
        precision = self.prior.precision(self.images.device)
        for rows, batch, origin, here in self.batches():
            away, weight = _difference(here, origin), self.log_population[rows]
            found = self.slicer.quadratic(batch, *here)
            move, covariance, self.evidence[rows] = _combine(found, away, precision, weight)
            before = _objective(found.value, away, precision, weight)
            objective = partial(self._objective_at, batch, origin, away, weight)
            move, _ = halve_where_worse(move, objective, before)
            second += self.keep(rows, _limited(away + move, self.limits), covariance.diagonal(dim1=1, dim2=2))
        self.widen(second)

    def _objective_at(self, batch: Batch, origin: tuple[Tensor, Tensor], away: Tensor, weight: Tensor, move: Tensor) -> Tensor:
        """Log-posterior (b,) of poses ``move`` (b, 5) beyond where they are now, which is ``away`` from the origin."""
        target = _limited(away + move, self.limits)
        there = so3_exp(torch.deg2rad(target[:, :3])) @ origin[0], origin[1] + target[:, 3:]
        return _objective(self.slicer.value(batch, *there), target, self.prior.precision(self.images.device), weight)

    def lattice(self) -> bool:
        """Compare all rotations of a lattice in a ball; returns False when the lattice is coarser than the images' certainty."""
        device = self.images.device
        precision = self.prior.precision(device)
        reach = min(float(self.limits[0]), _REACH * self.prior.deg)
        certain = float(self.sigma[:, :3].square().mean(1).sqrt().median())
        points, spacing = ball(reach, _COARSEST * certain)
        fine = spacing <= 1.2 * _COARSEST * certain
        points = points.to(device)
        turns = so3_exp(torch.deg2rad(points))
        second = torch.zeros(2, dtype=torch.float64, device=device)
        penalty = (points.square() * precision[:3]).sum(1) / 2
        for rows, batch, origin, here in self.batches():
            away = here[1] - origin[1]
            weight = self.log_population[rows]
            found, moves, spreads = [], [], []
            for turn, cost in zip(turns, penalty, strict=True):
                evidence, step, variance = self.slicer.integrated(batch, turn @ origin[0], here[1], away, precision[3:])
                share = torch.softmax(evidence + weight, 1)[..., None]
                mean = (share * step).sum(1)
                found.append(evidence - cost)
                moves.append(mean)
                spreads.append((share * (variance + step.square())).sum(1) - mean.square())
            logs = torch.stack(found)  # (C, b, G)
            place = torch.softmax(torch.logsumexp(logs + weight, 2), 0)  # (C, b)
            self.evidence[rows] = torch.logsumexp(logs, 0) - torch.logsumexp(-penalty, 0)
            moved, spread = torch.stack(moves), torch.stack(spreads)
            if fine:
                turn, move = place.T @ points, (place[..., None] * moved).sum(0)
            else:
                best = place.argmax(0)
                turn, move = points[best], moved[best, torch.arange(len(rows), device=device)]
            variance = torch.cat((place.T @ points.square() - turn.square(), (place[..., None] * (spread + moved.square())).sum(0) - move.square()), dim=1)
            target = _limited(torch.cat((turn, away + move), dim=1), self.limits)
            second += self.keep(rows, target, variance.clamp(min=0))
        if fine:
            self.widen(second)
        return fine


def ball(reach: float, spacing: float) -> tuple[Tensor, float]:
    """Points (C, 3) of a body-centred cubic lattice within ``reach`` of 0, and their spacing, changed where needed for 27 to 257 points.

    The spacing is the side of the cube that a point has for itself.
    """
    volume = 4 / 3 * math.pi * reach**3
    side = min(max(spacing, (volume / _MOST) ** (1 / 3)), (volume / _FEWEST) ** (1 / 3))
    return bcc_ball(reach, side * 2 ** (1 / 3)), side  # two points a cell


def _difference(pose: tuple[Tensor, Tensor], origin: tuple[Tensor, Tensor]) -> Tensor:
    """(b, 5): rotation vector in degrees about the image's axes, and shift."""
    return torch.cat((torch.rad2deg(so3_log(pose[0] @ origin[0].transpose(1, 2))), pose[1] - origin[1]), dim=1)


def _objective(value: Tensor, away: Tensor, precision: Tensor, log_population: Tensor) -> Tensor:
    return torch.logsumexp(value + log_population, 1) - (away.square() * precision).sum(1) / 2


def _limited(away: Tensor, limits: Tensor) -> Tensor:
    turn, move = away[:, :3], away[:, 3:]
    parts = (part * (limit / part.norm(dim=1, keepdim=True).clamp(min=1e-12)).clamp(max=1) for part, limit in zip((turn, move), limits, strict=True))
    return torch.cat(list(parts), dim=1)


def _combine(found: Quadratic, away: Tensor, precision: Tensor, log_population: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean step (b, 5) and covariance (b, 5, 5) of the mixture over states, and each state's evidence (b, G)."""
    curvature = found.curvature + torch.diag(precision)
    slope = found.slope - (away * precision)[:, None]
    factor = torch.linalg.cholesky(curvature)
    step = torch.cholesky_solve(slope[..., None], factor)[..., 0]
    volume = factor.diagonal(dim1=-2, dim2=-1).log().sum(-1) - precision.log().sum() / 2
    evidence = found.value + ((slope * step).sum(-1) - (away.square() * precision).sum(1, keepdim=True)) / 2 - volume
    weight = torch.softmax(evidence + log_population, 1)
    mean = (weight[..., None] * step).sum(1)
    apart = step - mean[:, None]
    covariance = (weight[..., None, None] * (torch.cholesky_inverse(factor) + apart[..., :, None] * apart[..., None, :])).sum(1)
    return mean, covariance, evidence
