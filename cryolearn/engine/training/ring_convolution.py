"""Images on rings around a centre, and layers that commute with turns: an in-plane turn of the picture is a step along the circle."""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

__all__ = ["RingBlock", "ring_layers", "ring_pair", "ring_points"]


class RingBlock(nn.Module):
    """Convolution around the circle, normalised and activated; residual where the shape allows."""

    def __init__(self, channels_in: int, channels: int, kernel: int, stride: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(channels_in, channels, kernel, stride, bias=False)
        self.norm = nn.GroupNorm(8, channels)
        self._around = (kernel // 2, kernel - 1 - kernel // 2)
        self._residual = channels_in == channels and stride == 1

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The layer's output for features x."""
        y = functional.gelu(self.norm(self.convolution(functional.pad(x, self._around, mode="circular"))))
        return x + y if self._residual else y


def ring_layers(rings: int, width: int, depth: int, kernel: int) -> nn.Sequential:
    """Layers from (b, rings, samples) to (b, width, samples / 2)."""
    return nn.Sequential(RingBlock(rings, width, kernel, 2), *(RingBlock(width, width, kernel) for _ in range(depth)))


def ring_points(rings: int, outer: float, turns: int) -> torch.Tensor:
    """Points (rings, 2 * turns, 2) x, y on rings up to the radius ``outer``, in its unit; two for each in-plane angle that layers tell apart."""
    radius = (torch.arange(rings) + 0.5) * outer / rings
    angle = torch.arange(2 * turns) * (2 * math.pi / (2 * turns))
    return torch.stack([radius[:, None] * angle.cos(), radius[:, None] * angle.sin()], -1)


def ring_pair(images: torch.Tensor, pixel: torch.Tensor) -> torch.Tensor:
    """Images (b, size, size) at pixels (b, rings, samples, 2), then their mirror images in y: (2 b, rings, samples)."""
    rings = functional.grid_sample(images[:, None], pixel * (2 / (images.shape[-1] - 1)) - 1, align_corners=True)[:, 0]
    return torch.cat([rings, rings.flip(2).roll(1, 2)])  # angle -> -angle
