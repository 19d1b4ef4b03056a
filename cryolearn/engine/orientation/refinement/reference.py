"""The reference of projection matching: slices of a map, and the sums of images that make the next one."""

from __future__ import annotations

import torch
from torch import Tensor

from ....common.fsc import HALF_MAP_THRESHOLD, first_shell_below
from ...imaging.fourier import filter_shells
from ...imaging.fourier_volume import slice_channels
from ...imaging.fsc import fsc
from ...imaging.interpolate import sample_half_volume
from ...imaging.masks import mask_from_map, sphere_mask
from ...imaging.reconstruction import Reconstructor
from .fourier_images import FourierImages

__all__ = ["AGREED", "Poses", "Reference", "agreed_rings", "back_projected", "half_references", "new_sums", "particle_mask"]

_PADDING = 2.0
_BATCH_VALUES = {"cpu": 1 << 22, "cuda": 1 << 26}
_SOFT_EDGE = 0.06  # of the box
_SMOOTH = 0.6  # of the shells that a map holds: what its density is looked for in
AGREED = HALF_MAP_THRESHOLD


class Poses:
    """Poses of images with their weights, T each: ``rotation`` (n, T, 3, 3), ``shift_angst`` (n, T, 2), ``weight`` (n, T) of sum 1, best first."""

    def __init__(self, rotation: Tensor, shift_angst: Tensor, weight: Tensor) -> None:
        self.rotation, self.shift_angst, self.weight = rotation, shift_angst, weight

    @classmethod
    def single(cls, rotation: Tensor, shift_angst: Tensor) -> Poses:
        """One pose (n, 3, 3), (n, 2) an image."""
        return cls(rotation[:, None], shift_angst[:, None], torch.ones_like(shift_angst[:, :1]))

    @property
    def best(self) -> tuple[Tensor, Tensor]:
        """The heaviest pose of each image."""
        return self.rotation[:, 0], self.shift_angst[:, 0]


class Reference:
    """Slices of a map `(box, box, box)` in the box of a band, as its samples."""

    def __init__(self, volume: Tensor) -> None:
        self._channels, side = slice_channels(volume, _PADDING)
        self._scale = side / volume.shape[-1]

    def slices(self, images: FourierImages, rotations: Tensor) -> Tensor:
        """Real and imaginary parts (2, ..., P) of the slices at poses (..., 3, 3)."""
        plane = torch.stack((images.kx, images.ky), dim=-1) * self._scale
        return sample_half_volume(self._channels, plane @ rotations[..., :2, :])


def particle_mask(images: FourierImages, diameter_angst: float) -> Tensor:
    """Soft sphere in the box of a band."""
    return sphere_mask(images.box, min(diameter_angst / 2 / images.pixel_size_angst, 0.48 * images.box), _SOFT_EDGE * images.box, device=images.device)


def new_sums(images: FourierImages) -> Reconstructor:
    """Empty sums in the box of a band."""
    return Reconstructor(images.box, images.pixel_size_angst, _PADDING, images.device)


def back_projected(images: FourierImages, poses: Poses, halves: Tensor | int = 1, symmetry: Tensor | None = None) -> Reconstructor:
    """Sums of images at their weighted poses; ``symmetry`` (g, 3, 3) is imposed."""
    sums = new_sums(images)
    per_image = poses.weight.shape[1]
    halves = torch.as_tensor(halves, device=images.device).expand(len(images))
    step = max(1, _BATCH_VALUES.get(images.device.type, 1 << 22) // (per_image * len(images.kx)))
    frequencies = (images.kx, images.ky)
    for rows in torch.arange(len(images), device=images.device).split(step):
        transfer = images.transfer(rows)
        data = images.data[rows] if transfer is None else images.data[rows] * transfer
        power = torch.ones_like(data.real) if transfer is None else transfer.square()
        weight = poses.weight[rows, :, None]
        values = data[:, None] * images.waves(poses.shift_angst[rows]) * weight
        used = (poses.weight[rows] > 1e-3).flatten()
        sums.insert_samples(values.flatten(0, 1)[used], (power[:, None] * weight).flatten(0, 1)[used],
                            poses.rotation[rows].flatten(0, 1)[used], frequencies, halves[rows].repeat_interleave(per_image)[used])
    if symmetry is not None and len(symmetry) > 1:
        sums.symmetrise(symmetry)
    return sums


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
