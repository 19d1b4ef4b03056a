"""The training task: features of images whose inner products are to be the similarities of their orientations."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import nn

from ...training.task import Blocks, Task
from ..similarity_kernel import SimilarityKernel
from .distance_readout import PaperReadout, Readout
from .networks import compare, encode
from .pair_sampling import DistanceWeights, block_pairs
from .training_simulator import Samples

__all__ = ["BlockSource", "DistanceTask", "distance_losses"]

_AT_ONCE = 8  # blocks of validation


class BlockSource(Protocol):
    """What gives samples by block: :class:`.simulator.ImageSimulator` or :class:`.labelled.LabelledImages`."""

    def draw(self, blocks: list[tuple[int, int]]) -> Samples:
        """Samples of blocks given as (number, images in it)."""


class DistanceTask(Task):
    """Losses of a distance network over all pairs within each block.

    Parameters
    ----------
    network : of :func:`.networks.build_network`
    source : of the samples
    readout : 'paper' also takes the paper's loss
    weights : of pairs by their distance
    """

    def __init__(self, network: nn.Module, source: BlockSource, kernel: SimilarityKernel, readout: Readout, weights: DistanceWeights) -> None:
        self.network, self._source = network, source
        self.kernel, self.readout, self.weights = kernel, readout, weights

    def training_loss(self, blocks: Blocks) -> torch.Tensor:
        """Mean loss over the blocks, all pairs of images within each."""
        return self._losses(blocks)[0].mean()

    @torch.no_grad()
    def validation_sums(self, blocks: Blocks) -> dict[str, torch.Tensor]:
        """Loss and mean absolute error of the distance in radians, summed over blocks."""
        sums = {name: torch.zeros(2, dtype=torch.float64) for name in ("loss", "distance_error")}
        for start in range(0, len(blocks), _AT_ONCE):
            for name, values in zip(sums, self._losses(blocks[start : start + _AT_ONCE]), strict=True):
                sums[name] += torch.stack([values.double().sum().cpu(), torch.tensor(float(len(values)), dtype=torch.float64)])
        return sums

    def _losses(self, blocks: Blocks) -> tuple[torch.Tensor, torch.Tensor]:
        return self.pair_losses(*self.similarities(blocks))

    def similarities(self, blocks: Blocks) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Similarities and their predicted variances (n, b, b), and poses (n, b, 3, 3), of ``n`` equally large blocks."""
        samples = self._source.draw(blocks)
        shape = (len(blocks), len(samples.images) // len(blocks))
        encoded = encode(self.network, samples.images).float().unflatten(0, shape)
        with torch.autocast(encoded.device.type, enabled=False):  # sixteen bits would blur small angles
            similarity, variance = compare(self.network, encoded)
        return similarity, variance, samples.rotation.unflatten(0, shape)

    def pair_losses(self, similarity: torch.Tensor, variance: torch.Tensor, rotation: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss and error (n,) of ``n`` blocks of similarities and variances (n, b, b) and poses (n, b, 3, 3)."""
        first, second = block_pairs(rotation.shape[1], similarity.device)
        one, other = rotation[:, first], rotation[:, second]
        true = self.kernel.distance_rad(one, other).to(similarity.dtype)
        target = self.kernel.between(one, other).to(similarity.dtype)
        return distance_losses(similarity[:, first, second], variance[:, first, second], target, true, self.weights(true), self.readout)


def distance_losses(
    found: torch.Tensor, variance: torch.Tensor, target: torch.Tensor, true_rad: torch.Tensor, weight: torch.Tensor, readout: Readout
) -> tuple[torch.Tensor, torch.Tensor]:
    """Loss and mean absolute error (n,) of the distance in radians over pairs (n, p); the error, and the paper's loss, with their weights.

    The exact read-out learns the similarity by least squares, all pairs alike: more weight for close pairs, which are few, only slows it down, even
    in the error that is even over distances (0.105 instead of 0.089 rad after the same time). Beside that it learns the residual's
    variance by maximum likelihood; the variance does not act back on the similarity, which would let hard images be given
    up. The paper's learns the distance itself by its absolute error.
    """
    distance = readout.distance_rad(found)
    error = (weight * (distance - true_rad).abs()).mean(1)
    if isinstance(readout, PaperReadout):
        return error, error.detach()
    residual = found - target
    # a similarity's error for a given error of the angles is largest half way and vanishes where orientations are alike
    unit = (1 - target.square()).clamp_min(0) + 0.05
    likelihood = 0.5 * (residual.detach().square() / unit / variance + variance.log())
    return 9 * residual.square().mean(1) + 0.1 * likelihood.mean(1), error.detach()
