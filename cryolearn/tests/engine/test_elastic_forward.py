"""The forward model of elastic alignment against the exact Fourier transform of its Gaussians."""

from __future__ import annotations

import math

import pytest
import torch

from cryolearn.engine.alignment.fourier_band import FourierBand
from cryolearn.engine.elastic.alignment.forward_model import ForwardModel, band_to
from cryolearn.engine.elastic.modes.deformable_reference import ElasticReference
from cryolearn.engine.imaging.poses import random_rotations, so3_exp

DEVICES = ["cpu"] + (["cuda"] if torch.cuda.is_available() else [])


def blobs(device: str, count: int = 300, dtype: torch.dtype = torch.float64) -> ElasticReference:
    """Random Gaussians within 30 Å with two random modes."""
    generator = torch.Generator().manual_seed(3)
    places = torch.randn(count, 3, generator=generator, dtype=torch.float64) * 12
    modes = torch.randn(2, count, 3, generator=generator, dtype=torch.float64)
    modes = modes / modes.norm(dim=(1, 2), keepdim=True)
    weights = 0.5 + torch.rand(count, generator=generator, dtype=torch.float64)
    sigma = 1.0 + 0.4 * torch.rand(count, generator=generator, dtype=torch.float64)
    return ElasticReference(*(item.to(device, dtype) for item in (places, modes, weights, sigma)), n_atoms=count)


def exact(
    reference: ElasticReference, band: FourierBand, rotation: torch.Tensor, shift: torch.Tensor, amplitudes: torch.Tensor
) -> torch.Tensor:
    """sum_j w_j exp(-2 pi^2 s_j^2 k^2) exp(-2 pi i k x_j)."""
    places = (reference.positions(amplitudes) @ rotation.transpose(1, 2))[..., :2] + shift[:, None]
    kx, ky = (band.points.double() / band.length).unbind(1)
    angle = -2 * math.pi * (places[..., :1] * kx + places[..., 1:] * ky)
    decay = torch.exp(-2 * math.pi**2 * reference.sigma_angst[:, None] ** 2 * (kx**2 + ky**2))
    return (reference.weights[:, None] * decay * torch.polar(torch.ones_like(angle), angle)).sum(1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("box", "pixel", "resolution"), [(64, 2.0, 4.0), (64, 2.0, 8.0), (96, 1.5, 5.0)])
def test_projection_and_jacobian(device: str, box: int, pixel: float, resolution: float) -> None:
    reference = blobs(device)
    band = band_to(box, pixel, resolution, device)
    forward = ForwardModel(reference, band, amplitude_range=30.0)
    generator = torch.Generator().manual_seed(1)
    rotation = random_rotations(2, generator).double().to(device)
    amplitudes = (60 * torch.rand(2, 2, generator=generator, dtype=torch.float64) - 30).to(device)
    shift = torch.tensor([[3.0, -2.0], [0.5, 7.0]], dtype=torch.float64, device=device)
    phase = band.phase(shift)
    projection, jacobian = forward.project_with_jacobian(rotation, amplitudes)
    truth = exact(reference, band, rotation, shift, amplitudes)
    assert ((projection * phase - truth).norm(dim=1) / truth.norm(dim=1)).max() < 1e-4
    assert ((forward.project(rotation, amplitudes) - projection).norm(dim=1) / truth.norm(dim=1)).max() < 1e-6
    for index in range(7):
        size = 1e-2 if index >= 5 else 1e-4
        step = torch.zeros(2, 7, dtype=torch.float64, device=device)
        step[:, index] = size

        def moved(sign: float, step: torch.Tensor = step) -> torch.Tensor:
            turn = so3_exp(sign * step[:, :3]) @ rotation
            return exact(reference, band, turn, shift + sign * step[:, 3:5], amplitudes + sign * step[:, 5:])

        difference = (moved(1.0) - moved(-1.0)) / (2 * size)
        error = (jacobian[:, index] * phase - difference).norm(dim=1) / difference.norm(dim=1)
        assert error.max() < 1e-4, index


def test_a_coarse_reference_keeps_weight_centre_and_low_resolution_projections() -> None:
    fine = blobs("cpu", 1500)
    coarse = fine.coarse(4.0)
    assert len(coarse.weights) < 0.8 * len(fine.weights)
    assert float(coarse.weights.sum()) == pytest.approx(float(fine.weights.sum()))
    for item in (fine, coarse):
        centre = (item.weights[:, None] * item.coordinates).sum(0) / item.weights.sum()
        torch.testing.assert_close(centre, (fine.weights[:, None] * fine.coordinates).sum(0) / fine.weights.sum())
    band = band_to(64, 2.0, 20.0)
    rotation, zero = random_rotations(3, torch.Generator().manual_seed(0)).double(), torch.zeros(3, 2, dtype=torch.float64)
    one, other = (exact(item, band, rotation, zero, zero) for item in (fine, coarse))
    assert ((one - other).norm() / one.norm()) < 0.02
