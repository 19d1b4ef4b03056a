"""Turns of a particle's frame that its symmetry leaves free: those that take the point group to itself.

Any turn without symmetry; turns about z and their flips for Cn; for Dn the group of twice the order (the 24 turns of the cube for D2); the cube's turns for T
and O; for I its own.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import roma
import torch
from torch import Tensor

from ..imaging.poses import quaternion_to_matrix, so3_exp
from ..imaging.symmetry import symmetry_matrices
from .similarity_kernel import SimilarityKernel

__all__ = ["Freedom", "frame_freedom"]

_AROUND = 36  # turns about z that are tried within the group's period
_IDENTITY = torch.eye(3, dtype=torch.float64)


@dataclass(frozen=True)
class Freedom:
    """Free turns Q of the frame (A -> A Q).

    Attributes
    ----------
    kind : 'all', 'axis' (about z, times ``turns``) or 'finite' (``turns``)
    turns : (k, 3, 3), different modulo the group
    period_rad : of turns about z modulo the group
    """

    kind: str
    turns: Tensor
    period_rad: float = 2 * math.pi

    def sampled(self) -> Tensor:
        """Turns (k, 3, 3) near each of which the polish reaches all of them; not for 'all'."""
        if self.kind == "axis":
            return (_about_z(torch.arange(_AROUND, dtype=torch.float64) * (self.period_rad / _AROUND))[:, None] @ self.turns).flatten(0, 1)
        return self.turns

    def nearest(self, wanted: Tensor) -> Tensor:
        """The free turns (n, 3, 3) nearest to any turns (n, 3, 3)."""
        if self.kind == "all":
            return wanted
        if self.kind == "axis":
            rest = wanted[:, None] @ self.turns.transpose(1, 2)  # W ~ Rz F
            angle = torch.atan2(rest[..., 1, 0] - rest[..., 0, 1], rest[..., 0, 0] + rest[..., 1, 1])
            return (_about_z(angle) @ self.turns).flatten(0, 1)
        return self.turns

    def step(self, target: Tensor, moved: Tensor, left: Tensor, right: Tensor, free_left: bool) -> tuple[Tensor, Tensor]:
        """The turns that maximise the sum of inner products of weighted quaternions ``target`` (P, 4) with ``moved`` (P, 4), by left and right."""
        if free_left and self.kind == "all":
            u, _, vt = torch.linalg.svd(target.T @ moved)
            best = u @ vt
            if float(torch.det(best)) < 0:
                best = u @ torch.diag(best.new_tensor([1.0, 1, 1, -1])) @ vt
            more_left, more_right = _split(best)
            return more_left @ left, right @ more_right
        if free_left:
            turn = roma.quat_product(target, roma.quat_conjugation(moved)).sum(0)
            more = quaternion_to_matrix(turn)
            left = more @ left
            moved = roma.quat_product((turn / turn.norm()).expand_as(moved), moved)
        if self.kind == "finite":
            return left, right
        turn = roma.quat_product(roma.quat_conjugation(moved), target).sum(0)
        if self.kind == "axis":
            turn = turn * turn.new_tensor([0.0, 0, 1, 1])
        return left, right @ quaternion_to_matrix(turn)


def _split(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Rotations P, Q (3, 3) with ``R(T q) = P R(q) Q`` of a rotation T (4, 4) of quaternions x, y, z, w."""
    one = matrix[:, 3]
    left = torch.stack([roma.quat_product(matrix[:, axis], roma.quat_conjugation(one))[:3] for axis in range(3)], 1)
    return left, left.T @ quaternion_to_matrix(one)


def _about_z(angle_rad: Tensor) -> Tensor:
    return so3_exp(angle_rad[..., None] * angle_rad.new_tensor([0.0, 0, 1]))


def frame_freedom(kernel: SimilarityKernel) -> Freedom:
    """Free turns of a particle of that symmetry."""
    group = kernel.matrices
    if len(group) == 1:
        return Freedom("all", _IDENTITY[None])
    letter, order = kernel.group[0], len(group)
    if letter == "C":
        return Freedom("axis", torch.stack((_IDENTITY, torch.diag(_IDENTITY.new_tensor([1.0, -1, -1])))), 2 * math.pi / order)
    if letter == "D":
        larger = symmetry_matrices("O" if order == 4 else f"D{order}")
    elif letter == "T":
        larger = _with_half_turns(group)
    else:
        larger = group
    return Freedom("finite", _cosets(larger, group))


def _with_half_turns(group: Tensor) -> Tensor:
    """T with its three-fold on z, and the quarter turns about its two-fold axes: the cube's turns."""
    axis = roma.rotmat_to_rotvec(group)
    twofold = axis[(axis.norm(dim=1) - math.pi).abs() < 1e-6][0]
    return torch.cat((group, so3_exp(twofold / 2) @ group))


def _cosets(larger: Tensor, group: Tensor) -> Tensor:
    """One turn of each set {Q S}."""
    kept: list[Tensor] = []
    for turn in larger:
        if not any(bool(((other.T @ turn) - group).abs().amax((1, 2)).min() < 1e-6) for other in kept):
            kept.append(turn)
    return torch.stack(kept)
