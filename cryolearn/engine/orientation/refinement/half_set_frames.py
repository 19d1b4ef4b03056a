"""Frames of two maps of the same particle, brought together.

Half sets that are matched apart turn and move away from each other, as nothing holds their frames: seen together their orientations are wrong, and
their FSC is too low. RELION joins the lowest shells of both halves for this (Scheres, J. Struct. Biol. 180 (2012) 519); here the frame itself, six
numbers, is found and taken out, so that no shell of one half reaches the other.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from ...imaging.poses import random_rotations, so3_exp, so3_log
from .fourier_images import FourierImages
from .local_search import refine_continuously
from .reference import Poses, Reference

__all__ = ["frame_between", "in_frame"]

_PROBES = 64
_STEPS = 4


def frame_between(band: FourierImages, first: Reference, second: Reference, symmetry: Tensor | None, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Rotation Q (3, 3) and offset t (3,) in Å with ``second(pose R) ~ first(pose R Q)``, shifted by the first two of ``R Q t``.

    Slices of the second map at random poses are matched against the first one, as if they were images; frames are close already. Of a symmetric
    particle only what its group (g, 3, 3) leaves free is kept.
    """
    rotations = random_rotations(_PROBES, generator, device=band.device)
    slices = second.slices(band, rotations)
    probes = replace(band, data=torch.complex(slices[0], slices[1]), ctf=None)
    found, shift, _ = refine_continuously(probes, first, rotations, rotations.new_zeros(_PROBES, 2), _STEPS)
    turn = so3_log(rotations.transpose(1, 2) @ found).mean(0)
    # the last bit of this depends on where LAPACK's memory lies, and an image with a flat optimum makes 0.06 degrees of it; rounded from double
    # precision it is the same in every run
    offset = torch.linalg.lstsq(found[:, :2].reshape(-1, 3).double(), shift.reshape(-1, 1).double()).solution[:, 0].to(shift)
    if symmetry is not None:
        free = symmetry.to(turn).mean(0)  # projects on what no element of the group moves
        turn, offset = free @ turn, free @ offset
    return so3_exp(turn), offset


def in_frame(poses: Poses, rows: Tensor, frame: tuple[Tensor, Tensor]) -> Poses:
    """Poses with those of some images taken from the second frame to the first."""
    turn, offset = frame
    rotation, shift = poses.rotation.clone(), poses.shift_angst.clone()
    rotation[rows] = rotation[rows] @ turn
    shift[rows] += rotation[rows][..., :2, :] @ offset
    return Poses(rotation, shift, poses.weight)
