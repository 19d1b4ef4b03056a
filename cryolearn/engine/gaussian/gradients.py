"""Each particle's wish: how its score would grow with every Gaussian's place or amplitude (Chen 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .forward import Gaussians, project
from .particles import GaussianImages
from .scores import frc_score, likelihood_score

__all__ = ["GradientSource", "rigid_body_motions"]

_FACTORS_AT_A_TIME = {"cpu": 1 << 22, "cuda": 1 << 28}  # complex numbers of the separable factors, 8 bytes each


def rigid_body_motions(positions_angst: Tensor, amplitudes: Tensor) -> Tensor:
    """(6, 3 M) orthonormal basis of the translations and small rotations of all Gaussians together."""
    centre = (positions_angst * amplitudes[:, None]).sum(0) / amplitudes.sum()
    axes = torch.eye(3, dtype=positions_angst.dtype, device=positions_angst.device)
    fields = [axis.expand_as(positions_angst) for axis in axes]
    fields += [torch.linalg.cross(axis.expand_as(positions_angst), positions_angst - centre) for axis in axes]
    return torch.linalg.qr(torch.stack([field.flatten() for field in fields]).T)[0].T


@dataclass
class GradientSource:
    """Streams one gradient vector a particle, never all of them at once.

    Attributes
    ----------
    kind : 'position' (vectors 3 M long) or 'amplitude' (M long)
    score : 'frc' or 'likelihood'
    moves : (M,) bool, Gaussians in the focus; the others' part is 0
    keep_rigid : of positions, keep translations and rotations of the whole
    """

    images: GaussianImages
    model: Gaussians
    kind: str = "position"
    score: str = "frc"
    moves: Tensor | None = None
    keep_rigid: bool = False

    @property
    def keeps_rigid(self) -> bool:
        """Whether the vectors keep their rigid-body part: beside a still part, a region that moves as one is no pose error."""
        return self.keep_rigid or self.kind != "position" or not (self.moves is None or bool(self.moves.all()))

    def shares(self) -> Tensor:
        """(M,) what a position gradient is divided by: amplitude times volume, not less than the median's.

        A small Gaussian feels its neighbours' residual; it shall not speak louder than they.
        """
        shares = self.model.amplitudes * self.model.sigma_angst**3
        return shares.clamp(min=float(shares.median()))

    @property
    def size(self) -> int:
        """Length of a vector."""
        return len(self.model) * (3 if self.kind == "position" else 1)

    @property
    def chunk(self) -> int:
        """Images at a time."""
        return max(1, _FACTORS_AT_A_TIME[self.images.device.type] // (len(self.model) * (3 * self.images.band.radius + 2)))

    def vectors(
        self, rows: NDArray[np.int64] | None = None, shuffle: NDArray[np.int64] | None = None, plain: bool = False,
    ) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
        """Rows, scores (b,) and vectors (b, size) of batches of images.

        Position gradients are divided by the Gaussian's amplitude and volume, so that heavy Gaussians do not rule (as in the programs
        of Chen 2018).

        Parameters
        ----------
        shuffle
            (n,) a permutation: image i is given the residual of image ``shuffle[i]``. What is left is noise of the right size without any
            common motion, the null of the eigen-motions.
        plain
            The derivatives themselves (by relative amplitudes), undivided and with their rigid part.
        """
        model, band = self.model, self.images.band
        shares = self.shares()
        rigid = None
        if not self.keeps_rigid:
            rigid = rigid_body_motions(model.positions_angst, torch.ones_like(model.amplitudes))
        for batch in self.images.batches(rows, self.chunk):
            projection = project(model, batch.rotation, band)
            values = projection.values.flatten(1)[:, band.grid_index]
            if shuffle is not None:
                batch.data = self._with_residual_of(shuffle[batch.rows], values, batch)
            if self.score == "frc":
                score, direction = frc_score(values, batch, band)
            else:
                score, direction = likelihood_score(values, batch, band, self.images.noise_power)
            by_place, by_amplitude, _ = projection.gradients(band.on_grid(direction))
            if self.kind == "amplitude":
                vectors = by_amplitude * model.amplitudes
            elif plain:
                vectors = (by_place @ batch.rotation[:, :2]).flatten(1)
            else:
                vectors = (by_place @ batch.rotation[:, :2] / shares[:, None]).flatten(1)
            if self.moves is not None:
                vectors = vectors * self.moves.repeat_interleave(vectors.shape[1] // len(self.moves))
            if rigid is not None and not plain:
                vectors = vectors - (vectors @ rigid.T) @ rigid
            yield batch.rows, score, vectors

    def _with_residual_of(self, others: NDArray[np.int64], values: Tensor, batch: object) -> Tensor:
        """Images made of this batch's model and the phase-flipped residuals of other images."""
        from .particles import Batch

        assert isinstance(batch, Batch)
        band, images = self.images.band, self.images
        data = torch.from_numpy(np.ascontiguousarray(images.transforms[others])).to(images.device)
        shift, rotation, transfer = images.shift_angst[others], images.rotation[others], images.transfer(others)
        theirs = project(self.model, rotation, band).values.flatten(1)[:, band.grid_index]
        residual = (band.shifted(data, -shift) - transfer * theirs) * torch.where(transfer < 0, -1.0, 1.0)
        return batch.transfer * values + residual * torch.where(batch.transfer < 0, -1.0, 1.0)
