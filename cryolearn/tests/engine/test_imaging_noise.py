"""Noise, background normalisation and masks."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from cryolearn.engine.imaging import masks, noise, normalise
from cryolearn.engine.imaging.fourier import power_spectrum

from .imaging_cases import gaussian_model


def _images(count: int = 40, box: int = 64) -> torch.Tensor:
    model = gaussian_model(25, 4.0)
    from cryolearn.engine.imaging.poses import random_rotations

    return model.images(random_rotations(count, torch.Generator().manual_seed(0)), torch.zeros(count, 2), box, 2.0)


@pytest.mark.parametrize("spectrum", [None, torch.linspace(4, 1, 33)])
@pytest.mark.parametrize("snr", [0.1, 2.0])
def test_snr_is_var_over_var(snr: float, spectrum: torch.Tensor | None) -> None:
    images = _images()
    noisy = noise.add_noise(images, snr, torch.Generator().manual_seed(1), spectrum=spectrum)
    ratio = images.var((1, 2)) / (noisy - images).var((1, 2))
    # relative spread of a variance of n independent pixels is sqrt(2 / n); coloured noise has fewer of them
    assert float((ratio.mean() / snr - 1).abs()) < 4 * math.sqrt(2 / 64**2 / 40) * (1 if spectrum is None else 2)


def test_noise_of_one_strength_for_a_set() -> None:
    images = _images()
    noisy = noise.add_noise(images, 0.5, torch.Generator().manual_seed(1), variance=noise.signal_variance(images).mean())
    spread = (noisy - images).var((1, 2))
    assert float((spread / spread.mean() - 1).abs().max()) < 5 * math.sqrt(2 / 64**2)
    with pytest.raises(ValueError, match="snr"):
        noise.add_noise(images, 0.0)


def test_coloured_noise_has_its_spectrum() -> None:
    spectrum = torch.linspace(4, 1, 33)
    made = noise.coloured_noise(torch.zeros(300, 64, 64), spectrum, torch.Generator().manual_seed(2))
    found = power_spectrum(made).mean(0)
    assert float((found[1:] / spectrum[1:] - 1).abs().max()) < 4 / math.sqrt(300 * 4)


def test_background_normalisation() -> None:
    box, radius = 64, 28
    background = 5 + 3 * torch.randn(20, box, box, generator=torch.Generator().manual_seed(0))
    images = background + 100 * _images(20, box) * masks.sphere_mask(box, radius - 1, dims=2)
    done = normalise.normalise_background(images, radius)
    outside = normalise.background_mask(box, radius)
    assert torch.allclose(done[:, outside].mean(1), torch.zeros(20), atol=1e-5)
    assert torch.allclose(done[:, outside].std(1, correction=0), torch.ones(20), atol=1e-5)
    mean, std = normalise.background_statistics(images, radius)
    # the particle, inside the circle, does not matter
    assert torch.allclose(mean, background[:, outside].mean(1)) and torch.allclose(std, background[:, outside].std(1, correction=0))
    flat = normalise.normalise_background(torch.full((1, 16, 16), 7.0))
    assert torch.equal(flat, torch.zeros(1, 16, 16))
    with pytest.raises(ValueError, match="outside"):
        normalise.background_mask(16, 20)


def test_noise_spectrum_from_the_background() -> None:
    spectrum = torch.linspace(3, 1, 33)
    made = noise.coloured_noise(torch.zeros(300, 64, 64), spectrum, torch.Generator().manual_seed(2))
    found = normalise.noise_spectrum(made + 1000 * masks.sphere_mask(64, 16, dims=2), 20)
    # the corners are a third of the picture and their window blurs by some shells: 10 % is its statistics and blur
    assert float((found[4:] / spectrum[4:] - 1).abs().max()) < 0.1


@pytest.mark.parametrize("dims", [2, 3])
def test_sphere_volume(dims: int) -> None:
    radius = 20.0
    expected = math.pi * radius**2 if dims == 2 else 4 / 3 * math.pi * radius**3
    assert float(masks.sphere_mask(48, radius, dims=dims).sum()) == pytest.approx(expected, rel=0.01)
    soft = masks.sphere_mask(48, 15, 6, dims)
    line = soft[24, 24] if dims == 3 else soft[24]
    assert float(line[24]) == 1 and float(line[24 + 15]) == 1 and float(line[24 + 18]) == pytest.approx(0.5) and float(line[24 + 21]) == 0


def test_mask_from_map() -> None:
    model = gaussian_model(12, 3.0)
    volume = model.volume(32, 2.0)
    mask = masks.mask_from_map(volume, dilate_px=2, soft_px=3)
    level = masks.otsu_threshold(volume)
    assert torch.all(mask[volume > level] == 1)
    assert float(mask.min()) == 0 and float(mask.max()) == 1
    hard = masks.mask_from_map(volume, level, 0, 0)
    assert torch.equal(hard > 0.5, volume > level)
    assert torch.allclose(masks.soft_edge(hard, 3), masks.mask_from_map(volume, level, 0, 3))
    with pytest.raises(ValueError, match="threshold"):
        masks.mask_from_map(volume, 1e9)


def test_mask_keeps_the_largest_part() -> None:
    volume = torch.zeros(24, 24, 24)
    volume[4:10, 4:10, 4:10] = 1
    volume[18:20, 18:20, 18:20] = 1
    mask = masks.mask_from_map(volume, 0.5, 0, 0, largest_only=True)
    assert int(mask.sum()) == 6**3


def test_otsu_parts_two_heaps() -> None:
    random = np.random.default_rng(0)
    values = torch.from_numpy(np.concatenate((random.normal(0, 1, 4000), random.normal(10, 1, 1000))))
    assert 3 < masks.otsu_threshold(values) < 7
