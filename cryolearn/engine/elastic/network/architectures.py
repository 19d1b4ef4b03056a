"""The networks: ``multi`` (pose hypotheses, shift and amplitudes) and ``resnet34`` (Hamitouche & Jonic 2021)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from ...exceptions import InputError
from ...imaging.poses import rotation_z, so3_exp, view_grid
from ...training.ring_convolution import ring_layers, ring_pair, ring_points

__all__ = ["AmplitudeResNet34", "Hypotheses", "MultiNetwork", "build_network"]

_VIEWS, _TURNS = 75, 24  # cells of the half sphere in front, in-plane angles
_DEPTH, _KERNEL = 4, 9  # of the layers along the rings
_MIRROR = (1.0, -1.0, -1.0)  # a half turn about x: seen from behind, a projection is its own mirror image in y


@dataclass
class Hypotheses:
    """What the network says of ``b`` images for ``h`` cells each; scales are those of Laplace distributions.

    ``rotation`` (b, h, 3, 3), ``shift_angst`` (b, h, 2), ``amplitudes`` and ``amplitude_scale`` (b, h, K),
    ``probability`` (b, h).
    """

    rotation: torch.Tensor
    shift_angst: torch.Tensor
    amplitudes: torch.Tensor
    amplitude_scale: torch.Tensor
    probability: torch.Tensor


@dataclass
class Conditional:
    """Raw output for given cells, in the cell's own frame and in the network's units."""

    amplitudes: torch.Tensor
    turn: torch.Tensor
    shift: torch.Tensor
    log_scale: torch.Tensor  # (..., K + 2): of each amplitude, of the turn, of the shift


class MultiNetwork(nn.Module):
    """A distribution over poses, and shift and amplitudes given the pose.

    The image is sampled on rings around its centre of mass, so that an in-plane turn of the particle is a step along the
    circle, with which all layers commute; a view from behind is the mirrored image of a view from the front and goes
    through the same weights. So one set of weights only has to tell the views of half a sphere at one in-plane angle.
    The pose is a class (front or behind, in-plane angle, view); the rest is regressed for a given class in its own frame.

    Parameters
    ----------
    pixel_angst : pixel size of the input
    radius_angst : the outermost ring
    centre_radius_angst : width of the soft mask for the centre of mass
    amplitude_unit : amplitudes are predicted in this unit
    """

    def __init__(
        self, *, modes: int, pixel_angst: float, radius_angst: float, centre_radius_angst: float, amplitude_unit: float,
        width: int = 128,
    ) -> None:
        super().__init__()
        self.modes, self.pixel_angst, self.amplitude_unit = modes, pixel_angst, amplitude_unit
        self.centre_radius_angst = centre_radius_angst
        self.views_count, self.turns_count = _VIEWS, _TURNS
        rings = max(6, math.ceil(radius_angst / pixel_angst) - 1)
        self.points: torch.Tensor  # (rings, samples, 2) Å, x and y
        self.register_buffer("points", ring_points(rings, radius_angst, _TURNS), persistent=False)
        self.views: torch.Tensor
        self.register_buffer("views", view_grid(2 * _VIEWS)[:_VIEWS], persistent=False)  # the half sphere in front
        self.turns: torch.Tensor
        self.register_buffer("turns", rotation_z(torch.arange(_TURNS) * (360 / _TURNS)), persistent=False)
        self.mirrors: torch.Tensor
        self.register_buffer("mirrors", torch.stack([torch.eye(3), torch.diag(torch.tensor(_MIRROR))]), persistent=False)
        front = self.turns[:, None] @ self.views
        self.cells: torch.Tensor  # (2 * turns * views, 3, 3)
        self.register_buffer("cells", (self.mirrors[:, None, None] @ front).flatten(0, 2), persistent=False)
        self.spacing_rad = math.sqrt(2 * math.pi / _VIEWS)

        self.rings = ring_layers(rings, width, _DEPTH, _KERNEL)
        self.view_logits = nn.Linear(width, _VIEWS)
        self.hidden = nn.Linear(width, 2 * width)
        self.view_embedding = nn.Embedding(_VIEWS, 2 * width)
        nn.init.normal_(self.view_embedding.weight, std=0.5)
        outputs = modes + 3 + 2 + (modes + 2)
        self.conditional = nn.Sequential(nn.GELU(), nn.Linear(2 * width, 2 * width), nn.GELU(), nn.Linear(2 * width, outputs))

    def centre(self, images: torch.Tensor) -> torch.Tensor:
        """Centre of mass (b, 2), Å, of the positive density in a soft mask that follows it."""
        size = images.shape[-1]
        line = self.pixel_angst * (torch.arange(size, device=images.device, dtype=images.dtype) - size // 2)
        positive = images.clamp_min(0)
        centre = torch.zeros(len(images), 2, device=images.device, dtype=images.dtype)
        for _ in range(3):
            x, y = (line - centre[:, :1]).square(), (line - centre[:, 1:]).square()
            weight = positive * torch.exp(-((x[:, None] + y[:, :, None]) / self.centre_radius_angst**2).square())
            total = weight.sum((1, 2)).clamp_min(1e-6)
            centre = torch.stack([(weight.sum(1) * line).sum(1), (weight.sum(2) * line).sum(1)], 1) / total[:, None]
        return centre

    def features(self, images: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Features (b, 2, turns, width) of front and mirrored image at each in-plane angle, and the centres (b, 2)."""
        size = images.shape[-1]
        centre = self.centre(images)
        pixel = (self.points + centre[:, None, None]) / self.pixel_angst + size // 2
        found: torch.Tensor = self.rings(ring_pair(images, pixel))
        return found.reshape(2, len(images), *found.shape[1:]).permute(1, 0, 3, 2), centre

    def cell_logits(self, features: torch.Tensor) -> torch.Tensor:
        """Unnormalised log probabilities (b, cells)."""
        logits: torch.Tensor = self.view_logits(features)
        return logits.flatten(1)

    def given_cells(self, features: torch.Tensor, cells: torch.Tensor) -> Conditional:
        """Predictions for cells (b, h)."""
        at, view = cells // self.views_count, cells % self.views_count
        flat = features.flatten(1, 2)
        picked = torch.gather(flat, 1, at[..., None].expand(-1, -1, flat.shape[2]))
        values = self.conditional(self.hidden(picked) + self.view_embedding(view)).float()
        parts = values.split([self.modes, 3, 2, self.modes + 2], dim=-1)
        return Conditional(parts[0], parts[1], parts[2], parts[3].clamp(-6, 4))

    def in_cell_frame(
        self, cells: torch.Tensor, rotation: torch.Tensor, shift_angst: torch.Tensor, centre: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotation ``exp(w)`` and shift that a pose has relative to cells (b, h): inverse of :meth:`from_cell_frame`."""
        frame, view = self._frames(cells)
        turn = frame.transpose(-1, -2) @ rotation[:, None] @ view.transpose(-1, -2)
        offset = (shift_angst - centre)[:, None, None] @ frame[..., :2, :2]
        return turn, offset[..., 0, :] / self.pixel_angst

    def from_cell_frame(self, cells: torch.Tensor, given: Conditional, centre: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotations (b, h, 3, 3) and shifts (b, h, 2) Å of predictions for cells (b, h)."""
        frame, view = self._frames(cells)
        rotation = frame @ so3_exp(given.turn * self.spacing_rad) @ view
        offset = (frame[..., :2, :2] @ given.shift[..., None])[..., 0] * self.pixel_angst
        return rotation, offset + centre[:, None]

    def _frames(self, cells: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        at, view = cells // self.views_count, cells % self.views_count
        return self.mirrors[at // self.turns_count] @ self.turns[at % self.turns_count], self.views[view]

    def forward(self, images: torch.Tensor, hypotheses: int = 16) -> Hypotheses:
        """The most probable cells of each image, best first."""
        features, centre = self.features(images)
        probability = self.cell_logits(features).float().softmax(1)
        value, cells = probability.topk(hypotheses, dim=1)
        given = self.given_cells(features, cells)
        rotation, shift = self.from_cell_frame(cells, given, centre)
        scale = given.log_scale[..., : self.modes].exp() * self.amplitude_unit
        return Hypotheses(rotation, shift, given.amplitudes * self.amplitude_unit, scale, value)


class _BasicBlock(nn.Module):
    """Two 3 x 3 convolutions around a shortcut (He et al., CVPR 2016, figure 5 left)."""

    def __init__(self, channels_in: int, channels: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels_in, channels, 3, stride, 1, bias=False)
        self.first_norm = nn.GroupNorm(32, channels)
        self.second = nn.Conv2d(channels, channels, 3, 1, 1, bias=False)
        self.second_norm = nn.GroupNorm(32, channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels_in != channels:
            self.shortcut = nn.Sequential(nn.Conv2d(channels_in, channels, 1, stride, bias=False), nn.GroupNorm(32, channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = functional.relu(self.first_norm(self.first(x)))
        return functional.relu(self.second_norm(self.second(y)) + self.shortcut(x))


class AmplitudeResNet34(nn.Module):
    """ResNet-34 of one input channel, then four linear layers to the amplitudes (Hamitouche & Jonic 2021, section II.B).

    Layers 512 -> 1000 -> 512 -> 128 -> n with LayerNorm and GELU, as in the authors' released code, but a linear last layer (theirs
    cannot go below -1). Group instead of batch normalisation: as many weights, and the result does not depend on how a
    batch is shared among processes.
    """

    def __init__(self, *, modes: int, amplitude_unit: float) -> None:
        super().__init__()
        self.modes, self.amplitude_unit = modes, amplitude_unit
        layers: list[nn.Module] = [nn.Conv2d(1, 64, 7, 2, 3, bias=False), nn.GroupNorm(32, 64), nn.ReLU(), nn.MaxPool2d(3, 2, 1)]
        channels = 64
        for stage, (width, blocks) in enumerate(((64, 3), (128, 4), (256, 6), (512, 3))):
            for index in range(blocks):
                layers.append(_BasicBlock(channels, width, 2 if stage and index == 0 else 1))
                channels = width
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
        head: list[nn.Module] = []
        for size_in, size_out in ((512, 1000), (1000, 512), (512, 128)):
            head += [nn.Linear(size_in, size_out), nn.LayerNorm(size_out), nn.GELU()]
        self.head = nn.Sequential(*head, nn.Linear(128, modes))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Amplitudes (b, modes) in the unit of :attr:`amplitude_unit`."""
        result: torch.Tensor = self.head(self.features(images[:, None].contiguous(memory_format=torch.channels_last)))
        return result


def build_network(architecture: str, arguments: dict[str, Any]) -> MultiNetwork | AmplitudeResNet34:
    """A network from its name and the arguments that ``model.json`` holds.

    Raises
    ------
    InputError
        when the name is not known.
    """
    if architecture not in ("multi", "resnet34"):
        raise InputError(f"The network '{architecture}' is not known: there are multi and resnet34.")
    return MultiNetwork(**arguments) if architecture == "multi" else AmplitudeResNet34(**arguments)
