"""Search about the present pose of each image: a lattice of small turns times shifts, then Gauss-Newton steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...imaging.poses import so3_exp
from .fourier_images import FourierImages
from .reference import Reference

__all__ = ["refine_continuously", "search_lattice", "unexplained_power"]

_VALUES = {"cpu": 1 << 23, "cuda": 1 << 27}  # numbers of the slices held together, 4 bytes each
_TURN = math.radians(1.0)  # of the derivatives; a Fourier pixel turns by more than 2 degrees up to ring 25
_HALVINGS = 3


def _whitened(images: FourierImages, reference: Reference, rotations: Tensor, transfer: Tensor | None) -> Tensor:
    """Slices (b, L, 2 P) of poses (b, L, 3, 3), seen through the CTF and whitened."""
    found = reference.slices(images, rotations) * images.whitening()
    if transfer is not None:
        found = found * transfer[:, None]
    return torch.cat((found[0], found[1]), dim=-1)


def _data(images: FourierImages, rows: Tensor, shifts: Tensor) -> Tensor:
    """Whitened images moved back by shifts (b, S, 2): (b, S, 2 P)."""
    moved = images.data[rows][:, None] * images.waves(shifts) * images.whitening()
    return torch.cat((moved.real, moved.imag), dim=-1)


def search_lattice(
    images: FourierImages, reference: Reference, rotation: Tensor, shift_angst: Tensor, turns: Tensor, moves: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior mean of the pose over a lattice about the present one (the mean over rotations has the least mean square error).

    Parameters
    ----------
    rotation, shift_angst : (n, 3, 3), (n, 2)
    turns : (L, 3) rotation vectors in radians, about the image's axes
    moves : (S, 2) changes of the shift in Å

    Returns
    -------
    rotation, shift_angst, evidence (n,): log-likelihood against noise alone with the poses of the lattice integrated out

    Memory: a few arrays of 32 MiB (512 MiB on a GPU).
    """
    new_rotation, new_shift, evidence = rotation.clone(), shift_angst.clone(), torch.empty(len(images), device=images.device)
    steps = so3_exp(turns)
    chunk = max(1, _VALUES.get(images.device.type, 1 << 23) // (2 * len(images.kx) * (len(turns) + len(moves))))
    for rows in torch.arange(len(images), device=images.device).split(chunk):
        slices = _whitened(images, reference, steps @ rotation[rows][:, None], images.transfer(rows))
        data = _data(images, rows, shift_angst[rows][:, None] + moves)
        found = 2 * data @ slices.transpose(1, 2) - slices.square().sum(-1)[:, None]  # (b, S, L)
        evidence[rows] = torch.logsumexp(found.flatten(1), 1) - math.log(found[0].numel())
        share = torch.softmax(found.flatten(1), 1).view_as(found)
        new_rotation[rows] = so3_exp(share.sum(1) @ turns) @ rotation[rows]
        new_shift[rows] = shift_angst[rows] + share.sum(2) @ moves
    return new_rotation, new_shift, evidence


def refine_continuously(
    images: FourierImages, reference: Reference, rotation: Tensor, shift_angst: Tensor, steps: int = 2, largest_deg: float = 3.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gauss-Newton steps on the likelihood, halved where it would fall; returns rotation, shift and log-likelihood (n,)."""
    rotation, shift, value = rotation.clone(), shift_angst.clone(), torch.empty(len(images), device=images.device)
    chunk = max(1, _VALUES.get(images.device.type, 1 << 23) // (20 * len(images.kx)))
    for rows in torch.arange(len(images), device=images.device).split(chunk):
        transfer = images.transfer(rows)
        for _ in range(steps):
            rotation[rows], shift[rows], value[rows] = _step(images, reference, rows, transfer, rotation[rows], shift[rows], largest_deg)
    return rotation, shift, value


def _step(
    images: FourierImages, reference: Reference, rows: Tensor, transfer: Tensor | None, rotation: Tensor, shift: Tensor, largest_deg: float,
) -> tuple[Tensor, Tensor, Tensor]:
    axes = _TURN * torch.eye(3, device=images.device)
    turns = so3_exp(torch.cat((torch.zeros_like(axes[:1]), axes, -axes)))
    slices = _whitened(images, reference, turns @ rotation[:, None], transfer)
    here, points = slices[:, 0], len(images.kx)
    swapped = torch.cat((here[:, points:], -here[:, :points]), dim=-1)  # -i times the slice
    waves = torch.stack((images.kx, images.ky)).repeat(1, 2) * (2 * math.pi / images.length_angst)
    jacobian = torch.cat(((slices[:, 1:4] - slices[:, 4:]) / (2 * _TURN), swapped[:, None] * waves), dim=1)
    data = _data(images, rows, shift[:, None])[:, 0]
    curvature = jacobian @ jacobian.transpose(1, 2)
    curvature = curvature + torch.diag_embed(1e-3 * curvature.diagonal(dim1=1, dim2=2) + 1e-9)
    move = torch.linalg.solve(curvature, (jacobian @ (data - here)[..., None]))[..., 0]
    turned = move[:, :3].norm(dim=1, keepdim=True)
    move = move * (math.radians(largest_deg) / turned.clamp(min=1e-12)).clamp(max=1)
    before = (here * (2 * data - here)).sum(1)
    value = before
    for halving in range(_HALVINGS + 1):
        there = so3_exp(move[:, :3]) @ rotation
        slices = _whitened(images, reference, there[:, None], transfer)[:, 0]
        value = (slices * (2 * _data(images, rows, (shift + move[:, 3:])[:, None])[:, 0] - slices)).sum(1)
        worse = value < before
        if halving == _HALVINGS:
            move = torch.where(worse[:, None], torch.zeros_like(move), move)
        else:
            move = torch.where(worse[:, None], move / 2, move)
    return so3_exp(move[:, :3]) @ rotation, shift + move[:, 3:], torch.maximum(value, before)


def unexplained_power(images: FourierImages, reference: Reference, rotation: Tensor, shift_angst: Tensor) -> Tensor:
    """(rings + 1,) mean power of what the slices leave unexplained of the images."""
    total = torch.zeros(len(images.kx), device=images.device)
    chunk = max(1, _VALUES.get(images.device.type, 1 << 23) // (4 * len(images.kx)))
    for rows in torch.arange(len(images), device=images.device).split(chunk):
        found = reference.slices(images, rotation[rows])
        slices = torch.complex(found[0], found[1])
        transfer = images.transfer(rows)
        if transfer is not None:
            slices = slices * transfer
        total += (images.data[rows] * images.waves(shift_angst[rows]) - slices).abs().square().sum(0)
    return images.ring_mean(total / len(images))
