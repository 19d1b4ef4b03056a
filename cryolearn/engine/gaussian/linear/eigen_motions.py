"""Principal components of the particles' gradients: eigen-motions, how much of the variance they explain, and whether noise would too."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...progress import Progress
from .fisher_information import LARGEST_METRIC, fisher_metric
from .gradients import GradientSource

__all__ = ["EigenMotions", "find_eigen_motions", "principal_components"]

_LARGEST_COVARIANCE = 3000  # values of a vector up to which the whole covariance is kept (36 MB)
_OVERSAMPLING = 10
_POWER_STEPS = 2
_MARGIN = 1.25

Stream = Callable[[], Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]]


@dataclass
class EigenMotions:
    """Principal components of the gradients of all particles, against those of shuffled residuals.

    Attributes
    ----------
    vectors : (K, 3 M or M) displacements of unit norm, orthonormal unless they were found in the Fisher metric
    explained : (K,) part of the whole variance of the gradients
    null : (K,) the same of shuffled residuals, largest of the runs
    flexibility : (M,) how far the particles carry each Gaussian along the eigen-motions beyond noise, relative to their mean (of the raw gradients,
        their root mean square, as Chen 2018)
    projection : (n, K) place of each particle, in standard deviations
    scores : (n,)
    """

    vectors: Tensor
    explained: Tensor
    null: Tensor
    flexibility: Tensor
    projection: NDArray[np.float32]
    scores: NDArray[np.float32]

    @property
    def significant(self) -> NDArray[np.bool_]:
        """(K,) components that explain a quarter more than the first component of noise: what the model misses of the mean map adds a little too."""
        return (self.explained > _MARGIN * self.null[0]).cpu().numpy()


def find_eigen_motions(source: GradientSource, components: int, null_runs: int = 1, seed: int = 1, metric: bool = True) -> EigenMotions:
    """Principal components of a stream of gradients and of its null.

    Gradients of the likelihood are whitened by their Fisher information (:func:`fisher_metric`) as long as it fits in memory. Those of the FRC are
    taken as they are, and so are those without their rigid-body part: in the metric, little of most motions is left beside what rigid motion explains.
    ``metric`` off takes all as they are.
    """
    count = len(source.images)
    passes = 1 if source.size <= _LARGEST_COVARIANCE else _POWER_STEPS + 1
    progress = Progress("Gradients", count * (passes * (1 + null_runs) + 1))
    white = None
    if metric and source.keeps_rigid and source.score == "likelihood" and source.size <= LARGEST_METRIC:
        white = fisher_metric(source)
    scores = np.empty(count, np.float32)

    def stream(shuffle: NDArray[np.int64] | None = None) -> Iterator[tuple[NDArray[np.int64], Tensor, Tensor]]:
        for rows, score, vectors in source.vectors(shuffle=shuffle, plain=white is not None):
            progress.step(len(rows))
            yield rows, score, vectors if white is None else white.whiten(vectors)

    mean, axes, variance, total, spread = principal_components(stream, source.size, count, components, seed)
    projection = np.empty((count, len(axes)), np.float32)
    for rows, score, gradient in stream():
        scores[rows] = score.cpu().numpy()
        projection[rows] = ((gradient - mean) @ axes.T / variance.sqrt().clamp(min=1e-30)).cpu().numpy()
    null = torch.zeros_like(variance)
    for run in range(null_runs):
        shuffled = partial(stream, np.random.default_rng([seed, run]).permutation(count))
        _, _, noise, noise_total, _ = principal_components(shuffled, source.size, count, components, seed)
        null = torch.maximum(null, noise / noise_total)
    explained = variance / total
    if white is None:
        vectors = source.everywhere(axes)
        flexibility = source.everywhere(spread[None])[0].sum(1).sqrt()
    else:
        vectors = source.everywhere(white.displacements(axes))
        beyond = (explained - null[0]).clamp(min=0)
        beyond[0] = beyond[0].clamp(min=1e-6)  # without a motion beyond noise the map shows the first
        flexibility = (vectors.square().sum(2).T @ beyond).sqrt()
    return EigenMotions(vectors.flatten(1), explained, null, (flexibility / flexibility.mean()).float(), projection, scores)


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
