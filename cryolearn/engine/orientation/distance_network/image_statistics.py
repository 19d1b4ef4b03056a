"""What the particles' images look like (size, CTF, noise), and the scheme by which they become the network's input."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from ...exceptions import InputError
from ...imaging.ctf import Ctf, ctf_2d
from ...imaging.fourier import power_spectrum, radial_average
from ...imaging.noise import fit_contrast
from ...imaging.normalise import background_statistics, noise_spectrum
from ...training.network_input import NetworkInput, network_size
from ...training.particle_images import ParticleImages
from ..config import DistanceTrainConfig

__all__ = ["Appearance", "choose_size", "measure_particles", "simulated_appearance"]

_SAMPLE = 256
_LEAST = 32
_PAPER = 128  # side of the input at which seven poolings leave one pixel
_CLEAN = 1e-3  # a background fainter than this share of the image's deviation is none
_FLOOR = 1e-5  # of the strongest shell of the signal: power of the noise that the filter assumes at least


@dataclass(frozen=True)
class Appearance:
    """How images look.

    Attributes
    ----------
    scheme : how images become the network's input; its powers are in units of the signal's variance over the images' box
    snr : var(signal) / var(noise) over the whole image, at the images' full resolution; 0 is no noise
    noise_power : (size // 2 + 1,) radial power of noise on the network's grid for signal of variance 1
    """

    scheme: NetworkInput
    snr: float
    noise_power: torch.Tensor


def choose_size(config: DistanceTrainConfig, box: int, pixel_size_angst: float) -> int:
    """Side in pixels of the network's input.

    Raises
    ------
    InputError
        when the box is too small for the network.
    """
    if box < _LEAST:
        raise InputError(f"The network '{config.preset}' cannot take a box of {box} px: give images of at least {_LEAST} px.")
    side = max(config.network_size_px, _PAPER) if config.preset == "paper" else config.network_size_px
    size = network_size(box, pixel_size_angst, config.network_pixel_angst or box * pixel_size_angst / side)
    if size < _LEAST:
        raise InputError(
            f"A box of {box} px at {pixel_size_angst:g} Å has {size} pixels of {config.network_pixel_angst:g} Å, but the network needs {_LEAST}: "
            "choose a smaller network pixel size."
        )
    return size


def simulated_appearance(
    config: DistanceTrainConfig, box: int, pixel_size_angst: float, size: int, power: torch.Tensor, ctf: Ctf | None
) -> Appearance:
    """Images of the configured SNR with white noise.

    Parameters
    ----------
    config
        SNR (0 is no noise), and whether the images are phase flipped.
    box
        Side of the images in pixels.
    pixel_size_angst
        Pixel size of the images in Å.
    size
        Side in pixels of the network's input.
    power : (size // 2 + 1,)
        Radial power on the network's grid of projections of variance 1.
    ctf
        A sample of the images' CTFs; None for images without.
    """
    transfer = torch.ones_like(power)
    if ctf is not None:
        transfer = radial_average(ctf_2d(ctf, size, box * pixel_size_angst / size, config.phase_flipped).square(), size).mean(0)
    variance = _variance_share(power, transfer) / config.snr if config.snr else 0.0
    noise = torch.full_like(power, variance * (size / box) ** 2)
    return _appearance(config, box, pixel=pixel_size_angst, size=size, signal=power, noise=noise, snr=config.snr, ignore_ctf=ctf is None)


def measure_particles(config: DistanceTrainConfig, images: ParticleImages, size: int, power: torch.Tensor | None) -> Appearance:
    """How a particle set looks, from its background and its power.

    Parameters
    ----------
    config
        How the images carry their CTF; an SNR above 0 replaces the measured one.
    images
        The particle set, of which up to 256 images are read.
    size
        Side in pixels of the network's input.
    power : (size // 2 + 1,)
        As in :func:`simulated_appearance`; None takes the particles' own.

    Raises
    ------
    InputError
        when an image is empty or they hold no more power than their background.
    """
    table = images.table
    box, pixel = table.box, table.pixel_size_angst
    noise, total, transfer, whole = _spectra(config, images, size)
    clean = not float(noise.max()) > 0
    if power is None:
        signal = (total - noise).clamp_min(0) / transfer.clamp_min(0.05)
        signal[0] = signal[1]
        variance = whole
    else:
        contrast = fit_contrast(total, noise, power * transfer)
        signal, variance = power * contrast**2, contrast**2 * _variance_share(power, transfer)
    if not float(signal.max()) > 0 or not variance > 0:
        raise InputError("The particles' images hold no more power than their background: check the CTF, the contrast (black or white) and the box.")
    background = float(noise[1:].mean()) * (box / size) ** 2
    snr = 0.0 if clean else variance / background
    if config.snr:  # the noise's spectrum is the particles' own, its strength what was asked for
        noise = noise * (snr / config.snr) if not clean else torch.full_like(noise, variance / config.snr * (size / box) ** 2)
        snr = config.snr
    # a map's projections have variance 1 before the CTF, which takes some of it
    unit = float(signal.max() / power.max()) if power is not None else 1.0
    return _appearance(config, box, pixel=pixel, size=size, signal=signal / unit, noise=noise / unit, snr=snr, ignore_ctf=config.ignore_ctf)


def _variance_share(power: torch.Tensor, transfer: torch.Tensor) -> float:
    """Variance that is left of projections of variance 1 behind the CTF."""
    shell = torch.arange(len(power), device=power.device, dtype=power.dtype)
    return float((shell * power * transfer).sum() / (shell * power).sum())


def _spectra(config: DistanceTrainConfig, images: ParticleImages, size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, float]:
    """Radial powers on the network's grid of noise and images, of the squared CTF, and the signal's variance over the box.

    The first three are means over the images that hold a shell.
    """
    box = images.table.box
    rows, shells, radius_px = images.sample_rows(_SAMPLE), size // 2 + 1, images.radius_px
    sums = torch.zeros(3, shells, device=images.device)
    kept = torch.zeros(shells, device=images.device)
    whole, noisy, clean = 0.0, 0.0, True
    scheme = NetworkInput(
        box=box,
        pixel_size_angst=images.table.pixel_size_angst,
        size=box - box % 2,
        signal_power=(),
        noise_power=(),
        scale=1.0,
        centre_radius_angst=1.0,
        phase_flipped=config.phase_flipped,
        ignore_ctf=config.ignore_ctf,
    )
    for some in np.array_split(rows, max(1, len(rows) // 64)):
        data, ctf = images.read(some)
        deviation = data.std((1, 2), correction=0)
        if not bool((deviation > 0).all()):
            row = int(some[int(deviation.argmin())])
            raise InputError(f"The image {images.table.image_name(row)} of particle {images.table.ids[row]} is empty: remove that particle.")
        mean, background = background_statistics(data, radius_px)
        data = data - mean[:, None, None]
        clean &= bool((background < _CLEAN * deviation).all())
        # particles normalised differently: to one strength of the background, or of the image when that has none
        share = images.noise_share(some)
        data = data / torch.where(background > _CLEAN * deviation, background / share.sqrt(), deviation)[:, None, None]
        sums[0] += noise_spectrum(data, radius_px)[:shells] * len(some) / len(rows)
        sums[1] += power_spectrum(data)[:, :shells].sum(0) / len(rows)
        squares = scheme.transfer(ctf, images.device).square().expand(len(some), -1, -1)
        sums[2] += radial_average(squares, scheme.size)[:, :shells].sum(0) / len(rows)
        kept += images.noise_kept(some)[:shells] * len(some) / len(rows)
        whole += float(data.var((1, 2), correction=0).sum()) / len(rows)
        noisy += float(share.sum()) / len(rows)
    sums /= kept.clamp_min(1 / len(rows))
    scale = (size / box) ** 2
    noise = torch.zeros_like(sums[0]) if clean else sums[0].clone()
    if not clean:
        noise[0] = noise[1]  # the background's own mean was taken away, but that of the noise over the particle was not
    return noise * scale, sums[1] * scale, sums[2], max(whole - (0.0 if clean else noisy), 0.0)


def _appearance(
    config: DistanceTrainConfig, box: int, pixel: float, size: int, signal: torch.Tensor, noise: torch.Tensor, snr: float, ignore_ctf: bool,
) -> Appearance:
    assumed = noise.clamp_min(_FLOOR * float(signal.max()))
    scheme = NetworkInput(
        box=box,
        pixel_size_angst=pixel,
        size=size,
        signal_power=tuple(signal.tolist()),
        noise_power=tuple(assumed.tolist()),
        scale=1.0,
        centre_radius_angst=1.0,
        phase_flipped=config.phase_flipped,
        ignore_ctf=ignore_ctf,
    )
    return Appearance(scheme, snr, noise)
