"""What the networks are trained to minimise."""

from __future__ import annotations

import math

import torch
from torch.nn import functional

from ...imaging.poses import so3_log
from .architectures import AmplitudeResNet34, MultiNetwork

__all__ = ["amplitude_loss", "multi_loss", "soft_cells"]

_POSE_WEIGHT = 0.3  # of turn and shift within a cell, beside the cell and the amplitudes


def soft_cells(rotation: torch.Tensor, cells: torch.Tensor, sigma_rad: float) -> torch.Tensor:
    """Probability (b, cells) of each cell (n, 3, 3) for poses (b, 3, 3): a normal law of the geodesic distance."""
    cosine = (rotation.flatten(1) @ cells.flatten(1).T - 1) / 2
    angle = torch.acos(cosine.clamp(-1 + 1e-6, 1 - 1e-6))
    return torch.softmax(-0.5 * (angle / sigma_rad).square(), 1)


def multi_loss(
    network: MultiNetwork, images: torch.Tensor, rotation: torch.Tensor, shift_angst: torch.Tensor, amplitudes: torch.Tensor,
    uniform: torch.Tensor,
) -> torch.Tensor:
    """Loss (b,): cross entropy of the pose's cell, and the negative log likelihood of the rest given a cell.

    Parameters
    ----------
    network
        Network that predicts a distribution over poses, and shift and amplitudes for a given cell of poses.
    images : (b, size, size)
        Network inputs.
    rotation : (b, 3, 3)
        True orientations.
    shift_angst : (b, 2)
        True shifts in Å.
    amplitudes : (b, K)
        True mode amplitudes.
    uniform : (b,)
        Numbers in [0, 1) by which the cell is drawn from those around the true pose, so that the network learns to correct neighbouring cells too.
    """
    features, centre = network.features(images)
    target = soft_cells(rotation, network.cells, network.spacing_rad / 2)
    entropy = -(target * functional.log_softmax(network.cell_logits(features).float(), 1)).sum(1)
    cumulative = target.cumsum(1)
    drawn = torch.searchsorted(cumulative, (uniform * cumulative[:, -1])[:, None]).clamp(max=target.shape[1] - 1)
    given = network.given_cells(features, drawn)
    turn, offset = network.in_cell_frame(drawn, rotation, shift_angst, centre)
    wanted = so3_log(turn[:, 0])[:, None] / network.spacing_rad
    modes = network.modes
    scale = given.log_scale
    amplitude = _laplace(given.amplitudes, amplitudes[:, None] / network.amplitude_unit, scale[..., :modes])
    pose = _laplace(given.turn, wanted, scale[..., modes : modes + 1]) + _laplace(given.shift, offset, scale[..., modes + 1 :])
    return entropy + (amplitude + _POSE_WEIGHT * pose)[:, 0]


def _laplace(value: torch.Tensor, target: torch.Tensor, log_scale: torch.Tensor) -> torch.Tensor:
    """Negative log likelihood, summed over the last axis."""
    return ((value - target).abs() * torch.exp(-log_scale) + log_scale + math.log(2)).sum(-1)


def amplitude_loss(network: AmplitudeResNet34, images: torch.Tensor, amplitudes: torch.Tensor) -> torch.Tensor:
    """Mean absolute error (b,) of the amplitudes in the network's unit (Hamitouche & Jonic 2021)."""
    return (network(images).float() - amplitudes / network.amplitude_unit).abs().mean(1)
