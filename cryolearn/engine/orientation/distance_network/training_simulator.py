"""Training images drawn anew for each step: pose, shift, CTF, contrast and noise, all of a block's own random numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch

from ...imaging.ctf import Ctf
from ...imaging.fourier import irfft2_centred, phase_shift, radial_filter
from ...training.plan import BlockDraws, block_generator
from .image_statistics import Appearance
from .pair_sampling import draw_block_poses
from .projected_maps import ProjectedMaps

__all__ = ["ImageSimulator", "Samples", "standardise"]


_MAPS = 2**40  # apart from the numbers of blocks


@dataclass
class Samples:
    """Network inputs (b, size, size) and the poses (b, 3, 3) that they show; the images of a block are of one particle."""

    images: torch.Tensor
    rotation: torch.Tensor


def standardise(images: torch.Tensor) -> torch.Tensor:
    """Images (b, size, size) of mean 0 and deviation 1 each: a network need not know how particles were normalised."""
    deviation, mean = torch.std_mean(images, (1, 2), keepdim=True)
    return (images - mean) / deviation.clamp_min(1e-12)


class ImageSimulator:
    """Draws blocks of samples from one map each.

    Parameters
    ----------
    maps : what is projected
    appearance : how images look and become the network's input
    ctf : CTFs, of which each image takes one; None for images without
    snr_factor : the SNR of an image is the appearance's, multiplied or divided by up to this
    shift_range_angst : shifts are uniform between minus and plus this
    largest_rad : of :func:`.pairs.draw_block_poses`
    """

    def __init__(
        self, maps: ProjectedMaps, appearance: Appearance, ctf: Ctf | None, *, snr_factor: float, shift_range_angst: float, largest_rad: float, seed: int,
    ) -> None:
        self._maps, self._scheme, self._ctf, self._seed = maps, appearance.scheme, ctf, seed
        self._spread, self._shift_range_angst, self._largest_rad = math.log(snr_factor), shift_range_angst, largest_rad
        self._device = maps.device
        self._noise = radial_filter(appearance.noise_power.to(self._device), appearance.scheme.size).clamp_min(0).sqrt() if appearance.snr else None

    def draw(self, blocks: list[tuple[int, int]]) -> Samples:
        """Samples of blocks given as (number, images in it), in that order."""
        drawn = [self._draw_block(number, count) for number, count in blocks]
        transform, rotation = torch.cat([part[0] for part in drawn]), torch.cat([part[1] for part in drawn])
        ctf = None if self._ctf is None else self._ctf[torch.cat([part[2] for part in drawn])]
        transfer = self._scheme.transfer(ctf, self._device)
        transform = transform * transfer
        size = self._scheme.size
        if self._noise is not None:
            noise = torch.cat([part[3] for part in drawn])
            transform = transform + torch.fft.rfft2(noise) * self._noise
        # centred phases: noise has none of its own, so it may be drawn in either
        return Samples(standardise(irfft2_centred(transform * self._scheme.wiener(transfer), size)), rotation)

    def _draw_block(self, number: int, count: int) -> tuple[torch.Tensor, ...]:
        draws, size = BlockDraws(self._seed, number, self._device), self._scheme.size
        # on the CPU, with numbers of its own: a GPU need not be waited for
        which = int(torch.randint(len(self._maps), (1,), generator=block_generator(self._seed, _MAPS + number)))
        rotation = draw_block_poses(count, draws.generator, self._largest_rad)
        shift = draws.uniform(count, 2) * (self._shift_range_angst / self._scheme.network_pixel_angst)
        picks = draws.integers(len(self._ctf) if self._ctf is not None else 1, count)
        transform = self._maps.project(which, rotation) * phase_shift(shift, size)
        if self._noise is None:
            return transform, rotation, picks
        # images are standardised in the end, so a spread of the noise's strength is one of contrast and SNR alike
        strength = torch.exp(-0.5 * self._spread * draws.uniform(count, 1, 1))
        return transform, rotation, picks, draws.normal(count, size, size) * strength
