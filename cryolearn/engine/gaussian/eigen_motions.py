"""Principal components of the particles' gradients: eigen-motions, how much of the variance they explain, and whether noise would too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..progress import Progress
from .gradients import GradientSource

__all__ = ["EigenMotions", "find_eigen_motions", "principal_components"]

_LARGEST_COVARIANCE = 3000  # values of a vector up to which the whole covariance is kept (36 MB)
_OVERSAMPLING = 10
_POWER_STEPS = 2

Stream = Callable[[], Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]]


@dataclass
class EigenMotions:
    """Attributes
    ----------
    mean : (size,) mean vector
    vectors : (K, size) orthonormal
    variance : (K,) of the particles along them
    explained : (K,) part of the whole variance
    null : (K,) the same of shuffled residuals, largest of the runs
    flexibility : (M,) root mean square of the gradient of each Gaussian, relative to their mean
    projection : (n, K) place of each particle, in standard deviations
    scores : (n,)
    """

    mean: Tensor
    vectors: Tensor
    variance: Tensor
    explained: Tensor
    null: Tensor
    flexibility: Tensor
    projection: NDArray[np.float32]
    scores: NDArray[np.float32]

    @property
    def significant(self) -> NDArray[np.bool_]:
        """(K,) components that explain more than the first component of noise."""
        return (self.explained > self.null[0]).cpu().numpy()


def find_eigen_motions(source: GradientSource, components: int, null_runs: int = 1, seed: int = 1) -> EigenMotions:
    """Principal components of a stream of gradients and of its null."""
    count = len(source.images)
    progress = Progress("Gradients", count * (1 + null_runs))
    flexibility = torch.zeros(len(source.model), device=source.images.device, dtype=torch.float64)
    scores = np.empty(count, np.float32)

    def watched() -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
        for rows, score, vectors in source.vectors():
            progress.step(len(rows))
            yield rows, score, vectors

    mean, vectors, variance, total, spread = principal_components(watched, source.size, count, components, seed)
    projection = np.empty((count, len(vectors)), np.float32)
    for rows, score, gradient in source.vectors():
        scores[rows] = score.cpu().numpy()
        projection[rows] = ((gradient - mean) @ vectors.T / variance.sqrt().clamp(min=1e-30)).cpu().numpy()
    flexibility = spread.view(len(source.model), -1).sum(1).sqrt()
    null = torch.zeros_like(variance)
    for run in range(null_runs):
        shuffle = np.random.default_rng([seed, run]).permutation(count)

        def shuffled(order: NDArray[np.int64] = shuffle) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
            for rows, score, vectors in source.vectors(shuffle=order):
                progress.step(len(rows))
                yield rows, score, vectors

        _, _, noise, noise_total, _ = principal_components(shuffled, source.size, count, components, seed)
        null = torch.maximum(null, noise / noise_total)
    return EigenMotions(mean, vectors, variance, variance / total, null, (flexibility / flexibility.mean()).float(), projection, scores)


def principal_components(stream: Stream, size: int, count: int, components: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Mean (size,), vectors (K, size), variances (K,), whole variance and variance of each value (size,) of streamed vectors.

    Short vectors: the covariance is accumulated in double precision. Long ones: randomised range finder with power steps (Halko et al.
    2011), each a pass over the stream; memory is (K + 10) x size, never n x size.
    """
    kept = min(components, size, count - 1)
    if size <= _LARGEST_COVARIANCE:
        covariance, mean = _covariance(stream, size, count)
        values, axes = torch.linalg.eigh(covariance)
        vectors, variance = axes.T.flip(0)[:kept], values.flip(0)[:kept]
        spread = covariance.diagonal().clamp(min=0)
    else:
        mean, spread, vectors, variance = _range_finder(stream, size, count, kept, seed)
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    vectors = vectors * torch.sign(largest)  # so that signs are reproducible
    return mean.float(), vectors.float(), variance.clamp(min=0).float(), spread.sum().float(), spread.float()


def _covariance(stream: Stream, size: int, count: int) -> tuple[Tensor, Tensor]:
    covariance, mean = torch.zeros(size, size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
    for _, _, vectors in stream():
        covariance, mean = covariance.to(vectors.device), mean.to(vectors.device)
        covariance += (vectors.T @ vectors).double()
        mean += vectors.double().sum(0)
    mean = mean / count
    return covariance / count - torch.outer(mean, mean), mean


def _range_finder(stream: Stream, size: int, count: int, kept: int, seed: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    width = min(kept + _OVERSAMPLING, size)
    basis = torch.randn(size, width, generator=torch.Generator().manual_seed(seed))
    mean = square = torch.zeros(size, dtype=torch.float64)
    for step in range(_POWER_STEPS + 1):
        total = torch.zeros(size, width, dtype=torch.float64)
        first, second = torch.zeros(size, dtype=torch.float64), torch.zeros(size, dtype=torch.float64)
        inner = torch.zeros(width, width, dtype=torch.float64)
        sums = torch.zeros(width, dtype=torch.float64)
        for _, _, vectors in stream():
            basis = basis.to(vectors)
            along = vectors @ basis
            total, first, second = total.to(vectors.device), first.to(vectors.device), second.to(vectors.device)
            inner, sums = inner.to(vectors.device), sums.to(vectors.device)
            total += (vectors.T @ along).double()
            inner += (along.T @ along).double()
            sums += along.double().sum(0)
            first += vectors.double().sum(0)
            second += vectors.double().square().sum(0)
        mean, square = first / count, second / count
        if step < _POWER_STEPS:  # (X - mean)^T (X - mean) basis
            basis = torch.linalg.qr(total - torch.outer(mean, sums))[0].float()
    inner = inner / count - torch.outer(sums, sums) / count**2
    values, axes = torch.linalg.eigh(inner)
    vectors = (basis.double() @ axes.flip(1)[:, :kept]).T
    return mean, (square - mean.square()).clamp(min=0), vectors, values.flip(0)[:kept]
