"""The 3D U-Net of Mullick et al.: 4^3 convolutions, InstanceNorm, dropout, 1 x 128^3 in and out on one grid.

An even kernel's output lies half a voxel beside its input. Halving and doubling layers cancel each other's halves; in the bottleneck, where
a voxel is 16 of the map's, every second layer is padded from the other side, so that nothing drifts; the last layer's half voxel is taken up
by its trained weights. The text's last upsampling, "scale factor 3", would give 192^3, which cannot be compared with the truth: it is 2.
"""

from __future__ import annotations

import torch
from torch import nn

__all__ = ["PaperMapNetwork"]

_DROPOUT = 0.2


class _Down(nn.Sequential):
    def __init__(self, channels_in: int, channels: int, norm: bool = True) -> None:
        layers: list[nn.Module] = [nn.Conv3d(channels_in, channels, 4, 2, 1, bias=not norm)]
        super().__init__(*layers, *([nn.InstanceNorm3d(channels)] if norm else []), nn.ReLU())


class _Middle(nn.Sequential):
    def __init__(self, channels_in: int, channels: int, first: int) -> None:
        pad = (first, 3 - first) * 3
        super().__init__(
            nn.ConstantPad3d(pad, 0.0), nn.Conv3d(channels_in, channels, 4, bias=False), nn.InstanceNorm3d(channels), nn.ReLU(), nn.Dropout(_DROPOUT),
        )


class _Up(nn.Sequential):
    def __init__(self, channels_in: int, channels: int) -> None:
        super().__init__(nn.ConvTranspose3d(channels_in, channels, 4, 2, 1, bias=False), nn.InstanceNorm3d(channels), nn.ReLU())


class PaperMapNetwork(nn.Module):
    """The paper's network.

    Parameters
    ----------
    width : channels of the first stage, 64 in the paper; the others are 2, 4 and 8 times as many

    Attributes
    ----------
    stride : sides of the input must be multiples of it
    reach : voxels at a tile's border that are thrown away
    overlap : of tiles, as a part of what is kept of them: InstanceNorm rescales each by its own content, so they are blended
    """

    stride = 16
    reach = 16
    overlap = 0.5

    def __init__(self, width: int = 64) -> None:
        super().__init__()
        w = width
        self.down = nn.ModuleList([_Down(1, w, False), _Down(w, 2 * w), _Down(2 * w, 4 * w), _Down(4 * w, 8 * w)])
        self.middle = nn.Sequential(_Middle(8 * w, 8 * w, 2), _Middle(8 * w, 8 * w, 1), _Middle(8 * w, 8 * w, 2), _Middle(8 * w, 4 * w, 1))
        self.up = nn.ModuleList([_Up(4 * w, 4 * w), _Up(8 * w, 2 * w), _Up(4 * w, w)])
        self.last = nn.Sequential(nn.Upsample(scale_factor=2), nn.ConstantPad3d((1, 0) * 3, 0.0), nn.Conv3d(2 * w, 1, 4, 1, 1))

    def forward(self, x: torch.Tensor, resolution: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, None]:
        """Sharpened map (b, 1, z, y, x) of maps of 0 to 1; it is told no resolutions and tells no errors.

        Sides are multiples of 16, 32 at least: InstanceNorm needs more than one value a channel.
        """
        kept = []
        for layer in self.down:
            x = layer(x)
            kept.append(x)
        x = self.middle(x)
        for layer, skipped in zip(self.up, reversed(kept[:-1])):
            x = torch.cat([layer(x), skipped], 1)
        return self.last(x).float(), None
