"""Search about the present pose of each image: a lattice of small rotations times shifts, then Gauss-Newton steps."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..imaging.poses import so3_exp
from .fourier_images import FourierImages
from .gauss_newton import difference_rotations, halve_where_worse, pose_jacobian
from .reference import Reference

__all__ = ["refine_continuously", "search_lattice", "unexplained_power"]

_VALUES = {"cpu": 1 << 23, "cuda": 1 << 27}  # numbers of the slices held together, 4 bytes each
_DAMPING = 1e-3  # of the curvature


def _together(images: FourierImages, slices_each: int) -> int:
    return _VALUES.get(images.device.type, 1 << 23) // (2 * len(images.band) * slices_each)


def _whitened(images: FourierImages, reference: Reference, rotations: Tensor, transfer: Tensor | None) -> Tensor:
    """Slices (b, L, 2 P) of poses (b, L, 3, 3), seen through the CTF and whitened."""
    found = reference.slices(images.band, rotations) * images.whitening()
    if transfer is not None:
        found = found * transfer[:, None]
    return torch.cat((found[0], found[1]), dim=-1)


def _data(images: FourierImages, data: Tensor, shifts: Tensor) -> Tensor:
    """Coefficients (b, P) of images, whitened and moved back by shifts (b, S, 2): (b, S, 2 P)."""
    moved = data[:, None] * images.band.phase(-shifts) * images.whitening()
    return torch.cat((moved.real, moved.imag), dim=-1)


def search_lattice(
    images: FourierImages, reference: Reference, rotation: Tensor, shift: Tensor, turns: Tensor, moves: Tensor,
) -> tuple[Tensor, Tensor, Tensor]:
    """Posterior mean of the pose over a lattice about the present one (the mean over rotations has the least mean square error).

    Parameters
    ----------
    images
        Images up to a radius.
    reference
        What they are compared with.
    rotation, shift
        (n, 3, 3), (n, 2) present poses.
    turns
        (L, 3) rotation vectors in radians, about the image's axes.
    moves
        (S, 2) changes of the shift.

    Returns
    -------
    rotation, shift, evidence
        `evidence` (n,) is the log-likelihood against noise alone with the poses of the lattice integrated out.

    Notes
    -----
    Memory: a few arrays of 32 MiB (512 MiB on a GPU).
    """
    new_rotation, new_shift, evidence = rotation.clone(), shift.clone(), torch.empty(len(images), device=images.device)
    steps = so3_exp(turns)
    for rows in images.batches(_together(images, len(turns) + len(moves))):
        slices = _whitened(images, reference, steps @ rotation[rows][:, None], images.transfer(rows))
        data = _data(images, images.coefficients(rows), shift[rows][:, None] + moves)
        found = 2 * data @ slices.transpose(1, 2) - slices.square().sum(-1)[:, None]  # (b, S, L)
        evidence[rows] = torch.logsumexp(found.flatten(1), 1) - math.log(found[0].numel())
        share = torch.softmax(found.flatten(1), 1).view_as(found)
        new_rotation[rows] = so3_exp(share.sum(1) @ turns) @ rotation[rows]
        new_shift[rows] = shift[rows] + share.sum(2) @ moves
    return new_rotation, new_shift, evidence


def refine_continuously(
    images: FourierImages, reference: Reference, rotation: Tensor, shift: Tensor, steps: int = 2, largest_deg: float = 3.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """Gauss-Newton steps on the likelihood, halved where it would fall; returns rotation, shift and log-likelihood (n,)."""
    rotation, shift, value = rotation.clone(), shift.clone(), torch.empty(len(images), device=images.device)
    for rows in images.batches(_together(images, 10)):
        data, transfer = images.coefficients(rows), images.transfer(rows)
        for _ in range(steps):
            rotation[rows], shift[rows], value[rows] = _step(
                images, reference, data=data, transfer=transfer, rotation=rotation[rows], shift=shift[rows], largest_deg=largest_deg
            )
    return rotation, shift, value


def _step(
    images: FourierImages, reference: Reference, data: Tensor, transfer: Tensor | None, rotation: Tensor, shift: Tensor, largest_deg: float,
) -> tuple[Tensor, Tensor, Tensor]:
    more, less = difference_rotations(images.device)
    turns = torch.cat((torch.eye(3, device=images.device)[None], more, less))
    slices = _whitened(images, reference, turns @ rotation[:, None], transfer)
    here = slices[:, 0]
    jacobian = pose_jacobian(here, slices[:, 1:4].unbind(1), slices[:, 4:].unbind(1), images.band)
    there = _data(images, data, shift[:, None])[:, 0]
    curvature = jacobian @ jacobian.transpose(1, 2)
    curvature = curvature + torch.diag_embed(_DAMPING * curvature.diagonal(dim1=1, dim2=2) + 1e-9)
    move = torch.linalg.solve(curvature, (jacobian @ (there - here)[..., None]))[..., 0]
    turned = move[:, :3].norm(dim=1, keepdim=True)
    move = move * (math.radians(largest_deg) / turned.clamp(min=1e-12)).clamp(max=1)

    def likelihood(move: Tensor) -> Tensor:
        slices = _whitened(images, reference, (so3_exp(move[:, :3]) @ rotation)[:, None], transfer)[:, 0]
        return (slices * (2 * _data(images, data, (shift + move[:, 3:])[:, None])[:, 0] - slices)).sum(1)

    before = (here * (2 * there - here)).sum(1)
    move, value = halve_where_worse(move, likelihood, before)
    return so3_exp(move[:, :3]) @ rotation, shift + move[:, 3:], torch.maximum(value, before)


def unexplained_power(images: FourierImages, reference: Reference, rotation: Tensor, shift: Tensor) -> Tensor:
    """(rings,) mean power of what the slices leave unexplained of the images."""

    def make(rows: Tensor) -> list[Tensor]:
        left, amount = (torch.zeros(len(images.band), device=images.device) for _ in range(2))
        for some in images.batches(_together(images, 2), rows):
            found = reference.slices(images.band, rotation[some])
            slices = torch.complex(found[0], found[1])
            transfer = images.transfer(some)
            if transfer is not None:
                slices = slices * transfer
            left += (images.coefficients(some) * images.band.phase(-shift[some]) - slices).abs().square().sum(0)
            amount += images.noise_counts(some)
        return [left, amount]

    left, amount = (images.band.ring_sum(values) for values in images.summed(make))
    return left / amount.clamp(min=1e-6)
