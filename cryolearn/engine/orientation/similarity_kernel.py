"""Similarity and distance of two orientations modulo a point group, and the features whose inner products are that similarity.

Distances are angles of ``A^T A'`` in radians, the smallest over ``A' S`` for the rotations S of the group. They are no inner product of any features
(``|<q, q'>|`` is not positive definite on SO(3)), but band-limited functions of them are: the similarity is

    k(A, A') = (mean over S of <q, q' s>^(2 t) - c) / (the same at A = A' - c),   <q, q' s>^2 = (1 + tr(A^T A' S)) / 4,

positive definite as a power of an inner product, averaged over the group, without its constant part c (the Catalan number of t over 4^t). Without
symmetry t = 1 and ``k = (1 + 2 cos d) / 3``; D2 has ``w^4 + x^4 + y^4 + z^4``. The degree t is the smallest that tells all orientations apart.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..imaging.poses import random_rotations
from ..imaging.symmetry import symmetry_matrices

__all__ = ["SimilarityKernel"]

_DEGREES = {"T": 3, "O": 4, "I": 6}  # of the first spherical harmonics that the group leaves alone


class SimilarityKernel:
    """Similarity, distance and exact features for one point group.

    Attributes
    ----------
    group : name, as :func:`symmetry_matrices` takes it
    matrices : (n, 3, 3) float64, identity first
    degree : t
    dimension : rank of the similarity, the length of its features (9 without symmetry)

    Raises
    ------
    InputError
        when the group is not known.
    """

    def __init__(self, group: str = "C1") -> None:
        self.group = group.strip().upper()
        self.matrices = symmetry_matrices(group)
        letter = self.group[0]
        self.degree = _DEGREES[letter] if letter in _DEGREES else max(int(self.group[1:]), 2 if letter == "D" else 1)
        self.dimension = self._rank()
        self._constant = math.comb(2 * self.degree, self.degree) / (self.degree + 1) / 4**self.degree
        trace = self.matrices.diagonal(dim1=1, dim2=2).sum(1)
        self._peak = float(((1 + trace) / 4).pow(self.degree).mean())
        self._nodes: Tensor | None = None
        self._mixing: Tensor | None = None

    def _rank(self) -> int:
        """Sum over degrees l of 2 l + 1 times the number of harmonics of degree l that the group leaves alone (mean of the characters)."""
        trace = self.matrices.diagonal(dim1=1, dim2=2).sum(1)
        angle = torch.acos(((trace - 1) / 2).clamp(-1, 1))
        rank = 0
        for degree in range(1, self.degree + 1):
            character = 1 + 2 * sum(torch.cos(order * angle) for order in range(1, degree + 1))
            rank += (2 * degree + 1) * round(float(torch.as_tensor(character).mean()))
        return rank

    def traces(self, first: Tensor, second: Tensor) -> Tensor:
        """``tr(A^T A' S)``, (..., n) for orientations (..., 3, 3) that broadcast."""
        relative = first.transpose(-1, -2) @ second
        return relative.flatten(-2) @ self.matrices.transpose(1, 2).flatten(1).T.to(relative)

    def between(self, first: Tensor, second: Tensor) -> Tensor:
        """Similarity (...,) of orientations (..., 3, 3): 1 when they are equal modulo the group; differentiable."""
        power = ((1 + self.traces(first, second)) / 4).pow(self.degree).mean(-1)
        return (power - self._constant) / (self._peak - self._constant)

    def distance_rad(self, first: Tensor, second: Tensor) -> Tensor:
        """Distance (...,) in radians, accurate at small angles: it comes from ``|A - A' S| = 2 sqrt(2) sin(d / 2)``."""
        if len(self.matrices) > 1:
            nearest = self.matrices.to(second)[self.traces(first, second).argmax(-1)]
            second = second @ nearest
        chord = torch.linalg.matrix_norm(first - second) / (2 * math.sqrt(2))
        return 2 * torch.asin(chord.clamp(max=1))

    def embed(self, rotations: Tensor) -> Tensor:
        """Unit features (b, dimension) of orientations (b, 3, 3) whose inner products are the similarity.

        The rank is finite, so the similarities to enough fixed orientations, whitened, are exact features (Nystroem).
        """
        if self.dimension == 9 and len(self.matrices) == 1:
            return rotations.flatten(-2) / math.sqrt(3)
        if self._nodes is None:
            self._nodes = random_rotations(3 * self.dimension + 8, torch.Generator().manual_seed(0), torch.float64)
            values, vectors = torch.linalg.eigh(self.between(self._nodes[:, None], self._nodes[None]))
            self._mixing = vectors[:, -self.dimension:] / values[-self.dimension:].sqrt()
        assert self._mixing is not None
        return self.between(rotations[:, None], self._nodes.to(rotations)[None]) @ self._mixing.to(rotations)
