"""Particles that several tilt images show: one pose in the tomogram, one 3D shift and one conformation for all of them.

The image of a tilt with the matrix ``P`` has the pose ``P R`` and the shift ``(P s)[:2]`` of the particle's ``R`` and ``s``. Single particles have no tilts: an
image each, with a shift in its plane.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...imaging.standard_images import even_rows
from ...io.star import ParticleTable
from ...io.tilt_stacks import particle_poses
from ...training.particle_images import ParticleImages

__all__ = ["ParticleRows", "TiltGroups"]


@dataclass(frozen=True, kw_only=True)
class TiltGroups:
    """Which of some images show the same particle, and how their tilts lie.

    Attributes
    ----------
    matrix : (m, 3, 3) from the tomogram's axes to those of each image
    member : (m,) particle of each image, counted from 0; images of a particle follow one another
    count : number of particles
    """

    matrix: torch.Tensor
    member: torch.Tensor
    count: int

    @property
    def images_each(self) -> torch.Tensor:
        """(count,) images of each particle."""
        return torch.bincount(self.member, minlength=self.count)

    def pooled(self, values: torch.Tensor) -> torch.Tensor:
        """Sums (count, ...) of (m, ...) over the images of each particle."""
        return values.new_zeros(self.count, *values.shape[1:]).index_add_(0, self.member, values)

    def seen(self, rotation: torch.Tensor, shift_angst: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Poses (m, 3, 3) and shifts (m, 2) of the images from those of the particles (count, 3, 3) and (count, 3)."""
        return self.matrix @ rotation[self.member], (self.matrix[:, :2] @ shift_angst[self.member][..., None])[..., 0]

    def by_particle_parameters(self, square: torch.Tensor, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Products of a particle's model and its derivatives from those of its images, summed.

        Parameters
        ----------
        square, gradient
            (m, 6 + K, 6 + K) and (m, 6 + K) products of an image's model and its derivatives by rotation vector, shift and amplitudes with each other and
            with the data.

        Returns
        -------
        square, gradient
            (count, 7 + K, 7 + K) and (count, 7 + K), by a particle's rotation vector, 3D shift and amplitudes.
        """
        size = square.shape[1]
        to_particle = square.new_zeros(len(square), size + 1, size)
        to_particle[:, 0, 0] = 1
        to_particle[:, 1:4, 1:4] = self.matrix.transpose(1, 2)  # exp(P w) P = P exp(w)
        to_particle[:, 4:7, 4:6] = self.matrix[:, :2].transpose(1, 2)
        to_particle[:, 7:, 6:] = torch.eye(size - 6, device=square.device)
        return self.pooled(to_particle @ square @ to_particle.transpose(1, 2)), self.pooled((to_particle @ gradient[..., None])[..., 0])

    def subset(self, particles: torch.Tensor) -> tuple[torch.Tensor, TiltGroups]:
        """Images (rows) of some particles, repeated ones too, and their groups, a particle for each that is asked for."""
        each = self.images_each
        first = torch.cumsum(each, 0) - each
        wanted = each[particles]
        member = torch.repeat_interleave(torch.arange(len(particles), device=particles.device), wanted)
        rows = first[particles][member] + torch.arange(len(member), device=member.device) - (torch.cumsum(wanted, 0) - wanted)[member]
        return rows, TiltGroups(matrix=self.matrix[rows], member=member, count=len(particles))

    def thinned(self, most: int) -> tuple[torch.Tensor, TiltGroups]:
        """Images (rows) of the particles, at most so many of each, spread evenly over its series, and their groups."""
        each = self.images_each
        wanted = each.clamp(max=most)
        member = torch.repeat_interleave(torch.arange(self.count, device=each.device), wanted)
        number = torch.arange(len(member), device=each.device) - (torch.cumsum(wanted, 0) - wanted)[member]
        step = (each - 1).double() / (wanted - 1).clamp_min(1)
        rows = (torch.cumsum(each, 0) - each)[member] + (number * step[member]).round().long()
        return rows, TiltGroups(matrix=self.matrix[rows], member=member, count=self.count)

    @classmethod
    def joined(cls, parts: Sequence[TiltGroups]) -> TiltGroups:
        """Groups of several batches, one after the other."""
        counts = np.cumsum([0, *(part.count for part in parts)])
        member = torch.cat([part.member + int(before) for part, before in zip(parts, counts)])
        return cls(matrix=torch.cat([part.matrix for part in parts]), member=member, count=int(counts[-1]))


class ParticleRows:
    """The particles of a set by number, counted from 0, with the rows of their images.

    Parameters
    ----------
    images : images of the set
    """

    def __init__(self, images: ParticleImages) -> None:
        table: ParticleTable = images.table
        self._images = images
        self.ids, self._member = table.particles()
        self._tilts = table.tilts
        self._starts = np.searchsorted(self._member, np.arange(len(self.ids) + 1))

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def tilts_each(self) -> int:
        """Images of a particle, about."""
        return max(1, round(len(self._member) / len(self)))

    def sample(self, most: int, fewest: int) -> np.ndarray:
        """Particles with about ``most`` images, but not fewer than ``fewest``, spread evenly over the set."""
        return even_rows(len(self), max(fewest, most // self.tilts_each))

    def image_rows(self, particles: np.ndarray) -> np.ndarray:
        """Rows of the images of some particles, one particle after the other."""
        if self._tilts is None:
            return particles
        return np.concatenate([np.arange(self._starts[number], self._starts[number + 1]) for number in particles])

    def tilts(self, particles: np.ndarray) -> TiltGroups | None:
        """Groups of the images of some particles; None of single ones."""
        if self._tilts is None:
            return None
        rows, device = self.image_rows(particles), self._images.device
        member = np.repeat(np.arange(len(particles)), self._starts[particles + 1] - self._starts[particles])
        matrix = torch.from_numpy(self._tilts.matrix[rows]).float().to(device)
        return TiltGroups(matrix=matrix, member=torch.from_numpy(member).to(device), count=len(particles))

    def unusable(self, particles: np.ndarray) -> np.ndarray:
        """Which of some particles (p,), whose images were read, have no image that can be used."""
        found = self._images.unusable[self.image_rows(particles)]
        if self._tilts is None:
            return found
        ends = np.cumsum(self._starts[particles + 1] - self._starts[particles])
        return np.array([part.all() for part in np.split(found, ends[:-1])], bool)

    def poses(self, particles: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Poses (p, 3, 3) of some particles and their shifts in Å, (p, 2), or (p, 3) of tilt series, in the tomogram."""
        rows = self.image_rows(particles)
        rotation, shift = self._images.poses(rows)
        if self._tilts is None:
            return rotation, shift
        member = np.repeat(np.arange(len(particles)), self._starts[particles + 1] - self._starts[particles])
        found = particle_poses(self._tilts.subset(rows), member, rotation.cpu().numpy(), shift.cpu().numpy())
        turned, moved = (torch.from_numpy(values).float().to(self._images.device) for values in found)
        return turned, moved
