"""How well projections of the model agree with images, and in which direction the projections should change."""

from __future__ import annotations

import torch
from torch import Tensor

from ...alignment.fourier_band import FourierBand
from .fourier_particles import Batch

__all__ = ["frc_score", "likelihood_score"]

_TINY = 1e-20


def frc_score(projected: Tensor, batch: Batch, band: FourierBand) -> tuple[Tensor, Tensor]:
    """Mean Fourier ring correlation with the phase-flipped image, as Chen 2018.

    Parameters
    ----------
    projected
        (b, P) complex, without CTF.
    batch
        Images with their CTFs; the factor ``white`` is divided out again.
    band
        Frequencies of the P coefficients and their rings.

    Returns
    -------
    Score (b,), and its derivative G (b, P) with ``dS = Re sum conj(G) dF``:
    ``G = (Y / (|F| |Y|)_ring - frc F / |F|^2_ring) / rings``.
    """
    image = batch.data * torch.where(batch.transfer < 0, -1.0, 1.0)
    image = image if batch.white is None else image / batch.white
    cross = band.ring_sum((projected.conj() * image).real)
    own = band.ring_sum(projected.abs().square()).clamp(min=_TINY)
    other = band.ring_sum(image.abs().square()).clamp(min=_TINY)
    both = torch.sqrt(own * other)
    frc = cross / both
    direction = (band.per_point(1 / both) * image - band.per_point(frc / own) * projected) / band.rings
    return frc.mean(-1), direction


def likelihood_score(projected: Tensor, batch: Batch, band: FourierBand, noise_power: Tensor) -> tuple[Tensor, Tensor]:
    """Log-likelihood, up to a constant, of the image given the model under complex Gaussian noise of variance ``noise_power`` (rings,).

    Returns
    -------
    ``-sum |Y - C F|^2 / noise`` (b,) and its derivative (b, P): rings count by CTF^2 / noise, where the FRC gives the zeros of the
    CTF the same vote as its maxima.
    """
    noise = band.per_point(noise_power)
    residual = batch.data - batch.transfer * projected
    return -(residual.abs().square() / noise).sum(-1), 2 * batch.transfer / noise * residual
