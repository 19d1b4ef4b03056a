"""Images of a set against the reference that a command uses: pixel size and hand, one warning for each fault, before hours are spent."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from torch import Tensor

from ..imaging.first_images import (
    FEWEST,
    IMAGES,
    SIGNIFICANT,
    ImageUse,
    box_warnings,
    check_contrast,
    header_warnings,
    warn,
)
from ..imaging.gaussian_splat import splat_gaussians
from ..imaging.standard_images import StandardImages
from ..io.star import ParticleTable
from ..launch import is_first_process, say_once
from .reference_fit import ReferenceMap, Sample, fit_poses, fit_profile, read_sample

__all__ = ["Expected", "check_images", "map_of_gaussians"]

_SIGNIFICANT_PROFILE = 10.0  # the mean image alone says less of the size than its statistics promise: its filters are not known
_FACTOR, _FACTOR_PROFILE = 0.025, 0.12  # smallest errors of the pixel size that are said, with poses and without
_ORIENTED = 2.0  # times what the reference's mean over all poses explains: poses of another frame explain as much as that
_BETTER = 1.1  # correlation of the mirrored reference over that of the given one
_SIDE = 96  # voxels of a map of Gaussians, and the margin around them in Å
_MARGIN_ANGST = 10.0
_NARROWEST_PX = 0.8


@dataclass(frozen=True, kw_only=True)
class Expected:
    """What the images are expected to show.

    Attributes
    ----------
    reference : map or structure; none where there is nothing to compare with
    name : of the reference in a warning, "map" or "structure"
    posed : the poses of the images are meant for the reference
    radius_angst : of the particle, 0 where it is not known
    resolution_angst : finest that the command uses, 0 where it is not known
    """

    reference: ReferenceMap | None = None
    name: str = "reference"
    posed: bool = False
    radius_angst: float = 0.0
    resolution_angst: float = 0.0


def map_of_gaussians(positions_angst: Tensor, weights: Tensor, sigma_angst: Tensor) -> ReferenceMap:
    """Reference of Gaussians at (m, 3) Å from the centre with integrals and standard deviations (m,)."""
    places = positions_angst.cpu().float()
    extent = float(places.abs().max()) + _MARGIN_ANGST
    pixel = max(2 * extent / _SIDE, 2.0)
    side = 2 * int(extent / pixel + 1)
    width = (sigma_angst.cpu().float() / pixel).clamp(min=_NARROWEST_PX)
    return ReferenceMap(splat_gaussians(places / pixel + side // 2, weights.cpu().float(), width, (side, side, side)), pixel)


def check_images(table: ParticleTable, expected: Expected, use: ImageUse) -> None:
    """Check grey values, contrast, pixel size, hand and box of a set; warnings go to the log and to those of the table, and so into the run's summary.

    Nothing is refused: a warning needs six standard errors, and a fault that hides another is taken out before the next is looked for.

    Parameters
    ----------
    table
        Particles; at most 300 images, spread evenly over the set, are read.
    expected
        Reference and particle, as far as they are known.
    use
        How the command takes the images.
    """
    if not is_first_process():
        return
    warn(table, StandardImages(table).warnings_of_the_set())
    warn(table, box_warnings(table, expected.radius_angst, 0.0 if use.ignore_ctf else expected.resolution_angst))
    dark = check_contrast(table, use)
    size: list[str] = []
    hand: list[str] = []
    if expected.reference is not None and len(table) >= FEWEST:
        sample = read_sample(table, use, IMAGES)
        say_once(f"First images: pixel size{' and hand' if expected.posed else ''} checked against the {expected.name}")
        size, hand = _faults(replace(sample, data=-sample.data) if dark else sample, expected.reference, expected, table.pixel_size_angst)
    warn(table, [*(size or header_warnings(table)), *hand])


def _faults(sample: Sample, reference: ReferenceMap, expected: Expected, pixel: float) -> tuple[list[str], list[str]]:
    """Warnings of a wrong pixel size, and of the wrong hand."""
    name = expected.name
    size: list[str] = []
    hand: list[str] = []
    if expected.posed and sample.rotation is not None:
        fit = fit_poses(sample, reference)
        if fit.oriented > _ORIENTED:
            if abs(fit.factor - 1) > _FACTOR and fit.factor_sigma > SIGNIFICANT:
                size.append(_size(pixel, fit.factor, fit.factor_sigma, name))
            if fit.mirror_sigma > SIGNIFICANT and fit.best_correlation > _BETTER * fit.correlation:
                hand.append(
                    f"At the poses given, the mirrored {name} fits the images better than the {name} (correlation {fit.best_correlation:.3f} against "
                    f"{fit.correlation:.3f}, {fit.mirror_sigma:.0f} standard errors): the poses are of the other hand; mirror the {name}, or find the poses "
                    "with it.")
            return size, hand
    factor, sigma = fit_profile(sample, reference)
    if abs(math.log(factor)) > _FACTOR_PROFILE and sigma > _SIGNIFICANT_PROFILE:
        size.append(_size(pixel, factor, sigma, name))
    return size, hand


def _size(pixel: float, factor: float, sigma: float, name: str) -> str:
    return (f"The images fit the {name} best with a pixel size of {pixel * factor:.3g} Å, {factor:.2f} times the {pixel:.3g} Å of the particles ({sigma:.0f} "
            f"standard errors): check the pixel size of the particles and that of the {name}.")
