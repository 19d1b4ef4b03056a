"""From eigen-motions to several linear motions and every particle's latents."""

from __future__ import annotations

from ..config import GaussianHeterogeneityConfig
from .eigen_motions import find_eigen_motions
from .gradients import GradientSource
from .linear_motions import start_motions
from .probabilistic_pca import LinearFit, fit_linear

__all__ = ["linear_of"]

_COARSENING = 2.0  # the first rounds see waves this much longer, beside which motions are small
_COARSE_ROUNDS = 6


def linear_of(source: GradientSource, config: GaussianHeterogeneityConfig) -> LinearFit:
    """Linear motions of the source's images, from ``config.components`` eigen-motions of their gradients.

    Eigen-motions of the gradients as they are and in the Fisher metric are both tried at half the resolution; the likelier goes on.
    """
    images, model = source.images, source.model
    coarse = images.coarser(_COARSENING * images.band.length / images.band.radius)
    first: LinearFit | None = None
    for metric in (False, True):
        eigen = find_eigen_motions(source, config.components, 0, config.seed, metric)
        vectors = eigen.vectors.view(len(eigen.vectors), len(model), -1)
        places, changes = (None, vectors[..., 0]) if config.vary == "composition" else (vectors, None)
        start = start_motions(
            model, places, moves=source.chosen, changes=changes, anchors=config.anchors, vary=config.vary, seed=config.seed)
        found = fit_linear(coarse, start, _COARSE_ROUNDS, what="Linear motions, coarse")
        if first is None or found.history[-1] > first.history[-1]:
            first = found
    assert first is not None
    return fit_linear(images, first.motions, config.rounds, rough=False)
