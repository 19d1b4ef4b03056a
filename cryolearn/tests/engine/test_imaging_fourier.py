"""Fourier tools: a translation's phase, exact resampling, Parseval, filters."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cryolearn.engine.imaging import fourier
from cryolearn.engine.imaging.gaussians import render_gaussians_2d

from .imaging_cases import DEVICES

few = settings(max_examples=30, deadline=None)


def _blob(x: float, y: float, box: int = 48, sigma: float = 3.0) -> torch.Tensor:
    position = torch.tensor([[[x, y]]], dtype=torch.float64)
    return render_gaussians_2d(position, torch.ones(1, dtype=torch.float64), sigma, box, 1.0)[0]


@few
@given(st.floats(-6, 6), st.floats(-6, 6))
def test_shift_moves_a_gaussian(x: float, y: float) -> None:
    """Content moves towards larger x and y by exactly the shift."""
    phase = fourier.phase_shift(torch.tensor([x, y], dtype=torch.float64), 48)
    moved = torch.fft.irfft2(torch.fft.rfft2(_blob(0, 0)) * phase, s=(48, 48))
    assert float((moved - _blob(x, y)).abs().max()) < 1e-9


@pytest.mark.parametrize("box", [15, 16])
def test_centred_transform(box: int) -> None:
    """A point at the origin has a transform of ones; a shifted one has the shift's phase; the inverse brings it back."""
    image = torch.zeros(box, box, dtype=torch.float64)
    image[box // 2, box // 2] = 1
    assert torch.allclose(fourier.rfft2_centred(image), torch.ones(box, box // 2 + 1, dtype=torch.complex128))
    moved = torch.roll(image, (2, 3), (0, 1))
    phase = fourier.phase_shift(torch.tensor([3.0, 2.0], dtype=torch.float64), box)
    assert torch.allclose(fourier.rfft2_centred(moved), phase)
    assert torch.allclose(fourier.irfft2_centred(phase, box), moved, atol=1e-12)


@few
@given(st.integers(8, 21), st.integers(0, 17))
def test_pad_then_crop_is_the_identity(box: int, more: int) -> None:
    image = torch.randn(2, box, box, generator=torch.Generator().manual_seed(box), dtype=torch.float64)
    assert torch.allclose(fourier.fourier_crop(fourier.fourier_resize(image, box + more), box), image, atol=1e-12)


@pytest.mark.parametrize("box, new", [(48, 24), (48, 31), (47, 24), (24, 48), (31, 48)])
def test_resampling_a_band_limited_density(box: int, new: int) -> None:
    """A Gaussian without power at the new Nyquist keeps its values at the new pixel centres."""
    pixel, new_pixel = 96 / box, 96 / new

    def draw(side: int, size: float) -> torch.Tensor:
        position = torch.tensor([[[5.3, -7.1]]], dtype=torch.float64)
        return render_gaussians_2d(position, torch.ones(1, dtype=torch.float64), 9.0, side, size)

    assert float((fourier.fourier_resize(draw(box, pixel), new) - draw(new, new_pixel)).abs().max()) < 2e-7


def test_resize_refuses_the_wrong_direction() -> None:
    with pytest.raises(ValueError, match="larger"):
        fourier.fourier_crop(torch.zeros(8, 8), 9)


@pytest.mark.parametrize("box", [9, 10])
@pytest.mark.parametrize("dims", [2, 3])
def test_shell_sums_count_the_whole_transform(box: int, dims: int) -> None:
    """Sums from the half grid equal those over the full transform, shell by shell."""
    image = torch.randn((box,) * dims, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    power = torch.fft.fftn(image).abs() ** 2
    axis = torch.fft.fftfreq(box, 1 / box, dtype=torch.float64)
    radius = torch.sqrt(sum(axis.reshape([-1 if i == j else 1 for j in range(dims)]) ** 2 for i in range(dims))).round()
    expected = torch.stack([power[radius == shell].sum() for shell in range(box // 2 + 1)])
    found = fourier.shell_sum(torch.fft.rfftn(image).abs() ** 2, box, dims)
    assert torch.allclose(found, expected)


def test_white_noise_has_a_flat_spectrum() -> None:
    noise = 3 * torch.randn(200, 32, 32, generator=torch.Generator().manual_seed(0))
    spectrum = fourier.power_spectrum(noise).mean(0)
    # shell 1 has about 8 points (half of them independent) an image: 4 standard errors of a mean of exponentials
    assert float((spectrum[1:] / 9 - 1).abs().max()) < 4 / math.sqrt(200 * 4)


@pytest.mark.parametrize("dims", [2, 3])
def test_low_pass_keeps_what_is_coarser(dims: int) -> None:
    box, pixel = 32, 2.0
    image = torch.randn((box,) * dims, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    low = fourier.low_pass(image, 8.0, pixel, dims=dims)
    axes = tuple(range(-dims, 0))
    shells = fourier.radial_index(box, dims)
    cutoff = box * pixel / 8.0
    assert float(torch.fft.rfftn(low, dim=axes)[shells > cutoff + 2].abs().max()) < 1e-10
    assert float(torch.fft.rfftn(image - low, dim=axes)[shells < cutoff - 2].abs().max()) < 1e-10


@pytest.mark.parametrize("device", DEVICES)
def test_gradients(device: str) -> None:
    shift = torch.tensor([[0.3, -0.2]], dtype=torch.float64, device=device, requires_grad=True)
    image = torch.randn(1, 6, 6, dtype=torch.float64, device=device, requires_grad=True)

    def moved(images: torch.Tensor, shift_px: torch.Tensor) -> torch.Tensor:
        return torch.fft.irfft2(torch.fft.rfft2(fourier.fourier_crop(images, 5)) * fourier.phase_shift(shift_px, 5), s=(5, 5))

    assert torch.autograd.gradcheck(moved, (image, shift))
