"""How well a reference fits a sample of images, if their pixels were larger or smaller than said, and if it were mirrored.

Each version of the reference is compared with the images by its likelihood. Ring by ring it may be weaker than the images' density (B factor, solvent),
never negative. Significance is that of a mean over images: in standard errors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from ..imaging.ctf import Ctf
from ..imaging.first_images import ImageUse, in_errors
from ..imaging.fourier import fourier_resize, radial_average, rfftn_centred
from ..imaging.normalise import normalise_background
from ..imaging.poses import euler_to_matrix
from ..imaging.standard_images import StandardImages, even_rows
from ..io.star import ParticleTable
from .fourier_band import FourierBand
from .fourier_images import FourierImages, transform_images
from .reference import Reference

__all__ = ["MIRRORS", "Fit", "ReferenceMap", "Sample", "fit_poses", "fit_profile", "read_sample"]

MIRRORS = {"z": (1.0, 1.0, -1.0), "y": (1.0, -1.0, 1.0), "x": (-1.0, 1.0, 1.0), "centre": (-1.0, -1.0, -1.0)}
Key = TypeVar("Key")

_RINGS = 24
_ROUGH = 60  # images by which a version of the reference is chosen
_FINEST_ANGST = 8.0  # finer detail says nothing of size and hand that coarse detail does not
_BATCH = 100
_MOST_VOXELS = 128
_FACTORS = (0.5, 0.62, 0.71, 0.8, 0.87, 0.92, 0.96, 1.0, 1.04, 1.08, 1.14, 1.25, 1.4, 1.6, 2.0)
_FINER = (-0.03, -0.02, -0.01, 0.01, 0.02, 0.03)
_B_FACTORS = np.linspace(-200, 3000, 17)  # Å^2: from sharpened images to those that are off their centre by 6 Å
_HIGH_PASS_ANGST = (0.0, 30.0, 60.0, 120.0, 240.0)


@dataclass(frozen=True)
class Sample:
    """Some images of a set, whitened, shifted to their centres where the shift is known.

    Attributes
    ----------
    band : frequencies; its length is in Å
    data, transfer : (n, P) coefficients and transfer functions
    rotation : (n, 3, 3) poses; none where they are not known
    """

    band: FourierBand
    data: Tensor
    transfer: Tensor
    rotation: Tensor | None

    def thinned(self, most: int) -> Sample:
        """At most ``most`` of the images, spread evenly."""
        rows = even_rows(len(self.data), most)
        return replace(self, data=self.data[rows], transfer=self.transfer[rows], rotation=None if self.rotation is None else self.rotation[rows])


class ReferenceMap:
    """A map of any box and voxel size as the images of a sample would show it.

    Parameters
    ----------
    volume
        (n, n, n), particle positive, origin at ``n // 2``.
    pixel_size_angst
        Voxel size in Å.
    """

    def __init__(self, volume: Tensor, pixel_size_angst: float) -> None:
        data = volume.cpu().float()
        self._length = len(data) * pixel_size_angst
        if len(data) > _MOST_VOXELS:  # finer detail is not looked at
            data = fourier_resize(data, _MOST_VOXELS, 3)
        self._reference = Reference(data)
        twice = torch.nn.functional.pad(data, (len(data) // 2, len(data) - len(data) // 2) * 3)
        self._mean = radial_average(rfftn_centred(twice, 3).real, len(twice), 3)

    def slices(self, sample: Sample, rotation: Tensor, factor: float) -> Tensor:
        """Transforms (n, P) at poses (n, 3, 3), if the pixels of the images were ``factor`` times as large as they are said to be."""
        return torch.complex(*self._reference.slices(sample.band, rotation, self._length / (sample.band.length * factor)))

    def mean_slice(self, sample: Sample, factor: float) -> Tensor:
        """(rings,) mean of the transforms over all poses, which is real and the same all around each ring."""
        radius = (torch.arange(sample.band.rings) + sample.band.lowest) * (2 * self._length / (sample.band.length * factor))
        below = radius.long().clamp(max=len(self._mean) - 2)
        return torch.lerp(self._mean[below], self._mean[below + 1], (radius - below).clamp(max=1))


@dataclass(frozen=True, kw_only=True)
class Fit:
    """The version of a reference that fits a sample best.

    Attributes
    ----------
    factor : true pixel size over the one that the images are said to have
    factor_sigma : significance with which it is not 1
    mirror : axis across which the reference is to be mirrored, a key of ``MIRRORS``; empty for none
    mirror_sigma : significance with which the mirrored reference is better
    correlation, best_correlation : with the images, of the reference as it is and of the best one
    oriented : the best fit over that of the reference's mean over all poses, as parts of the images' power that are explained
    """

    factor: float
    factor_sigma: float
    mirror: str
    mirror_sigma: float
    correlation: float
    best_correlation: float
    oriented: float


def read_sample(table: ParticleTable, use: ImageUse, most: int) -> Sample:
    """Read at most ``most`` images, spread evenly over a set."""
    rows = even_rows(len(table), most)
    length = table.box * table.pixel_size_angst
    band = FourierBand.up_to(table.box, max(4, min(_RINGS, int(length / _FINEST_ANGST))) + 0.5, length=length)
    stack = StandardImages(table)
    data = torch.cat([
        transform_images(normalise_background(use.sign * torch.from_numpy(stack.read(some))), band)
        for some in np.split(rows, range(_BATCH, len(rows), _BATCH))
    ])
    if table.origin_angst is not None:
        data = data * band.phase(torch.from_numpy(table.origin_angst[rows]).float())
    ctf = None if table.ctf is None or use.ignore_ctf else Ctf.from_table(table.ctf, rows)
    images = FourierImages(band=band, data=data, noise=torch.ones(band.rings), ctf=ctf, phase_flipped=use.phase_flipped)
    power = images.mean_power()
    white = replace(images, noise=power.clamp(min=1e-12 * float(power.max()) + 1e-30)).whitening()
    transfer = images.transfer(torch.arange(len(rows)))
    rotation = None if table.angles_deg is None else euler_to_matrix(torch.from_numpy(table.angles_deg[rows])).float()
    return Sample(band, data * white, (torch.ones(data.shape) if transfer is None else transfer) * white, rotation)


def fit_poses(sample: Sample, reference: ReferenceMap) -> Fit:
    """Best scale and hand of a reference at the images' poses."""

    def of(some: Sample) -> Callable[[float, str], Tensor]:
        assert some.rotation is not None
        rotation = some.rotation

        def likelihood(factor: float, mirror: str) -> Tensor:
            turned = rotation * torch.tensor(MIRRORS[mirror]) if mirror else rotation
            return _by_ring(some, reference.slices(some, turned, factor))

        return likelihood

    rough, mirror = of(sample.thinned(_ROUGH)), ""
    as_said, total = _largest({factor: rough(factor, "") for factor in _FACTORS})
    (factor, other), mirrored = _largest({(size, name): rough(size, name) for name in MIRRORS for size in {1.0, as_said}})
    if mirrored > total:
        mirror, (factor, _) = other, _largest({size: rough(size, other) for size in _FACTORS})
    else:
        factor = as_said
    likelihood = of(sample)
    given = likelihood(1.0, "")
    unscaled = likelihood(1.0, mirror) if mirror else given
    factor, best = _refined(factor, lambda size: likelihood(size, mirror), unscaled)
    radial = _by_ring(sample, sample.band.per_point(reference.mean_slice(sample, factor)))
    return Fit(
        factor=factor, factor_sigma=in_errors(best - unscaled) if factor != 1 else 0.0, mirror=mirror,
        mirror_sigma=in_errors(best - likelihood(as_said, "")) if mirror else 0.0, correlation=_correlation(sample, given),
        best_correlation=_correlation(sample, best), oriented=float(best.sum() / radial.sum().clamp(min=1e-9)))


def fit_profile(sample: Sample, reference: ReferenceMap) -> tuple[float, float]:
    """Best factor of the pixel size of images without poses, from their mean; and its significance.

    The mean image is compared with the reference's mean over all poses. B factor, wrong centres and high-pass filters fade it, by a smooth curve.
    """
    band = sample.band
    frequency = (torch.arange(band.rings) + band.lowest) / band.length
    fades = torch.stack([
        torch.exp(-b_factor * frequency**2) * (1 - torch.exp(-((frequency * high_pass) ** 2)) if high_pass else 1)
        for b_factor in _B_FACTORS for high_pass in _HIGH_PASS_ANGST
    ])
    seen, power = band.ring_sum(sample.transfer * sample.data.real), band.ring_sum(sample.transfer.square())

    def likelihood(factor: float) -> Tensor:
        model = reference.mean_slice(sample, factor)
        agreement, energy = seen @ (model * fades).T, power @ (model * fades).square().T
        return _explained(agreement, energy)[:, (agreement.sum(0).clamp(min=0).square() / energy.sum(0)).argmax()]

    given = likelihood(1.0)
    factor, best = _refined(_largest({factor: likelihood(factor) for factor in _FACTORS})[0], likelihood, given)
    return factor, in_errors(best - given) if factor != 1 else 0.0


def _refined(factor: float, likelihood: Callable[[float], Tensor], given: Tensor) -> tuple[float, Tensor]:
    """The best factor near one, and its likelihoods (n,); ``given`` are those of a factor of 1."""
    if factor == 1:
        return factor, given
    found = {size: likelihood(size) for size in (factor, *(factor * (1 + step) for step in _FINER))} | {1.0: given}
    best, _ = _largest(found)
    return best, found[best]


def _largest(found: dict[Key, Tensor]) -> tuple[Key, float]:
    """The key whose likelihoods have the largest sum, and the sum."""
    best = max(found, key=lambda key: float(found[key].sum()))
    return best, float(found[best].sum())


def _by_ring(sample: Sample, model: Tensor) -> Tensor:
    """Log likelihood (n,) over that of no particle, with the best gain of each ring, which all images share."""
    seen = model * sample.transfer
    agreement = sample.band.ring_sum((seen.conj() * sample.data).real)
    return _explained(agreement, sample.band.ring_sum(seen.abs().square())).sum(1)


def _explained(agreement: Tensor, energy: Tensor) -> Tensor:
    gain = (agreement.sum(0) / energy.sum(0).clamp(min=1e-12)).clamp(min=0)
    return 2 * gain * agreement - gain.square() * energy


def _correlation(sample: Sample, explained: Tensor) -> float:
    return math.sqrt(max(0.0, float(explained.sum() / sample.data.abs().square().sum())))
