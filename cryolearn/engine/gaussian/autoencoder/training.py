"""A network that decodes latents to conformations, kept only when it predicts held-out particles better than the trajectory.

The encoder reads each particle's gradients at two resolutions, compressed to at most 128 principal components each, and answers with a normal
posterior of K latents. The decoder moves anchors. Both are trained on the evidence lower bound (Kingma & Welling 2014) with exact projections.
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...config import RunConfig
from ...training.plan import BLOCK, TrainingPlan, block_generator, shuffled
from ...training.task import Blocks, Task
from ..linear.eigen_motions import principal_components
from ..linear.gradients import GradientSource
from ..linear.linear_motions import LatentPosterior
from ..linear.probabilistic_pca import LinearFit
from ..model.anchored_motion import outlier_mixture
from ..model.fourier_particles import GaussianImages
from ..model.projection import Gaussians
from .latent_posterior import decoder_posterior
from .network import Autoencoder

__all__ = ["AutoencoderFit", "AutoencoderSettings", "HeldOutComparison", "fit_autoencoder"]

_FEATURES = 128
_COARSENING = 2.0
_BATCH = 64
_EPOCHS, _LEAST_EPOCHS, _STEPS = 30, 4, 6000  # large sets need fewer epochs for as many steps
_RATE = 2e-3
_WARM_STEPS = 300  # in which the networks learn the linear motions
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


@dataclass(frozen=True, kw_only=True)
class HeldOutComparison:
    """Which particles train the network, and which ones it and the trajectory are compared on.

    Attributes
    ----------
    training, held_out : rows of the images
    curve_likelihood : (len(held_out),) log-likelihood of the held-out images by a trajectory fitted to ``training``, latents integrated out, over an
        empty image, with the chance that there is no particle
    """

    training: NDArray[np.int64]
    held_out: NDArray[np.int64]
    curve_likelihood: NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class AutoencoderSettings:
    """Latents, what they vary ('conformation', 'composition' or 'both'), and the training.

    Attributes
    ----------
    junk : part of the images that hold no particle
    epochs : 0 chooses by the number of particles
    """

    latents: int
    vary: str = "conformation"
    junk: float = 0.02
    epochs: int = 0
    seed: int = 1


def fit_autoencoder(
    images: GaussianImages, model: Gaussians, spread: Tensor, settings: AutoencoderSettings, *, moves: Tensor, comparison: HeldOutComparison,
    config: RunConfig, start: LinearFit | None = None,
) -> AutoencoderFit:
    """Train on some particles and compare with a trajectory on others.

    Parameters
    ----------
    images
        All particles.
    model
        Gaussians at rest; the gradients of the likelihood that the encoder reads are taken there.
    spread
        (M, A) weights of the anchors, as of the curve; 0 outside the focus.
    settings
        Latents, what they vary, and the training.
    moves
        (M,) bool.
    comparison
        Training and held-out rows, and the trajectory's log-likelihood of the latter.
    config
        Output folder of checkpoints and the learning curve; a killed run goes on from there.
    start
        Linear motions fitted to the training rows, in that order, from which the networks start: without it they start at rest.
    """
    from ...training.trainer import train  # Lightning takes seconds to import, and the other methods do without

    training, held_out = comparison.training, comparison.held_out
    latents, vary, junk, seed = settings.latents, settings.vary, settings.junk, settings.seed
    features = torch.cat([
        _gradient_features(part, model, moves, training, kind="amplitude" if vary == "composition" else "position", seed=seed)
        for part in (images, images.coarser(_COARSENING * images.band.length / images.band.radius))], dim=1)
    torch.manual_seed(seed)
    base = model if start is None else start.motions.base
    network = Autoencoder(base, spread, features.shape[1], latents, places=vary != "composition", amplitudes=vary != "conformation").to(images.device)
    if start is not None:
        _learn_lines(network, features[torch.from_numpy(training).to(features.device)], start)
    task = _AutoencoderTask(network, images, features=features, training=training, held_out=held_out, junk=junk, seed=seed)
    batch = min(_BATCH, len(training))
    epochs = settings.epochs or min(_EPOCHS, max(_LEAST_EPOCHS, _STEPS * batch // len(training)))
    digest = hashlib.sha256(b"".join(np.ascontiguousarray(item).tobytes() for item in (training, held_out, features.cpu().numpy()[training[:64]])))
    digest.update(f"{latents}/{vary}/{epochs}/{junk}/{seed}/{images.band.radius}".encode())
    plan = TrainingPlan(
        digest=digest.hexdigest(), seed=seed, epochs=epochs, images_per_epoch=len(training), batch=batch, learning_rate=_RATE, weight_decay=0.0,
        gradient_clip=0.0, validation_images=BLOCK)
    history = train(task, plan, config)
    network.to(images.device)
    posterior = decoder_posterior(images, network, features, junk)
    judged = outlier_mixture(posterior.evidence[torch.from_numpy(held_out).to(images.device)], junk).cpu().numpy()
    gain = judged - comparison.curve_likelihood
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


def _gradient_features(images: GaussianImages, model: Gaussians, moves: Tensor, training: NDArray[np.int64], *, kind: str, seed: int) -> Tensor:
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
    motions, posterior = start.motions, start.posterior
    latents = min(network.latents, len(motions))
    wanted = torch.zeros(len(features), network.latents, device=features.device)
    wanted[:, :latents] = posterior.mean[:, :latents].float()
    deviation = torch.ones_like(wanted)
    deviation[:, :latents] = posterior.sigma[:, :latents].float()
    moved, changed = motions.displacement()[:latents], motions.weight_change()[:latents]
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
    """Negative evidence lower bound of particles, in a mixture with images that hold none."""

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
        return -outlier_mixture(over_empty - divergence, self._junk)
