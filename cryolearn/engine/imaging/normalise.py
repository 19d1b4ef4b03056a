"""Background of particle images: normalisation and noise spectrum from the pixels outside a circle."""

from __future__ import annotations

import torch
from torch import Tensor

from .fourier import hermitian_weight, power_spectrum
from .masks import sphere_mask

__all__ = ["background_mask", "background_statistics", "kept_share", "noise_spectrum", "normalise_background"]


def background_mask(box: int, radius_px: float | None = None, device: torch.device | str | None = None) -> Tensor:
    """(box, box) boolean: pixels farther than ``radius_px`` from the centre (default: beyond 0.45 box).

    Raises
    ------
    ValueError
        when no pixel is left.
    """
    radius = 0.45 * box if radius_px is None else radius_px
    mask = sphere_mask(box, radius, dims=2, device=device) == 0
    if not bool(mask.any()):
        raise ValueError(f"No pixel of a box of {box} lies outside a radius of {radius:g} pixels.")
    return mask


def background_statistics(images: Tensor, radius_px: float | None = None) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation, each (...,), of the background of (..., box, box) images."""
    values = images[..., background_mask(images.shape[-1], radius_px, images.device)]
    return values.mean(-1), values.std(-1, correction=0)


def normalise_background(images: Tensor, radius_px: float | None = None, noise_kept: Tensor | None = None) -> Tensor:
    """Images with background of mean 0 and standard deviation 1; an image with a flat background is only centred.

    Where images hold the part ``noise_kept`` (b, box, box // 2 + 1) of the noise only, that of all of it is brought to 1, so that images which end at different
    frequencies have the same noise where they hold it.
    """
    mean, std = background_statistics(images, radius_px)
    std = torch.where(std > 0, std, torch.ones_like(std))
    if noise_kept is not None:
        std = std / kept_share(noise_kept).sqrt()
    return (images - mean[..., None, None]) / std[..., None, None]


def kept_share(noise_kept: Tensor) -> Tensor:
    """Variance (b,) left of white noise of variance 1 of which the part (b, box, box // 2 + 1) is kept."""
    box = noise_kept.shape[-2]
    return (noise_kept * hermitian_weight(box, noise_kept.device, noise_kept.dtype)).sum((-2, -1)) / box**2


def noise_spectrum(images: Tensor, radius_px: float | None = None, soft_px: float = 5.0) -> Tensor:
    """Radial power (box // 2 + 1,) of the noise, averaged over (b, box, box) images, from outside a soft circle.

    White noise of variance s^2 gives s^2 at every shell. The window's own spectrum blurs the result by about
    ``box / radius`` shells.
    """
    box = images.shape[-1]
    radius = 0.45 * box if radius_px is None else radius_px
    window = 1 - sphere_mask(box, radius, soft_px, dims=2, device=images.device).to(images.dtype)
    mean = (images * window).sum((-2, -1), keepdim=True) / window.sum()
    power = power_spectrum((images - mean) * window).flatten(0, -2).mean(0)
    return power / (window * window).mean()
