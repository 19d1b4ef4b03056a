"""The density of a molecule as its Fourier transform, which can be asked for any frequencies at any pose.

Atomic models and maps keep grids of their own; nothing is resampled to the box that is simulated.
"""

from __future__ import annotations

import math
import os

import numpy as np
import torch
from torch import Tensor

from ..exceptions import InputError
from ..imaging.density_maps import read_density
from ..imaging.fourier import fourier_resize
from ..imaging.fourier_volume import slice_channels, squared_radius
from ..imaging.gaussians import render_gaussians_3d
from ..imaging.interpolate import sample_slices
from ..io.structures import atom_sigmas, atom_weights, read_dry_atoms

__all__ = ["ClassDensity", "class_names", "density_of_map", "density_of_structure"]

_PADDING = 2.0
_LARGEST_SIDE = 1024  # of a density, 4 GiB
_POINTS = {"cpu": 1 << 22, "cuda": 1 << 26}  # samples held at a time


class ClassDensity:
    """One molecule, centred on its centre of mass, in units of its own mean density.

    Parameters
    ----------
    name
        For messages.
    volume
        (n, n, n) density, n even.
    pixel_size_angst
        Its voxel size.
    blur_angst2
        Variance of a Gaussian by which the density was blurred, to be taken off again.
    """

    def __init__(self, name: str, volume: Tensor, pixel_size_angst: float, blur_angst2: float = 0.0) -> None:
        self.name, self.pixel_size_angst = name, pixel_size_angst
        self.diameter_angst = 2 * _reach(volume) * pixel_size_angst
        self._channels, side = slice_channels(volume, _PADDING)
        self._length_angst = side * pixel_size_angst
        if blur_angst2:
            z, y, x = squared_radius(side, volume.device)
            squared = (z + y + x) / self._length_angst**2
            inside = squared * (2 * pixel_size_angst) ** 2 <= 1
            self._channels *= torch.exp(2 * math.pi**2 * blur_angst2 * squared) * inside

    def transform(self, points: Tensor, rotation: Tensor, shift_angst: Tensor) -> Tensor:
        """Fourier transform (b, m) of the molecule turned by (b, 3, 3) and moved by (b, 3; x, y, z) Å, at (m, 3) frequencies in 1/Å.

        In units of the density times Å^3; 0 beyond the Nyquist frequency of the molecule's own grid.
        """
        step = max(1, _POINTS.get(points.device.type, 1 << 22) // len(points))
        parts = []
        for some, moved in zip(rotation.split(step), shift_angst.split(step)):
            values = sample_slices(self._channels, points, some.to(points), self._length_angst)
            waves = -2 * math.pi * (moved.to(points) @ points.mT)
            parts.append(torch.complex(values[0], values[1]) * torch.polar(torch.ones_like(waves), waves))
        return torch.cat(parts) * self.pixel_size_angst**3


def density_of_structure(path: str, pixel_size_angst: float, device: torch.device) -> ClassDensity:
    """Atoms without hydrogens and water as Gaussians, drawn at half the voxel size that is simulated.

    Raises
    ------
    InputError
        when nothing but hydrogen and water is there.
    """
    atoms = read_dry_atoms(path)
    weights = atom_weights(atoms)
    places = atoms.coordinates - np.average(atoms.coordinates, axis=0, weights=weights)
    step = pixel_size_angst / 2
    # one step of blur keeps the aliases of sharp atoms below 1e-4 in the band that is simulated; it is taken off again
    sigma = np.sqrt(atom_sigmas(atoms) ** 2 + step**2)
    reach = np.linalg.norm(places, axis=1).max() + 4 * step
    side = 2 * math.ceil(reach / step + 1)
    if side > _LARGEST_SIDE:
        raise InputError(f"The structure '{path}' reaches {reach:.0f} Å from its centre, {side // 2} half voxels: look for atoms far away from the others.")
    at, weight, width = (torch.as_tensor(values, dtype=torch.float32, device=device) for values in (places, weights, sigma))
    volume = render_gaussians_3d(at, weight, width, side, step)
    return ClassDensity(os.path.basename(path), _in_own_units(volume), step, step**2)


def density_of_map(path: str, pixel_size_angst: float, floor: float, device: torch.device) -> ClassDensity:
    """A map without its background.

    Parameters
    ----------
    path
        Map file.
    pixel_size_angst
        Voxel size in Å that the density is resampled to.
    floor
        Part of the maximum below which density is set to zero.
    device
        Where the density is put.

    Raises
    ------
    InputError
        when nothing is left.
    """
    volume = read_density(path)
    data = np.where(volume.data >= floor * volume.data.max(), np.maximum(volume.data, 0), 0)
    total = data.sum(dtype=np.float64)
    if not total > 0:
        raise InputError(f"The map '{path}' has no positive density: give a map whose density is white.")
    axes = np.meshgrid(*(np.arange(side) for side in data.shape), indexing="ij", sparse=True)
    middle = [int(round(float((axis * data).sum(dtype=np.float64) / total))) for axis in axes]
    used = np.argwhere(data > 0)
    half = max(int(max(abs(used[:, axis] - middle[axis]).max() for axis in range(3))) + 2, 4)
    pads = [(half, half)] * 3
    data = np.pad(data, pads)[tuple(slice(at, at + 2 * half) for at in middle)]
    tensor = torch.as_tensor(np.ascontiguousarray(data), dtype=torch.float32, device=device)
    voxel = volume.pixel_size_angst
    coarser = 2 * math.ceil(half * voxel / (0.5 * pixel_size_angst))
    if coarser < 2 * half:  # a fine map holds nothing that the coarse box can show
        tensor = fourier_resize(tensor, coarser, dims=3)
        voxel *= 2 * half / coarser
    return ClassDensity(os.path.basename(path), _in_own_units(tensor), voxel)


def class_names(names: list[str], paths: list[str]) -> list[str]:
    """Names of classes without white space: those given, else of the files.

    Raises
    ------
    InputError
        when they are too few or two are alike.
    """
    if names and len(names) != len(paths):
        raise InputError(f"{len(names)} names were given for {len(paths)} structures and maps: give one for each.")
    made = ["_".join((name.strip() or "class").split()) for name in names or [os.path.basename(path).split(".")[0] for path in paths]]
    twice = next((name for name in made if made.count(name) > 1), None)
    if twice:
        raise InputError(f"Two classes are called '{twice}': give different names.")
    return made


def _in_own_units(volume: Tensor) -> Tensor:
    """Density divided by its mean where it is above half of its maximum: maps have no unit of their own."""
    return volume / volume[volume > volume.max() / 2].mean()


def _reach(volume: Tensor) -> float:
    """Distance in voxels of the outermost density (above 2 % of the maximum) from the centre."""
    side = volume.shape[-1]
    axis = torch.arange(side, device=volume.device, dtype=torch.float32) - side // 2
    squared = axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis**2
    return float(squared[volume > 0.02 * volume.max()].max().sqrt()) + 0.5


