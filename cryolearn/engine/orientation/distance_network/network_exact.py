"""The network 'exact': features on rings that turn with the picture, as the orientations' own features do."""

from __future__ import annotations

import torch
from torch import nn
from torch.nn import functional

from ...imaging.poses import random_rotations, rotation_z
from ...training.ring_convolution import ring_layers, ring_pair, ring_points
from ..similarity_kernel import SimilarityKernel

__all__ = ["RingEncoder", "RingNetwork", "left_representation"]

_SAMPLE = 4  # rotations per dimension from which the representation is found


def left_representation(kernel: SimilarityKernel, rotations: torch.Tensor) -> torch.Tensor:
    """Matrices (..., dimension, dimension) by which features change when poses are multiplied from the left: ``e(L A) = D(L) e(A)``.

    They exist, and are orthogonal, as the kernel depends on ``A^T A'`` only.
    """
    poses = random_rotations(_SAMPLE * kernel.dimension, torch.Generator().manual_seed(0), torch.float64)
    inverse = torch.linalg.pinv(kernel.embed(poses).T)
    moved = kernel.embed((rotations.double()[..., None, :, :] @ poses).flatten(0, -3)).unflatten(0, (*rotations.shape[:-2], len(poses)))
    return moved.transpose(-1, -2) @ inverse


class RingEncoder(nn.Module):
    """Features of an image at each in-plane angle, and of its mirror image.

    The image is sampled on rings around its centre of mass. All layers commute with turns of the rings, and the mirror image goes through the
    same weights, so a turn or a mirror of the picture only permutes what comes out.

    Parameters
    ----------
    size : side of the input in pixels
    radius_px : the outermost ring
    """

    def __init__(self, *, size: int, radius_px: float, width: int, turns: int, depth: int, kernel: int) -> None:
        super().__init__()
        self.size, self.turns = size, turns
        rings = max(6, round(radius_px))
        self.points: torch.Tensor  # (rings, samples, 2) pixels, x and y
        self.register_buffer("points", ring_points(rings, radius_px, turns), persistent=False)
        self._reach = 1.3 * radius_px
        self.layers = ring_layers(rings, width, depth, kernel)

    def centre(self, images: torch.Tensor) -> torch.Tensor:
        """Centre of mass (b, 2), pixels, of the positive density in a soft mask that follows it."""
        line = torch.arange(self.size, device=images.device, dtype=images.dtype) - self.size // 2
        positive = images.clamp_min(0)
        centre = torch.zeros(len(images), 2, device=images.device, dtype=images.dtype)
        for _ in range(3):
            x, y = (line - centre[:, :1]).square(), (line - centre[:, 1:]).square()
            # separable, so that no weight image is made
            along_x, along_y = (torch.exp(-(part / self._reach**2).square()) for part in (x, y))
            columns = (positive * along_y[:, :, None]).sum(1) * along_x
            rows = (positive * along_x[:, None, :]).sum(2) * along_y
            total = columns.sum(1, keepdim=True).clamp_min(1e-6)
            centre = torch.cat([(columns * line).sum(1, keepdim=True), (rows * line).sum(1, keepdim=True)], 1) / total
        return centre

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(b, 2, turns, width) of standardised images (b, size, size): of the picture and its mirror image in y."""
        pixel = self.points + self.centre(images)[:, None, None] + self.size // 2
        found: torch.Tensor = self.layers(ring_pair(images, pixel))
        return found.unflatten(0, (2, len(images))).permute(1, 0, 3, 2)


class RingNetwork(nn.Module):
    """Unit features whose inner product is the similarity of orientations.

    At each in-plane angle, and for the picture and its mirror image, the features give the orientation's embedding as seen from there and how much
    it is to be trusted; both are brought back to the picture's own frame by the representation of that turn, and averaged. So a turn or a mirror
    of the picture acts on the features exactly as it does on the orientation's embedding.

    Parameters
    ----------
    kernel : similarity to learn
    """

    def __init__(self, kernel: SimilarityKernel, *, size: int, radius_px: float, width: int = 64, turns: int = 24, depth: int = 4, taps: int = 9) -> None:
        super().__init__()
        self.encoder = RingEncoder(size=size, radius_px=radius_px, width=width, turns=turns, depth=depth, kernel=taps)
        self.head = nn.Sequential(nn.Linear(width, 2 * width), nn.GELU(), nn.Linear(2 * width, kernel.dimension))
        self.trust = nn.Linear(width, 1, bias=False)
        self.spread = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, 1))
        mirror = torch.diag(torch.tensor([1.0, -1.0, -1.0]))  # seen from behind, a projection is its own mirror image in y
        turn = rotation_z(torch.arange(turns) * (360 / turns))
        self.frames: torch.Tensor  # (2, turns, dimension, dimension)
        self.register_buffer("frames", left_representation(kernel, torch.stack([turn, mirror @ turn])).float(), persistent=False)

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Unit features (b, dimension) and the logarithm (b,) of their variance (of an angle in radians)."""
        return self.pool(self.encoder(images))

    def pool(self, found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features and log variance from what the encoder found, (b, 2, turns, width)."""
        trust, given = self.trust(found).float(), self.head(found).float()
        with torch.autocast(found.device.type, enabled=False):  # sixteen bits would blur small angles
            weight = trust.flatten(1).softmax(1).view(found.shape[:3])
            feature = torch.einsum("bmti,mtji->bj", given * weight[..., None], self.frames)
            summary = (found.detach().float() * weight.detach()[..., None]).sum((1, 2))
            return functional.normalize(feature, dim=1, eps=1e-6), self.spread(summary)[:, 0]
