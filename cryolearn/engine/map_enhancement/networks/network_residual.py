"""The default network: a residual U-Net on signed density that knows the resolutions, and how wrong it may be.

It has no normalisation layers: these rescale every tile by its own content, so that tiles would not fit one another. All its work is done on
voxels gathered by twos along each axis (2^3 voxels are 8 channels), which loses nothing and is eight times cheaper than on single voxels.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import nn
from torch.nn import functional

__all__ = ["ResidualMapNetwork", "gather_voxels", "spread_voxels"]

_CONDITIONS = 2
_LARGEST_LOG = 6.0


def gather_voxels(x: torch.Tensor) -> torch.Tensor:
    """(b, c, z, y, x) -> (b, 8 c, z / 2, y / 2, x / 2): blocks of 2^3 voxels become channels."""
    b, c, z, y, w = x.shape
    return x.reshape((b, c, z // 2, 2, y // 2, 2, w // 2, 2)).permute((0, 1, 3, 5, 7, 2, 4, 6)).reshape(b, 8 * c, z // 2, y // 2, w // 2)


def spread_voxels(x: torch.Tensor) -> torch.Tensor:
    """Inverse of :func:`gather_voxels`."""
    b, c, z, y, w = x.shape
    return x.reshape((b, c // 8, 2, 2, 2, z, y, w)).permute((0, 1, 5, 2, 6, 3, 7, 4)).reshape(b, c // 8, 2 * z, 2 * y, 2 * w)


class _Block(nn.Module):
    """Two 3^3 convolutions beside the identity; the conditions scale and shift the channels between them."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv3d(channels, channels, 3, padding=1)
        self.second = nn.Conv3d(channels, channels, 3, padding=1)
        self.condition = nn.Linear(_HIDDEN, 2 * channels)
        for layer in (self.second, self.condition):
            nn.init.zeros_(layer.weight)
            nn.init.zeros_(cast(torch.Tensor, layer.bias))

    def forward(self, x: torch.Tensor, told: torch.Tensor) -> torch.Tensor:
        scale, shift = self.condition(told)[..., None, None, None].chunk(2, 1)
        y = self.first(functional.silu(x)) * (1 + scale) + shift
        return cast(torch.Tensor, x + self.second(functional.silu(y)))


_HIDDEN = 32


class ResidualMapNetwork(nn.Module):
    """Map in, map and its expected error out, on one grid.

    Parameters
    ----------
    width : channels where 2^3 voxels are together; twice as many where 4^3 are

    Attributes
    ----------
    stride : sides of the input must be multiples of it
    reach : voxels on each side of an output voxel that it can depend on
    overlap : none is needed: tiles whose borders within ``reach`` are thrown away fit exactly
    """

    stride = 4
    overlap = 0.0
    # voxels: 2 x (first 1 + two blocks of 2 x 2 + last 1) + 4 x (two blocks of 2 x 2), and what gathering adds
    reach = 2 * (1 + 4 + 1) + 4 * 4 + 4

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.told = nn.Sequential(nn.Linear(_CONDITIONS, _HIDDEN), nn.SiLU(), nn.Linear(_HIDDEN, _HIDDEN), nn.SiLU())
        self.first = nn.Conv3d(8, width, 3, padding=1)
        self.before = _Block(width)
        self.down = nn.Conv3d(width, 2 * width, 2, stride=2)
        self.middle = nn.ModuleList([_Block(2 * width), _Block(2 * width)])
        self.up = nn.ConvTranspose3d(2 * width, width, 2, stride=2)
        self.after = _Block(width)
        self.last = nn.Conv3d(width, 16, 3, padding=1)
        nn.init.zeros_(self.last.weight)  # the untrained network returns its input
        nn.init.zeros_(cast(torch.Tensor, self.last.bias))

    def forward(self, x: torch.Tensor, resolution: torch.Tensor, target: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Enhanced map and its expected absolute error.

        Parameters
        ----------
        x : (b, 1, z, y, x)
            Density, 0 in the solvent, standard deviation 1 in the molecule; sides are multiples of 4.
        resolution, target : (b,)
            Resolutions of the input and of the result in voxels.

        Returns
        -------
        density, error : (b, 1, z, y, x) float32
        """
        told = self.told(torch.stack([resolution - 4.0, target - 3.0], 1))
        y = self.before(self.first(gather_voxels(x)), told)
        coarse = self.down(functional.silu(y))
        for block in self.middle:
            coarse = block(coarse, told)
        y = self.after(y + self.up(functional.silu(coarse)), told)
        change, log_error = spread_voxels(self.last(functional.silu(y))).float().chunk(2, 1)
        return x.float() + change, log_error.clamp(-_LARGEST_LOG, _LARGEST_LOG).exp()
