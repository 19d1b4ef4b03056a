"""Aligned particles as training samples: their images as the network sees them, turned and shifted together with their labels."""

from __future__ import annotations

import math

import numpy as np
import torch

from ....common.flags import AlignmentFlag
from ...exceptions import InputError
from ...imaging.poses import euler_to_matrix, rotation_z
from ...io.star import ParticleTable
from ...io.tables import join, read_table
from ...launch import say_once
from ...training.augment import move_images
from ...training.network_input import NetworkInput
from ...training.particle_images import ParticleImages
from ...training.plan import block_generator, held_out, shuffled_rows
from .training_simulator import Samples

__all__ = ["LabelledParticles", "Labels", "move_samples", "read_labels"]

_LARGEST = 1e9  # amplitude that can be one


class Labels:
    """Amplitudes (n, K), rotation (n, 3, 3) and shift (n, 2) of particles, and the rows to learn from.

    Rows for training and for validation are split by :func:`.plan.held_out`.
    """

    def __init__(self, amplitudes: np.ndarray, rotation: np.ndarray, shift_angst: np.ndarray, ids: np.ndarray, usable: np.ndarray,
                 validation_fraction: float) -> None:
        self.amplitudes, self.rotation, self.shift_angst = (
            torch.from_numpy(np.ascontiguousarray(values)).float() for values in (amplitudes, rotation, shift_angst)
        )
        held = held_out(ids, validation_fraction)
        self.training, self.validation = np.flatnonzero(usable & ~held), np.flatnonzero(usable & held)
        if not len(self.validation) and len(self.training) > 1:
            self.training, self.validation = self.training[:-1], self.training[-1:]
        if not len(self.training) or not len(self.validation):
            raise InputError("Too few labelled particles to learn from: give at least two whose alignment converged.")


def read_labels(
    path: str, table: ParticleTable, mode_numbers: list[int], validation_fraction: float, needs_poses: bool
) -> Labels:
    """Labels of a particle set from a result table, joined by id.

    Particles whose alignment did not converge or correlates no better than noise are not learned from; their number is printed.

    Raises
    ------
    InputError
        when a particle is missing in the table, the modes are others, or poses are needed and nowhere to be found.
    """
    columns, meta = read_table(path)
    if "amplitudes" not in columns or columns["amplitudes"].dtype.kind != "f":
        raise InputError(f"The table '{path}' has no column 'amplitudes' of numbers: give the result of an elastic alignment.")
    known = [int(number) for number in meta.get("mode_numbers") or mode_numbers]
    amplitudes = columns["amplitudes"]
    missing = [number for number in mode_numbers if number not in known]
    if missing or amplitudes.shape[1] != len(known):
        raise InputError(f"The table '{path}' has amplitudes of modes {known}, but modes {list(mode_numbers)} are to be learned.")
    rows = join(table.ids, columns["id"], table=f"the table '{path}'")
    amplitudes = amplitudes[rows][:, [known.index(number) for number in mode_numbers]]
    if "rotation" in columns and "shift_angst" in columns:
        rotation, shift = columns["rotation"][rows], columns["shift_angst"][rows]
    elif table.angles_deg is not None:
        rotation = euler_to_matrix(torch.from_numpy(table.angles_deg)).numpy()
        shift = np.zeros((len(table), 2)) if table.origin_angst is None else -table.origin_angst
    elif needs_poses:
        raise InputError(f"Neither the table '{path}' nor the particles hold poses, which the network is to learn.")
    else:
        rotation, shift = np.broadcast_to(np.eye(3), (len(table), 3, 3)), np.zeros((len(table), 2))
    refused = AlignmentFlag.LOW_CORRELATION | AlignmentFlag.NOT_CONVERGED | AlignmentFlag.UNUSABLE_IMAGE
    bad = columns["flags"][rows] & refused if "flags" in columns else np.zeros(len(table), int)
    usable = (bad == 0) & (np.abs(amplitudes) < _LARGEST).all(1)
    if not usable.all():
        first = table.ids[~usable][0]
        say_once(f"WARNING: {int((~usable).sum())} of {len(table)} particles (first: particle {first}) are not learned from: their alignment in '{path}' is "
                 "flagged, or is not a number.")
    return Labels(amplitudes, rotation, shift, table.ids, usable, validation_fraction)


class LabelledParticles:
    """Draws labelled samples by block, in an order that depends on the seed and the sample's number only."""

    def __init__(self, images: ParticleImages, labels: Labels, scheme: NetworkInput, shift_range_angst: float, seed: int) -> None:
        self._images, self._labels, self._scheme = images, labels, scheme
        self._shift_range_angst, self._seed = shift_range_angst, seed

    def training_rows(self, first: int, count: int) -> np.ndarray:
        """Rows of the samples ``first ... first + count - 1``: the set, shuffled anew each time it has been gone through."""
        return self._labels.training[shuffled_rows(self._seed, first, count, len(self._labels.training))]

    def draw(self, block: int, count: int, first: int) -> Samples:
        """Training samples: images turned by any angle and shifted, with their labels."""
        samples = self.read(self.training_rows(first, count))
        device = samples.images.device
        generator = block_generator(self._seed, block, device)
        turn_deg = torch.rand(count, generator=generator, device=device) * 360
        # half the range: labelled particles have shifts of their own already
        shift = (torch.rand(count, 2, generator=generator, device=device) - 0.5) * self._shift_range_angst
        return move_samples(samples, turn_deg, shift, self._scheme.network_pixel_angst)

    def validation_part(self, rank: int, world: int) -> np.ndarray:
        """Rows of the validation set that a process looks at."""
        return self._labels.validation[rank::world]

    def read(self, rows: np.ndarray) -> Samples:
        """Samples as they are on disk."""
        images, ctf = self._images.read(rows)
        index = torch.from_numpy(rows)
        labels = self._labels
        pose = (values[index].to(images.device) for values in (labels.rotation, labels.shift_angst, labels.amplitudes))
        return Samples(self._scheme.from_images(images, ctf), *pose)


def move_samples(samples: Samples, turn_deg: torch.Tensor, shift_angst: torch.Tensor, pixel_angst: float) -> Samples:
    """Samples whose pictures are turned about the centre by ``turn_deg`` (b,), x towards y, then moved by (b, 2) Å.

    Pose and shift become those of the moved picture: ``Rz R`` and ``Rz t + s``; amplitudes stay.
    """
    turn = rotation_z(turn_deg)
    images = move_images(samples.images, turn_deg, shift_angst, pixel_angst)
    shift = (turn[:, :2, :2] @ samples.shift_angst[..., None])[..., 0] + shift_angst
    return Samples(images, turn @ samples.rotation, shift, samples.amplitudes)


def share_of_labels(count: int, images: int, largest: float = 0.25, repeats: int = 10) -> float:
    """Share of labelled samples among ``images`` of a run that learns from simulation too.

    A quarter, but no particle more than ten times in all: a small set seen over and over would be learned by heart.
    """
    return min(largest, repeats * count / max(images, 1))


def is_labelled(block: int, share: float) -> bool:
    """Whether a block holds labelled samples; they are spread evenly over the run."""
    return labelled_before(block + 1, share) > labelled_before(block, share)


def labelled_before(block: int, share: float) -> int:
    """Labelled blocks among the first ``block`` blocks."""
    return math.floor(block * share + 1e-9)
