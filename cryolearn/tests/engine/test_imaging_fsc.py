"""FSC and FRC: expectation for known signal and noise, the guarded resolution."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from cryolearn.common.fsc import resolution_at
from cryolearn.engine.imaging.fourier import low_pass
from cryolearn.engine.imaging.fsc import frc, fsc, ssnr_from_fsc
from cryolearn.engine.imaging.masks import sphere_mask

from .imaging_cases import DEVICES, gaussian_model


@pytest.mark.parametrize("device", DEVICES)
def test_identity_scale_and_sign(device: str) -> None:
    volume = torch.randn(16, 16, 16, generator=torch.Generator().manual_seed(0)).to(device)
    assert torch.allclose(fsc(volume, volume), torch.ones(9, device=device))
    assert torch.allclose(fsc(volume, 3 * volume), torch.ones(9, device=device))
    assert torch.allclose(fsc(volume, -volume)[1:], -torch.ones(8, device=device))
    assert fsc(volume, volume).device.type == device


def test_expected_value_for_known_noise() -> None:
    """Two white maps that share a signal of s times the noise's variance correlate by s / (1 + s) at each shell."""
    box, ratio = 48, 0.5
    generator = torch.Generator().manual_seed(0)
    signal, first, second = (torch.randn(box, box, box, generator=generator) for _ in range(3))
    curve = fsc(signal * math.sqrt(ratio) + first, signal * math.sqrt(ratio) + second)
    shells = torch.arange(1, box // 2 + 1)
    independent = 2 * math.pi * shells**2  # half of a shell's points: the others are Friedel mates
    assert torch.all((curve[1:] - ratio / (1 + ratio)).abs() < 4.5 / independent.sqrt())
    mean = float((curve[1:] * independent).sum() / independent.sum())
    assert float(ssnr_from_fsc(torch.tensor(mean), half_maps=False)) == pytest.approx(ratio, rel=0.03)
    assert float(ssnr_from_fsc(torch.tensor(mean))) == pytest.approx(2 * ratio, rel=0.03)


def test_frc_of_images_and_batches() -> None:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, 20, 20, generator=generator)
    curve = frc(images, images + 0.1 * torch.randn(4, 20, 20, generator=generator))
    assert curve.shape == (4, 11) and float(curve.min()) > 0.9


def test_mask_removes_what_lies_outside() -> None:
    box = 32
    volume = gaussian_model(12, 3.0).volume(box, 2.0)
    ghost = volume.clone()
    ghost[2:5, 2:5, 2:5] += 10
    mask = sphere_mask(box, 11, 3)
    assert float(fsc(volume, ghost).min()) < 0.5
    assert float(fsc(volume, ghost, mask).min()) > 0.999


def test_low_pass_ends_the_curve() -> None:
    """A map against itself with all beyond 8 Å replaced by noise: the curve falls at 8 Å."""
    box, pixel = 48, 2.0
    generator = torch.Generator().manual_seed(1)
    volume, other = (torch.randn(box, box, box, generator=generator) for _ in range(2))
    mixed = low_pass(volume, 8.0, pixel, width_px=0.5, dims=3) + other - low_pass(other, 8.0, pixel, width_px=0.5, dims=3)
    found = resolution_at(fsc(volume, mixed), 0.5, box, pixel)
    assert found is not None and found == pytest.approx(8.0, rel=0.05)


def test_resolution_is_interpolated_and_guarded() -> None:
    box, pixel = 20, 1.5
    assert resolution_at([1, 0.9, 0.6, 0.2, 0.1], 0.4, box, pixel) == pytest.approx(30 / 2.5)
    assert resolution_at([1, 0.9, 0.6, 0.2, 0.9, 0.1], 0.4, box, pixel) == pytest.approx(30 / 2.5)  # the first crossing
    assert resolution_at([1] * 11, 0.143, box, pixel) == pytest.approx(2 * pixel)  # none: Nyquist
    assert resolution_at([1, 0.1, 0.9, 0.1], 0.143, box, pixel) is None
    assert resolution_at([1], 0.143, box, pixel) is None
    assert resolution_at([1, math.nan], 0.143, box, pixel) is None
    assert resolution_at([1, 0.9, math.nan, 0.1], 0.143, box, pixel) == pytest.approx(30)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=30), st.floats(0.01, 0.99))
def test_resolution_never_leaves_the_curve(values: list[float], threshold: float) -> None:
    box, pixel = 2 * (len(values) - 1), 1.0
    found = resolution_at([1.0, *values[1:]], threshold, box, pixel)
    if found is None:
        assert values[1] < threshold
    else:
        assert 2 * pixel - 1e-9 <= found <= box * pixel + 1e-9


def test_shapes_are_checked() -> None:
    with pytest.raises(ValueError, match="differ"):
        fsc(torch.zeros(8, 8, 8), torch.zeros(9, 9, 9))
    with pytest.raises(ValueError, match="equal sides"):
        fsc(torch.zeros(8, 8, 6), torch.zeros(8, 8, 6))
