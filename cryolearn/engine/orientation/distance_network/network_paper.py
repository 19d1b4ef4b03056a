"""The network 'paper': the Siamese CNN of Banjac, Donati & Defferrard 2021, layer for layer as in their released code."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

__all__ = ["PaperNetwork"]

_STAGES = ((32, 7), (64, 5), (128, 3), (256, 3), (256, 3), (512, 3), (512, 3))  # channels, side of the filter


class PaperNetwork(nn.Module):
    """Seven times convolution, ReLU and pooling by two, then the mean over what is left: 512 features, 4,551,936 weights.

    Pooling rounds up, so that boxes below 128 px (where the authors' ends at a single pixel) are taken too.

    Parameters
    ----------
    features : 0 gives the 512 features as they are, as the paper does; else a linear layer to that many follows, for the exact read-out
    """

    def __init__(self, features: int = 0) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for width, side in _STAGES:
            layers += [nn.Conv2d(channels, width, side, padding="same"), nn.ReLU(), nn.MaxPool2d(2, ceil_mode=True)]
            channels = width
        self.layers = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.head: nn.Module = nn.Linear(channels, features) if features else nn.Identity()

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit features of standardised images (b, size, size) and zeros (b,): this network does not say how sure it is."""
        found = self.head(self.layers(images[:, None])).float()
        return functional.normalize(found, dim=1, eps=1e-6), found.new_zeros(len(found))
