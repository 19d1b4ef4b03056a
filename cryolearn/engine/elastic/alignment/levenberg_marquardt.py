"""Batched Levenberg-Marquardt over pose, shift and mode amplitudes of particle images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

import torch

from ...imaging.poses import so3_exp
from .forward_model import ForwardModel
from .tilt_particles import TiltGroups

_LARGEST_TURN_RAD = 0.35


@dataclass
class Observed:
    """Whitened Fourier samples of images on a band: noise has unit variance in each real and imaginary part.

    Attributes
    ----------
    data : (n_images, n) complex samples of the images
    transfer : (n_images, n) real factor from a clean projection to ``data``: CTF and whitening
    tilts : the particles that tilt images show; None is a particle an image
    """

    data: torch.Tensor
    transfer: torch.Tensor
    tilts: TiltGroups | None = None

    def __len__(self) -> int:
        """Number of particles."""
        return len(self.data) if self.tilts is None else self.tilts.count

    def subset(self, index: torch.Tensor) -> Observed:
        """Samples of the particles that ``index`` (m,) chooses."""
        if self.tilts is None:
            return Observed(self.data[index], self.transfer[index])
        rows, tilts = self.tilts.subset(index)
        return Observed(self.data[rows], self.transfer[rows], tilts)

    def thinned(self, most: int) -> Observed:
        """At most so many tilt images, spread evenly over the series, of a single particle."""
        if self.tilts is None or len(self.data) <= most:
            return self
        rows = torch.linspace(0, len(self.data) - 1, most, device=self.data.device).round().long()
        return Observed(self.data[rows], self.transfer[rows], replace(self.tilts, matrix=self.tilts.matrix[rows], member=self.tilts.member[rows]))

    @classmethod
    def joined(cls, parts: Sequence[Observed]) -> Observed:
        """Samples of several batches, one after the other."""
        groups = [part.tilts for part in parts if part.tilts is not None]
        return cls(torch.cat([part.data for part in parts]), torch.cat([part.transfer for part in parts]), TiltGroups.joined(groups) if groups else None)

    def pooled(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over the images of each particle."""
        return values if self.tilts is None else self.tilts.pooled(values)

    def each(self, values: torch.Tensor) -> torch.Tensor:
        """What belongs to a particle, for each of its images."""
        return values if self.tilts is None else values[self.tilts.member]

    def seen(self, rotation: torch.Tensor, shift_angst: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Poses and shifts of the images from those of the particles."""
        return (rotation, shift_angst) if self.tilts is None else self.tilts.seen(rotation, shift_angst)


@dataclass(frozen=True, kw_only=True)
class ElasticPose:
    """Poses, shifts and mode amplitudes; every field has the batch first.

    Attributes
    ----------
    rotation : (B, 3, 3)
    shift_angst : (B, 2) Å, or (B, 3) of tilt-series particles
    amplitudes : (B, K)
    """

    rotation: torch.Tensor
    shift_angst: torch.Tensor
    amplitudes: torch.Tensor

    def subset(self, index: torch.Tensor | slice) -> Self:
        """Part of the batch, chosen by index or slice."""
        return type(self)(**{name: values[index] for name, values in vars(self).items()})

    @classmethod
    def concatenate(cls, parts: Sequence[Self]) -> Self:
        """One batch of several, joined along its axis."""
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in vars(parts[0])})

    @classmethod
    def stack(cls, parts: Sequence[Self]) -> Self:
        """Batches of the same size, stacked along a new first axis."""
        return cls(**{name: torch.stack([getattr(part, name) for part in parts]) for name in vars(parts[0])})

    def flat(self) -> ElasticPose:
        """Those of (b, s, ...), s an image, as one batch (b s, ...)."""
        return ElasticPose(rotation=self.rotation.flatten(0, 1), shift_angst=self.shift_angst.flatten(0, 1), amplitudes=self.amplitudes.flatten(0, 1))


@dataclass(frozen=True, kw_only=True)
class Refined(ElasticPose):
    """State of refined problems.

    ``cost`` is the residual sum of squares of whitened samples (twice the negative log likelihood), ``correlation``
    that of data and model, ``scale`` the fitted contrast, ``covariance`` (B, 5 + K, 5 + K) from ``J^T J``
    in the units of the parameters (radians, Å, amplitudes); of tilt-series particles (B, 6 + K, 6 + K).
    """

    cost: torch.Tensor
    correlation: torch.Tensor
    scale: torch.Tensor
    covariance: torch.Tensor
    converged: torch.Tensor

    @property
    def rigid(self) -> int:
        """Parameters before the amplitudes: three of the rotation and those of the shift."""
        return 3 + self.shift_angst.shape[1]


def refine(
    forward: ForwardModel, observed: Observed, image: torch.Tensor, start: ElasticPose, iterations: int, prior_sigma: float = 0.0, problems_at_once: int = 8,
) -> Refined:
    """Refine ``B`` starting points, each against the image, or the tilt images, of one of the observed particles.

    Parameters
    ----------
    forward
        Projections of the elastic reference on a band, with their derivatives.
    observed
        Whitened samples of the images on the same band.
    image : (B,)
        Index into ``observed`` of each problem's particle.
    start
        Starting points: B poses, shifts and mode amplitudes.
    iterations
        Levenberg-Marquardt steps.
    prior_sigma
        Standard deviation of a zero-mean Gaussian prior on the amplitudes; 0 is none.
    problems_at_once
        Problems, and images, whose Jacobians are in memory together.
    """
    parts = []
    for first in range(0, len(image), problems_at_once):
        rows = slice(first, first + problems_at_once)
        some = observed.subset(image[rows]), start.subset(rows)
        parts.append(_refine_batch(forward, *some, iterations, prior_sigma=prior_sigma, images_at_once=problems_at_once))
    return Refined.concatenate(parts)


@dataclass
class _Linearised:
    """Squared and projected Jacobian, gradient and cost of each particle at one point."""

    square: torch.Tensor
    gradient: torch.Tensor
    cost: torch.Tensor
    scale: torch.Tensor


def _linearise(
    forward: ForwardModel, observed: Observed, rotation: torch.Tensor, shift: torch.Tensor, amplitudes: torch.Tensor, images_at_once: int = 8,
) -> _Linearised:
    rotation, shift = observed.seen(rotation, shift)
    pieces = zip(rotation.split(images_at_once), observed.each(amplitudes).split(images_at_once), strict=True)
    projection, jacobian = (torch.cat(parts) for parts in zip(*(forward.project_with_jacobian(*piece) for piece in pieces), strict=True))
    factor = observed.transfer * forward.band.phase(shift)
    model = torch.view_as_real(projection * factor).flatten(1)
    jacobian = torch.view_as_real(jacobian * factor[:, None]).flatten(2)
    if observed.tilts is not None:
        jacobian = observed.tilts.by_particle_parameters(jacobian)
    data = torch.view_as_real(observed.data).flatten(1)
    power = observed.pooled(model.square().sum(1)).clamp_min(1e-20)
    # a negative contrast would be a white-on-black mirror of the particle: not a solution
    scale = (observed.pooled((model * data).sum(1)) / power).clamp_min(0)
    contrast = observed.each(scale)
    residual = data - contrast[:, None] * model
    jacobian = jacobian * contrast[:, None, None]
    # variable projection (Kaufman): the contrast is solved at each point, so its direction leaves the Jacobian
    along = observed.pooled(jacobian @ model[:, :, None]) / power[:, None, None]
    jacobian = jacobian - observed.each(along) * model[:, None]
    return _Linearised(
        square=observed.pooled(jacobian @ jacobian.transpose(1, 2)), gradient=observed.pooled((jacobian @ residual[:, :, None])[..., 0]),
        cost=observed.pooled(residual.square().sum(1)), scale=scale)


def _refine_batch(forward: ForwardModel, observed: Observed, start: ElasticPose, iterations: int, prior_sigma: float, images_at_once: int) -> Refined:
    rotation, shift, amplitudes = start.rotation, start.shift_angst, start.amplitudes
    batch, count = amplitudes.shape
    rigid = 3 + shift.shape[1]
    size = rigid + count
    precision = torch.zeros(size, device=amplitudes.device)
    if prior_sigma > 0:
        precision[rigid:] = prior_sigma**-2
    # parameters scaled to comparable effect: one Å at the rim for a turn, one Å of RMSD for an amplitude
    unit = torch.ones(size, device=amplitudes.device)
    unit[:3] = 1.0 / 30.0
    unit[rigid:] = math.sqrt(forward.reference.n_atoms)
    damping = torch.full((batch,), 1e-2, device=amplitudes.device)

    def objective(point: _Linearised, q: torch.Tensor) -> torch.Tensor:
        return point.cost + (q.square() * precision[rigid:]).sum(1)

    def normal_equations(point: _Linearised, q: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        matrix = point.square + torch.diag(precision)
        gradient = point.gradient.clone()
        gradient[:, rigid:] -= q * precision[rigid:]
        return matrix * unit[:, None] * unit, gradient * unit

    point = _linearise(forward, observed, rotation, shift, amplitudes, images_at_once)
    value = objective(point, amplitudes)
    last_gain = torch.full_like(value, float("inf"))
    for _ in range(iterations):
        matrix, gradient = normal_equations(point, amplitudes)
        diagonal = torch.diagonal(matrix, dim1=1, dim2=2)
        floor = 1e-6 * diagonal.amax(1, keepdim=True) + 1e-12
        damped = matrix + torch.diag_embed(damping[:, None] * diagonal + floor)
        step = torch.linalg.solve(damped, gradient) * unit
        turn = step[:, :3].norm(dim=1, keepdim=True).clamp_min(1e-9)
        step = step * (_LARGEST_TURN_RAD / turn).clamp(max=1.0)
        new_rotation = so3_exp(step[:, :3]) @ rotation
        new_shift = shift + step[:, 3:rigid]
        new_amplitudes = amplitudes + step[:, rigid:]
        trial = _linearise(forward, observed, new_rotation, new_shift, new_amplitudes, images_at_once)
        new_value = objective(trial, new_amplitudes)
        better = (new_value < value) & (trial.scale > 0)
        last_gain = torch.where(better, value - new_value, torch.zeros_like(value))
        rotation = torch.where(better[:, None, None], new_rotation, rotation)
        shift = torch.where(better[:, None], new_shift, shift)
        amplitudes = torch.where(better[:, None], new_amplitudes, amplitudes)
        value = torch.where(better, new_value, value)
        point = _Linearised(
            torch.where(better[:, None, None], trial.square, point.square),
            torch.where(better[:, None], trial.gradient, point.gradient),
            torch.where(better, trial.cost, point.cost),
            torch.where(better, trial.scale, point.scale),
        )
        damping = torch.where(better, damping * 0.25, damping * 8).clamp(1e-7, 1e7)
    matrix, _ = normal_equations(point, amplitudes)
    floor = 1e-9 * torch.diagonal(matrix, dim1=1, dim2=2).amax(1) + 1e-12
    inverse = torch.linalg.inv(matrix + floor[:, None, None] * torch.eye(size, device=matrix.device))
    total = observed.pooled(torch.view_as_real(observed.data).flatten(1).square().sum(1))
    return Refined(
        rotation=rotation,
        shift_angst=shift,
        amplitudes=amplitudes,
        cost=point.cost,
        correlation=torch.where(total > 0, 1 - point.cost / total, 0.0).clamp_min(0).sqrt(),  # an image that holds nothing agrees with nothing
        scale=point.scale,
        covariance=inverse * unit[:, None] * unit,
        # half a unit of log likelihood is a fraction of a standard deviation of any parameter
        converged=last_gain < 1.0,
    )
