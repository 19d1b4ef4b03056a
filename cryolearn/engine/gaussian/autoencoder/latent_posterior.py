"""Posterior of the latents of a decoder: Gauss-Newton steps from the encoder's answer, then importance sampling.

The likelihood with the latents integrated out is estimated by sampling, which on average never overstates it (Burda et al. 2016).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...progress import Progress
from ..linear.linear_motions import LatentPosterior
from ..model.fourier_particles import Batch, GaussianImages
from .network import Autoencoder, projection_tangents

__all__ = ["decoder_posterior"]

_NEWTON_STEPS = 6
_SAMPLES = 32
_IMAGES_AT_ONCE = {"cpu": 1 << 24, "cuda": 1 << 28}


def decoder_posterior(images: GaussianImages, network: Autoencoder, features: Tensor, junk: float) -> LatentPosterior:
    """Posterior of the latents by damped Gauss-Newton steps on the decoder, and likelihoods with the latents integrated out."""
    count, latents, band, device = len(images), network.latents, images.band, images.device
    found = LatentPosterior(*(torch.zeros(count, *shape, dtype=torch.float64, device=device) for shape in ((latents,), (latents, latents), (), (), (), ())))
    weight = 1 / band.per_point(images.noise_power)
    numbers = len(network.rest()) * (band.radius * 3 + 2) * (2 + latents)
    draws = _normal_points(_SAMPLES, latents).to(device)
    progress = Progress("Latents", count)
    with torch.no_grad():
        for batch in images.batches(chunk=max(1, _IMAGES_AT_ONCE[device.type] // numbers)):
            guess = network.encode(features[batch.rows])[0]
            starts = torch.stack((guess, torch.zeros_like(guess)))
            scores = torch.stack([_log_joint(network, batch, start, weight, images)[0] for start in starts])
            place = starts[scores.argmax(0), torch.arange(len(guess), device=device)]
            place, hessian = _newton(network, batch, place, weight, images)
            covariance = torch.linalg.inv(hessian)
            # wider than the normal approximation, so that its tails are covered
            root = torch.linalg.cholesky(covariance) * 1.2
            half_log = root.diagonal(dim1=1, dim2=2).log().sum(1)
            terms, spots = [], []
            for draw in draws:
                away = (root @ draw[:, None])[..., 0]
                spot = (place.double() + away).float()
                joint = _log_joint(network, batch, spot, weight, images)[0].double()
                terms.append(joint + draw.square().sum() / 2 + half_log)  # prior over proposal: the powers of 2 pi cancel
                spots.append(spot.double())
            log_weight, spot = torch.stack(terms), torch.stack(spots)
            share = torch.softmax(log_weight, 0)[..., None]
            mean = (share * spot).sum(0)
            off = spot - mean
            evidence = torch.logsumexp(log_weight, 0) - math.log(len(draws))
            _, likelihood, own = _log_joint(network, batch, place, weight, images)
            found.mean[batch.rows], found.evidence[batch.rows] = mean, evidence
            found.covariance[batch.rows] = torch.einsum("sbo,sbk,sbl->bkl", share, off, off)
            found.log_likelihood[batch.rows], found.expected[batch.rows] = likelihood.double(), own.double()
            found.weight[batch.rows] = torch.sigmoid(evidence + math.log(1 / junk - 1))
            progress.step(len(batch.rows))
    return found


def _normal_points(count: int, dimensions: int) -> Tensor:
    """Evenly spread (count, dimensions) float64 points of a normal distribution: scrambled Sobol points, which leave less to chance than random ones."""
    even = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=1).draw(count, dtype=torch.float64)
    return torch.special.ndtri(even.clamp(1e-6, 1 - 1e-6))


def _log_joint(network: Autoencoder, batch: Batch, latent: Tensor, weight: Tensor, images: GaussianImages) -> tuple[Tensor, Tensor, Tensor]:
    """Log-likelihood plus log prior (without its constant), log-likelihood over an empty image, and power of the model (b,)."""
    values = batch.transfer * network.project(latent, batch.rotation, images.band)
    own = values.abs().square() @ weight
    likelihood = 2 * (values.conj() * batch.data).real @ weight - own
    return likelihood - latent.square().sum(1) / 2, likelihood, own


def _newton(network: Autoencoder, batch: Batch, latent: Tensor, weight: Tensor, images: GaussianImages) -> tuple[Tensor, Tensor]:
    """Latents (b, K) of the largest posterior near a start, and minus the Gauss-Newton Hessian there (b, K, K) float64."""
    eye = torch.eye(latent.shape[1], dtype=torch.float64, device=latent.device)
    damping = torch.full((len(latent),), 1e-2, dtype=torch.float64, device=latent.device)
    hessian = eye.expand(len(latent), -1, -1)
    for step in range(_NEWTON_STEPS + 1):
        here = network.conformation(latent)
        values, tangents = projection_tangents(here.model, batch.rotation, images.band, here.displacement, here.change)
        values, tangents = batch.transfer * values, batch.transfer[:, None] * tangents
        residual = batch.data - values
        slope = 2 * ((tangents.conj() * residual[:, None]).real @ weight).double() - latent.double()
        scaled = torch.view_as_real(tangents * weight.sqrt()).flatten(2)
        hessian = 2 * (scaled @ scaled.transpose(1, 2)).double() + eye
        if step == _NEWTON_STEPS:
            break
        now = _log_joint(network, batch, latent, weight, images)[0]
        damped = hessian + damping[:, None, None] * torch.diag_embed(hessian.diagonal(dim1=1, dim2=2))
        trial = latent + (torch.linalg.solve(damped, slope[..., None])[..., 0]).float().clamp(-1, 1)
        better = _log_joint(network, batch, trial, weight, images)[0] > now
        latent = torch.where(better[:, None], trial, latent)
        damping = torch.where(better, damping / 4, damping * 8)
    return latent, hessian
