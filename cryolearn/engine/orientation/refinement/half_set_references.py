"""The maps that images are matched with: filtered by the agreement of the half sets, and masked about their density."""

from __future__ import annotations

import torch
from torch import Tensor

from ....common.fsc import HALF_MAP_THRESHOLD, first_shell_below
from ...alignment.back_projection import back_projected
from ...alignment.fourier_band import FourierBand
from ...alignment.fourier_images import FourierImages
from ...alignment.posterior import Poses
from ...imaging.fourier import filter_shells
from ...imaging.fsc import fsc
from ...imaging.masks import mask_from_map, sphere_mask
from ...imaging.reconstruction import Reconstructor

__all__ = ["AGREED", "SOFT_EDGE", "agreed_rings", "common_reference", "half_references", "map_box", "particle_mask", "stretch"]

SOFT_EDGE = 0.06  # of the box
_SMOOTH = 0.6  # of the shells that a map holds: what its density is looked for in
AGREED = HALF_MAP_THRESHOLD


def map_box(images: FourierImages) -> int:
    """Side in pixels of the smallest box whose Nyquist frequency lies beyond the band."""
    return 2 * (images.band.radius + 1)


def stretch(band: FourierBand, diameter_angst: float) -> float:
    """Fourier pixels of a band in one of a box that is 1.25 times as long as the particle."""
    return max(1.0, band.length / (1.25 * diameter_angst))


def particle_mask(images: FourierImages, diameter_angst: float) -> Tensor:
    """Soft sphere in the box of a band."""
    box = map_box(images)
    return sphere_mask(box, min(diameter_angst / 2 / (images.band.length / box), 0.48 * box), SOFT_EDGE * box, device=images.device)


def common_reference(images: FourierImages, poses: Poses, halves: Tensor, diameter_angst: float, symmetry: Tensor | None) -> tuple[Tensor, int]:
    """First map, of all images, low-passed where the maps of its halves cease to agree, and the radius of that band."""
    mask = particle_mask(images, diameter_angst)
    sums = back_projected(images, poses, map_box(images), halves, symmetry)
    curve = fsc(*sums.half_maps(), mask)
    rings = max(round(3 * stretch(images.band, diameter_angst)), agreed_rings(curve, 0.5))
    low_pass = (torch.arange(len(curve), device=curve.device) <= rings).to(curve)
    return filter_shells(sums.finish(constant=0.05), low_pass) * mask, rings


def agreed_rings(curve: Tensor, threshold: float) -> int:
    """Shells up to which an FSC never falls below a threshold."""
    return first_shell_below(curve, threshold) - 1


def half_references(sums: Reconstructor, mask: Tensor) -> tuple[list[Tensor], Tensor]:
    """Wiener-filtered, masked maps of the two halves, and the FSC of the halves within the mask.

    A half map's own Wiener filter is the FSC itself (signal over signal and noise); after the first shell that is lost nothing is kept. Each map is
    masked further about its own density, which takes the noise of the solvent out of what the images are compared with.
    """
    halves = sums.half_maps()
    curve = fsc(halves[0], halves[1], mask).clamp(min=0)
    curve[first_shell_below(curve, 0.05) :] = 0
    volumes = [filter_shells(half, curve) * mask for half in halves]
    return [volume * _around_density(volume, agreed_rings(curve, AGREED)) for volume in volumes], curve


def _around_density(volume: Tensor, rings: int) -> Tensor:
    """Soft mask about the density of a map that holds up to a shell: the coarser the map, the wider.

    Density is what stands out on either side of zero, so that the mask does not depend on the images' contrast.
    """
    if not bool(volume.any()):
        return torch.ones_like(volume)
    box = volume.shape[-1]
    shells = torch.arange(box // 2 + 1, device=volume.device)
    detail_px = box / max(1, rings)
    smooth = filter_shells(volume, torch.exp(-((shells / (_SMOOTH * max(1, rings))) ** 2)))
    return mask_from_map(smooth.abs(), dilate_px=detail_px, soft_px=1.5 * detail_px)
