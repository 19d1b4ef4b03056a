"""A network that decodes latents to conformations (S6): the slides' own plan, kept only when it predicts unseen particles better than the curve.

The encoder reads each particle's gradients at two resolutions, compressed to at most 128 principal components each, and answers with a normal
posterior of K latents. The decoder moves anchors. Both are trained on the evidence lower bound (Kingma & Welling 2014) with exact projections.
At last every particle's latents are found by Gauss-Newton steps on the decoder, from the encoder's answer, and the likelihood of unseen particles is
estimated with their latents integrated out by importance sampling, which on average never overstates it (Burda et al. 2016).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...config import RunConfig
from ...io.motions import MotionModel
from ...progress import Progress
from ...training.plan import BLOCK, TrainingPlan, block_generator, shuffled
from ...training.trainer import Blocks, Task, train
from ..linear.eigen_motions import principal_components
from ..linear.gradients import GradientSource
from ..linear.linear_motions import LatentPosterior
from ..linear.probabilistic_pca import LinearFit
from ..model.fourier_particles import Batch, GaussianImages
from ..model.projection import Gaussians
from .network import Autoencoder, projection_tangents

__all__ = ["AutoencoderFit", "decoder_posterior", "fit_autoencoder", "gradient_features"]

_FEATURES = 128
_COARSENING = 2.0
_NEWTON_STEPS = 6
_SAMPLES = 32
_JUNK = 0.02
_BATCH = 64
_EPOCHS, _LEAST_EPOCHS, _STEPS = 30, 4, 6000  # large sets need fewer epochs for as many steps
_RATE = 2e-3
_WARM_STEPS = 300  # in which the networks learn the linear motions
_IMAGES_AT_ONCE = {"cpu": 1 << 24, "cuda": 1 << 28}
_PLACE_PRIOR_ANGST, _BEND_PRIOR_ANGST = 2.0, 20.0


@dataclass(kw_only=True)
class AutoencoderFit:
    """A trained autoencoder, and whether it predicts held-out particles better than the trajectory.

    Attributes
    ----------
    network : the trained networks
    posterior : of all particles, with those held out
    held_out : mean log-likelihood of the particles held out, latents integrated out
    held_out_gain : the same over what the curve gives them
    standard_error : of ``held_out_gain``
    accepted : the gain is larger than twice its standard error
    history : rows of the learning curve
    """

    network: Autoencoder
    posterior: LatentPosterior
    held_out: float
    held_out_gain: float
    standard_error: float
    accepted: bool
    history: list[dict[str, float]] = field(default_factory=list)

    @property
    def latent(self) -> Tensor:
        """(n, K)."""
        return self.posterior.mean

    def motion(self, pixel_size_angst: float, meta: dict[str, Any]) -> MotionModel:
        """The decoder in the form that is written."""
        return self.network.motion(pixel_size_angst, meta)


def fit_autoencoder(
    images: GaussianImages, model: Gaussians, spread: Tensor, latents: int, *, training: NDArray[np.int64], held_out: NDArray[np.int64],
    curve_likelihood: NDArray[np.float64], moves: Tensor, config: RunConfig, start: LinearFit | None = None, vary: str = "conformation", epochs: int = 0,
    junk: float = _JUNK, seed: int = 1,
) -> AutoencoderFit:
    """Train on some particles and compare with a curve on others.

    Parameters
    ----------
    images
        All particles.
    spread
        (M, A) weights of the anchors, as of the curve; 0 outside the focus.
    training, held_out
        Rows of the images that are learned from, and of those that judge (the other half set).
    curve_likelihood
        (len(held_out),) log-likelihood of those images by a curve fitted to ``training``, latents integrated out, over an empty image, with the
        chance that there is no particle.
    moves
        (M,) bool.
    config
        Output folder of checkpoints and the learning curve; a killed run goes on from there.
    epochs
        0 chooses by the number of particles.
    start
        Linear motions fitted to the rows ``training``, in that order, from which the networks start: without it they start at rest.
    """
    features = torch.cat([
        gradient_features(part, model, moves, training, kind="amplitude" if vary == "composition" else "position", seed=seed)
        for part in (images, images.coarser(_COARSENING * images.band.length / images.band.radius))], dim=1)
    torch.manual_seed(seed)
    base = model if start is None else start.model
    network = Autoencoder(base, spread, features.shape[1], latents, places=vary != "composition", amplitudes=vary != "conformation").to(images.device)
    if start is not None:
        _learn_lines(network, features[torch.from_numpy(training).to(features.device)], start)
    task = _AutoencoderTask(network, images, features=features, training=training, held_out=held_out, junk=junk, seed=seed)
    batch = min(_BATCH, len(training))
    epochs = epochs or min(_EPOCHS, max(_LEAST_EPOCHS, _STEPS * batch // len(training)))
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(item).tobytes() for item in (training, held_out, features.cpu().numpy()[training[:64]])))
    digest.update(f"{latents}/{vary}/{epochs}/{junk}/{seed}/{images.band.radius}".encode())
    plan = TrainingPlan(
        digest=digest.hexdigest(), seed=seed, epochs=epochs, images_per_epoch=len(training), batch=batch, learning_rate=_RATE, weight_decay=0.0,
        gradient_clip=0.0, validation_images=BLOCK)
    history = train(task, plan, config)
    network.to(images.device)
    posterior = decoder_posterior(images, network, features, junk)
    likelihood = posterior.evidence[torch.from_numpy(held_out).to(images.device)]
    judged = torch.logaddexp(likelihood + math.log(1 - junk), torch.full_like(likelihood, math.log(junk))).cpu().numpy()
    gain = judged - curve_likelihood
    error = float(gain.std() / math.sqrt(len(gain)))
    return AutoencoderFit(
        network=network,
        posterior=posterior,
        held_out=float(judged.mean()),
        held_out_gain=float(gain.mean()),
        standard_error=error,
        accepted=bool(gain.mean() > 2 * error),
        history=[dict(row) for row in history],
    )


def gradient_features(images: GaussianImages, model: Gaussians, moves: Tensor, training: NDArray[np.int64], *, kind: str, seed: int) -> Tensor:
    """Principal components (n, <= 128) of the gradients of the likelihood, in standard deviations; the axes are those of the rows ``training``."""
    source = GradientSource(images, model, kind, "likelihood", moves)
    count = min(_FEATURES, len(training) - 1)
    mean, vectors, variance, _, _ = principal_components(lambda: source.vectors(training), source.size, len(training), count, seed)
    kept = variance > 1e-6 * variance[0]
    axes = (vectors[kept] / variance[kept].sqrt()[:, None]).T
    found = torch.empty(len(images), axes.shape[1], device=images.device)
    for some, _, gradients in source.vectors():
        found[some] = (gradients - mean) @ axes
    return found.clamp(-8, 8)


def _learn_lines(network: Autoencoder, features: Tensor, start: LinearFit) -> None:
    """Teach the networks what the linear motions say of the particles, so that training begins there."""
    latents = min(network.latents, start.latent.shape[1])
    wanted = torch.zeros(len(features), network.latents, device=features.device)
    wanted[:, :latents] = start.latent[:, :latents].float()
    deviation = torch.ones_like(wanted)
    deviation[:, :latents] = start.posterior.sigma[:, :latents].float()
    moved, changed = start.displacement[:latents], start.weight_change[:latents]
    generator = torch.Generator().manual_seed(len(features))
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    size = moved.square().mean().sqrt().clamp(min=1e-3)
    with torch.enable_grad():
        for _ in range(_WARM_STEPS):
            some = torch.randint(len(features), (256,), generator=generator).to(features.device)
            mean, spread = network.encode(features[some])
            latent = 1.2 * torch.randn(256, network.latents, generator=generator).to(features.device)
            value, _ = network.factors(latent)
            bend, change = network.fields()
            loss = (mean - wanted[some]).square().mean() + (spread.log() - deviation[some].clamp(min=1e-2).log()).square().mean()
            if network.places:
                target = torch.einsum("bk,kmc->bmc", latent[:, :latents], moved)
                loss = loss + ((torch.einsum("bd,dmc->bmc", value, bend) - target) / size).square().mean()
            if network.amplitudes:
                loss = loss + (value @ change - latent[:, :latents] @ changed).square().mean() / changed.square().mean().clamp(min=1e-3)
            loss = loss + network.place.square().mean() + network.amplitude.square().mean()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()


class _AutoencoderTask(Task):
    """Negative evidence lower bound of particles; images without particle are let off by the chance of them."""

    def __init__(self, network: Autoencoder, images: GaussianImages, features: Tensor, training: NDArray[np.int64], held_out: NDArray[np.int64],
                 junk: float, seed: int) -> None:
        self.network: Autoencoder = network
        self._images, self._features, self._training, self._held_out, self._junk, self._seed = images, features, training, held_out, junk, seed

    def _rows(self, blocks: Blocks) -> NDArray[np.int64]:
        chosen: list[NDArray[np.int64]] = []
        for number, count in blocks:
            place = number * BLOCK + np.arange(count)
            for turn in np.unique(place // len(self._training)):
                here = place[place // len(self._training) == turn] % len(self._training)
                chosen.append(self._training[shuffled(self._seed, int(turn), len(self._training))[here]])
        return np.concatenate(chosen)

    def training_loss(self, blocks: Blocks) -> Tensor:
        noise = torch.cat([torch.randn(count, self.network.latents, generator=block_generator(self._seed, number)) for number, count in blocks])
        loss = self._losses(self._rows(blocks), noise.to(self._images.device)).mean()
        bend, _ = self.network.fields()
        prior = (self.network.place / _PLACE_PRIOR_ANGST).square().sum() + (0.4 * self.network.amplitude).square().sum()
        prior = prior + (bend / _BEND_PRIOR_ANGST).square().sum() / max(1, bend.shape[1])
        return loss + prior / (2 * len(self._training))

    @torch.no_grad()
    def validation_sums(self, blocks: Blocks) -> dict[str, Tensor]:
        total = torch.zeros(2, dtype=torch.float64)
        rows = self._held_out[:: max(1, len(self._held_out) // 512)]
        for part in np.array_split(rows, -(-len(rows) // 64)):
            loss = self._losses(part, torch.zeros(len(part), self.network.latents, device=self._images.device))
            total += torch.tensor([float(loss.double().sum()), float(len(part))], dtype=torch.float64)
        return {"loss": total}

    def _losses(self, rows: NDArray[np.int64], noise: Tensor) -> Tensor:
        mean, spread = self.network.encode(self._features[rows])
        latent = mean + spread * noise
        band = self._images.band
        weight = 1 / band.per_point(self._images.noise_power)
        batch = next(self._images.batches(rows, len(rows)))
        values = batch.transfer * self.network.project(latent, batch.rotation, band)
        over_empty = (2 * (values.conj() * batch.data).real - values.abs().square()) @ weight
        divergence = (mean.square() + spread.square() - 1 - 2 * spread.log()).sum(1) / 2
        bound = over_empty - divergence
        return -torch.logaddexp(bound + math.log(1 - self._junk), torch.full_like(bound, math.log(self._junk)))


def decoder_posterior(images: GaussianImages, network: Autoencoder, features: Tensor, junk: float = _JUNK, seed: int = 1) -> LatentPosterior:
    """Posterior of the latents by damped Gauss-Newton steps on the decoder, and likelihoods with the latents integrated out."""
    count, latents, band, device = len(images), network.latents, images.band, images.device
    found = LatentPosterior(*(torch.zeros(count, *shape, dtype=torch.float64, device=device) for shape in ((latents,), (latents, latents), (), (), (), ())))
    weight = 1 / band.per_point(images.noise_power)
    numbers = len(network.rest()) * (band.radius * 3 + 2) * (2 + latents)
    draws = _normal_points(_SAMPLES, latents, seed).to(device)
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


def _normal_points(count: int, dimensions: int, seed: int) -> Tensor:
    """Evenly spread (count, dimensions) float64 points of a normal distribution: scrambled Sobol points, which leave less to chance than random ones."""
    even = torch.quasirandom.SobolEngine(dimensions, scramble=True, seed=seed).draw(count, dtype=torch.float64)
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
