"""What the first images of a set, and the headers of its files, say of their contrast, pixel size and box: one warning for each fault.

Contrast: the mean of many images in random orientations, each multiplied by its CTF, is a bright blob where particles are bright. Its transform below the
frequency of one over the particle's diameter is positive whatever the particle's shape; neighbours, wrong centres and high-pass filters weaken it and do not
change its sign.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ...common.limits import same_pixel_size
from ..io.mrc_header import UNSET_VOXEL_ANGST, read_header
from ..io.star import ParticleTable
from ..launch import say_once
from .ctf import Ctf, ctf_2d, electron_wavelength_angst
from .fourier import frequency_grid, hermitian_weight, low_pass, radial_average, radial_index, rfft2_centred
from .masks import sphere_mask
from .normalise import normalise_background
from .standard_images import StandardImages, even_rows

__all__ = [
    "FEWEST", "IMAGES", "SIGNIFICANT", "ImageUse", "box_warnings", "brightness", "check_contrast", "contrast", "header_warnings", "in_errors", "map_contrast",
    "mixed_contrast", "negative_map", "warn",
]

FEWEST = 16  # images from which standard errors are estimated
IMAGES = 300
SIGNIFICANT = 6.0  # standard errors that a warning needs
_BATCH = 100
_BLOBS = (0.2, 0.3)  # standard deviations of the blobs in boxes: wide enough for any particle that fits its box
_ROUNDS = 50  # of expectation and maximisation
_LOW_RINGS = 8  # the blobs hold nothing beyond
_HEADER = 0.01  # relative difference of pixel sizes
_STACKS = 20
_SKEWNESS = -1.0  # of all 35 maps tried, from 2 to 15 Å, the least is 1.7


@dataclass(frozen=True, kw_only=True)
class ImageUse:
    """How a command takes the images of a set: whether their contrast is inverted, the CTF is left out, or they are phase flipped."""

    invert_contrast: bool = False
    ignore_ctf: bool = False
    phase_flipped: bool = False

    @property
    def sign(self) -> float:
        """What the images are multiplied by."""
        return -1.0 if self.invert_contrast else 1.0


def in_errors(values: Tensor) -> float:
    """Mean of independent values (n,) over its standard error."""
    numbers = values.double()
    return float(numbers.mean() / (numbers.std() / math.sqrt(len(numbers))).clamp(min=1e-30))


def brightness(table: ParticleTable, use: ImageUse = ImageUse(), most: int = IMAGES) -> Tensor:
    """(2, n) brightness of each particle against its background, by two widths of the blob; noise spreads it about 0.

    Parameters
    ----------
    table
        Particles; their poses are not used.
    use
        How the images are taken.
    most
        Images read, spread evenly over the set.
    """
    box, rows, stack = table.box, even_rows(len(table), most), StandardImages(table)
    ky, kx = frequency_grid(box)
    ring = radial_index(box).clamp(max=box // 2)
    low = (ring > 0) & (ring <= _LOW_RINGS)
    blobs = torch.stack([torch.exp(-2 * math.pi**2 * width**2 * box**2 * (kx**2 + ky**2)) for width in _BLOBS]) * hermitian_weight(box)
    parts, power = [], torch.zeros(box // 2 + 1)
    for some in np.split(rows, range(_BATCH, len(rows), _BATCH)):
        transform = rfft2_centred(normalise_background(use.sign * torch.from_numpy(stack.read(some))))
        power += radial_average(transform.abs().square(), box).sum(0)
        seen = transform.real
        if table.ctf is not None and not use.ignore_ctf:
            seen = seen * ctf_2d(Ctf.from_table(table.ctf, some), box, table.pixel_size_angst, use.phase_flipped)
        parts.append(seen[:, low])
    weight = blobs[:, low] / power[ring[low]].clamp(min=1e-12 * float(power.max()) + 1e-30)
    return (torch.cat(parts) @ weight.T).T


def contrast(values: Tensor) -> float:
    """Mean of :func:`brightness` in standard errors: negative for dark particles, near 0 where it cannot be told."""
    found = [in_errors(one) for one in values]
    return min(found, key=abs) if found[0] * found[1] > 0 else 0.0


def mixed_contrast(values: Tensor) -> tuple[float, float]:
    """Are there both bright and dark particles? What speaks for it in standard errors, and the part of the images that are dark, by their :func:`brightness`.

    Two normal distributions at either side of 0, as far from it as each other, are held against one anywhere. One kind of particles among images that show
    none gives two peaks as well, one of them at 0: where values near 0 are not rarer than those about both peaks, the evidence is 0.
    """
    return max(_two_peaks(one.double()) for one in values)


def _two_peaks(values: Tensor) -> tuple[float, float]:
    mean, part = values.abs().mean(), values.new_tensor(0.5)
    variance = values.var()
    for _ in range(_ROUNDS):
        dark = torch.sigmoid(torch.logit(part, 1e-6) - 2 * mean * values / variance)
        mean, part = ((1 - 2 * dark) * values).mean(), dark.mean()
        variance = (values.square().mean() - mean**2).clamp(min=1e-12 * float(values.square().mean()) + 1e-300)
    near, bright, dark_ones = (float(((values / mean - place).abs() < 0.5).sum()) for place in (0, 1, -1))
    rarer = min(bright, dark_ones)
    if rarer - near < math.sqrt(max(rarer + near, 1.0)):
        return 0.0, float(part)
    normal = torch.distributions.Normal
    two = torch.logaddexp(torch.log1p(-part) + normal(mean, variance.sqrt()).log_prob(values), part.log() + normal(-mean, variance.sqrt()).log_prob(values))
    gain = float((two - normal(values.mean(), values.std()).log_prob(values)).sum())
    return math.sqrt(2 * max(gain, 0.0)), float(part)


def check_contrast(table: ParticleTable, use: ImageUse = ImageUse()) -> bool:
    """Warn of particles that are dark on a light background; returns whether they are."""
    if len(table) < FEWEST:
        return False
    values = brightness(table, use)
    bright, (both, part), count = contrast(values), mixed_contrast(values), values.shape[1]
    say_once(f"First images: contrast checked on {count} of {len(table)} images")
    if both > SIGNIFICANT:
        warn(table, [f"About {100 * part:.0f} % of the particles are dark on a light background, the others are bright ({count} images looked at): invert the "
                     "contrast of one kind, as of one of the sets that were joined."])
        return False
    if bright > -SIGNIFICANT:
        return False
    evidence = f"their mean is {-bright:.0f} standard errors below the background in {count} images"
    if use.invert_contrast:
        warn(table, [f"The particles are dark once their contrast is inverted ({evidence}): do not invert the contrast."])
    else:
        warn(table, [f"The particles are dark on a light background ({evidence}): invert their contrast."])
    return True


def warn(table: ParticleTable, sentences: list[str]) -> None:
    """Say warnings in the log and add them to those of the table; what was said before is not said again."""
    for sentence in sentences:
        if sentence not in table.warnings:
            say_once(f"WARNING: {sentence}")
            table.warnings.append(sentence)


def header_warnings(table: ParticleTable) -> list[str]:
    """A warning where the header of an image stack gives another pixel size than the particles' table."""
    groups, rows = table.groups()
    for file in range(min(len(table.image_file), _STACKS)):
        of_file = np.flatnonzero(table.file_index == file)
        voxel = read_header(table.image_file[file]).voxel_angst[0]
        if not len(of_file) or voxel <= 0 or same_pixel_size(voxel, UNSET_VOXEL_ANGST):
            continue
        pixel = float(groups.pixel_size_angst[rows[of_file[0]]])
        if abs(voxel / pixel - 1) > _HEADER:
            return [f"The header of the stack '{table.image_file[file]}' gives a pixel size of {voxel:.4g} Å, but the table of the particles {pixel:.4g} Å, "
                    "which is used: check which of them is right."]
    return []


def box_warnings(table: ParticleTable, radius_angst: float = 0.0, resolution_angst: float = 0.0) -> list[str]:
    """Warnings of a box that cuts the particle, or that is too small for the CTF at a resolution (of 0: it is not looked at).

    The CTF spreads detail of size d over ``wavelength * defocus / d`` to either side; where that is more than half the box, the CTF oscillates faster
    than the image's transform is sampled. All detail is kept by a box of the particle's diameter and twice that length (Rosenthal & Henderson, J. Mol.
    Biol. 333 (2003) 721).

    Parameters
    ----------
    table
        Particles.
    radius_angst
        Of the particle; 0 is not known.
    resolution_angst
        Finest detail that is used.
    """
    side = table.box * table.pixel_size_angst
    found = []
    if radius_angst > side / 2:
        found.append(f"The particle reaches {radius_angst:.0f} Å from its centre, but the box of {table.box} px only {side / 2:.0f} Å: extract the particles "
                     f"in a box of at least {_even(2 * radius_angst / table.pixel_size_angst)} px.")
    if table.ctf is not None and resolution_angst > 0:
        defocus = float(np.median(np.abs(table.ctf.defocus_u + table.ctf.defocus_v) / 2))
        wavelength = float(electron_wavelength_angst(torch.tensor(float(np.median(table.ctf.voltage_kv)))))
        spread = wavelength * defocus / resolution_angst
        if 2 * spread > side:
            wanted = _even((2 * radius_angst + 2 * spread) / table.pixel_size_angst)
            found.append(
                f"At the median defocus of {defocus / 1e4:.2f} µm the CTF spreads detail of {resolution_angst:.3g} Å by {spread:.0f} Å, beyond the box of "
                f"{side:.0f} Å: detail finer than {2 * wavelength * defocus / side:.3g} Å is lost; extract the particles in a box of about {wanted} px.")
    return found


def _even(size: float) -> int:
    return 2 * int(np.ceil(size / 2))


def map_contrast(volume: Tensor) -> float:
    """Skewness of a map's density inside the sphere of its box, without its finest detail: a few units for bright particles, negative for dark ones."""
    box = volume.shape[-1]
    every = slice(None, None, 2)  # two voxels hold what is left of the detail
    inside = sphere_mask(box, 0.48 * box, device=volume.device)[every, every, every] > 0
    values = low_pass(volume.float(), 6.0, 1.0, dims=3)[every, every, every][inside].double()
    away = values - values.mean()
    return float(away.pow(3).mean() / away.square().mean().clamp(min=1e-30).pow(1.5))


def negative_map(volume: Tensor, name: str) -> list[str]:
    """A warning where the density of a map is negative; ``name`` is that of the map, as in "map 'path'"."""
    skewness = map_contrast(volume)
    if skewness > _SKEWNESS:
        return []
    return [f"The density of the {name} is negative (skewness {skewness:.1f}): invert its contrast, or that of the particles that it is made of."]
