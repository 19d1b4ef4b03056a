"""Maps and masks of atomic models, made by gemmi on any grid."""

from __future__ import annotations

from typing import Any

import gemmi
import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import fft, ndimage

from ..io.maps import Map
from ..io.structures import Structure, gemmi_model

__all__ = ["atom_distance", "atom_voxels", "box_around", "heavy_atoms", "mask_around", "model_map", "molecule_mask", "polymer_atoms"]

_CALCULATORS: dict[str, Any] = {"electron": gemmi.DensityCalculatorE, "xray": gemmi.DensityCalculatorX}


def polymer_atoms(structure: Structure) -> NDArray[np.bool_]:
    """Atoms (N,) of amino acids and nucleotides, without hydrogens, waters and ligands."""
    kinds = {name: gemmi.find_tabulated_residue(str(name)) for name in np.unique(structure.residue_name)}
    polymer = [name for name, kind in kinds.items() if kind.found() and (kind.is_amino_acid() or kind.is_nucleic_acid())]
    return np.isin(structure.residue_name, polymer) & heavy_atoms(structure)


def heavy_atoms(structure: Structure) -> NDArray[np.bool_]:
    """Atoms (N,) that are not hydrogen."""
    return structure.atomic_number != 1


def box_around(coordinates: ArrayLike, pixel_size_angst: float, pad_angst: float) -> tuple[tuple[int, int, int], NDArray[np.float64]]:
    """Smallest grid with even sides that holds points (N, 3) with a margin on each side, centred on them.

    Returns
    -------
    shape : (z, y, x)
    origin_angst : (3,) x, y, z of voxel [0, 0, 0]
    """
    points = np.asarray(coordinates, np.float64)
    low, high = points.min(0), points.max(0)
    sides = np.ceil((high - low + 2 * pad_angst) / pixel_size_angst).astype(int)
    sides += sides % 2
    origin = (low + high) / 2 - sides * pixel_size_angst / 2
    return (int(sides[2]), int(sides[1]), int(sides[0])), origin


def atom_voxels(coordinates: NDArray[np.float64], shape: tuple[int, int, int], pixel_size_angst: float, origin_angst: ArrayLike) -> NDArray[np.bool_]:
    """Voxels (z, y, x) that hold one of the points (N, 3); points outside the grid count for the voxel at its edge."""
    found = np.zeros(shape, bool)
    at = np.rint((coordinates - np.asarray(origin_angst)) / pixel_size_angst).astype(int).clip(0, np.array(shape[::-1]) - 1)
    found[at[:, 2], at[:, 1], at[:, 0]] = True
    return found


def atom_distance(coordinates: NDArray[np.float64], shape: tuple[int, int, int], pixel_size_angst: float, origin_angst: ArrayLike) -> NDArray[np.float32]:
    """Distance (z, y, x) in Å to the nearest of the points (N, 3), to half a voxel."""
    away = ~atom_voxels(coordinates, shape, pixel_size_angst, origin_angst)
    return np.asarray(ndimage.distance_transform_edt(away) * pixel_size_angst, np.float32)


def model_map(
    structure: Structure, shape: tuple[int, int, int], pixel_size_angst: float, origin_angst: ArrayLike, resolution_angst: float = 0.0,
    scattering: str = "electron",
) -> NDArray[np.float32]:
    """Density of a model, cut sharply at a resolution.

    Atoms are sums of Gaussians (International Tables C 4.3.2.2 for electrons, IT92 for X-rays) widened by their B factors; they are drawn
    with gemmi's extra blur, which is taken off in Fourier space, so that sharp atoms do not alias.

    Parameters
    ----------
    structure
        All of its atoms are drawn; take waters or hydrogens off before.
    shape
        (z, y, x) of the grid, which is periodic.
    pixel_size_angst
        Voxel size in Å.
    origin_angst
        (3,) x, y, z in Å of the first voxel.
    resolution_angst
        Finest resolution kept, as a sphere in Fourier space; 0 takes two voxels.
    scattering
        'electron' or 'xray'.

    Returns
    -------
    (z, y, x) float32
        Zero mean is not imposed.
    """
    resolution = max(resolution_angst, 2 * pixel_size_angst)
    model = _placed(structure, origin_angst)
    calculator = _CALCULATORS[scattering]()
    calculator.d_min = resolution
    calculator.grid.unit_cell = _cell(shape, pixel_size_angst)
    calculator.grid.spacegroup = gemmi.SpaceGroup("P1")
    calculator.set_refmac_compatible_blur(model)
    calculator.grid.set_size(*shape[::-1])
    calculator.add_model_density_to_grid(model)
    transform = fft.rfftn(np.ascontiguousarray(np.asarray(calculator.grid.array).T, np.float32))
    squared = _squared_frequency(shape, pixel_size_angst)
    transform *= np.exp(np.minimum(calculator.blur * squared / 4, 50.0))
    transform[squared > 1 / resolution**2] = 0
    return np.asarray(fft.irfftn(transform, s=shape), np.float32)


def _squared_frequency(shape: tuple[int, int, int], pixel_size_angst: float) -> NDArray[np.float32]:
    """1 / d^2 on the half grid of a transform."""
    z, y = (np.fft.fftfreq(side, pixel_size_angst).astype(np.float32) ** 2 for side in shape[:2])
    x = np.fft.rfftfreq(shape[2], pixel_size_angst).astype(np.float32) ** 2
    return z[:, None, None] + y[:, None] + x


def _cell(shape: tuple[int, ...], pixel_size_angst: float) -> gemmi.UnitCell:
    z, y, x = (side * pixel_size_angst for side in shape)
    return gemmi.UnitCell(x, y, z, 90, 90, 90)


def _placed(structure: Structure, origin_angst: ArrayLike) -> gemmi.Model:
    return gemmi_model(structure.with_coordinates(structure.coordinates - np.asarray(origin_angst, np.float64)))


def _empty_grid(volume: Map) -> gemmi.FloatGrid:
    grid = gemmi.FloatGrid(*volume.data.shape[::-1])
    grid.set_unit_cell(_cell(volume.data.shape, volume.pixel_size_angst))
    grid.spacegroup = gemmi.SpaceGroup("P1")
    return grid


def mask_around(structure: Structure, volume: Map, radius_angst: float) -> NDArray[np.float32]:
    """1 at voxels (z, y, x) of the map's grid within ``radius_angst`` of an atom, 0 elsewhere."""
    grid = _empty_grid(volume)
    grid.mask_points_in_constant_radius(_placed(structure, volume.origin_angst), radius_angst, 1.0)
    return np.ascontiguousarray(np.asarray(grid.array).T)


def molecule_mask(structure: Structure, volume: Map) -> NDArray[np.bool_]:
    """Voxels (z, y, x) inside the molecule: its van der Waals volume and what no solvent sphere reaches (radii and steps of cctbx)."""
    grid = _empty_grid(volume)
    masker = gemmi.SolventMasker(gemmi.AtomicRadiiSet.Cctbx)
    masker.put_mask_on_float_grid(grid, _placed(structure, volume.origin_angst))
    return np.ascontiguousarray(np.asarray(grid.array).T) < 0.5
