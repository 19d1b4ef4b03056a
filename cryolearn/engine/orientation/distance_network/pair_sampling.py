"""Pairs of orientations spread evenly over distances, and the weights that make a loss over all pairs of a block even too."""

from __future__ import annotations

import math

import torch

from ...imaging.poses import random_rotations, so3_exp
from ...training.plan import BLOCK
from ..similarity_kernel import SimilarityKernel

__all__ = ["DistanceWeights", "block_pairs", "draw_block_poses", "largest_distance"]

_SAMPLES = 4096
_BINS = 32  # of the distance, as in the paper


def largest_distance(kernel: SimilarityKernel) -> float:
    """About the largest distance in radians that two orientations can have modulo the group (pi for C1)."""
    if len(kernel.matrices) == 1:
        return math.pi
    poses = random_rotations(_SAMPLES, torch.Generator().manual_seed(0), torch.float64)
    return float(kernel.distance_rad(poses, torch.eye(3, dtype=torch.float64).expand_as(poses)).max())


def draw_block_poses(count: int, generator: torch.Generator, largest_rad: float) -> torch.Tensor:
    """Poses (count, 3, 3) of a block: every second one uniform on SO(3), its neighbour at a distance uniform between 0 and ``largest_rad``."""
    first = random_rotations(-(-count // 2), generator).to(generator.device)
    axis = torch.nn.functional.normalize(torch.randn(len(first), 3, generator=generator, device=generator.device), dim=1)
    angle = torch.rand(len(first), 1, generator=generator, device=generator.device) * largest_rad
    return torch.stack([first, first @ so3_exp(axis * angle)], 1).flatten(0, 1)[:count]


def block_pairs(count: int, device: torch.device | str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (n,) and (n,) of all pairs of a block of ``count``."""
    pairs = torch.triu_indices(count, count, 1, device=device)
    return pairs[0], pairs[1]


class DistanceWeights:
    """Weights of all pairs of a block by which every distance counts the same.

    Most pairs of a block are as far apart as chance has it; their density over the distance is found by drawing poses, so that it holds for
    every point group.
    """

    def __init__(self, kernel: SimilarityKernel, largest_rad: float, size: int = BLOCK) -> None:
        self.largest_rad = largest_rad
        generator = torch.Generator().manual_seed(0)
        first, second = block_pairs(size)
        blocks = max(8, 60000 // len(first))
        poses = draw_block_poses(blocks * size, generator, largest_rad).unflatten(0, (blocks, size))
        distance = kernel.distance_rad(poses[:, first], poses[:, second]).flatten()
        counts = torch.histc(distance.float(), _BINS, 0, largest_rad)
        # a bin that chance leaves nearly empty must not make single pairs weigh a hundredfold
        weight = 1 / counts.clamp_min(0.1 * float(counts.mean()))
        self._weight = (weight / (weight * counts).sum() * counts.sum()).float()

    def __call__(self, distance_rad: torch.Tensor) -> torch.Tensor:
        """Weights of pairs by their distance; their mean over blocks is 1."""
        at = (distance_rad / self.largest_rad * _BINS).long().clamp(0, _BINS - 1)
        return self._weight.to(distance_rad.device)[at]
