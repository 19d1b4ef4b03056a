"""From the similarity of two features to a distance."""

from __future__ import annotations

import torch

from ...imaging.poses import random_rotations, so3_exp
from ..similarity_kernel import SimilarityKernel
from .pair_sampling import largest_distance

__all__ = ["ExactReadout", "PaperReadout", "Readout"]

_CLOSEST = 1e-6  # of a cosine to 1, where the derivative of its arc is infinite
_KNOTS = 128
_PAIRS = 200_000


class ExactReadout:
    """Distance of orientations whose similarity is given: ``acos((3 s - 1) / 2)`` without symmetry, the mean over pairs of that similarity with it."""

    def __init__(self, kernel: SimilarityKernel) -> None:
        self.table: torch.Tensor | None = None
        if len(kernel.matrices) == 1:
            return
        generator = torch.Generator().manual_seed(0)
        largest = largest_distance(kernel)
        axis = torch.nn.functional.normalize(torch.randn(_PAIRS, 3, generator=generator, dtype=torch.float64), dim=1)
        angle = torch.rand(_PAIRS, 1, generator=generator, dtype=torch.float64) * largest
        first = random_rotations(_PAIRS, generator, torch.float64)
        second = first @ so3_exp(axis * angle)
        similarity, distance = kernel.between(first, second), kernel.distance_rad(first, second)
        low = float(similarity.min())
        at = ((similarity - low) / (1 - low) * (_KNOTS - 1)).round().long().clamp(0, _KNOTS - 1)
        sums = torch.zeros(2, _KNOTS, dtype=torch.float64).index_add(1, at, torch.stack([distance, torch.ones_like(distance)]))
        mean = torch.where(sums[1] > 0, sums[0] / sums[1].clamp_min(1), torch.full_like(sums[0], largest))
        mean[-1] = 0
        self.table, self._low = mean.float(), low

    def distance_rad(self, similarity: torch.Tensor) -> torch.Tensor:
        """Distances of similarities, any shape."""
        if self.table is None:
            return torch.acos(((3 * similarity - 1) / 2).clamp(-1 + _CLOSEST, 1 - _CLOSEST))
        place = ((similarity - self._low) / (1 - self._low) * (_KNOTS - 1)).clamp(0, _KNOTS - 1)
        below = place.floor().long().clamp(max=_KNOTS - 2)
        table = self.table.to(similarity.device)
        return table[below] + (place - below) * (table[below + 1] - table[below])


class PaperReadout:
    """``d = 2 acos(cos(f, f'))`` (Banjac et al. 2021): no features can make it right for all pairs, as ``|<q, q'>|`` is no positive-definite kernel."""

    def distance_rad(self, similarity: torch.Tensor) -> torch.Tensor:
        """Distances in radians from the cosines between features, any shape."""
        return 2 * torch.acos(similarity.clamp(-1 + _CLOSEST, 1 - _CLOSEST))


Readout = ExactReadout | PaperReadout
