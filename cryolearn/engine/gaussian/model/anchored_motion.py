"""Gaussians that move with a few anchors: what a trajectory and linear motions have in common, and the form in which motions are written."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from torch import Tensor

from ...io.motions import MotionModel
from .projection import Gaussians

__all__ = ["AnchoredMotion", "anchor_weights", "outlier_fraction", "outlier_mixture", "written_motion"]

_LEAST_JUNK, _MOST_JUNK = 0.001, 0.5


@dataclass(kw_only=True)
class AnchoredMotion:
    """Displacements ``sum_a W_ma U_da`` and relative changes of amplitude of the Gaussians, for each of D terms. Tensors on the device.

    Attributes
    ----------
    base : Gaussians where all terms are 0
    spread : (M, A) weights W of the anchors; 0 outside the focus
    bend : (D, A, 3) displacements U of the anchors in Å
    change : (D, A) relative changes of amplitude, spread the same way
    moves_places, moves_amplitudes : what differs between particles
    junk : part of the images that hold no particle
    """

    base: Gaussians
    spread: Tensor
    bend: Tensor
    change: Tensor
    moves_places: bool
    moves_amplitudes: bool
    junk: float = 0.02

    def displacement(self) -> Tensor:
        """(D, M, 3) displacement fields in Å."""
        return self.spread @ self.bend

    def weight_change(self) -> Tensor:
        """(D, M) relative changes of amplitude."""
        return self.change @ self.spread.T

    def written(self, basis: str, pixel_size_angst: float, meta: dict[str, Any]) -> MotionModel:
        """The motion in the form that is written."""
        return written_motion(self.base, self.displacement(), self.weight_change(), basis=basis, pixel_size_angst=pixel_size_angst, meta=meta)


def anchor_weights(model: Gaussians, moves: Tensor, anchors: int, seed: int) -> Tensor:
    """Normalised radial weights (M, A) of k-means centres of the Gaussians in ``moves`` (M,); 0 of the others.

    With ``anchors`` 0, or more than half of the Gaussians, each is its own anchor.
    """
    positions = model.positions_angst[moves]
    count, device = len(positions), positions.device
    if anchors == 0 or 2 * anchors >= count:
        weight = torch.eye(count, device=device)
    else:
        centres = kmeans2(positions.cpu().double().numpy(), anchors, minit="++", seed=seed)[0]
        places = torch.as_tensor(centres, dtype=torch.float32, device=device)
        reach = torch.cdist(places, places).topk(2, largest=False).values[:, 1].mean()
        weight = torch.exp((-torch.cdist(positions, places).square() / (2 * reach**2)).clamp(min=-28))
        weight = weight / weight.sum(1, keepdim=True)
    whole = torch.zeros(len(model), weight.shape[1], device=device)
    whole[moves] = weight
    return whole


def outlier_fraction(particles: float) -> float:
    """Part of the images without particle when ``particles`` is the mean probability of one, kept off 0 and 1."""
    return min(_MOST_JUNK, max(_LEAST_JUNK, 1 - particles))


def outlier_mixture(log_likelihood: Tensor, fraction: float) -> Tensor:
    """Log-likelihoods over an empty image, of images of which ``fraction`` are empty."""
    return torch.logaddexp(log_likelihood + math.log(1 - fraction), torch.full_like(log_likelihood, math.log(fraction)))


def written_motion(
    base: Gaussians, displacement: Tensor, weight_change: Tensor, *, basis: str, pixel_size_angst: float, meta: dict[str, Any],
    layers: Sequence[tuple[Tensor, Tensor]] = (),
) -> MotionModel:
    """A motion in the form that is written, of tensors (D, M, 3), (D, M) and a network's layers; amplitudes become integrals."""
    def array(values: Tensor) -> NDArray[np.float64]:
        return np.asarray(values.detach().cpu().numpy(), np.float64)

    return MotionModel(
        positions_angst=array(base.positions_angst),
        weights=array(base.amplitudes) * pixel_size_angst**2,
        sigma_angst=array(base.sigma_angst),
        displacement=array(displacement),
        weight_change=array(weight_change),
        basis=basis,
        layers=[(array(weight), array(bias)) for weight, bias in layers],
        meta=meta,
    )
