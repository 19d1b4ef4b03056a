"""Orientations that fit given distances better: Gauss-Newton steps on every image at once.

With unit quaternions q the distance of image i to landmark l is ``d = 2 acos |<q_i, q_l s>|``, s the group's nearest element, and turning image i on the
detector's side by the small vector w changes it by ``-a w``, a the axis from i to l. So the sum of weight (d - D)^2 has the gradient
``-sum weight (d - D) a`` and the block ``sum weight a a^T`` of its Gauss-Newton matrix, both of them products of (P, L) matrices with quaternions.

The distance has a kink at 0 and at its largest value: axes of pairs closer than ``_SOFT_RAD`` to 0 fade out. Junk does not spoil the rest: residuals above
three times their typical size pull no more than that (Huber), and images whose distances fit much worse than those of the others weigh less.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import numpy as np
import roma
import torch
from torch import Tensor

from ..similarity_kernel import SimilarityKernel

__all__ = ["Fit", "Measured", "group_quaternions", "nearest_products", "polish"]

_SOFT_RAD = 1e-6
_HUBER = 3.0  # typical residuals
_JUNK = 1.5  # times the median image's residual
_LEAST_TYPICAL_RAD = 0.01  # no images are junk, and no pairs outliers, by less: with exact distances those that still move would be
_PAIRS = 1 << 20  # in memory at a time
_DOUBLE = 3_000_000  # pairs up to which numbers are double
_TRUST_RAD = 0.5  # longest step of an image
_BLOCKS_EVERY = 5  # iterations between two evaluations of the blocks
_RIDGE = 0.02  # of a block's mean diagonal
_DONE = 0.02  # of the expected error: smaller steps are none
FLOOR = 2.76  # mean error of an orientation whose L distances are each off by s: FLOOR s / sqrt(L), Cramer-Rao for uniform orientations
_CONJUGATE = (-1.0, -1.0, -1.0, 1.0)


def group_quaternions(kernel: SimilarityKernel) -> Tensor:
    """(n, 4) quaternions x, y, z, w of the group, float64."""
    return roma.rotmat_to_unitquat(kernel.matrices)


class Measured:
    """Distances of all images to landmarks, read in pieces.

    Parameters
    ----------
    distances_rad : (P, L) array or memory map
    landmarks : (L,) rows that the columns belong to
    weights : (P, L) or None
    """

    def __init__(self, distances_rad, landmarks, weights, device: torch.device | str = "cpu") -> None:  # type: ignore[no-untyped-def]
        self.distances, self.weights = distances_rad, weights
        self.landmarks = torch.as_tensor(landmarks, dtype=torch.long)
        self.images = len(distances_rad)
        self.dtype = torch.float64 if self.images * len(self.landmarks) <= _DOUBLE else torch.float32
        # with all pairs, alike in both directions, the columns say the same as the rows
        self.full = self.images == len(self.landmarks) and bool((self.landmarks == torch.arange(self.images)).all())
        for values in (distances_rad, weights):
            if self.full and values is not None:
                some = slice(0, self.images, max(1, self.images // 50))
                self.full = np.allclose(values[some], values[:, some].T, atol=1e-5, equal_nan=True)
        self.rows_at_once = max(1, _PAIRS // len(self.landmarks))

    def pieces(self) -> Iterator[tuple[slice, Tensor, Tensor]]:
        """Rows, their distances and weights (b, L); an image's distance to itself has none, nor has what is no number."""
        for start in range(0, self.images, self.rows_at_once):
            rows = slice(start, min(start + self.rows_at_once, self.images))
            yield rows, *self.block(rows)

    def block(self, rows: slice | Tensor) -> tuple[Tensor, Tensor]:
        """Distances and weights (b, L) of some rows; what is not known has 0 for both."""
        at = torch.arange(self.images)[rows]
        where = rows if isinstance(rows, slice) else at.numpy()
        distance = torch.as_tensor(self.distances[where]).to(self.dtype)
        weight = torch.ones_like(distance) if self.weights is None else torch.as_tensor(self.weights[where]).to(self.dtype)
        known = torch.isfinite(distance) & torch.isfinite(weight) & (at[:, None] != self.landmarks)
        return torch.where(known, distance, torch.zeros_like(distance)), torch.where(known, weight, torch.zeros_like(weight))


class Fit:
    """How orientations fit the distances, and where they should move.

    Attributes
    ----------
    loss : weighted mean squared residual, rad^2
    residual_rad : (P,) root of the weighted mean squared residual of each image
    pull : (P, 4) and blocks (P, 16), products with quaternions before they are turned into each image's frame
    """

    def __init__(self, images: int, dtype: torch.dtype, blocks: bool) -> None:
        self.pull = torch.zeros(images, 4, dtype=dtype)
        self.blocks = torch.zeros(images, 16, dtype=dtype) if blocks else None
        self.squares = torch.zeros(images, dtype=torch.float64)
        self.weight = torch.zeros(images, dtype=torch.float64)
        self.trusted = torch.zeros(2, images, dtype=torch.float64)

    @property
    def loss(self) -> float:
        """Weighted mean squared residual of all distances, rad^2."""
        return float(self.squares.sum() / self.weight.sum())

    @property
    def residual_rad(self) -> Tensor:
        """(P,) root of the weighted mean squared residual of each image."""
        return (self.squares / self.weight.clamp_min(torch.finfo(torch.float64).tiny)).sqrt()

    @property
    def trusted_residual_rad(self) -> Tensor:
        """As residual_rad, over the partners that are no junk."""
        return (self.trusted[0] / self.trusted[1].clamp_min(torch.finfo(torch.float64).tiny)).sqrt()


def nearest_products(quaternions: Tensor, turned: Tensor) -> tuple[Tensor, Tensor]:
    """Inner products (b, L) with the nearest of the group's copies (n, L, 4) of the landmarks, signed, and which copy that is."""
    best = quaternions @ turned[0].T
    which = torch.zeros(best.shape, dtype=torch.uint8)
    for number in range(1, len(turned)):
        other = quaternions @ turned[number].T
        closer = other.abs() > best.abs()
        best = torch.where(closer, other, best)
        which[closer] = number
    return best, which


def evaluate(
    quaternions: Tensor, measured: Measured, group: Tensor, trust: Tensor, limit_rad: float, soft_rad: float, blocks: bool, only_rows: bool = False
) -> Fit:
    """Residuals, pulls and blocks of all images.

    Parameters
    ----------
    quaternions : (P, 4)
        Orientations of all images.
    measured
        Distances to the landmarks and their weights.
    group : (n, 4)
        Rotations of the point group, as quaternions.
    trust : (P,)
        Factor of each image's weights.
    limit_rad
        Largest residual that pulls in full.
    soft_rad
        Pairs closer than this to a kink of the distance pull less.
    blocks
        Also compute the blocks of the Gauss-Newton matrix.
    only_rows
        Landmarks feel their own rows only.
    """
    dtype = measured.dtype
    q, group, trust = quaternions.to(dtype), group.to(dtype), trust.to(dtype)
    at = measured.landmarks
    turned = roma.quat_product(q[at][None].expand(len(group), -1, -1), group[:, None].expand(-1, len(at), -1))
    back = group * group.new_tensor(_CONJUGATE)
    fit = Fit(len(q), dtype, blocks)
    both = not (measured.full or only_rows)  # all pairs: the columns say the same as the rows
    for rows, distance, weight in measured.pieces():
        product, which = nearest_products(q[rows], turned)
        cosine = product.abs().clamp(max=1)
        sine = (1 - cosine.square()).clamp_min(0).sqrt()
        residual = 2 * torch.atan2(sine, cosine) - distance
        squares = weight * residual.square()
        fit.squares[rows] += squares.sum(1, dtype=torch.float64)
        fit.weight[rows] += weight.sum(1, dtype=torch.float64)
        fit.trusted[0, rows] += (squares @ trust[at]).double()
        fit.trusted[1, rows] += (weight @ trust[at]).double()
        weight = weight * trust[rows, None] * trust[at]
        # Huber, as a weight, so that images with large residuals still take whole steps
        weight = weight * (limit_rad / residual.abs().clamp_min(1e-30)).clamp(max=1)
        soft = (soft_rad / 2) ** 2
        weight = weight * (cosine.square() / (cosine.square() + soft))
        inverse = sine / (sine.square() + soft)
        pull = weight * residual * inverse * torch.where(product < 0, -1.0, 1.0).to(dtype)
        curve = weight * inverse.square() if blocks else None
        own = q[rows]
        for number in range(len(group)):
            chosen = which == number if len(group) > 1 else None
            part = pull if chosen is None else torch.where(chosen, pull, torch.zeros_like(pull))
            fit.pull[rows] += part @ turned[number]
            reverse = roma.quat_product(own, back[number].expand_as(own)) if both else own
            if both:
                fit.pull.index_add_(0, at, part.T @ reverse)
            if curve is not None and fit.blocks is not None:
                part = curve if chosen is None else torch.where(chosen, curve, torch.zeros_like(curve))
                fit.blocks[rows] += part @ _outer(turned[number])
                if both:
                    fit.blocks.index_add_(0, at, part.T @ _outer(reverse))
    return fit


def _outer(vectors: Tensor) -> Tensor:
    return (vectors[:, :, None] * vectors[:, None]).flatten(1)


def frames(quaternions: Tensor) -> Tensor:
    """(P, 3, 4): takes a quaternion p to the vector part of ``p conj(q)``."""
    x, y, z, w = quaternions.unbind(-1)
    rows = ((w, -z, y, -x), (z, w, -x, -y), (-y, x, w, -z))
    return torch.stack([torch.stack(row, -1) for row in rows], -2)


def polish(
    quaternions: Tensor, measured: Measured, kernel: SimilarityKernel, iterations: int = 60,
    movable: Tensor | None = None, report: Callable[[str], None] | None = None,
) -> tuple[Tensor, Fit]:
    """Move orientations to the nearest minimum of the robust sum of squared residuals.

    Each iteration takes one pass over the (P, L) distances, ``_PAIRS`` of them in memory at a time: about 15 operations a pair and group element.

    Parameters
    ----------
    quaternions : (P, 4)
        Orientations to start from.
    measured
        Distances to the landmarks and their weights.
    kernel
        Point group of the particle.
    iterations
        Largest number of steps; fewer when they become small beside the expected error.
    movable : (P,)
        True for images that may move; None lets all move.
    report
        Takes a line of text per iteration.

    Returns
    -------
    quaternions (P, 4) float64 and their fit
    """
    group = group_quaternions(kernel)
    q = torch.nn.functional.normalize(quaternions.double(), dim=-1)
    trust, limit, soft, step, last = torch.ones(len(q), dtype=torch.float64), math.inf, _SOFT_RAD, 1.0, math.inf
    inverse, fresh = torch.empty(0), True
    for number in range(iterations):
        fit = evaluate(q, measured, group, trust, limit, soft, blocks=fresh, only_rows=movable is not None)
        frame = frames(q)
        if fit.blocks is not None:
            block = frame @ fit.blocks.double().view(-1, 4, 4) @ frame.transpose(1, 2)
            ridge = _RIDGE * block.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-300)
            inverse = torch.linalg.inv(block + ridge[:, None, None] * torch.eye(3, dtype=torch.float64))
        move = step * (inverse @ (frame @ fit.pull.double()[:, :, None]))[:, :, 0]
        if movable is not None:
            move = move * movable[:, None]
        move = move * (_TRUST_RAD / move.norm(dim=1, keepdim=True).clamp_min(_TRUST_RAD))
        q = torch.nn.functional.normalize(roma.quat_product(roma.rotvec_to_unitquat(move), q), dim=-1)
        size = float(move.norm(dim=1).mean())
        if report is not None:
            report(f"iteration {number + 1}: mean squared residual {fit.loss:.6f} rad^2, mean step {size:.1e} rad")
        trusted, limit, expected = _robust(fit, len(measured.landmarks))
        fresh = number == 0 or (number + 1) % _BLOCKS_EVERY == 0
        trust = trusted if fresh else trust  # pulls and blocks of one step must be of one trust, or it goes anywhere
        soft = max(expected, _SOFT_RAD)
        if size < max(_DONE * expected, 1e-9):
            break
        step = min(1.0, 1.2 * step) if size < 0.9 * last else max(0.7 * step, 0.3)  # shorter when it goes to and fro
        last = size
    return q, evaluate(q, measured, group=group, trust=trust, limit_rad=limit, soft_rad=soft, blocks=False)


def _robust(fit: Fit, landmarks: int) -> tuple[Tensor, float, float]:
    """Factor of each image's weights, largest residual that pulls in full, and the expected error of an orientation (the floor)."""
    residual = fit.trusted_residual_rad
    typical = float(residual.median())
    scale = max(typical, _LEAST_TYPICAL_RAD)
    return (residual / (_JUNK * scale)).clamp_min(1).pow(-4), _HUBER * scale, FLOOR * typical / math.sqrt(landmarks)
