"""Transforms of particle images at the points of a growing disc, sorted by frequency, so that a coarse band is the first part of a fine one."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from ...imaging.ctf import Ctf, ctf_at
from ...imaging.fourier import rfft2_centred
from ...imaging.fourier_volume import slice_points
from ...progress import Progress
from ...training.particle_images import ParticleImages

__all__ = ["FourierImages", "disc_points", "read_fourier_images", "transform_images"]


@dataclass
class FourierImages:
    """Images as samples ``Y = C exp(-2 pi i k shift) S + noise`` of independent Fourier points, noise of variance ``noise[ring]``.

    Attributes
    ----------
    data : (n, P) complex64, origin first, which carries no weight; unitary scale: white noise of variance s^2 has s^2 at every point
    kx, ky : (P,) frequencies in Fourier pixels of the image
    ring : (P,) nearest integer radius
    noise : (rings + 1,) power of the noise
    length_angst : side of the images in Å
    rings : radius of the band in Fourier pixels
    ctf : parameters of the images, none without CTF
    phase_flipped : the images are phase flipped, so that the transfer is |CTF|
    """

    data: Tensor
    kx: Tensor
    ky: Tensor
    ring: Tensor
    noise: Tensor
    length_angst: float
    rings: int
    ctf: Ctf | None = None
    phase_flipped: bool = False

    def __len__(self) -> int:
        return len(self.data)

    @property
    def device(self) -> torch.device:
        return self.data.device

    @property
    def box(self) -> int:
        """Side in pixels of the smallest box that holds the band."""
        return 2 * (self.rings + 1)

    @property
    def pixel_size_angst(self) -> float:
        """Pixel size of that box."""
        return self.length_angst / self.box

    def band(self, rings: int) -> FourierImages:
        """The same images up to a radius of ``rings`` Fourier pixels; shares memory."""
        kept = min(rings, self.rings)
        count = int((self.ring <= kept).sum())
        return replace(self, data=self.data[:, :count], kx=self.kx[:count], ky=self.ky[:count], ring=self.ring[:count],
                       noise=self.noise[: kept + 1], rings=kept)

    def rows(self, rows: Tensor) -> FourierImages:
        """Some of the images."""
        return replace(self, data=self.data[rows], ctf=None if self.ctf is None else self.ctf[rows])

    def transfer(self, rows: Tensor) -> Tensor | None:
        """Transfer function (b, P) of some images; none without CTF."""
        if self.ctf is None:
            return None
        return ctf_at(self.ctf[rows], self.kx / self.length_angst, self.ky / self.length_angst, self.phase_flipped)

    def waves(self, shift_angst: Tensor) -> Tensor:
        """Factors (..., P) that move images back by (..., 2) Å."""
        angle = shift_angst[..., :1] * self.kx + shift_angst[..., 1:] * self.ky
        angle = angle * (2 * math.pi / self.length_angst)
        return torch.polar(torch.ones_like(angle), angle)

    def whitening(self) -> Tensor:
        """(P,) factors that bring the noise to variance 1; 0 at the origin, where the images' offset is."""
        return self.noise[self.ring].rsqrt() * (self.ring > 0)

    def ring_mean(self, values: Tensor) -> Tensor:
        """Mean (..., rings + 1) over the points of each ring of (..., P) values."""
        count = torch.bincount(self.ring, minlength=self.rings + 1).to(values.dtype)
        return values.new_zeros((*values.shape[:-1], self.rings + 1)).index_add_(-1, self.ring, values) / count


def disc_points(rings: int, device: torch.device | str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """kx, ky and ring of all independent Fourier points of a disc, sorted by ring; the origin comes first."""
    _, kx, ky = slice_points(2 * (rings + 1), device)
    ring = torch.sqrt(kx**2 + ky**2).round().long()
    order = torch.argsort(ring, stable=True)
    order = order[ring[order] <= rings]
    return kx[order], ky[order], ring[order]


def transform_images(images: Tensor, kx: Tensor, ky: Tensor) -> Tensor:
    """Samples (b, P) of the unitary transforms of (b, box, box) images, phases relative to the centre."""
    box = images.shape[-1]
    return rfft2_centred(images)[:, ky.long() % box, kx.long()] / box


def read_fourier_images(
    source: ParticleImages, pixel_size_angst: float, box: int, rings: int, batch: int, phase_flipped: bool = False,
) -> FourierImages:
    """Read all images of a set once and keep their transforms up to a radius of ``rings`` Fourier pixels; the noise is all that is there at first.

    Memory: about ``4 pi rings^2`` bytes an image on the device (22 kB at 42 rings), besides one batch of images.
    """
    kx, ky, ring = disc_points(rings, source.device)
    count = len(source.table)
    data = torch.empty(count, len(kx), dtype=torch.complex64, device=source.device)
    ctfs: list[Ctf] = []
    progress = Progress("Reading for matching", count)
    for rows in np.split(np.arange(count), range(batch, count, batch)):
        images, ctf = source.read(rows)
        data[int(rows[0]) : int(rows[-1]) + 1] = transform_images(images, kx, ky)
        ctfs += [] if ctf is None else [ctf]
        progress.step(len(rows))
    whole = None
    if ctfs:
        names = list(vars(ctfs[0]))
        whole = Ctf(*(torch.cat([getattr(ctf, name) for ctf in ctfs]) for name in names))
    found = FourierImages(data, kx, ky, ring, torch.ones(rings + 1, device=source.device), box * pixel_size_angst, rings, whole, phase_flipped)
    return replace(found, noise=found.ring_mean(data.abs().square().mean(0)))
