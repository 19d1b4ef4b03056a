"""What the Gaussian method is given: particles, map, Gaussians and focus, checked before any work."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...common.checks import check_components, check_gaussian_numbers, check_map_of_particles, check_resolutions, check_tilt_heterogeneity
from ...common.limits import DEFAULT_RESOLUTION_PX, SPACING_FOR_MOTION
from ..alignment.reference_check import Expected, check_images
from ..alignment.reference_fit import ReferenceMap
from ..exceptions import InputError
from ..imaging.defocus_hand import with_defocus_hand
from ..imaging.density_maps import read_density
from ..imaging.first_images import ImageUse, negative_map, warn
from ..imaging.fourier import low_pass
from ..imaging.half_set_maps import split_halves
from ..imaging.masks import mask_from_map
from ..imaging.poses import euler_to_matrix
from ..imaging.symmetry import symmetry_matrices
from ..imaging.volume_gaussians import fit_gaussians
from ..io.maps import Map, read_mask
from ..io.star import ParticleTable, read_particles
from ..io.tables import read_table
from .config import GaussianHeterogeneityConfig
from .model.fourier_particles import ImageConventions
from .model.projection import Gaussians

__all__ = ["Inputs", "make_gaussians", "read_inputs", "select_gaussians"]

_LARGEST = 1e9  # Å, or electrons of a Gaussian
_LEAST_VIEW_SPREAD_DEG = 1.0
_MASK_PART_OF_PEAK = 0.1


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """Validated inputs of Gaussian heterogeneity.

    Attributes
    ----------
    table : particles with poses
    source : consensus map, and its ``volume`` (box, box, box) inside the ``mask`` (box, box, box)
    resolutions_angst : of the rounds
    half : (n,) half set 1 or 2
    conventions : how the images show the density
    """

    table: ParticleTable
    source: Map
    volume: Tensor
    mask: Tensor
    resolutions_angst: list[float]
    half: NDArray[np.int64]
    conventions: ImageConventions

    @property
    def radius_angst(self) -> float:
        """Radius of the sphere around the centre that holds the mask."""
        return float(_squared_radius(self.mask).sqrt()[self.mask > 0.5].max()) * self.table.pixel_size_angst


def _squared_radius(volume: Tensor) -> Tensor:
    """Squared distance of each voxel of a cube from its centre, px^2."""
    axis = torch.arange(len(volume), device=volume.device) - len(volume) // 2
    return axis[:, None, None] ** 2 + axis[None, :, None] ** 2 + axis[None, None] ** 2


def read_inputs(config: GaussianHeterogeneityConfig, device: torch.device) -> Inputs:
    """Read and check what ``config`` names.

    Raises
    ------
    InputError
        in one sentence, for whatever cannot be used.
    """
    table = with_defocus_hand(read_particles(config.particles, datadir=config.datadir, tilt_series=True))
    if not len(table):
        raise InputError(f"The particle set '{config.particles}' is empty: give at least one particle.")
    if table.angles_deg is None:
        raise InputError(f"The particles in '{config.particles}' have no poses (rlnAngleRot, rlnAngleTilt, rlnAnglePsi): align them first.")
    if table.ctf is None and not config.ignore_ctf:
        raise InputError(f"The particles in '{config.particles}' have no CTF (rlnDefocusU): estimate it, or choose to ignore the CTF.")
    if table.tilts is not None:
        check_tilt_heterogeneity(config.method, config.refine_poses, config.symmetry)
    check_components(config.components, len(table.particles()[0]))
    _check_views(config, table)
    symmetry_matrices(config.symmetry)
    source = read_density(config.volume)
    check_map_of_particles(f"map '{config.volume}'", source.data.shape[::-1], source.pixel_size_angst, table.box, table.pixel_size_angst)
    if config.focus and config.focus_gaussians:
        raise InputError("Give either a focus mask or numbers of Gaussians, not both.")
    resolutions = list(config.resolutions_angst) or [DEFAULT_RESOLUTION_PX * table.pixel_size_angst]
    check_resolutions(resolutions, table.pixel_size_angst)
    volume = torch.from_numpy(np.ascontiguousarray(source.data)).to(device)
    negative = negative_map(volume, f"map '{config.volume}'")
    warn(table, negative)
    mask = _mask(config, volume, table.pixel_size_angst, max(resolutions))
    reference = None if negative else ReferenceMap(volume * mask, table.pixel_size_angst)
    use = ImageUse(invert_contrast=config.invert_contrast, ignore_ctf=config.ignore_ctf, phase_flipped=config.phase_flipped)
    check_images(table, Expected(reference=reference, name="map", posed=True, resolution_angst=min(resolutions)), use)
    conventions = ImageConventions(ignore_ctf=config.ignore_ctf, phase_flipped=config.phase_flipped, invert_contrast=config.invert_contrast)
    return Inputs(
        table=table, source=source, volume=volume * mask, mask=mask, resolutions_angst=resolutions, half=split_halves(table, np.arange(len(table))),
        conventions=conventions)


def _check_views(config: GaussianHeterogeneityConfig, table: ParticleTable) -> None:
    assert table.angles_deg is not None
    views = euler_to_matrix(torch.from_numpy(table.angles_deg))[:, 2]
    # views and their opposites see the same
    axis = torch.linalg.eigh(views.T @ views / len(views)).eigenvectors[:, -1]
    away = torch.rad2deg(torch.acos((views @ axis).abs().clamp(max=1)))
    if float(away.max()) < _LEAST_VIEW_SPREAD_DEG:
        raise InputError(f"All particles in '{config.particles}' have the same viewing direction: motion needs to be seen from several sides; check the poses.")


def _mask(config: GaussianHeterogeneityConfig, volume: Tensor, pixel: float, resolution: float) -> Tensor:
    if config.mask:
        return _read_mask(config.mask, volume, pixel).clamp(0, 1)
    smooth = low_pass(volume, max(resolution, 3 * pixel), pixel, dims=3)
    # moving parts are weak in a consensus map, so the threshold is low; outside the sphere of the box there is no particle
    inside = _squared_radius(volume) < (0.48 * len(volume)) ** 2
    peak = float(smooth[inside].max())
    if not peak > 0:
        raise InputError(f"The map '{config.volume}' has no positive density: turn its contrast.")
    noise = float(smooth[~inside].std()) if bool((~inside).any()) else 0.0
    level = max(_MASK_PART_OF_PEAK * peak, 4 * noise)
    return mask_from_map(torch.where(inside, smooth, smooth.new_tensor(-1.0)), level, dilate_px=resolution / pixel / 4, soft_px=resolution / pixel / 4)


def _read_mask(path: str, volume: Tensor, pixel: float) -> Tensor:
    return torch.from_numpy(read_mask(path, volume.shape, pixel, "consensus map")).to(volume)


def make_gaussians(config: GaussianHeterogeneityConfig, inputs: Inputs, resolution_angst: float, last: bool, device: torch.device) -> Gaussians:
    """Gaussians of the consensus map for a round; those given are taken in the last one.

    Raises
    ------
    InputError
        when the Gaussians given are not those of this map, or the map cannot hold the number asked for.
    """
    table = inputs.table
    pixel, box = table.pixel_size_angst, table.box
    if config.gaussians and last:
        columns, meta = read_table(config.gaussians)
        missing = [name for name in ("position_angst", "weight", "sigma_angst") if name not in columns]
        if missing:
            raise InputError(f"'{config.gaussians}' holds no Gaussians: it has no column '{missing[0]}'.")
        corner = np.asarray(meta.get("origin_angst", inputs.source.origin_angst), float)
        places = np.asarray(columns["position_angst"], float) - corner - box // 2 * pixel
        weights, widths = (np.asarray(columns[name], float) for name in ("weight", "sigma_angst"))
        if not len(places):
            raise InputError(f"'{config.gaussians}' holds no Gaussians: it has no rows.")
        fine = (np.abs(places) < _LARGEST).all(1) & (np.abs(weights) < _LARGEST) & (widths > 0) & (widths < _LARGEST)
        if not fine.all() or not weights.any():
            number = int(columns["id"][np.argmin(fine)])
            raise InputError(f"Gaussian {number} of '{config.gaussians}' has a position, weight or width that is none: they are finite, widths are "
                             "positive, and not all weights are 0.")
        if np.abs(places).max() > box * pixel:
            raise InputError(f"The Gaussians '{config.gaussians}' lie outside the map '{config.volume}': give those made of this map.")
    else:
        # as the resolution doubles, so does what the Gaussians must hold: eight times the number would, half of it does for motion
        number = config.number if last else 0
        model = fit_gaussians(inputs.volume, pixel, resolution_angst, number, seed=config.seed, spacing=SPACING_FOR_MOTION)
        places = model.positions_angst.double().cpu().numpy() - box // 2 * pixel
        weights, widths = model.weights.cpu().numpy(), model.sigma_angst.cpu().numpy()

    def tensor(values: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.float32, device=device)

    return Gaussians(tensor(places), tensor(weights) / pixel**2, tensor(widths))


def select_gaussians(config: GaussianHeterogeneityConfig, inputs: Inputs, model: Gaussians) -> Tensor:
    """(M,) bool, the Gaussians that may move.

    Raises
    ------
    InputError
        when the focus holds none of them.
    """
    count = len(model)
    if config.focus_gaussians:
        numbers = sorted(set(config.focus_gaussians))
        check_gaussian_numbers(numbers, count)
        chosen = torch.zeros(count, dtype=torch.bool, device=model.amplitudes.device)
        chosen[torch.tensor(numbers) - 1] = True
        return chosen
    if not config.focus:
        return torch.ones(count, dtype=torch.bool, device=model.amplitudes.device)
    box, pixel = inputs.table.box, inputs.table.pixel_size_angst
    focus = _read_mask(config.focus, inputs.volume, pixel)
    voxel = (model.positions_angst / pixel).round().long() + box // 2
    inside = ((voxel >= 0) & (voxel < box)).all(1)
    x, y, z = voxel.clamp(0, box - 1).unbind(1)
    chosen = inside & (focus[z, y, x] > 0.5)
    if not bool(chosen.any()):
        raise InputError(f"The focus '{config.focus}' holds no Gaussian of the map: choose a region that overlaps the particle.")
    return chosen
