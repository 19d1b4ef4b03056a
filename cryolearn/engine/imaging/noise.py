"""Noise. The signal-to-noise ratio is var(signal) / var(noise), both over the whole image."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .fourier import radial_filter

__all__ = ["add_noise", "coloured_noise", "fit_contrast", "signal_variance", "white_noise"]


def signal_variance(images: Tensor) -> Tensor:
    """Variance (...,) of (..., y, x) images over all their pixels."""
    return images.var(dim=(-2, -1), correction=0)


def white_noise(like: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Normal noise of variance 1 in the shape of ``like``, drawn on the generator's device (CPU without one)."""
    source = generator.device if generator is not None else torch.device("cpu")
    return torch.randn(like.shape, generator=generator, dtype=like.dtype, device=source).to(like.device)


def coloured_noise(like: Tensor, spectrum: Tensor, generator: torch.Generator | None = None) -> Tensor:
    """Noise in the shape of ``like`` (..., box, box) whose radial power is ``spectrum`` (n,) at shells 0 ... n-1."""
    box = like.shape[-1]
    transform = torch.fft.rfft2(white_noise(like, generator)) * radial_filter(spectrum.to(like), box).clamp(min=0).sqrt()
    return torch.fft.irfft2(transform, s=(box, box))


def add_noise(
    images: Tensor, snr: float, generator: torch.Generator | None = None, variance: Tensor | float | None = None,
    spectrum: Tensor | None = None,
) -> Tensor:
    """Images with noise added at a signal-to-noise ratio.

    Parameters
    ----------
    images
        (..., box, box) pictures without noise.
    snr
        var(signal) / var(noise).
    generator
        Source of the noise; PyTorch's own without it.
    variance
        Signal variance to refer to, a number or (...,): the mean variance of a whole set, say, so that all images get
        noise of the same strength. Default: each image's own.
    spectrum
        Relative radial power of the noise at shells 0 ...; white without it.

    Raises
    ------
    ValueError
        when ``snr`` is not positive.
    """
    if not snr > 0:
        raise ValueError(f"snr is {snr}, but it must be positive.")
    reference = signal_variance(images) if variance is None else torch.as_tensor(variance).to(images)
    noise = white_noise(images, generator) if spectrum is None else coloured_noise(images, spectrum, generator)
    if spectrum is not None:  # the variance of the law, not of the sample, is what is set to 1
        power = radial_filter(spectrum.to(images), images.shape[-1])
        noise = noise / _mean_over_full_grid(power).sqrt()
    return images + noise * (reference / snr).sqrt()[..., None, None]


def _mean_over_full_grid(half: Tensor) -> Tensor:
    """Mean over the full transform of a half-grid quantity."""
    box = half.shape[-2]
    twice = half[..., 1 : (box + 1) // 2].sum()
    return (half.sum() + twice) / (box * box)


def fit_contrast(image_power: Tensor, noise_power: Tensor, model_power: Tensor) -> float:
    """Factor from the reference's density to the images' from radial powers (n,) of both, CTF included.

    Least squares of ``image_power - noise_power = contrast^2 model_power`` over the shells, each weighted by the number of
    its points and by the variance of a power estimate. Shell 0 is left out: the background's mean was taken away.
    """
    shell = torch.arange(len(image_power), device=image_power.device, dtype=image_power.dtype)
    weight = shell / image_power.clamp_min(1e-12).square()
    above = (weight * (image_power - noise_power) * model_power).sum()
    below = (weight * model_power.square()).sum().clamp_min(1e-30)
    return math.sqrt(max(float(above / below), 0.0))
