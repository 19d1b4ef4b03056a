"""Per-particle gradient of the score with respect to the positions or amplitudes of the Gaussians (Chen 2018)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..model.fourier_particles import Batch, GaussianImages
from ..model.image_scores import frc_score, likelihood_score
from ..model.projection import Gaussians, Projection, project

__all__ = ["GradientSource", "rigid_body_motions"]

_FACTORS_AT_A_TIME = {"cpu": 1 << 22, "cuda": 1 << 28}  # complex numbers of the separable factors, 8 bytes each
_KEPT_BYTES = 1 << 30


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
    kind : 'position' (vectors 3 F long) or 'amplitude' (F long), for F Gaussians in the focus
    score : 'frc' or 'likelihood'
    moves : (M,) bool, Gaussians in the focus; None is all
    keep_rigid : of positions, keep translations and rotations of the whole
    """

    images: GaussianImages
    model: Gaussians
    kind: str = "position"
    score: str = "frc"
    moves: Tensor | None = None
    keep_rigid: bool = False

    def __post_init__(self) -> None:
        part = None if self.moves is None or bool(self.moves.all()) else self.moves
        self.focus = self.model if part is None else self.model.part(part)
        self._still = None if part is None else self.model.part(~part)
        room = len(self.images) * len(self.images.band) * 8
        self._still_values = np.empty((len(self.images), len(self.images.band)), np.complex64) if self._still is not None and room <= _KEPT_BYTES else None
        self._still_known = np.zeros(len(self.images), bool)

    @property
    def keeps_rigid(self) -> bool:
        """Whether the vectors keep their rigid-body part: beside a still part, a region that moves as one is no pose error."""
        return self.keep_rigid or self.kind != "position" or self._still is not None

    def shares(self) -> Tensor:
        """(F,) what a position gradient is divided by: amplitude times volume, not less than the median's.

        So small Gaussians are not dominated by the residuals of those that they overlap.
        """
        shares = self.focus.amplitudes * self.focus.sigma_angst**3
        return shares.clamp(min=float(shares.median()))

    @property
    def chosen(self) -> Tensor:
        """(M,) bool, the Gaussians in the focus."""
        return torch.ones(len(self.model), dtype=torch.bool, device=self.images.device) if self.moves is None else self.moves

    @property
    def size(self) -> int:
        """Length of a vector."""
        return len(self.focus) * (3 if self.kind == "position" else 1)

    def everywhere(self, vectors: Tensor) -> Tensor:
        """Vectors (K, size) over the focus as (K, M, 3 or 1) over all Gaussians, 0 outside."""
        parts = vectors.view(len(vectors), len(self.focus), -1)
        if self._still is None or self.moves is None:
            return parts
        whole = parts.new_zeros(len(parts), len(self.model), parts.shape[2])
        whole[:, self.moves] = parts
        return whole

    @property
    def chunk(self) -> int:
        """Images at a time; more once what the Gaussians outside the focus give is known."""
        used = self.focus if self._still_known.all() else self.model
        return max(1, _FACTORS_AT_A_TIME[self.images.device.type] // (len(used) * (3 * self.images.band.radius + 2)))

    def vectors(
        self, rows: NDArray[np.int64] | None = None, shuffle: NDArray[np.int64] | None = None, plain: bool = False,
    ) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
        """Rows, scores (b,) and vectors (b, size) of batches of images; of tilt images the sums over those of the same particle.

        Position gradients are divided by the Gaussian's amplitude and volume, so that heavy Gaussians do not rule (as in the programs
        of Chen 2018).

        Parameters
        ----------
        rows
            Images to read, in this order; None reads all.
        shuffle
            (n,) a permutation: image i is given the residual of image ``shuffle[i]``. What is left is noise of the right size without any
            common motion, the null of the eigen-motions.
        plain
            The derivatives themselves (by relative amplitudes), undivided and with their rigid part.
        """
        model, band = self.focus, self.images.band
        shares = self.shares()
        rigid = None
        if not self.keeps_rigid:
            rigid = rigid_body_motions(model.positions_angst, torch.ones_like(model.amplitudes))
        for batch in self.images.batches(rows, self.chunk):
            projection = project(model, batch.rotation, band)
            values = self._with_still(projection, batch.rows, batch.rotation)
            if shuffle is not None:
                batch = replace(batch, data=self._with_residual_of(shuffle[batch.rows], values, batch))
            if self.score == "frc":
                score, direction = frc_score(values, batch, band)
                score = score / batch.pooled(torch.ones_like(score))  # the mean over the tilts of a particle
            else:
                score, direction = likelihood_score(values, batch, band, self.images.noise_power)
            by_place, by_amplitude = projection.gradients(band.on_grid(direction))
            if self.kind == "amplitude":
                vectors = by_amplitude * model.amplitudes
            elif plain:
                vectors = (by_place @ batch.rotation[:, :2]).flatten(1)
            else:
                vectors = (by_place @ batch.rotation[:, :2] / shares[:, None]).flatten(1)
            if rigid is not None and not plain:
                vectors = vectors - (vectors @ rigid.T) @ rigid
            yield batch.rows, batch.pooled(score), batch.pooled(vectors)

    def _with_residual_of(self, others: NDArray[np.int64], values: Tensor, batch: Batch) -> Tensor:
        """Images made of this batch's model and the phase-flipped residuals of other images, noise made even in both."""
        band, images = self.images.band, self.images
        data = torch.from_numpy(np.ascontiguousarray(images.transforms[others])).to(images.device)
        shift, rotation, transfer = images.shift_angst[others], images.rotation[others], images.transfer(others)
        theirs = self._with_still(project(self.focus, rotation, band), others, rotation)
        residual = (data * band.phase(-shift) - transfer * theirs) * torch.where(transfer < 0, -1.0, 1.0)
        white = images.white(others)
        residual = residual if white is None else residual * white
        return batch.transfer * values + residual * torch.where(batch.transfer < 0, -1.0, 1.0)

    def _with_still(self, projection: Projection, rows: NDArray[np.int64], rotation: Tensor) -> Tensor:
        """Coefficients (b, P) of the whole model; those of the Gaussians outside the focus are computed once and kept while there is room."""
        band = self.images.band
        values = projection.values.flatten(1)[:, band.grid_index]
        if self._still is None:
            return values
        kept = self._still_values
        if kept is None or not self._still_known[rows].all():
            still = project(self._still, rotation, band).values.flatten(1)[:, band.grid_index]
            if kept is not None:
                kept[rows], self._still_known[rows] = still.cpu().numpy(), True
        else:
            still = torch.from_numpy(kept[rows]).to(values.device)
        return values + still
