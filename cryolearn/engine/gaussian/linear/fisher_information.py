"""Fisher information of the Gaussians' places or amplitudes, the metric in which gradients become displacements.

A gradient is a force: neighbours that overlap feel the same residual, and a Gaussian at the end of a swing feels more than it moves. Under noise alone the
gradients of the log-likelihood have the covariance H, the Fisher information averaged over views. Whitened by it (``L^-1 g``, ``H = L L^T``) noise is the same
in every direction, so principal components find the weakest motion that the data can show, and ``L^-T`` takes a component back to a displacement (the
average Gauss-Newton step).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...imaging.standard_images import even_rows
from ..model.projection import project
from .gradients import GradientSource, rigid_body_motions

__all__ = ["LARGEST_METRIC", "Metric", "fisher_metric", "settled"]

LARGEST_METRIC = 6000  # values of a vector: the matrix takes 288 MB in double precision
_SAMPLE = 300
_IMAGES_AT_A_TIME_BYTES = 1 << 27
_REGULARISATION = 0.05  # of the mean diagonal: directions that no image sees stay where they are
_SETTLING_STEPS = 30


@dataclass
class Metric:
    """Metric of the mean Fisher information of the images.

    Attributes
    ----------
    inverse : (size, size) ``L^-1``
    """

    inverse: Tensor

    def whiten(self, gradients: Tensor) -> Tensor:
        """Gradients (b, size) of the log-likelihood in the metric where noise is the same in every direction."""
        return gradients @ self.inverse.T

    def displacements(self, axes: Tensor) -> Tensor:
        """Unit displacements (K, size) of whitened directions (K, size)."""
        steps = axes @ self.inverse
        return steps / steps.norm(dim=1, keepdim=True).clamp(min=1e-30)


def fisher_metric(source: GradientSource) -> Metric:
    """Metric of the source's gradients, from the derivatives of projections of the focus at the views of a sample of the images."""
    images, model = source.images, source.focus
    size, band = source.size, images.band
    information = torch.zeros(size, size, dtype=torch.float64, device=images.device)
    rows = even_rows(len(images), _SAMPLE)
    noise = band.per_point(images.noise_power)
    plane = band.points.T * (2 * math.pi / band.length)
    chunk = max(1, _IMAGES_AT_A_TIME_BYTES // (16 * size * len(band)))
    for batch in images.batches(rows, chunk):
        projection = project(model, batch.rotation, band)
        waves = (projection.along_y[..., :, None] * projection.along_x[..., None, :]).flatten(2)[:, :, band.grid_index]
        waves = waves * model.amplitudes[:, None] * (batch.transfer / noise.sqrt())[:, None]
        if source.kind == "position":
            slope = batch.rotation[:, :2].transpose(1, 2) @ plane  # (b, 3, P): d(phase)/d(place)
            waves = (waves[:, :, None] * slope[:, None]).flatten(1, 2)  # but for the factor -i
        split = torch.cat((waves.real, waves.imag), dim=-1).transpose(0, 1).flatten(1)
        information += 2 * (split @ split.T).double()
    information /= len(rows)
    information.diagonal().add_(_REGULARISATION * information.diagonal().mean())
    lower = torch.linalg.cholesky(information)
    inverse = torch.linalg.solve_triangular(lower, torch.eye(size, dtype=lower.dtype, device=lower.device), upper=False)
    return Metric(inverse.float())


def settled(displacement: Tensor, positions_angst: Tensor) -> Tensor:
    """The displacement (M, 3) with the rigid-body motion added that leaves the most Gaussians still (least sum of lengths).

    Where poses could have taken up any rigid motion, this is the frame in which a moving arm moves and the body does not.
    """
    basis = rigid_body_motions(positions_angst.double(), torch.ones(len(positions_angst), dtype=torch.float64, device=positions_angst.device))
    field, weight = displacement.double().flatten(), torch.ones(len(positions_angst), dtype=torch.float64, device=positions_angst.device)
    rest = field
    for _ in range(_SETTLING_STEPS):  # iteratively reweighted least squares
        heavy = basis * weight.repeat_interleave(3)
        rest = field - torch.linalg.solve(heavy @ basis.T, heavy @ field) @ basis
        length = rest.view(-1, 3).norm(dim=1)
        weight = 1 / (length + 1e-3 * length.mean().clamp(min=1e-30))
    return rest.view(-1, 3).to(displacement.dtype)
