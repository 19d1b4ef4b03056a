"""A structure against its map: whether it fits with other voxels, or the mirrored map, better than the map as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from ..io.maps import Map
from .density_sampling import trilinear

__all__ = ["SizeAndHand", "size_and_hand", "size_and_hand_warnings"]

_FACTORS = np.concatenate([np.arange(0.8, 1.0, 0.005), np.arange(1.005, 1.25, 0.005)])
_LOCAL_ANGST = 4.0  # standard deviation of the blur that is taken off, so that the dense middle of a map does not attract the structure
_BLOCKS = 40  # runs of atoms whose densities count as independent
_SIGNIFICANT = 6.0
_FACTOR = 0.0075  # smallest error of the voxel size that is said
_BETTER = 1.5  # density at the atoms in the mirrored map over that in the map


@dataclass(frozen=True)
class SizeAndHand:
    """How a structure would fit its map better.

    Attributes
    ----------
    factor : true voxel size over that of the map
    factor_sigma : standard errors by which it fits better
    mirror : axis of the map's box, x, y or z
    mirror_ratio : density at the atoms in the map mirrored along it, over that in the map as it is
    mirror_sigma : standard errors by which it fits better
    """

    factor: float
    factor_sigma: float
    mirror: str
    mirror_ratio: float
    mirror_sigma: float


def size_and_hand(volume: Map, coordinates: NDArray[np.float64]) -> SizeAndHand:
    """Compare density at the atoms (n, 3) Å of a fitted structure with that about the structure scaled around its centre, and in mirrored maps."""
    blurred = ndimage.gaussian_filter(volume.data, _LOCAL_ANGST / volume.pixel_size_angst)
    local = replace(volume, data=volume.data - blurred)
    centre = coordinates.mean(0)

    def blocks(points: NDArray[np.float64], of: Map = local) -> NDArray[np.float64]:
        return np.array([part.mean() for part in np.array_split(trilinear(of, points), min(_BLOCKS, len(points)))])

    given = blocks(coordinates)
    # a map whose voxels are really larger by a factor shows the structure smaller by it
    found = {float(factor): blocks(centre + (coordinates - centre) / factor) for factor in _FACTORS}
    factor = max(found, key=lambda name: float(found[name].mean()))
    flipped = {axis: blocks(coordinates, replace(local, data=np.flip(local.data, 2 - number))) for number, axis in enumerate("xyz")}
    mirror = max(flipped, key=lambda name: float(flipped[name].mean()))
    better = float(found[factor].mean()) > float(given.mean())
    return SizeAndHand(
        factor=factor if better else 1.0, factor_sigma=_in_errors(found[factor] - given), mirror=mirror,
        mirror_ratio=float(flipped[mirror].mean() / max(given.mean(), 1e-30)), mirror_sigma=_in_errors(flipped[mirror] - given))


def _in_errors(values: NDArray[np.float64]) -> float:
    return float(values.mean() / max(values.std(ddof=1) / np.sqrt(len(values)), 1e-30))


def size_and_hand_warnings(volume: Map, coordinates: NDArray[np.float64], path: str) -> list[str]:
    """One warning for each of a wrong voxel size and a wrong hand of a map; ``path`` names it."""
    fit = size_and_hand(volume, coordinates)
    if fit.mirror_sigma > _SIGNIFICANT and fit.mirror_ratio > _BETTER:
        return [f"The structure fits the map '{path}' mirrored along {fit.mirror} better than the map as it is ({fit.mirror_ratio:.1f} times the density at "
                f"the atoms, {fit.mirror_sigma:.0f} standard errors): the map has the other hand; mirror it."]
    if fit.factor_sigma > _SIGNIFICANT and abs(fit.factor - 1) > _FACTOR:
        voxel = volume.pixel_size_angst
        return [f"The structure fits the map '{path}' best with voxels of {voxel * fit.factor:.4g} Å, {fit.factor:.3f} times the {voxel:.4g} Å of its header "
                f"({fit.factor_sigma:.0f} standard errors): check the voxel size of the map."]
    return []
