"""Aligned particles as training samples, in pairs spread evenly over distances, turned and mirrored together with their poses."""

from __future__ import annotations

import numpy as np
import torch

from ...exceptions import InputError
from ...imaging.poses import rotation_z
from ...training.augment import move_images
from ...training.network_input import NetworkInput
from ...training.particle_images import ParticleImages
from ...training.plan import block_generator, held_out, shuffled_rows
from ..similarity_kernel import SimilarityKernel
from .training_simulator import Samples, standardise

__all__ = ["LabelledImages"]

_CANDIDATES = 64  # partners tried for a wanted distance


class LabelledImages:
    """Draws blocks of aligned particles.

    Every second image of a block is the next of the set, shuffled anew each time it has been gone through; its neighbour is the one, of some
    drawn at random and each turned at random, whose distance comes nearest to one drawn uniformly.

    Parameters
    ----------
    images : with poses in their table
    scheme : how images become the network's input
    shift_range_angst : images are moved by up to this
    validation_fraction : part of the particles, by a hash of their id, from which blocks of validation (negative numbers) are drawn

    Raises
    ------
    InputError
        when the particles have no poses, or are too few to learn from.
    """

    def __init__(
        self, images: ParticleImages, scheme: NetworkInput, kernel: SimilarityKernel, *, shift_range_angst: float, largest_rad: float,
        validation_fraction: float, seed: int,
    ) -> None:
        table = images.table
        if table.angles_deg is None:
            raise InputError("The particles have no alignment to learn from: give aligned particles, or learn from 'simulation'.")
        self._images, self._scheme, self._kernel = images, scheme, kernel
        self._shift_range_angst, self._largest_rad, self._seed = shift_range_angst, largest_rad, seed
        self._rotation, self._shift_angst = images.poses(np.arange(len(table)))
        held = held_out(table.ids, validation_fraction)
        self.training, self.validation = np.flatnonzero(~held), np.flatnonzero(held)
        if min(len(self.training), len(self.validation)) < 16:
            raise InputError(
                f"{len(table)} aligned particles are too few to learn from, {len(self.validation)} of them for validation: give some hundred at least, "
                "or learn from 'simulation'."
            )

    def draw(self, blocks: list[tuple[int, int]]) -> Samples:
        """Samples of blocks given as (number, images in it)."""
        drawn = [self._draw_block(number, count) for number, count in blocks]
        rows = np.concatenate([part[0] for part in drawn])
        turn, mirror, extra = (torch.cat(parts) for parts in zip(*(part[1:] for part in drawn), strict=True))
        data, ctf = self._images.read(rows)
        if self._images.unusable[rows].any():
            rows = self._without_unusable(rows)
            data, ctf = self._images.read(rows)
        seen = self._scheme.from_images(data, ctf)
        # centred first: what is left of the shift is drawn, so that all the shifts of training are equally frequent
        shift = self._shift_angst[torch.from_numpy(rows)].to(seen.device)
        back = -(rotation_z(turn)[:, :2, :2] @ shift[..., None])[..., 0]
        seen = move_images(seen, turn, back + extra, self._scheme.network_pixel_angst)
        seen = torch.where(mirror[:, None, None], seen.flip(1).roll(1, 1), seen)
        return Samples(standardise(seen), self._moved(rows, turn, mirror))

    def _without_unusable(self, rows: np.ndarray) -> np.ndarray:
        """The same rows, with other particles of the blocks in the place of those whose images cannot be used."""
        bad = self._images.unusable[rows]
        if bad.all():
            raise InputError(f"None of {len(rows)} images drawn to learn from can be used (first: particle {self._images.table.ids[rows[0]]}): they are blank, "
                             "masked or saturated. Give others.")
        rows = rows.copy()
        rows[bad] = np.resize(rows[~bad], int(bad.sum()))
        return rows

    def _draw_block(self, number: int, count: int) -> tuple[np.ndarray, torch.Tensor, torch.Tensor, torch.Tensor]:
        device = self._rotation.device
        generator = block_generator(self._seed, number, device)
        half = -(-count // 2)
        pool = self.training if number >= 0 else self.validation
        first = pool[shuffled_rows(self._seed, (number if number >= 0 else -1 - number) * half, half, len(pool))]
        candidates = pool[torch.randint(len(pool), (half, _CANDIDATES), generator=generator, device=device).cpu().numpy()]
        rows = np.concatenate([first[:, None], candidates], 1)
        turn = torch.rand(rows.shape, generator=generator, device=device) * 360
        mirror = torch.rand(rows.shape, generator=generator, device=device) < 0.5
        wanted = torch.rand(half, 1, generator=generator, device=device) * self._largest_rad
        extra = (torch.rand(2 * half, 2, generator=generator, device=device) * 2 - 1) * self._shift_range_angst
        poses = self._moved(rows, turn, mirror)
        distance = self._kernel.distance_rad(poses[:, :1], poses[:, 1:])
        best = 1 + (distance - wanted).abs().argmin(1)
        picked = torch.stack([torch.zeros_like(best), best], 1)
        at = np.take_along_axis(rows, picked.cpu().numpy(), 1).reshape(-1)[:count]
        return at, turn.gather(1, picked).flatten()[:count], mirror.gather(1, picked).flatten()[:count], extra[:count]

    def _moved(self, rows: np.ndarray, turn_deg: torch.Tensor, mirror: torch.Tensor) -> torch.Tensor:
        """Poses of pictures that were turned, then mirrored in y: seen from behind, a projection is its own mirror image."""
        poses = rotation_z(turn_deg) @ self._rotation[torch.from_numpy(rows)]
        flip = torch.tensor([1.0, -1.0, -1.0], device=poses.device)
        return torch.where(mirror[..., None, None], flip[:, None] * poses, poses)
