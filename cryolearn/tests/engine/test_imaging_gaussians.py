"""Gaussian densities: the analytic projection, the projection-slice relation, conventions, gradients, memory."""

from __future__ import annotations

import math

import pytest
import torch

from cryolearn.engine.imaging.gaussians import render_gaussians_2d, render_gaussians_3d
from cryolearn.engine.imaging.poses import euler_to_matrix

from .imaging_cases import DEVICES, gaussian_model


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("box", [31, 32])
def test_one_gaussian_written_out(box: int, device: str) -> None:
    x, y, sigma, weight, pixel = 3.7, -5.2, 4.0, 2.5, 1.5
    image = render_gaussians_2d(
        torch.tensor([[[x, y]]], device=device), torch.tensor([weight], device=device), torch.tensor([sigma], device=device), box, pixel
    )[0].cpu()
    for row, column in [(box // 2, box // 2), (10, 20), (14, 17)]:
        py, px = (row - box // 2) * pixel, (column - box // 2) * pixel
        expected = weight / (2 * math.pi * sigma**2) * math.exp(-((px - x) ** 2 + (py - y) ** 2) / (2 * sigma**2))
        assert float(image[row, column]) == pytest.approx(expected, rel=1e-5)


def test_integrals_are_the_weights() -> None:
    """The sum over pixels (voxels) times their area (volume) is the sum of weights (Poisson summation: exact for wide Gaussians)."""
    model = gaussian_model(20, 4.0)
    total = float(model.weights.sum())
    image = model.images(torch.eye(3)[None], torch.zeros(1, 2), 48, 2.0)
    assert float(image.sum()) * 4 == pytest.approx(total, rel=1e-5)
    assert float(model.volume(48, 2.0).sum()) * 8 == pytest.approx(total, rel=1e-5)


def test_image_is_the_volume_summed_along_z() -> None:
    model = gaussian_model(20, 4.0)
    image = model.images(torch.eye(3)[None], torch.zeros(1, 2), 48, 2.0)[0]
    assert torch.allclose(model.volume(48, 2.0).sum(0) * 2.0, image, atol=1e-6 * float(image.max()), rtol=1e-4)


def test_axes() -> None:
    """x runs along the last axis, y along the one before, z along the first of a volume."""
    volume = render_gaussians_3d(torch.tensor([[4.0, 6.0, 8.0]]), torch.ones(1), 1.5, 32, 1.0)
    assert torch.unravel_index(volume.argmax(), volume.shape) == (24, 22, 20)


def test_pose_convention() -> None:
    """A point at x is seen at (A x)[:2] + shift."""
    matrix = euler_to_matrix(torch.tensor([[20.0, 50, 70]]))
    point = torch.tensor([5.0, -9.0, 3.0])
    seen = (matrix[0] @ point)[:2] + torch.tensor([2.0, -3.0])
    model = gaussian_model(10, 2.0, count=1)
    model.positions = point[None]
    image = model.images(matrix, torch.tensor([[2.0, -3.0]]), 64, 1.0)[0]
    axis = torch.arange(64) - 32.0
    centre = torch.stack(((image.sum(0) * axis).sum(), (image.sum(1) * axis).sum())) / image.sum()
    assert torch.allclose(centre, seen, atol=1e-4)


def test_own_weights_and_sigmas_and_chunks() -> None:
    generator = torch.Generator().manual_seed(0)
    positions, weights = torch.randn(2, 5, 3, generator=generator) * 6, torch.rand(2, 5, generator=generator)
    sigmas = 1.5 + torch.rand(5, generator=generator)
    both = render_gaussians_2d(positions, weights, sigmas, 24, 1.0)
    for index in range(2):
        parts = [render_gaussians_2d(positions[index : index + 1, [j]], weights[index, [j]], sigmas[j], 24, 1.0) for j in range(5)]
        assert torch.allclose(both[index], sum(parts)[0], atol=1e-6)
    whole = render_gaussians_3d(positions[0], weights[0], sigmas, 24, 1.0)
    # no memory at all: one Gaussian at a time
    assert torch.allclose(whole, render_gaussians_3d(positions[0], weights[0], sigmas, 24, 1.0, memory_mib=0), atol=1e-7)


def test_gradients() -> None:
    generator = torch.Generator().manual_seed(0)
    positions = torch.randn(1, 3, 3, generator=generator, dtype=torch.float64).requires_grad_()
    weights = torch.rand(3, generator=generator, dtype=torch.float64).requires_grad_()
    sigmas = (1.5 + torch.rand(3, generator=generator, dtype=torch.float64)).requires_grad_()
    assert torch.autograd.gradcheck(lambda p, w, s: render_gaussians_2d(p, w, s, 6, 1.0), (positions, weights, sigmas))
    assert torch.autograd.gradcheck(lambda p, w, s: render_gaussians_3d(p[0], w, s, 5, 1.0), (positions, weights, sigmas))
