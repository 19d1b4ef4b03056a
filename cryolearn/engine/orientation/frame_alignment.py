"""One set of orientations aligned to another by what distances, or images, leave free.

Distances leave ``A -> P A Q`` and transposition free: O(4) on the unit quaternions. Images leave ``A -> A Q`` and the handedness ``A -> J A J``,
J = diag(1, 1, -1), which is a turn by 180 degrees about z on both sides. With symmetry Q is one of the turns that take the group to itself, errors are the
smallest over the group, and transposition is not free.

Without symmetry the O(4) alignment has a closed form: ``4 <q, q'>^2 = 1 + tr(R^T R')`` makes the sum of squared inner products bilinear in P and Q, so the top
singular vectors of a (9, 9) matrix are the start. Reweighted least squares on quaternions, where each step is one SVD, then lowers the mean error itself.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import roma
import torch
from numpy.typing import NDArray
from torch import Tensor

from .recovery.gauss_newton import group_quaternions
from .similarity_kernel import SimilarityKernel
from .symmetry_normaliser import Freedom, frame_freedom

__all__ = ["Alignment", "align_o4", "align_physical"]

_ITERATIONS = 100
_DONE = 1e-9
_ALTERNATIONS = 8
_SOFT = 1e-12  # of the squared sine of half the error
_HYPOTHESES = 24  # images that each tell where the rest should go
_JUDGES = 200  # images that judge them
_KEPT = 4
_HOPELESS = 1.3  # times the best start's error: not polished
_J = torch.diag(torch.tensor([1.0, 1.0, -1.0], dtype=torch.float64))


@dataclass(frozen=True)
class Alignment:
    """What takes one set of orientations to another, and the errors that remain.

    Attributes
    ----------
    left, right : (3, 3) float64 torch; orientations become ``left @ A @ right``
    transposed : A is transposed first
    mirrored : A becomes J A J first (the other hand)
    errors_rad : (P,) angle to the reference, the smallest over the group
    """

    left: Tensor
    right: Tensor
    transposed: bool
    mirrored: bool
    errors_rad: NDArray[np.float64]

    def apply(self, rotations: Tensor | NDArray[np.float64]) -> Tensor:
        """Orientations (..., 3, 3) on the reference's side, float64."""
        poses = torch.as_tensor(rotations, dtype=torch.float64)
        if self.mirrored:
            poses = _J @ poses @ _J
        if self.transposed:
            poses = poses.transpose(-1, -2)
        return self.left @ poses @ self.right


def align_o4(reference: Tensor | NDArray[np.float64], other: Tensor | NDArray[np.float64], kernel: SimilarityKernel | None = None) -> Alignment:
    """Align by all that distances leave free, to the smallest mean error (E_OR of Banjac et al. 2021).

    Parameters
    ----------
    reference, other : (P, 3, 3)
        Orientations of the same images; ``other`` is the set that is moved.
    kernel
        Distance modulo the particle's point group; None is C1.
    """
    pair, kernel = _pair(reference, other), kernel or SimilarityKernel("C1")
    if len(kernel.matrices) > 1:
        return _best([_align_group(*pair, kernel, free_left=True, mirrored=False)])
    starts = []
    for transposed in (False, True):
        poses = pair[1].transpose(1, 2) if transposed else pair[1]
        left, right = _bilinear_start(pair[0], poses)
        starts.append((float(_scores(pair[0], poses, left[None], right[None], kernel)), poses, left, right, transposed))
    best = min(start[0] for start in starts)
    return _best(
        [
            replace(
                _polish(pair[0], poses, left=left, right=right, kernel=kernel, freedom=frame_freedom(kernel), free_left=True, mirrored=False),
                transposed=transposed,
            )
            for error, poses, left, right, transposed in starts
            if error <= _HOPELESS * best + 1e-6
        ]
    )


def align_physical(reference: Tensor | NDArray[np.float64], other: Tensor | NDArray[np.float64], kernel: SimilarityKernel | None = None) -> Alignment:
    """Align by what images leave free: the particle's frame and handedness; see :func:`align_o4`."""
    pair, kernel = _pair(reference, other), kernel or SimilarityKernel("C1")
    return _best([_align_group(pair[0], _J @ pair[1] @ _J if mirrored else pair[1], kernel, free_left=False, mirrored=mirrored) for mirrored in (False, True)])


def _pair(reference: Tensor | NDArray[np.float64], other: Tensor | NDArray[np.float64]) -> tuple[Tensor, Tensor]:
    first, second = (torch.as_tensor(item, dtype=torch.float64) for item in (reference, other))
    if first.shape != second.shape or not len(first):
        raise ValueError(f"Orientations of shapes {tuple(first.shape)} and {tuple(second.shape)} cannot be aligned: each needs its partner.")
    return first, second


def _best(found: list[Alignment]) -> Alignment:
    return min(found, key=lambda item: float(item.errors_rad.mean()))


def _bilinear_start(reference: Tensor, poses: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations P, Q that make the sum of ``tr(R_i^T P R'_i Q)`` largest, from the top singular pair of its (9, 9) matrix."""
    tensor = torch.einsum("nab,ncd->acdb", reference, poses)
    u, _, vt = torch.linalg.svd(tensor.reshape(9, 9))
    found = []
    for sign in (1.0, -1.0):
        left, right = (_project(sign * vector.reshape(3, 3)) for vector in (u[:, 0], vt[0]))  # (a, c) and (d, b)
        for _ in range(_ALTERNATIONS):
            right = _project(torch.einsum("acdb,ac->db", tensor, left))
            left = _project(torch.einsum("acdb,db->ac", tensor, right))
        found.append((float(torch.einsum("acdb,ac,db->", tensor, left, right)), left, right))
    return max(found, key=lambda item: item[0])[1:]


def _project(matrix: Tensor) -> Tensor:
    return roma.special_procrustes(matrix)


def _align_group(reference: Tensor, poses: Tensor, kernel: SimilarityKernel, free_left: bool, mirrored: bool) -> Alignment:
    """Hypotheses: each of some images, with each turn that takes the group to itself, tells where all should go; the best are polished."""
    freedom = frame_freedom(kernel)
    some = torch.linspace(0, len(reference) - 1, min(_JUDGES, len(reference))).long()
    tellers = some[torch.linspace(0, len(some) - 1, min(_HYPOTHESES, len(some))).long()]
    if free_left:
        turns = freedom.sampled()
        copies = reference[tellers][:, None, None] @ kernel.matrices[None, :, None]
        left = copies @ (poses[tellers][:, None, None] @ turns[None, None]).transpose(-1, -2)
        right = turns.expand_as(left)
        left, right = left.flatten(0, 2), right.flatten(0, 2)
    else:
        direct = poses[tellers].transpose(1, 2) @ reference[tellers]
        right = freedom.nearest((direct[:, None] @ kernel.matrices[None]).flatten(0, 1))
        left = torch.eye(3, dtype=torch.float64).expand_as(right)
    scores = _scores(reference[some], poses[some], left, right, kernel)
    best = scores.argsort()[: _KEPT if free_left or freedom.kind == "axis" else 2]
    hopeful = best[scores[best] <= _HOPELESS * scores[best[0]] + 1e-6].tolist()
    return _best(
        [
            _polish(reference, poses, left=left[number], right=right[number], kernel=kernel, freedom=freedom, free_left=free_left, mirrored=mirrored)
            for number in hopeful
        ]
    )


def _scores(reference: Tensor, poses: Tensor, left: Tensor, right: Tensor, kernel: SimilarityKernel) -> Tensor:
    """Mean error of each hypothesis, in pieces of bounded memory."""
    scores = []
    step = max(1, (1 << 21) // (len(reference) * len(kernel.matrices)))
    for start in range(0, len(left), step):
        moved = left[start:start + step, None] @ poses @ right[start:start + step, None]
        cosine = (kernel.traces(reference, moved).amax(-1) - 1) / 2
        scores.append(torch.acos(cosine.clamp(-1, 1)).mean(1))
    return torch.cat(scores)


def _polish(
    reference: Tensor, poses: Tensor, left: Tensor, right: Tensor, kernel: SimilarityKernel, freedom: Freedom, free_left: bool, mirrored: bool
) -> Alignment:
    """Reweighted least squares: ``2 acos c`` is concave in c = |<q, T q'>|, so weights 1 / sqrt(1 - c^2) never raise the mean error."""
    target, start, group = roma.rotmat_to_unitquat(reference), roma.rotmat_to_unitquat(poses), group_quaternions(kernel)
    copies = roma.quat_product(target[:, None].expand(-1, len(group), -1), group[None].expand(len(target), -1, -1))
    best, last = (math.inf, left, right), math.inf
    for _ in range(_ITERATIONS):
        moved = start @ _both_sides(left, right)
        product, copy = _nearest(copies, moved)
        cosine = product.abs().clamp(max=1)
        error = float(2 * torch.acos(cosine).mean())
        if error < best[0]:
            best = error, left, right
        if last - error < _DONE:
            break
        last = error
        weight = ((1 - cosine.square() + _SOFT).rsqrt() * product.sign())[:, None]
        left, right = freedom.step(weight * copy, moved, left, right, free_left)
    left, right = best[1:]
    errors = kernel.distance_rad(reference, left @ poses @ right)
    return Alignment(left, right, False, mirrored, errors.numpy())


def _both_sides(left: Tensor, right: Tensor) -> Tensor:
    """(4, 4) matrix that a row of quaternions is multiplied by to become ``left q right``."""
    first, last = roma.rotmat_to_unitquat(torch.stack((left, right)))
    units = torch.eye(4, dtype=torch.float64)
    return roma.quat_product(roma.quat_product(first.expand_as(units), units), last.expand_as(units))


def _nearest(copies: Tensor, moved: Tensor) -> tuple[Tensor, Tensor]:
    """Inner products (P,) of moved quaternions with the nearest of the target's copies (P, n, 4), signed, and those copies (P, 4)."""
    if copies.shape[1] == 1:
        return (copies[:, 0] * moved).sum(-1), copies[:, 0]
    products = (copies @ moved[:, :, None])[:, :, 0]
    which = products.abs().argmax(1, keepdim=True)
    return products.gather(1, which)[:, 0], copies.gather(1, which[:, :, None].expand(-1, -1, 4))[:, 0]
