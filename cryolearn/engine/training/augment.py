"""Pictures turned and moved, for labelled images that are seen more than once."""

from __future__ import annotations

import torch
from torch.nn import functional

from ..imaging.poses import rotation_z

__all__ = ["move_images"]


def move_images(images: torch.Tensor, turn_deg: torch.Tensor, shift_angst: torch.Tensor, pixel_angst: float) -> torch.Tensor:
    """Images (b, size, size) turned about the centre by ``turn_deg`` (b,), x towards y, then moved by (b, 2) Å.

    A pose ``R`` and a shift ``t`` become ``rotation_z(turn) R`` and ``rotation_z(turn) t + s``. Bicubic; what comes from outside is 0.
    """
    turn = rotation_z(turn_deg)
    size = images.shape[-1]
    line = pixel_angst * (torch.arange(size, device=turn.device, dtype=images.dtype) - size // 2)
    y, x = torch.meshgrid(line, line, indexing="ij")
    # a point of the moved picture shows what lay at the inversely moved point
    source = (torch.stack([x, y], -1) - shift_angst[:, None, None]) @ turn[:, None, :2, :2]
    pixel = source / pixel_angst + size // 2
    return functional.grid_sample(
        images[:, None], pixel * (2 / (size - 1)) - 1, mode="bicubic", padding_mode="zeros", align_corners=True
    )[:, 0]
