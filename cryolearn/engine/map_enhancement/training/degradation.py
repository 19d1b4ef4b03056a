"""From what a molecule is to what its map shows: two ways of degrading density.

*Paper*: dilation by a ball, Gaussian blur, white noise (Mullick et al.). *Physics*: what makes a cryo-EM map worse than its molecule. Atoms move
(a spread of B factors over atoms and domains), carboxylates fade under the beam, two half maps carry independent noise whose colour gives them
a logistic FSC that crosses 0.143 at the map's resolution, the map is weighted by that FSC and sharpened more or less well, solvent and detergent
are not empty, and whoever deposits it may have masked it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from ...imaging.map_shells import Shells, cosine_edge, logistic_fsc
from ...io.structures import Structure

__all__ = ["PaperDegradation", "PhysicsDraw", "cryo_map", "degrade_paper", "dilate", "draw_physics", "input_b_factors", "target_b_factors", "water_contrast"]

Array = NDArray[np.float32]
V = TypeVar("V", np.float32, np.bool_)
TARGET_CONTRAST, TARGET_CONTRAST_B = 0.7, 150.0  # of the density to be learned, Å^2
_FSC_FLOOR = 0.01  # the noise of a shell is at most 99 times its signal


@dataclass(frozen=True)
class PaperDegradation:
    """Radius of the ball in voxels, standard deviation of the blur in Å, and of the noise over that of the blurred density."""

    ball_radius_px: int = 2
    blur_angst: float = 1.2
    noise_sd: float = 0.1


def degrade_paper(density: Array, voxel_angst: float, settings: PaperDegradation, random: np.random.Generator) -> Array:
    """Degrade density (z, y, x) in the paper's way."""
    dilated = dilate(density, settings.ball_radius_px)
    blurred = ndimage.gaussian_filter(dilated, settings.blur_angst / voxel_angst, mode="nearest")
    noise = random.standard_normal(density.shape, dtype=np.float32)
    return np.asarray(blurred + settings.noise_sd * blurred.std() * noise, np.float32)


def dilate(values: NDArray[V], radius_px: float) -> NDArray[V]:
    """Largest value (z, y, x) within a ball: maxima along x for each length of the ball's rows, then the maximum of the rows."""
    whole = int(radius_px)
    z, y, x = values.shape
    padded = np.pad(values, whole, mode="edge")
    rows = [padded[..., whole : whole + x]]
    for reach in range(1, whole + 1):
        both = np.maximum(padded[..., whole - reach : whole - reach + x], padded[..., whole + reach : whole + reach + x])
        rows.append(np.maximum(rows[-1], both, out=both))
    result = np.array(rows[whole][whole : whole + z, whole : whole + y])
    for dz in range(-whole, whole + 1):
        for dy in range(-whole, whole + 1):
            room = radius_px * radius_px - dz * dz - dy * dy
            if room >= 0 and (dz or dy):
                row = rows[int(math.sqrt(room))]
                np.maximum(result, row[whole + dz : whole + dz + z, whole + dy : whole + dy + y], out=result)
    return result


# ---------------------------------------------------------------- physics

@dataclass(frozen=True)
class PhysicsDraw:
    """What is drawn for one map.

    Attributes
    ----------
    resolution_angst : where the half maps' FSC crosses 0.143
    fall_off : width of the logistic FSC in 1/Å
    sharpening : B factor in Å^2 applied to the whole map, negative when it is sharpened
    contrast, contrast_b : the molecule stands in water and not in a vacuum: what is coarse is weaker by 1 - contrast exp(-contrast_b s^2 / 4)
    domain_b, atom_b : largest extra B factor of a domain, and spread between residues, in Å^2
    fade : part of the density that carboxylates lose
    half : the map is one half map
    weighted, cut, masked : the FSC's weight, a low-pass at the resolution, and a mask were applied
    solvent, micelle : density around the molecule as a part of the density's spread inside it
    mask_angst : distance from the atoms where the mask begins
    """

    resolution_angst: float
    fall_off: float
    sharpening: float
    contrast: float
    contrast_b: float
    domain_b: float
    atom_b: float
    fade: float
    half: bool
    weighted: bool
    cut: bool
    masked: bool
    solvent: float
    micelle: float
    mask_angst: float


def draw_physics(random: np.random.Generator, finest_angst: float, coarsest_angst: float) -> PhysicsDraw:
    """Draw the properties of a map; resolutions are uniform in 1 / d, so that fine ones, which are harder, are more frequent."""
    return PhysicsDraw(
        resolution_angst=1 / random.uniform(1 / coarsest_angst, 1 / finest_angst), fall_off=random.uniform(0.012, 0.035),
        sharpening=random.uniform(-120, 100), contrast=random.uniform(0, 0.95), contrast_b=random.uniform(60, 300),
        domain_b=random.uniform(0, 100), atom_b=random.uniform(0, 20), fade=random.uniform(0, 0.8),
        half=random.random() < 0.3, weighted=random.random() < 0.7, cut=random.random() < 0.8, masked=random.random() < 0.3,
        solvent=random.uniform(0, 0.25), micelle=random.uniform(0.2, 0.8) if random.random() < 0.15 else 0.0, mask_angst=random.uniform(3, 8),
    )


def water_contrast(frequency_inv_angst: Array, part: float = TARGET_CONTRAST, b_factor: float = TARGET_CONTRAST_B) -> Array:
    """Factor by which density is weaker for standing in a medium and not in a vacuum, by Babinet's principle (Moews & Kretsinger 1975)."""
    return np.asarray(1 - part * np.exp(-b_factor * frequency_inv_angst**2 / 4), np.float32)


def target_b_factors(structure: Structure) -> NDArray[np.float64]:
    """B factors (N,) in Å^2 of the density to be learned: half the model's own above their 10th percentile, so that disorder stays weaker."""
    b = structure.b_factor
    return np.clip(10 + 0.5 * (b - np.percentile(b, 10)), 5, 80)


def input_b_factors(structure: Structure, draw: PhysicsDraw, random: np.random.Generator) -> NDArray[np.float64]:
    """B factors (N,) of the atoms that are seen: the target's, more on one side of the molecule, and residue by residue."""
    places = structure.coordinates - structure.coordinates.mean(0)
    direction = random.standard_normal(3)
    along = places @ (direction / np.linalg.norm(direction))
    away = 1 / (1 + np.exp(-(along - random.uniform(-15, 15)) / random.uniform(4, 12)))
    _, residue = np.unique(structure.residue_number, return_inverse=True)
    single = np.abs(random.standard_normal(residue.max() + 1))[residue]
    return target_b_factors(structure) + draw.domain_b * away + draw.atom_b * single


def fade_carboxylates(structure: Structure, fade: float) -> Structure:
    """The structure with less of the oxygens of aspartates and glutamates, which radiation takes off first."""
    acid = np.isin(structure.residue_name, ("ASP", "GLU")) & np.isin(structure.atom_name, ("OD1", "OD2", "OE1", "OE2"))
    faded = structure.subset(slice(None))
    faded.occupancy = np.where(acid, structure.occupancy * (1 - fade), structure.occupancy)
    return faded


def cryo_map(signal: Array, distance_angst: Array, voxel_angst: float, draw: PhysicsDraw, random: np.random.Generator) -> Array:
    """Map (z, y, x) of a molecule's density as an experiment would give it; the solvent is at 0 on average.

    Parameters
    ----------
    signal : (z, y, x)
        Density of the moving atoms on the grid, a periodic box.
    distance_angst : (z, y, x)
        Distance in Å from the nearest atom, 0 inside the molecule.
    voxel_angst
        Voxel size in Å.
    draw
        Resolution, sharpening, solvent and other properties of the map.
    random
        Generator of the noise and of the solvent.
    """
    shells = Shells(signal.shape, (voxel_angst,) * 3)
    inside = distance_angst < 2.5
    spread = float(np.sqrt(np.square(signal[inside]).mean())) if inside.any() else 1.0
    present = signal + spread * _surroundings(signal.shape, distance_angst, voxel_angst, draw, random)
    transform = fft.rfftn(present)
    molecule = fft.rfftn(signal)
    fsc = np.clip(logistic_fsc(shells.frequency, draw.resolution_angst, draw.fall_off), _FSC_FLOOR, 1 - _FSC_FLOOR)
    # noise of one half map in units of the molecule's own power, so that its FSC is the curve
    deviation = np.sqrt(shells.mean(np.abs(molecule) ** 2) * (1 - fsc) / fsc)
    white = [fft.rfftn(random.standard_normal(signal.shape, dtype=np.float32)) / math.sqrt(signal.size) for _ in range(1 if draw.half else 2)]
    noise = shells.spread(deviation) * (white[0] if draw.half else (white[0] + white[1]) / 2)
    radius = shells.radius * np.float32(shells.frequency[1])
    weight = np.exp(np.clip(-draw.sharpening * radius**2 / 4, -20, 20)) * water_contrast(radius, draw.contrast, draw.contrast_b)
    if draw.weighted:
        weight = weight * shells.spread(np.sqrt(2 * fsc / (1 + fsc)))
    if draw.cut:
        weight = weight * cosine_edge(radius, draw.resolution_angst)
    found = np.asarray(fft.irfftn((transform + noise) * weight, s=signal.shape), np.float32)
    if draw.masked:
        found *= 0.5 + 0.5 * np.cos(np.pi * np.clip((distance_angst - draw.mask_angst) / 4, 0, 1))
    return found


def _surroundings(shape: tuple[int, ...], distance_angst: Array, voxel_angst: float, draw: PhysicsDraw, random: np.random.Generator) -> Array:
    """Lumps of solvent, and a slab of detergent or lipid, outside the molecule; in units of the density's spread inside."""
    outside = np.clip((distance_angst - 2.0) / 3.0, 0, 1)
    lumps = ndimage.gaussian_filter(random.standard_normal(shape, dtype=np.float32), random.uniform(1.5, 5) / voxel_angst, mode="wrap")
    found = draw.solvent * lumps / max(float(lumps.std()), 1e-12)
    if draw.micelle:
        normal = random.standard_normal(3)
        grid = np.meshgrid(*((np.arange(side) - side // 2) * voxel_angst for side in shape), indexing="ij", sparse=True)
        height = sum(axis * part for axis, part in zip(grid, normal / np.linalg.norm(normal))) - random.uniform(-15, 15)
        found = found + draw.micelle / (1 + np.exp(np.clip((np.abs(height) - 15) / 2, -30, 30))) * np.clip(1 - distance_angst / 30, 0, 1)
    return np.asarray(found * outside, np.float32)
