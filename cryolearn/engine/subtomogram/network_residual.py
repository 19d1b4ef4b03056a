"""The default network: residual blocks on a grid of half the side, pooled over the whole volume, with an embedding beside the classes."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

__all__ = ["Residual3D", "supervised_contrastive"]

_TEMPERATURE = 0.1


class _Block(nn.Module):
    """Two convolutions and a way around them (He et al. 2016)."""

    def __init__(self, taken: int, given: int, stride: int = 1) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv3d(taken, given, 3, stride, 1, bias=False), nn.BatchNorm3d(given), nn.ReLU())
        self.second = nn.Sequential(nn.Conv3d(given, given, 3, 1, 1, bias=False), nn.BatchNorm3d(given))
        self.around: nn.Module = nn.Identity()
        if stride > 1 or taken != given:
            self.around = nn.Sequential(nn.Conv3d(taken, given, 1, stride, bias=False), nn.BatchNorm3d(given))

    def forward(self, values: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(values)) + self.around(values))


class Residual3D(nn.Module):
    """Residual network with two heads.

    Pooling over all places makes it blind to where in the box the molecule lies.

    Parameters
    ----------
    width
        Channels of the first stage; twice and four times as many follow.
    embedding
        Length of the normalised embedding, which is the feature.
    channels
        2 when the missing wedge is told.
    """

    def __init__(self, classes: int, width: int = 24, embedding: int = 32, dropout: float = 0.3, channels: int = 1) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(channels, width, 5, 2, 2, bias=False), nn.BatchNorm3d(width), nn.ReLU())
        self.blocks = nn.Sequential(_Block(width, width), _Block(width, 2 * width, 2), _Block(2 * width, 4 * width, 2))
        self.dropout, self.last = nn.Dropout(dropout), nn.Linear(4 * width, classes)
        self.embed = nn.Sequential(nn.Linear(4 * width, 4 * width), nn.ReLU(), nn.Linear(4 * width, embedding))

    def forward(self, volumes: Tensor) -> tuple[Tensor, Tensor]:
        """`(n, channels, box, box, box)` -> logits `(n, classes)` and unit vectors `(n, embedding)`."""
        pooled = self.blocks(self.stem(volumes)).mean((2, 3, 4))
        return self.last(self.dropout(pooled)), functional.normalize(self.embed(pooled).float(), dim=1)


def supervised_contrastive(features: Tensor, labels: Tensor) -> Tensor:
    """Supervised contrastive loss `(n,)` (Khosla et al. 2020) of unit vectors `(n, d)`; 0 where a batch holds no other of the class."""
    similarity = features @ features.T / _TEMPERATURE
    itself = torch.eye(len(features), dtype=torch.bool, device=features.device)
    similarity = similarity.masked_fill(itself, float("-inf"))
    log_part = similarity - similarity.logsumexp(1, keepdim=True)
    alike = (labels[:, None] == labels[None]) & ~itself
    count = alike.sum(1)
    return -torch.where(alike, log_part, 0.0).sum(1) / count.clamp(min=1)
