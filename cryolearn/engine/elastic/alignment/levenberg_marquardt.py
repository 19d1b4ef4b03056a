"""Batched Levenberg-Marquardt over pose, shift and mode amplitudes of particle images."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Self

import torch

from ...batches import BatchPlan
from .forward_model import ForwardModel
from .tilt_particles import TiltGroups

_LARGEST_TURN_RAD = 0.35
_TINY = 1e-20


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
        """At most so many tilt images of each particle, spread evenly over its series."""
        if self.tilts is None:
            return self
        rows, tilts = self.tilts.thinned(most)
        return Observed(self.data[rows], self.transfer[rows], tilts)

    def within(self, count: int) -> Observed:
        """The first so many samples of each image: those of a narrower band."""
        return Observed(self.data[:, :count], self.transfer[:, :count], self.tilts)

    @classmethod
    def joined(cls, parts: Sequence[Observed]) -> Observed:
        """Samples of several batches, one after the other."""
        groups = [part.tilts for part in parts if part.tilts is not None]
        return cls(torch.cat([part.data for part in parts]), torch.cat([part.transfer for part in parts]), TiltGroups.joined(groups) if groups else None)

    def pooled(self, values: torch.Tensor) -> torch.Tensor:
        """Sums over the images of each particle."""
        return values if self.tilts is None else self.tilts.pooled(values)

    @property
    def images_each(self) -> int:
        """Images of a particle, at most about."""
        return 1 if self.tilts is None else -(-len(self.data) // max(1, self.tilts.count))

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
    forward: ForwardModel, observed: Observed, image: torch.Tensor, start: ElasticPose, iterations: int, *, prior_sigma: float = 0.0,
    plan: BatchPlan | None = None,
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
    plan
        Images whose Jacobians are in memory together; eight without it.
    """
    plan = plan or BatchPlan("images", 8, forward.bytes_per_problem)

    def some(rows: slice) -> Refined:
        return _refine_batch(forward, observed.subset(image[rows]), start.subset(rows), iterations, prior_sigma=prior_sigma, images_at_once=plan.at_once)

    return Refined.concatenate(plan.run(len(image), some, observed.images_each))


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
    factor = forward.band.phase(shift, observed.transfer)
    data = torch.view_as_real(observed.data).flatten(1)
    pieces = zip(*(values.split(images_at_once) for values in (rotation, observed.each(amplitudes), factor, data)), strict=True)
    parts = list(zip(*(_products(forward, *piece) for piece in pieces), strict=True))
    model, square, gradient = (part[0] if len(part) == 1 else torch.cat(part) for part in parts)
    if observed.tilts is not None:
        square, gradient = observed.tilts.by_particle_parameters(square, gradient)
    power, agreement = square[:, 0, 0].clamp_min(_TINY), gradient[:, 0]
    # a negative contrast would be a white-on-black mirror of the particle: not a solution
    scale = (agreement / power).clamp_min(0)
    residual = torch.addcmul(data, model, observed.each(scale)[:, None], value=-1)
    # variable projection (Kaufman): the contrast is solved at each point, so its direction leaves the Jacobian
    beside, contrast = square[:, 1:, 0], scale[:, None]
    square = torch.addcmul(square[:, 1:, 1:], beside[:, :, None], (beside / power[:, None])[:, None], value=-1)
    return _Linearised(
        square=square * contrast.square()[:, None], gradient=torch.addcmul(gradient[:, 1:], beside, contrast, value=-1) * contrast,
        cost=observed.pooled(torch.linalg.vecdot(residual, residual)), scale=scale)


def _products(
    forward: ForwardModel, rotation: torch.Tensor, amplitudes: torch.Tensor, factor: torch.Tensor, data: torch.Tensor,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Of each image the model (b, 2 n) and, for the model and its derivatives together, their products with each other and with the data."""
    rows = torch.view_as_real(forward.rows(rotation, amplitudes).mul_(factor[:, None])).flatten(2)
    return rows[:, 0], rows @ rows.transpose(1, 2), (rows @ data[:, :, None])[..., 0]


def _turned(rotation: torch.Tensor, step: torch.Tensor, bound: torch.Tensor) -> torch.Tensor:
    """Poses (B, 3, 3) turned by the Cayley map of ``step`` (B, 3) times ``_LARGEST_TURN_RAD / bound`` (B, 1).

    Up to third order that is the rotation about the step by its length, which a step that is not the last one need not have exactly. The entries of a rotation
    matrix are quadratic forms of a quaternion, here (bound, step) with the half angle in the constants: few operations on all poses at once.
    """
    four = torch.cat([bound, step], 1)
    forms = (four[:, :, None] * four[:, None]).flatten(1) @ _quadratic_forms(rotation.device, rotation.dtype)
    return (forms[:, :9] / forms[:, 9:]).view(-1, 3, 3) @ rotation


@lru_cache
def _quadratic_forms(device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    """(16, 10) products of two parts of a quaternion to the nine entries of its rotation matrix, and to its squared length."""
    form = torch.zeros(10, 4, 4, dtype=torch.float64)
    for axis, (a, b) in enumerate(((1, 2), (2, 0), (0, 1))):
        form[4 * axis] = torch.diag(torch.tensor([1.0, *(1.0 if other == axis else -1.0 for other in range(3))]))
        form[3 * a + b, a + 1, b + 1] = form[3 * b + a, a + 1, b + 1] = 2
        form[3 * a + b, 0, axis + 1], form[3 * b + a, 0, axis + 1] = -2, 2
    form[9] = torch.eye(4)
    half = torch.tensor([1.0, *[_LARGEST_TURN_RAD / 2] * 3], dtype=torch.float64)
    return (form * half[:, None] * half).flatten(1).T.to(device, dtype).contiguous()


def _refine_batch(forward: ForwardModel, observed: Observed, start: ElasticPose, iterations: int, prior_sigma: float, images_at_once: int) -> Refined:
    rotation, place = start.rotation, torch.cat([start.shift_angst, start.amplitudes], 1)
    moves, count = start.shift_angst.shape[1], start.amplitudes.shape[1]
    size = 3 + moves + count
    # parameters scaled to comparable effect: one Å at the rim for a turn, one Å of RMSD for an amplitude
    unit = torch.tensor([1.0 / 30.0] * 3 + [1.0] * moves + [math.sqrt(forward.reference.n_atoms)] * count).to(place)
    units, eye = unit[:, None] * unit, torch.eye(size).to(place)
    precision = prior_sigma**-2 * (torch.arange(size) >= 3 + moves).to(place) if prior_sigma > 0 else None

    def state(rotation: torch.Tensor, place: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """Pose, shift and amplitudes, value of the objective, normal equations in units, cost and contrast; all (B, ...)."""
        at = _linearise(forward, observed, rotation, place[:, :moves], place[:, moves:], images_at_once)
        value, matrix, gradient = at.cost, at.square, at.gradient
        if precision is not None:
            amplitudes = torch.nn.functional.pad(place[:, moves:], (3 + moves, 0))
            value = value + amplitudes.square() @ precision
            matrix, gradient = matrix + torch.diag(precision), gradient - amplitudes * precision
        return rotation, place, value, matrix * units, gradient * unit, at.cost, at.scale

    now = state(rotation, place)
    shapes, widths = [part.shape for part in now], [part[0].numel() for part in now]
    packed = torch.cat([part.reshape(len(place), -1) for part in now], 1)  # one array, so that one operation takes or leaves a step
    damping = torch.full_like(now[2], 1e-2)
    smaller, larger, least = (torch.tensor(value).to(place) for value in (0.25, 8.0, 1e-12))
    before = torch.full_like(now[2], float("inf"))
    for _ in range(iterations):
        rotation, place, value, matrix, gradient, _, _ = now
        diagonal = torch.diagonal(matrix, dim1=1, dim2=2)
        floor = torch.add(least, diagonal.amax(1, keepdim=True), alpha=1e-6)
        damped = torch.addcmul(matrix, eye, torch.addcmul(floor, damping[:, None], diagonal)[..., None])
        step = torch.linalg.solve_ex(damped, gradient)[0] * unit  # no check, for which the host would wait
        turn = step[:, :3]
        bound = torch.linalg.vector_norm(turn, dim=1, keepdim=True).clamp_min(_LARGEST_TURN_RAD)
        trial = state(_turned(rotation, turn, bound), torch.addcdiv(place, step[:, 3:], bound, value=_LARGEST_TURN_RAD))
        better = trial[2] < value
        if precision is not None:
            better &= trial[6] > 0  # without a prior no contrast is never better than one
        packed = torch.where(better[:, None], torch.cat([part.reshape(len(place), -1) for part in trial], 1), packed)
        now = tuple(part.view(shape) for part, shape in zip(packed.split(widths, 1), shapes, strict=True))
        before = value
        damping = (damping * torch.where(better, smaller, larger)).clamp(1e-7, 1e7)
    rotation, place, value, matrix, _, cost, scale = now
    floor = torch.add(least, torch.diagonal(matrix, dim1=1, dim2=2).amax(1), alpha=1e-9)
    inverse = torch.linalg.inv_ex(matrix + floor[:, None, None] * eye)[0]
    total = observed.pooled(torch.view_as_real(observed.data).flatten(1).square().sum(1))
    return Refined(
        rotation=rotation,
        shift_angst=place[:, :moves],
        amplitudes=place[:, moves:],
        cost=cost,
        correlation=torch.where(total > 0, 1 - cost / total, 0.0).clamp_min(0).sqrt(),  # an image that holds nothing agrees with nothing
        scale=scale,
        covariance=inverse * units,
        # half a unit of log likelihood is a fraction of a standard deviation of any parameter
        converged=before - value < 1.0,
    )
