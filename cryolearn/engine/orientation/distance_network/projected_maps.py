"""The maps that training images are projected from, at the network's pixel size: maps as they are, atomic models rendered once."""

from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np
import torch

from ...alignment.reference_fit import ReferenceMap
from ...exceptions import InputError
from ...imaging.density_maps import read_density
from ...imaging.fourier import cosine_low_pass, fourier_resize, frequency_grid, power_spectrum, radial_average, radial_index
from ...imaging.gaussians import render_gaussians_3d
from ...imaging.poses import random_rotations
from ...imaging.slices import VolumeProjector
from ...io.maps import Map
from ...io.structures import atom_sigmas, atom_weights, read_dry_atoms
from ...simulate.resample import centred_window, fit_map

__all__ = ["ProjectedMaps", "largest_extent", "map_radius"]

_SAMPLE = 64
_KEPT_BYTES = {"cpu": 2 << 30, "cuda": 8 << 30}
_SYMMETRIC = 0.6  # correlation of whitened projections; without the symmetry it is near 0
_INSIDE = 0.995  # share of a map's density within its radius


class ProjectedMaps:
    """Projections of several maps on the network's grid, each map scaled so that its projections have variance 1 over the images' box.

    Parameters
    ----------
    volumes, structures : files
    box, pixel_size_angst : of the images; their field of view is the network's too
    size : side in pixels of the network's grid
    symmetry : rotations (n, 3, 3) that the maps must have

    Attributes
    ----------
    radius_angst : of the largest particle
    power : (size // 2 + 1,) mean radial power of the scaled projections

    Raises
    ------
    InputError
        when a map is empty, does not have the symmetry, or a particle does not fit the box.
    """

    def __init__(
        self, volumes: list[str], structures: list[str], box: int, pixel_size_angst: float, size: int, device: torch.device, seed: int,
        symmetry: torch.Tensor | None = None,
    ) -> None:
        self.size, self.pixel_angst, self.device = size, box * pixel_size_angst / size, device
        self._maps: list[torch.Tensor] = []
        self._projectors: OrderedDict[int, VolumeProjector] = OrderedDict()
        self._kept = max(1, _KEPT_BYTES[device.type] // (8 * (2 * size) ** 3 // 2))
        self.radius_angst = 0.0
        powers = []
        generator = torch.Generator().manual_seed(seed)
        views = random_rotations(_SAMPLE, generator).to(device)
        for path, atomic in [(path, False) for path in volumes] + [(path, True) for path in structures]:
            data = self._atoms(path) if atomic else self._map(path, box, pixel_size_angst)
            radius = map_radius(data, self.pixel_angst)
            if radius > 0.5 * box * pixel_size_angst:
                raise InputError(
                    f"'{path}' reaches {radius:.0f} Å from its centre, but images of {box} px at {pixel_size_angst:g} Å only "
                    f"{box * pixel_size_angst / 2:.0f} Å: choose a larger box."
                )
            projector = VolumeProjector(data.to(device))
            images = projector.project_real(views)
            # the grid holds all but what lies beyond its band, so this is the variance over the images' own box too
            variance = float(images.var((1, 2), correction=0).mean())
            if not variance > 0:
                raise InputError(f"The projections of '{path}' are empty: it has no density in the box.")
            if symmetry is not None and len(symmetry) > 1:
                _check_symmetry(path, projector, views, symmetry.to(views))
            powers.append(power_spectrum(images).mean(0) / variance)
            self._maps.append((data / math.sqrt(variance)).to(torch.float32))
            self.radius_angst = max(self.radius_angst, radius)
        self.power = torch.stack(powers).mean(0)

    def __len__(self) -> int:
        return len(self._maps)

    def only_reference(self) -> ReferenceMap | None:
        """The map that images are compared with; none where there are several."""
        return ReferenceMap(self._maps[0], self.pixel_angst) if len(self) == 1 else None

    def project(self, number: int, rotations: torch.Tensor) -> torch.Tensor:
        """Centred half transforms (b, size, size // 2 + 1) of projections of one map for poses (b, 3, 3)."""
        if number not in self._projectors:
            while len(self._projectors) >= self._kept:
                self._projectors.popitem(last=False)
            self._projectors[number] = VolumeProjector(self._maps[number].to(self.device))
        self._projectors.move_to_end(number)
        return self._projectors[number].project(rotations)

    def _map(self, path: str, box: int, pixel_size_angst: float) -> torch.Tensor:
        volume = read_density(path)
        side = max(volume.data.shape)
        cube = centred_window(torch.as_tensor(volume.data), (side + side % 2,) * 3)
        data = fit_map(Map(cube.numpy(), volume.pixel_size_angst), box, pixel_size_angst)
        return fourier_resize(data, self.size, dims=3)

    def _atoms(self, path: str) -> torch.Tensor:
        positions, weights, sigma = _read_atoms(path)
        # broadened so that the grid can sample them without aliases, and sharpened again in Fourier space
        extra = (0.8 * self.pixel_angst) ** 2
        data = render_gaussians_3d(positions, weights, (sigma.square() + extra).sqrt(), self.size, self.pixel_angst)
        kz, ky, kx = frequency_grid(self.size, dims=3)
        k2 = (kz.square() + ky.square() + kx.square()) / self.pixel_angst**2
        band = cosine_low_pass(self.size, 0.48 * self.size, 2.0, dims=3)
        sharpen = torch.exp(2 * math.pi**2 * extra * k2.clamp(max=(0.5 / self.pixel_angst) ** 2)) * band
        return torch.fft.irfftn(torch.fft.rfftn(data) * sharpen, s=(self.size,) * 3)


def _check_symmetry(path: str, projector: VolumeProjector, views: torch.Tensor, symmetry: torch.Tensor) -> None:
    """Compare projections along directions that the symmetry makes equal; all shells up to half the band count alike."""
    first = projector.project(views)
    shell = radial_index(projector.box, device=views.device)
    band = (shell >= 2) & (shell <= projector.box // 4)
    for number, matrix in enumerate(symmetry[1:], 2):
        second = projector.project(views @ matrix)
        power = (first.abs().square() + second.abs().square()).mean(0) / 2
        weight = torch.where(band, 1 / radial_average(power, projector.box)[shell.clamp(max=projector.box // 2)].clamp_min(1e-30), torch.zeros_like(power))
        agreement = float(((first * second.conj()).real * weight).sum() / (power * weight).sum() / len(views))
        if agreement < _SYMMETRIC:
            raise InputError(
                f"'{path}' does not have the declared symmetry: its projections agree to {agreement:.2f} only under rotation {number} of the group; declare "
                "another symmetry, or turn the map to the group's axes (RELION's)."
            )


def map_radius(data: torch.Tensor, pixel_angst: float) -> float:
    """Radius in Å about the centre that holds nearly all of a map's density."""
    side = len(data)
    line = torch.arange(side, dtype=torch.float32) - side // 2
    radius = (line[:, None, None].square() + line[None, :, None].square() + line.square()).sqrt().round().long().flatten()
    # faint values are the background's or a filter's ringing
    density = torch.where(data > 0.05 * data.max(), data, torch.zeros_like(data)).flatten()
    shells = torch.zeros(int(radius.max()) + 1).index_add(0, radius, density)
    inside = shells.cumsum(0)
    if not float(inside[-1]) > 0:
        return 0.0
    return float(int((inside < _INSIDE * inside[-1]).sum()) + 1) * pixel_angst


def largest_extent(volumes: list[str], structures: list[str]) -> tuple[float, float]:
    """Side in Å of a box that holds the largest particle with room around it, and the first map's pixel size (3 Å for models alone)."""
    side, pixel = 0.0, 0.0
    for path in volumes:
        volume = read_density(path)
        pixel = pixel or volume.pixel_size_angst
        side = max(side, max(volume.data.shape) * volume.pixel_size_angst)
    for path in structures:
        positions, _, sigma = _read_atoms(path)
        side = max(side, 3.0 * float((positions.norm(dim=1) + 2 * sigma).max()))
    return side, pixel or 3.0


def _read_atoms(path: str) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Positions (n, 3) about their centroid, weights and widths (n,), without hydrogens and water."""
    atoms = read_dry_atoms(path)
    positions = atoms.coordinates - atoms.coordinates.mean(0)
    return tuple(torch.from_numpy(np.ascontiguousarray(values)).float() for values in (positions, atom_weights(atoms), atom_sigmas(atoms)))  # type: ignore[return-value]
