"""The network 'views': images of one particle seen together, for particles that it was not trained on.

Two projections share a line of their transforms, which tells the relative orientation but for one angle; a third projection tells that angle
(angular reconstitution, van Heel 1987). So each pair of images first gets an estimate of the rotation between them from how well their lines
match, and the estimates of all pairs of the set are then made consistent through third views: a matrix of relative rotations ``A_i A_j^T`` is its
own square (Singer & Shkolnisky 2011), so its square is mixed into it some times, with weights that are learned.
"""

from __future__ import annotations

import math

import torch
from torch import nn
from torch.nn import functional

from ...imaging.poses import rotation_z
from ...training.ring_convolution import RingBlock
from .network_exact import RingEncoder

__all__ = ["ViewsNetwork"]

_MATCHES = 4  # kinds of line matches
_CHANNELS = 8  # matrices of relative rotations that are carried along
_ROUNDS = 4  # of mixing in third views
_LINE_CHANNELS = 16  # numbers by which lines are compared, for each kind of match
_LEAST = 1e-4


class LineEncoder(RingEncoder):
    """Features of an image at each in-plane angle, from its rings and from the lines of its transform at that angle."""

    def __init__(self, *, size: int, radius_px: float, width: int, turns: int, depth: int, kernel: int) -> None:
        super().__init__(size=size, radius_px=radius_px, width=width, turns=turns, depth=depth, kernel=kernel)
        # frequencies up to half the band: a particle of diameter D has independent ones 1 / D apart
        step = size / (2 * radius_px)
        frequency = step * (0.5 + torch.arange(max(6, int(0.25 * size / step))))
        angle = torch.arange(2 * turns) * (math.pi / turns)
        self.line_points: torch.Tensor  # (frequencies, samples, 2) x, y in Fourier pixels
        self.register_buffer("line_points", torch.stack([frequency[:, None] * angle.cos(), frequency[:, None] * angle.sin()], -1), persistent=False)
        rings = self.points.shape[0] + 2 * len(frequency)
        self.layers[0] = RingBlock(rings, width, kernel, 2)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(b, turns, width) of standardised images (b, size, size)."""
        centre = self.centre(images)
        pixel = self.points + centre[:, None, None] + self.size // 2
        rings = functional.grid_sample(images[:, None], pixel * (2 / (self.size - 1)) - 1, align_corners=True)[:, 0]
        line = torch.arange(self.size, device=images.device, dtype=images.dtype) - self.size // 2
        x, y = (line - centre[:, :1]).square(), (line - centre[:, 1:]).square()
        mask = torch.exp(-((x[:, None] + y[:, :, None]) / self._reach**2).square())
        full = torch.fft.fftshift(torch.fft.fft2(torch.fft.ifftshift(images * mask, dim=(1, 2))), dim=(1, 2)) / self.size
        place = (self.line_points + self.size // 2) * (2 / (self.size - 1)) - 1
        sampled = functional.grid_sample(torch.stack([full.real, full.imag], 1), place.expand(len(images), -1, -1, -1), align_corners=True)
        lines = torch.complex(sampled[:, 0], sampled[:, 1])
        # phases are counted from the particle's centre: shared lines are then equal
        lines = lines * torch.exp(2j * math.pi / self.size * (self.line_points @ centre[:, None, :, None])[..., 0])
        lines = lines / lines.abs().square().mean(2, keepdim=True).sqrt().clamp_min(1e-6)
        found: torch.Tensor = self.layers(torch.cat([rings, lines.real, lines.imag], 1))
        return found.transpose(1, 2)


class ViewsNetwork(nn.Module):
    """Similarities of the orientations of all pairs of a set of views of one particle without symmetry.

    All that it computes turns with each picture: it depends on in-plane angles only through rotation matrices.

    """

    def __init__(self, *, size: int, radius_px: float, width: int = 64, turns: int = 24, depth: int = 3, taps: int = 5) -> None:
        super().__init__()
        self.encoder = LineEncoder(size=size, radius_px=radius_px, width=width, turns=turns, depth=depth, kernel=taps)
        self.turns, self.width = turns, width
        self.line = nn.Linear(width, _MATCHES * _LINE_CHANNELS)
        self.scale = nn.Parameter(torch.full((_MATCHES, _LINE_CHANNELS), 4 / math.sqrt(_LINE_CHANNELS)))
        self.given = nn.Parameter(torch.diag(torch.tensor([1.0, 0.0, 0.0])) + 0.1 * torch.randn(_MATCHES, 3, 3))
        self.own = nn.Linear(width, 9 * _MATCHES)
        self.trust = nn.Linear(width, _MATCHES, bias=False)
        self.start = nn.Linear(2 * _MATCHES, _CHANNELS, bias=False)
        self.mix = nn.ModuleList(nn.Linear(2 * _CHANNELS, _CHANNELS, bias=False) for _ in range(_ROUNDS))
        self.gate = nn.ModuleList(
            nn.Sequential(nn.Linear(4 * _CHANNELS + _MATCHES, width), nn.GELU(), nn.Linear(width, _CHANNELS)) for _ in range(_ROUNDS)
        )
        self.last = nn.Sequential(nn.Linear(2 * _CHANNELS + _MATCHES, width), nn.GELU(), nn.Linear(width, 2))
        self.out = nn.Linear(_CHANNELS, 1, bias=False)
        self.frames: torch.Tensor  # (turns, 3, 3)
        self.register_buffer("frames", rotation_z(torch.arange(turns) * (360 / turns)), persistent=False)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """What is kept of each image, (b, turns * width), of standardised images (b, size, size)."""
        return self.encoder(images).float().flatten(1)

    def compare(self, encoded: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Similarities and their variances (n, v, v) of ``n`` sets of ``v`` encoded images (n, v, turns * width)."""
        found = encoded.unflatten(2, (self.turns, self.width))
        z, match = self._pairs(found)
        for mix, gate in zip(self.mix, self.gate, strict=True):
            z = _even(z)
            squared = _even(_blocks(_whole(z) @ _whole(z)))
            both = torch.cat([z, squared], 1)
            weight = torch.sigmoid(gate(torch.cat([_invariants(both), match], -1))).permute(0, 3, 1, 2)
            z = z + weight[..., None, None] * mix(both.movedim(1, -1)).movedim(-1, 1)
        z = _even(z)
        inside = torch.cat([_invariants(z), match], -1)
        strength, spread = self.last(inside).unbind(-1)
        similarity = torch.tanh(self.out(z.diagonal(dim1=-2, dim2=-1).sum(-1).movedim(1, -1))[..., 0] * (1 + strength))
        similarity = (similarity + similarity.transpose(1, 2)) / 2
        variance = functional.softplus((spread + spread.transpose(1, 2)) / 2) + _LEAST
        return similarity, variance

    def forward(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Similarities and variances (n, v, v) of standardised images (n, v, size, size)."""
        return self.compare(self.encode(images.flatten(0, 1)).unflatten(0, images.shape[:2]))

    def _pairs(self, found: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """First estimates (n, c, v, v, 3, 3) of relative rotations, and how sharply lines match, (n, v, v, matches)."""
        line = functional.normalize(self.line(found).unflatten(-1, (_MATCHES, _LINE_CHANNELS)), dim=-1) * math.sqrt(_LINE_CHANNELS)
        logits = torch.einsum("nvacd,nwbcd->nvwcab", line * self.scale, line)
        peak = logits.flatten(-2).logsumexp(-1)
        # the rotation that a match at angles a and b stands for, turned to both pictures' frames, weighed by how well lines match there
        probability = (logits - peak[..., None, None]).exp()
        harmonic = torch.stack([self.frames[:, 0, 0], self.frames[:, 1, 0], torch.ones_like(self.frames[:, 0, 0])], -1)  # cos, sin, 1
        moment = torch.einsum("nvwcab,au,bs->nvwcus", probability, harmonic, harmonic)
        turn = torch.linalg.lstsq(harmonic, self.frames.flatten(1)).solution.unflatten(1, (3, 3))  # frames = sum over u of harmonic * turn
        matched = torch.einsum("nvwcus,uxp,cpq,syq->ncvwxy", moment, turn, self.given, turn)
        # what the image itself says of its orientation, as in the network 'exact'
        weight = self.trust(found).softmax(2)
        own = torch.einsum("nvac,axp,nvacpq->nvcxq", weight, self.frames, self.own(found).unflatten(-1, (_MATCHES, 3, 3)))
        own = own / own.square().mean((-1, -2), keepdim=True).add(1e-6).sqrt()
        direct = torch.einsum("nvcxq,nwcyq->ncvwxy", own, own) / 3
        z = self.start(torch.cat([_even(matched), direct], 1).movedim(1, -1)).movedim(-1, 1)
        return (z + z.transpose(2, 3).transpose(-1, -2)) / 2, peak - math.log(self.turns**2)


def _whole(z: torch.Tensor) -> torch.Tensor:
    """Blocks (n, c, v, v, 3, 3) as matrices (n, c, 3 v, 3 v)."""
    return z.transpose(3, 4).flatten(4, 5).flatten(2, 3)


def _blocks(matrix: torch.Tensor) -> torch.Tensor:
    """The other way round."""
    views = matrix.shape[-1] // 3
    return matrix.unflatten(3, (views, 3)).unflatten(2, (views, 3)).transpose(3, 4)


def _even(z: torch.Tensor) -> torch.Tensor:
    """Blocks whose mean square, over all of a channel, is that of rotations."""
    return z / (3 * z.square().mean((2, 3, 4, 5), keepdim=True)).add(1e-8).sqrt()


def _invariants(z: torch.Tensor) -> torch.Tensor:
    """Norms and z z elements (n, v, v, 2 c) of blocks, which turns of the pictures leave alone."""
    return torch.cat([z[..., 2, 2], z.square().sum((-1, -2)).add(1e-8).sqrt()], 1).movedim(1, -1)
