"""Several linear motions of a Gaussian model: what they are, how they start, their lattice of places, their principal axes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ..model.anchored_motion import AnchoredMotion, anchor_weights, outlier_fraction
from ..model.projection import Gaussians

__all__ = ["LatentPosterior", "LinearMotions", "lattice", "start_motions", "to_principal_axes"]

_REACH = 2.2  # the lattice spans this many standard deviations to either side
_PHASE = 0.7  # radians by which a wave of the finest ring may move within a standard deviation of a part
_FIRST_MOVE_ANGST = 4.0
_FIRST_CHANGE = 0.3
_LARGEST_STEP = 2.0  # factor by which a round may change the size of a motion


@dataclass(kw_only=True)
class LinearMotions(AnchoredMotion):
    """K motions; displacements and changes of amplitude are those by one standard deviation of the latents."""

    def __len__(self) -> int:
        return len(self.bend)

    def turned(self, matrix: Tensor, origin: Tensor) -> LinearMotions:
        """The same motions in latents z' with ``z = matrix z' + origin``."""
        moved = torch.einsum("k,kma->ma", origin, self.displacement())
        factor = (1 + origin @ self.weight_change()).clamp(min=0.05)
        base = replace(self.base, positions_angst=self.base.positions_angst + moved, amplitudes=self.base.amplitudes * factor)
        change = torch.einsum("kj,ka->ja", matrix, self.change)
        return replace(self, base=base, bend=torch.einsum("kj,kac->jac", matrix, self.bend), change=change)


@dataclass
class LatentPosterior:
    """Gaussian posterior of the latents of each particle.

    Attributes
    ----------
    mean : (n, K) float64
    covariance : (n, K, K) float64
    evidence : (n,) log-likelihood of the images over that of an empty image, latents integrated out
    log_likelihood : (n,) the same at the mean latents
    expected : (n,) what it would be without noise
    weight : (n,) probability that the image is a particle
    """

    mean: Tensor
    covariance: Tensor
    evidence: Tensor
    log_likelihood: Tensor
    expected: Tensor
    weight: Tensor

    @property
    def sigma(self) -> Tensor:
        """(n, K) standard deviations."""
        return self.covariance.diagonal(dim1=1, dim2=2).clamp(min=0).sqrt()


def start_motions(
    model: Gaussians, vectors: Tensor | None, *, moves: Tensor, changes: Tensor | None = None, anchors: int = 32, vary: str = "conformation", seed: int = 1,
) -> LinearMotions:
    """Motions of a few Å along given directions.

    Parameters
    ----------
    model
        Gaussians where all latents are 0.
    vectors
        (K, M, 3) directions, eigen-motions for instance; their sizes do not matter.
    moves
        (M,) bool, Gaussians that may change.
    changes
        (K, M) changes of amplitude to start from.
    anchors
        Number of anchors; 0 gives each Gaussian its own.
    vary
        'conformation', 'composition' or 'both'.
    seed
        Of the k-means clustering that places the anchors.

    Raises
    ------
    ValueError
        when what varies has no directions to start from.
    """
    with_places, with_amplitudes = vary in ("conformation", "both"), vary in ("composition", "both")
    first = vectors if with_places else changes
    if first is None:
        raise ValueError(f"to vary '{vary}', directions to start from are needed")
    device, count = model.positions_angst.device, len(first)
    spread = anchor_weights(model, moves, anchors, seed)
    bend, change = torch.zeros(count, spread.shape[1], 3, device=device), torch.zeros(count, spread.shape[1], device=device)
    inverse = torch.linalg.pinv(spread.double()).float()
    if with_places:
        assert vectors is not None
        bend = inverse @ vectors.float()
        moved = (spread @ bend).square().sum(-1)[:, moves].mean(1).sqrt()
        bend = bend * (_FIRST_MOVE_ANGST / moved.clamp(min=1e-20))[:, None, None]
    if with_amplitudes and changes is not None:
        change = changes.float() @ inverse.T
        size = (change @ spread.T).square()[:, moves].mean(1).sqrt()
        change = change * (_FIRST_CHANGE / size.clamp(min=1e-20))[:, None]
    return LinearMotions(base=model, spread=spread, bend=bend, change=change, moves_places=with_places, moves_amplitudes=with_amplitudes)


def lattice(phases: Tensor, limit: int) -> tuple[Tensor, Tensor, Tensor]:
    """Places at which the volume is linearised.

    Parameters
    ----------
    phases
        (K,) radians of the finest wave by one standard deviation of each latent.
    limit
        Largest number of places.

    Returns
    -------
    Places (G, K), standard deviations (K,) of the prior of each part, and logarithms (G,) of their weights; the mixture has variance 1.
    """
    counts = [1] * len(phases)

    def width(points: int) -> float:
        return 1.0 if points == 1 else _REACH / points

    while True:
        strain = [float(phase) * width(points) for phase, points in zip(phases, counts, strict=True)]
        worst = int(np.argmax(strain))
        more = [points + 2 * (axis == worst) for axis, points in enumerate(counts)]
        if strain[worst] <= _PHASE or math.prod(more) > limit:
            break
        counts = more
    axes, weights, widths = [], [], []
    for points in counts:
        node = (torch.arange(points, dtype=torch.float64) - (points - 1) / 2) * (2 * _REACH / points)
        weight = torch.softmax(-node.square() / (2 * max(1 - width(points) ** 2, 0.05)), 0)
        spread = float((weight * node.square()).sum())
        axes.append(node)
        weights.append(weight.log())
        widths.append(math.sqrt(max(1 - spread, 0.25 * width(points) ** 2)))
    centres = torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).view(-1, len(counts))
    prior = torch.stack(torch.meshgrid(*weights, indexing="ij"), dim=-1).view(-1, len(counts)).sum(1)
    return centres, torch.tensor(widths, dtype=torch.float64), prior


def _fields(motions: LinearMotions) -> Tensor:
    """(K, 4 M) displacements in units of 10 Å and relative changes of amplitude."""
    return torch.cat((motions.displacement().flatten(1).double() / 10, motions.weight_change().double()), dim=1)


def to_principal_axes(motions: LinearMotions, posterior: LatentPosterior) -> LinearMotions:
    """Latents of mean 0 and variance 1 along the principal axes of the motion; the part of the images without particle."""
    total = posterior.weight.sum()
    share = posterior.weight / total.clamp(min=1e-6)
    mean = share @ posterior.mean
    off = posterior.mean - mean
    spread = torch.einsum("n,nkl->kl", share, posterior.covariance) + (off * share[:, None]).T @ off
    motions = replace(motions, junk=outlier_fraction(float(total) / len(share)))
    values, axes = torch.linalg.eigh(spread)
    root = axes * values.clamp(_LARGEST_STEP**-2, _LARGEST_STEP**2).sqrt() @ axes.T
    scaled = motions.turned(root.float(), mean.float())
    fields = _fields(scaled)
    _, turn = torch.linalg.eigh(fields @ fields.T)
    turn = turn.flip(1)
    turned = fields.T @ turn
    largest = turned.gather(0, turned.abs().argmax(0, keepdim=True))
    return scaled.turned((turn * torch.sign(largest)).float(), torch.zeros(len(motions), device=fields.device))
