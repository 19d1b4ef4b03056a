"""Alignment of one set of orientations to another: all that distances leave free, or only what images leave free.

Distances between orientations do not change under ``A -> P A Q`` and under transposition, the group O(4) of Banjac et al. 2021. Images leave less:
the particle's own frame, ``A -> A Q``, and its handedness, ``A -> J A J`` with ``J = diag(1, 1, -1)``.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from ..imaging.poses import rotation_z, so3_exp
from .kernel import SimilarityKernel

__all__ = ["Alignment", "align_o4", "align_physical", "nearest_rotations"]

_ROUNDS = 100
_SETTLED_RAD = 1e-9
_SOFTENING_RAD = 1e-4  # of the weights 1 / error: an image that fits exactly does not rule
_SAMPLE = 300
_TRIALS, _LEAST_TRIALS = 96, 4
_AT_A_TIME = 64
_BEST = 8
_TURNS = 72  # of the axis of a cyclic group, about which the frame is free


@dataclass
class Alignment:
    """``P A Q`` of the orientations A, transposed or mirrored before.

    Attributes
    ----------
    left, right : (3, 3) P and Q
    transposed : A^T is taken in the place of A
    mirrored : J A J is taken in the place of A: the map has the other hand
    errors_rad : (n,) what is left
    """

    left: Tensor
    right: Tensor
    transposed: bool
    mirrored: bool
    errors_rad: Tensor

    def apply(self, rotations: Tensor) -> Tensor:
        """Orientations (n, 3, 3) in the frame of the reference."""
        moved = _variant(rotations, self.transposed, self.mirrored)
        return self.left.to(moved) @ moved @ self.right.to(moved)

    @property
    def mean_rad(self) -> float:
        return float(self.errors_rad.mean())

    @property
    def median_rad(self) -> float:
        return float(self.errors_rad.median())


def nearest_rotations(matrices: Tensor) -> Tensor:
    """Rotations nearest to (..., 3, 3) matrices (Kabsch 1976)."""
    u, _, vt = torch.linalg.svd(matrices)
    sign = torch.linalg.det(u @ vt)
    u = torch.cat((u[..., :2], u[..., 2:] * sign[..., None, None]), dim=-1)
    return u @ vt


def align_o4(reference: Tensor, other: Tensor, kernel: SimilarityKernel | None = None) -> Alignment:
    """Align (n, 3, 3) orientations as far as distances leave them free, by the least mean error.

    Without symmetry the start is closed: ``sum tr(R^T P A Q)`` is bilinear in P and Q, its 9 x 9 matrix has one large singular value. Symmetric
    particles have no transposition, and Q must leave the group's axes as they are.
    """
    reference, other = reference.double(), other.double()
    if kernel is None or len(kernel.matrices) == 1:
        found = [_both_sides(reference, _variant(other, flip, False), kernel or SimilarityKernel(), flip) for flip in (False, True)]
    else:
        found = [_many_starts(reference, other, kernel, _axis_keepers(kernel), sides="left")]
    return min(found, key=lambda item: item.mean_rad)


def align_physical(reference: Tensor, other: Tensor, kernel: SimilarityKernel | None = None) -> Alignment:
    """Align (n, 3, 3) orientations as far as images leave them free: a rotation of the particle and its handedness."""
    reference, other = reference.double(), other.double()
    kernel = kernel or SimilarityKernel()
    found = []
    for mirrored in (False, True):
        seen = _variant(other, False, mirrored)
        if len(kernel.matrices) == 1:
            start = nearest_rotations((seen.transpose(1, 2) @ reference).sum(0))
            found.append(_refine(reference, seen, kernel, torch.eye(3, dtype=torch.float64), start, "right", False, mirrored))
        else:
            found.append(_many_starts(reference, other, kernel, [torch.eye(3, dtype=torch.float64)], sides="right", mirrored=mirrored))
    return min(found, key=lambda item: item.mean_rad)


def _variant(rotations: Tensor, transposed: bool, mirrored: bool) -> Tensor:
    if transposed:
        return rotations.transpose(-1, -2)
    if mirrored:
        hand = torch.tensor([1.0, 1.0, -1.0], dtype=rotations.dtype, device=rotations.device)
        return rotations * hand[:, None] * hand
    return rotations


def _both_sides(reference: Tensor, seen: Tensor, kernel: SimilarityKernel, transposed: bool) -> Alignment:
    """Start from the top singular pair of ``M[ac, db] = sum R_ab A_cd``, of which ``vec(P)^T M vec(Q)`` is the objective."""
    matrix = torch.einsum("nab,ncd->acdb", reference, seen).reshape(9, 9)
    u, _, vt = torch.linalg.svd(matrix)
    best: Alignment | None = None
    for sign in (1, -1):
        left, right = nearest_rotations(sign * u[:, 0].view(3, 3)), nearest_rotations(vt[0].view(3, 3))
        for _ in range(_ROUNDS):
            before = left
            right = nearest_rotations((matrix.T @ left.reshape(9)).view(3, 3))
            left = nearest_rotations((matrix @ right.reshape(9)).view(3, 3))
            if float((left - before).abs().max()) < _SETTLED_RAD:
                break
        found = _refine(reference, seen, kernel, left, right, "both", transposed, False)
        best = found if best is None or found.mean_rad < best.mean_rad else best
    assert best is not None
    return best


def _refine(reference: Tensor, seen: Tensor, kernel: SimilarityKernel, left: Tensor, right: Tensor, sides: str, transposed: bool, mirrored: bool,
            rounds: int = _ROUNDS) -> Alignment:
    """Least mean error by reweighted least squares (Weiszfeld): each image weighs ``1 / sin(error)``, and takes its nearest symmetric copy."""
    copies = kernel.matrices
    best: tuple[float, Tensor, Tensor, Tensor] | None = None
    for _ in range(rounds):
        moved = left @ seen @ right
        errors = kernel.distance_rad(moved, reference)
        mean = float(errors.mean())
        if best is not None and mean > best[0] - _SETTLED_RAD:
            break
        best = (mean, left, right, errors)
        goal = reference if len(copies) == 1 else reference @ copies[kernel.traces(moved, reference).argmax(-1)]
        weight = 1 / (torch.sin(errors).abs() + _SOFTENING_RAD)
        for _ in range(3 if sides == "both" else 1):
            if sides != "right":
                left = nearest_rotations(torch.einsum("n,nab,ncb->ac", weight, goal, seen @ right))
            if sides != "left":
                right = nearest_rotations(torch.einsum("n,nca,ncb->ab", weight, left @ seen, goal))
    assert best is not None
    return Alignment(best[1], best[2], transposed, mirrored, best[3])


def _axis_keepers(kernel: SimilarityKernel) -> list[Tensor]:
    """Rotations Q (one of each coset) with ``Q^T G Q = G``: these alone keep all distances modulo the group."""
    name = kernel.group
    flip = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
    plain = torch.eye(3, dtype=torch.float64)
    if name[0] == "C":
        turns = rotation_z(torch.arange(_TURNS, dtype=torch.float64) * (360 / int(name[1:]) / _TURNS))
        return [turn @ side for turn in turns for side in (plain, flip)]
    if name == "D2":  # the axes may trade places
        third = so3_exp(torch.full((3,), 2 * torch.pi / 3 / 3**0.5, dtype=torch.float64))
        quarter = rotation_z(torch.tensor(90.0, dtype=torch.float64))
        return [turn @ swap for turn in (plain, third, third @ third) for swap in (plain, quarter)]
    if name[0] == "D":
        return [plain, rotation_z(torch.tensor(180.0 / int(name[1:]), dtype=torch.float64))]
    if name == "T":
        axis = torch.tensor([0.0, (2 / 3) ** 0.5, (1 / 3) ** 0.5], dtype=torch.float64)
        return [plain, so3_exp(axis * (torch.pi / 2))]
    return [plain]


def _many_starts(reference: Tensor, other: Tensor, kernel: SimilarityKernel, rights: list[Tensor], sides: str, mirrored: bool = False) -> Alignment:
    """Symmetric particles: each of some images, brought onto each copy of its reference, says where all others go."""
    seen = _variant(other, False, mirrored)
    rows = torch.linspace(0, len(seen) - 1, min(len(seen), _SAMPLE)).round().long()
    trial = rows[torch.linspace(0, len(rows) - 1, max(_LEAST_TRIALS, _TRIALS // len(rights))).round().long()]
    goals = (reference[trial][:, None] @ kernel.matrices).flatten(0, 1)
    sources = seen[trial].repeat_interleave(len(kernel.matrices), 0)
    if sides == "left":
        lefts = torch.cat([goals @ (sources @ right).transpose(1, 2) for right in rights])
        ends = torch.stack(rights).repeat_interleave(len(goals), 0)
    else:
        ends = sources.transpose(1, 2) @ goals
        lefts = torch.eye(3, dtype=torch.float64).expand_as(ends)
    part, theirs = reference[rows], seen[rows]
    scores = [kernel.distance_rad(left[:, None] @ theirs @ right[:, None], part.expand(len(left), -1, -1, -1)).median(1).values
              for left, right in zip(lefts.split(_AT_A_TIME), ends.split(_AT_A_TIME), strict=True)]
    freedom = "both" if sides == "left" and kernel.group[0] == "C" else sides  # the frame of a cyclic group turns about its axis freely
    refined = [_refine(part, theirs, kernel, lefts[at], ends[at], freedom, False, mirrored, 20) for at in torch.cat(scores).argsort()[:_BEST]]
    best = min(refined, key=lambda item: item.mean_rad)
    return _refine(reference, seen, kernel, best.left, best.right, freedom, False, mirrored)
