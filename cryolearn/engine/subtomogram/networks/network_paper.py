"""The two networks of Xu, Chai et al. (Bioinformatics 33 (2017) i13), layer for layer; the feature is the linear output before the softmax."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...training.distributed import BlockDropout

__all__ = ["DSRF3D", "Inception3D"]


class Inception3D(nn.Module):
    """One inception module: 18,206,983 weights for 23 classes of 40^3.

    Parameters
    ----------
    box
        Side of the subtomograms, a multiple of 2.
    dropout
        Part of the values that is dropped before the last layer: 0.7 in the authors' code, 0.3 in their text.
    """

    def __init__(self, classes: int, box: int = 40, dropout: float = 0.7, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Conv3d(channels, 32, 5)
        self.single = nn.Conv3d(32, 32, 1)
        self.narrow3, self.wide3 = nn.Conv3d(32, 32, 1), nn.Conv3d(32, 64, 3, padding=1)
        self.narrow5, self.wide5 = nn.Conv3d(32, 16, 1), nn.Conv3d(16, 32, 5, padding=2)
        self.pooled = nn.Conv3d(32, 32, 1)
        side = (box - 4) // 2 - 1
        self.dropout, self.last = BlockDropout(dropout), nn.Linear(160 * side**3, classes)
        _glorot(self)

    def forward(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 1, box, box, box) -> logits (n, classes), and the same as features."""
        seen = functional.max_pool3d(functional.relu(self.stem(volumes)), 2)
        # pooling that keeps the side looks at the next voxel: pad behind only, as Keras does
        highest = functional.max_pool3d(functional.pad(seen, (0, 1) * 3, value=float("-inf")), 2, 1)
        branches = (
            self.single(seen), self.wide3(functional.relu(self.narrow3(seen))), self.wide5(functional.relu(self.narrow5(seen))), self.pooled(highest),
        )
        joined = functional.avg_pool3d(functional.relu(torch.cat(branches, 1)), 2, 1)
        logits = self.last(self.dropout(joined.flatten(1)))
        return logits, logits


class DSRF3D(nn.Module):
    """Deep, with small receptive fields: 33,237,559 weights for 23 classes of 40^3; ``box`` is a multiple of 4."""

    def __init__(self, classes: int, box: int = 40, channels: int = 1) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for taken, given in ((channels, 32), (32, 32), (32, 64), (64, 64)):
            layers += [nn.Conv3d(taken, given, 3, padding=1), nn.ReLU()]
            if taken == given:
                layers.append(nn.MaxPool3d(2))
        self.convolutions = nn.Sequential(*layers)
        self.dense = nn.Sequential(nn.Flatten(), nn.Linear(64 * (box // 4) ** 3, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU())
        self.last = nn.Linear(512, classes)
        _glorot(self)

    def forward(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """(n, 1, box, box, box) -> logits (n, classes), and the same as features."""
        logits = self.last(self.dense(self.convolutions(volumes)))
        return logits, logits


def _glorot(network: nn.Module) -> None:
    """First values as Keras draws them."""
    for layer in network.modules():
        if isinstance(layer, (nn.Conv3d, nn.Linear)):
            nn.init.xavier_uniform_(layer.weight)
            assert layer.bias is not None
            nn.init.zeros_(layer.bias)
