"""Frames of two maps of the same particle, brought together.

Half sets that are matched apart turn and move away from each other, as nothing holds their frames: seen together their orientations are wrong, and
their FSC is too low. RELION joins the lowest shells of both halves for this (Scheres, J. Struct. Biol. 180 (2012) 519); here the frame itself, six
numbers, is found and taken out, so that no shell of one half reaches the other.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..imaging.poses import random_rotations, so3_exp, so3_log
from .fourier_images import FourierImages
from .local_search import refine_continuously
from .posterior import Poses
from .reference import Reference

__all__ = ["Frame", "frame_between"]

_PROBES = 64
_STEPS = 4


@dataclass(frozen=True, kw_only=True)
class Frame:
    """Poses `rotation` (..., 3, 3), `shift` (..., 3) at which one half set's maps appear in the maps of the other."""

    rotation: Tensor
    shift: Tensor

    def rows(self, number: Tensor) -> Frame:
        """The frames (n,) of several classes' maps."""
        return Frame(rotation=self.rotation[number], shift=self.shift[number])

    def compose(self, rotation: Tensor, shift: Tensor) -> tuple[Tensor, Tensor]:
        """Poses (..., 3, 3), (..., d) A, s in the other map's frame as poses A A', s + A s' in this one's; of images d is 2."""
        own = self.rotation.to(rotation)
        moved = (rotation @ self.shift.to(rotation)[..., None])[..., 0]
        return rotation @ own, shift + moved[..., : shift.shape[-1]]

    def compose_rows(self, poses: Poses, rows: Tensor) -> Poses:
        """Poses of which those of some images are taken to this frame."""
        rotation, shift = poses.rotation.clone(), poses.shift.clone()
        rotation[rows], shift[rows] = self.compose(rotation[rows], shift[rows])
        return replace(poses, rotation=rotation, shift=shift)


def frame_between(images: FourierImages, first: Reference, second: Reference, symmetry: Tensor | None, generator: torch.Generator) -> Frame:
    """Frame of the first map in the second: ``second(pose R)`` is ``first(pose R A')``, moved by the first two coordinates of ``R s'``.

    Slices of the second map at random poses are matched against the first one, as if they were images; frames are close already. Of a symmetric
    particle only what its group (g, 3, 3) leaves free is kept.
    """
    rotations = random_rotations(_PROBES, generator, device=images.device)
    slices = second.slices(images.band, rotations)
    probes = FourierImages(band=images.band, data=torch.complex(slices[0], slices[1]), noise=images.noise)
    found, shift, _ = refine_continuously(probes, first, rotations, rotations.new_zeros(_PROBES, 2), _STEPS)
    turn = so3_log(rotations.transpose(1, 2) @ found).mean(0)
    # the last bit of this depends on where LAPACK's memory lies, and an image with a flat optimum makes 0.06 degrees of it; rounded from double
    # precision it is the same in every run
    offset = torch.linalg.lstsq(found[:, :2].reshape(-1, 3).double(), shift.reshape(-1, 1).double()).solution[:, 0].to(shift)
    if symmetry is not None:
        free = symmetry.to(turn).mean(0)  # projects on what no element of the group moves
        turn, offset = free @ turn, free @ offset
    rotation = so3_exp(turn)
    return Frame(rotation=rotation, shift=rotation @ offset)
