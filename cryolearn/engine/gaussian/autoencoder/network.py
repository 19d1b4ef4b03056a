"""Networks between particles and conformations, and the exact derivatives of projections that train them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from ...alignment.fourier_band import FourierBand
from ...io.motions import MotionModel
from ..model.anchored_motion import written_motion
from ..model.projection import Gaussians, Projection, project

__all__ = ["Autoencoder", "projected", "projection_tangents"]

_UNIT_ANGST = 5.0  # displacements that a factor of 1 gives


class _Projected(torch.autograd.Function):
    """Coefficients (b, P) of models (b, M, 3), (b, M), with the analytic adjoint of :func:`project`: the grid's factors are kept, nothing else."""

    @staticmethod
    def forward(ctx: Any, positions: Tensor, amplitudes: Tensor, sigma: Tensor, rotation: Tensor, band: FourierBand) -> Tensor:
        found = project(Gaussians(positions, amplitudes, sigma), rotation, band)
        ctx.save_for_backward(found.along_y, found.along_x, positions, amplitudes, sigma, rotation)
        ctx.band = band
        return found.values.flatten(1)[:, band.grid_index]

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        along_y, along_x, positions, amplitudes, sigma, rotation = ctx.saved_tensors
        band: FourierBand = ctx.band
        found = Projection(torch.empty(0), along_y, along_x, Gaussians(positions, amplitudes, sigma), band)
        # torch's gradient G of a complex number F means dS = Re sum conj(G) dF, the convention of Projection
        by_place, by_amplitude = found.gradients(band.on_grid(gradients[0]))
        return by_place @ rotation[:, :2], by_amplitude, None, None, None


def projected(positions_angst: Tensor, amplitudes: Tensor, sigma_angst: Tensor, rotation: Tensor, band: FourierBand) -> Tensor:
    """Exact coefficients (b, P) of models (b, M, 3), (b, M) turned by (b, 3, 3); differentiable by places and amplitudes."""
    found: Tensor = _Projected.apply(positions_angst, amplitudes, sigma_angst, rotation, band)
    return found


def projection_tangents(model: Gaussians, rotation: Tensor, band: FourierBand, displacement: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
    """Coefficients (b, P) of models and their exact derivatives (b, K, P) by K latents.

    Parameters
    ----------
    model
        positions (b, M, 3), amplitudes (b, M).
    rotation
        (b, 3, 3) orientations that take the particle into the frame of the image.
    band
        Frequencies of the P coefficients.
    displacement
        (b, K, M, 3) Å by one unit of each latent.
    change
        (b, K, M) change of the amplitudes by one unit.
    """
    found = project(model, rotation, band)
    unit = 2 * math.pi / band.length
    kx = torch.arange(band.radius + 1, device=rotation.device, dtype=found.along_x.real.dtype) * unit
    ky = torch.arange(-band.radius, band.radius + 1, device=rotation.device, dtype=found.along_x.real.dtype) * unit
    derivatives = []
    for latent in range(displacement.shape[1]):
        flat = displacement[:, latent] @ rotation[:, :2].transpose(1, 2) * model.amplitudes[..., None]  # (b, M, 2)
        first = found.along_y * torch.complex(change[:, latent, :, None].expand(-1, -1, len(ky)), -flat[..., 1:] * ky)
        second = found.along_y * torch.complex(torch.zeros_like(flat[..., :1]), -flat[..., :1])
        moved = first.transpose(1, 2) @ found.along_x + second.transpose(1, 2) @ (found.along_x * kx)
        derivatives.append(moved.flatten(1)[:, band.grid_index])
    return found.values.flatten(1)[:, band.grid_index], torch.stack(derivatives, dim=1)


@dataclass
class Conformation:
    """Models (b, M, 3), (b, M) and, where asked for, their derivatives by the latents."""

    model: Gaussians
    displacement: Tensor
    change: Tensor


class Autoencoder(nn.Module):
    """Features of a particle to the normal posterior of its latents; latents to factors of displacement fields.

    Attributes
    ----------
    encoder : features (b, F) to means and logarithms of deviations (b, 2 K)
    decoder : latents (b, K) to factors (b, D); SiLU between layers
    bend, change : (D, A, 3), (D, A) what a factor moves or changes at the anchors
    place, amplitude : (M, 3), (M,) corrections of the Gaussians at rest
    """

    def __init__(self, base: Gaussians, spread: Tensor, features: int, latents: int, *, hidden: int = 64, factors: int = 16, places: bool = True,
                 amplitudes: bool = False) -> None:
        super().__init__()
        self.latents, self.places, self.amplitudes = latents, places, amplitudes
        self.encoder = nn.Sequential(nn.Linear(features, 128), nn.SiLU(), nn.Linear(128, 64), nn.SiLU(), nn.Linear(64, 2 * latents))
        self.decoder = nn.ModuleList([nn.Linear(latents, hidden), nn.Linear(hidden, hidden), nn.Linear(hidden, factors)])
        self.bend = nn.Parameter(0.1 * torch.randn(factors, spread.shape[1], 3) * float(places))
        self.change = nn.Parameter(0.1 * torch.randn(factors, spread.shape[1]) * float(amplitudes))
        self.place, self.amplitude = nn.Parameter(torch.zeros(len(base), 3)), nn.Parameter(torch.zeros(len(base)))
        for name, values in (("positions", base.positions_angst), ("weights", base.amplitudes), ("sigma", base.sigma_angst), ("spread", spread)):
            self.register_buffer(name, values.clone())

    def encode(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation (b, K) of the latents."""
        mean, spread = self.encoder(features).chunk(2, dim=1)
        return mean, torch.exp(spread.clamp(-6, 1))

    def factors(self, latent: Tensor) -> tuple[Tensor, Tensor]:
        """Factors (b, D) and their derivatives (b, K, D)."""
        value, slope = latent, torch.eye(self.latents, device=latent.device, dtype=latent.dtype).expand(len(latent), -1, -1)
        for number, layer in enumerate(self.decoder):
            assert isinstance(layer, nn.Linear)
            value, slope = layer(value), slope @ layer.weight.T
            if number < len(self.decoder) - 1:
                gate = torch.sigmoid(value)
                slope = slope * (gate * (1 + value * (1 - gate)))[:, None]
                value = silu(value)
        return value, slope

    def fields(self) -> tuple[Tensor, Tensor]:
        """Displacements (D, M, 3) in Å and relative changes of amplitude (D, M) of the factors."""
        spread = self.spread
        assert isinstance(spread, Tensor)
        bend = spread @ self.bend * _UNIT_ANGST if self.places else self.bend.new_zeros(len(self.bend), len(spread), 3)
        change = self.change @ spread.T if self.amplitudes else self.change.new_zeros(len(self.change), len(spread))
        return bend, change

    def rest(self) -> Gaussians:
        """The Gaussians where all factors are 0."""
        positions, weights, sigma = self.positions, self.weights, self.sigma
        assert isinstance(positions, Tensor) and isinstance(weights, Tensor) and isinstance(sigma, Tensor)
        return Gaussians(positions + self.place, weights * torch.exp(0.2 * self.amplitude), sigma)

    def conformation(self, latent: Tensor) -> Conformation:
        """Models at latents (b, K), with their derivatives (b, K, M, 3), (b, K, M)."""
        value, slope = self.factors(latent)
        bend, change = self.fields()
        rest = self.rest()
        factor = 1 + value @ change
        model = Gaussians(rest.positions_angst + torch.einsum("bd,dmc->bmc", value, bend), rest.amplitudes * factor.clamp(min=0), rest.sigma_angst)
        return Conformation(model, torch.einsum("bkd,dmc->bkmc", slope, bend), (slope @ change) * rest.amplitudes * (factor[:, None] > 0))

    def project(self, latent: Tensor, rotation: Tensor, band: FourierBand) -> Tensor:
        """Coefficients (b, P) of the models at latents (b, K)."""
        value, _ = self.factors(latent)
        bend, change = self.fields()
        rest = self.rest()
        places = rest.positions_angst + torch.einsum("bd,dmc->bmc", value, bend)
        return projected(places, rest.amplitudes * (1 + value @ change).clamp(min=0), rest.sigma_angst, rotation, band)

    def motion(self, pixel_size_angst: float, meta: dict[str, Any]) -> MotionModel:
        """The decoder in the form that is written; it gives the same conformations."""
        layers = [(layer.weight, layer.bias) for layer in self.decoder if isinstance(layer, nn.Linear)]
        return written_motion(self.rest(), *self.fields(), basis="network", pixel_size_angst=pixel_size_angst, meta=meta, layers=layers)
