"""Training images simulated as they are needed, on the device that learns from them.

Density of a coarse reference at the network's pixel size, CTFs of the input particles, noise of the particles' strength
and spectrum, then the filter that real images go through. A block of samples has its own random numbers
(:mod:`cryolearn.engine.training.plan`), so a sample is the same whatever the number of processes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ...imaging.ctf import Ctf
from ...imaging.fourier import frequency_grid, power_spectrum, radial_filter
from ...imaging.poses import random_rotations
from ...training.network_input import NetworkInput
from ...training.plan import BlockDraws
from ..modes.deformable_reference import ElasticReference

__all__ = ["BatchSimulator", "DensityRenderer", "Samples"]

_CONTRAST_SPREAD = 0.15  # of the logarithm: particles of one set differ in ice and height


@dataclass
class Samples:
    """Network inputs with what they show.

    Attributes
    ----------
    images : (b, size, size)
    rotation, shift_angst, amplitudes : (b, 3, 3), (b, 2), (b, K)
    """

    images: torch.Tensor
    rotation: torch.Tensor
    shift_angst: torch.Tensor
    amplitudes: torch.Tensor

    @staticmethod
    def concatenate(parts: list[Samples]) -> Samples:
        """One batch of several, in their order."""
        return Samples(*(torch.cat([getattr(part, name) for part in parts]) for name in Samples.__dataclass_fields__))


class DensityRenderer:
    """Band-limited projections of an elastic reference on a small grid, computed in a window around the particle.

    Parameters
    ----------
    reference : atoms and modes; atoms that lie closer than the pixel can tell apart are merged
    size, pixel_size_angst : grid
    reach_angst : half width of the window: the particle's radius, deformed, and its largest shift
    """

    def __init__(self, reference: ElasticReference, size: int, pixel_size_angst: float, reach_angst: float) -> None:
        self.reference = reference.coarse(1.25 * pixel_size_angst)
        self.size, self.pixel_size_angst = size, pixel_size_angst
        device = reference.coordinates.device
        variance = self.reference.sigma_angst.square()
        # Gaussians are broadened so that pixels can sample them without aliases, and sharpened again in Fourier space
        extra = max(0.0, (0.8 * pixel_size_angst) ** 2 - float(variance.min()))
        variance = variance + extra
        self._exponent = (-0.5 / variance)[:, None]
        self._peak = (self.reference.weights / (2 * math.pi * variance))[:, None]
        half = min(size // 2, math.ceil((reach_angst + 3 * math.sqrt(float(variance.max()))) / pixel_size_angst))
        self._window = slice(size // 2 - half, size // 2 + half)
        self._line = pixel_size_angst * torch.arange(-half, half, device=device, dtype=torch.float32)
        ky, kx = frequency_grid(size, device=device)
        k2 = (ky.square() + kx.square()) / pixel_size_angst**2
        self._sharpen = torch.exp(2 * math.pi**2 * extra * k2) * (k2 < (0.5 / pixel_size_angst) ** 2)

    def transform(self, rotation: torch.Tensor, shift_angst: torch.Tensor, amplitudes: torch.Tensor) -> torch.Tensor:
        """``rfft2`` (b, size, size // 2 + 1) of projections, with the particle's centre at pixel ``size // 2``."""
        seen = self.reference.positions(amplitudes) @ rotation[:, :2].transpose(1, 2) + shift_angst[:, None]
        distance = self._line - seen.transpose(1, 2)[..., None]  # (b, 2, N, window)
        # exp(-40) is nothing, but its products are still normal numbers, and arithmetic with denormal ones is very slow
        factors = distance.square_().mul_(self._exponent).clamp_(min=-40).exp_()
        images = torch.zeros(len(rotation), self.size, self.size, device=rotation.device)
        images[:, self._window, self._window] = (factors[:, 1] * self._peak).transpose(1, 2) @ factors[:, 0]
        return torch.fft.rfft2(images) * self._sharpen

    def power(self, rotation: torch.Tensor, amplitudes: torch.Tensor) -> tuple[torch.Tensor, float]:
        """Mean radial power (size // 2 + 1,) of projections, and their mean square within the particle's disc."""
        images = torch.fft.irfft2(self.transform(rotation, torch.zeros_like(amplitudes[:, :2]), amplitudes), s=(self.size, self.size))
        touched = images > 0.02 * images.amax((1, 2), keepdim=True)
        return power_spectrum(images).mean(0), float(images[touched].square().mean())


class BatchSimulator:
    """Draws samples by block.

    Parameters
    ----------
    renderer : density at the network's pixel size
    scheme : how images become the network's input
    contrast : factor from the reference's density to that of background-normalised images
    ctf : CTFs of the input particles; each sample takes one of them; None for images without CTF
    amplitude_range, shift_range_angst : both uniform between minus and plus these
    """

    def __init__(
        self, renderer: DensityRenderer, scheme: NetworkInput, contrast: float, ctf: Ctf | None, *, modes: int,
        amplitude_range: float, shift_range_angst: float, seed: int,
    ) -> None:
        self._renderer, self._scheme, self._contrast, self._ctf = renderer, scheme, contrast, ctf
        self._modes, self._amplitude_range, self._shift_range_angst = modes, amplitude_range, shift_range_angst
        self._seed = seed
        self._device = renderer.reference.coordinates.device
        curve = torch.tensor(scheme.noise_power, dtype=torch.float32, device=self._device)
        self._noise = radial_filter(curve, scheme.size).clamp_min(0).sqrt()

    def draw(self, blocks: list[tuple[int, int]]) -> Samples:
        """Samples of blocks given as (number, images in it)."""
        drawn = [self._draw_block(number, count) for number, count in blocks]
        rotation, shift, amplitudes, contrast, noise = (torch.cat(column) for column in list(zip(*drawn, strict=True))[:5])
        picks = torch.cat([column[5] for column in drawn])
        ctf = None if self._ctf is None else self._ctf[picks]
        transfer = self._scheme.transfer(ctf, self._device)
        clean = self._renderer.transform(rotation, shift, amplitudes) * (self._contrast * contrast)[:, None, None]
        transform = clean * transfer + torch.fft.rfft2(noise) * self._noise
        size = self._scheme.size
        images = torch.fft.irfft2(transform * self._scheme.wiener(transfer), s=(size, size))
        return Samples(images, rotation, shift, amplitudes)

    def _draw_block(self, number: int, count: int) -> tuple[torch.Tensor, ...]:
        draws = BlockDraws(self._seed, number, self._device)
        return (
            random_rotations(count, draws.generator).to(self._device, torch.float32),
            draws.uniform(count, 2) * self._shift_range_angst,
            draws.uniform(count, self._modes) * self._amplitude_range,
            torch.exp(_CONTRAST_SPREAD * draws.normal(count)),
            draws.normal(count, self._scheme.size, self._scheme.size),
            draws.integers(len(self._ctf) if self._ctf is not None else 1, count),
        )
