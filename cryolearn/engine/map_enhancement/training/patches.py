"""Patches to learn from: drawn anew in every step, inside molecules, reproducible from the seed and the block's number."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage
from scipy.spatial.transform import Rotation

from ...exceptions import InputError
from ...imaging.map_shells import cosine_edge, frequency
from ...imaging.model_map import atom_distance, atom_voxels, model_map
from ...io.side_chains import EMRINGER_RESIDUES
from ...io.structures import Structure
from ...training.plan import block_generator
from ..networks.cube_rotations import ROTATIONS, turn_array
from .degradation import PaperDegradation, cryo_map, degrade_paper, dilate, draw_physics, fade_carboxylates, input_b_factors, target_b_factors, water_contrast

__all__ = ["AtomSource", "DensitySource", "Patch", "PatchBatch", "PatchSampler", "Setting", "Source", "target_resolution", "unit_range"]

Array = NDArray[np.float32]
FINEST_TARGET_ANGST, TARGET_RATIO, VOXELS_OF_TARGET = 1.8, 0.7, 2.1
_PAD_PX = 8  # around a patch: what the periodic box brings in from its other side is cut away
_EMPTY = 0.04  # of the patches: noise without a molecule, of which nothing is to be made
_CUT = (slice(_PAD_PX, -_PAD_PX),) * 3
_INSIDE_ANGST = 2.5
_SIDE_CHAIN_ANGST = 1.5
_BACKBONE = ("N", "CA", "C", "O", "OXT", "CB")
_WITH_SIDE_CHAIN = (*EMRINGER_RESIDUES, "ILE", "THR", "VAL")
_XRAY_ANGST = (1.5, 2.4)  # resolutions of the X-ray density of models
_RIPPLES, _LUMPS, _LEVEL_ERROR = 0.5, 0.25, 0.15  # largest ones of X-ray density, over the spread of the density in the molecule


def target_resolution(resolution_angst: float, voxel_angst: float) -> float:
    """Resolution that is aimed at, bounded by the input's, by 1.8 Å and by the voxels."""
    return max(FINEST_TARGET_ANGST, TARGET_RATIO * resolution_angst, VOXELS_OF_TARGET * voxel_angst)


def unit_range(values: Array) -> Array:
    """Density above the solvent's, which is 0, brought to 0 ... 1 as the preset 'paper' takes it, 1 at the highest voxels."""
    return np.asarray(np.clip(values / max(float(np.percentile(values, 99.95)), 1e-12), 0, 1), np.float32)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What patches are like: side and voxel, way of degradation, range of resolutions, whether densities run from 0 to 1, weight of side chains' voxels."""

    patch_px: int
    voxel_angst: float
    degradation: str
    finest_angst: float
    coarsest_angst: float
    paper: PaperDegradation
    unit: bool = False
    side_chain_weight: float = 1.0

    @property
    def box_px(self) -> int:
        """Side of the box that a patch is cut from: the patch with a border on either side."""
        return self.patch_px + 2 * _PAD_PX


@dataclass
class Patch:
    """Input, target and weight (z, y, x), and resolutions of both in Å."""

    seen: Array
    target: Array
    weight: Array
    resolution_angst: float
    target_angst: float


@dataclass
class PatchBatch:
    """Patches (b, 1, z, y, x), resolutions (b,) in voxels."""

    seen: torch.Tensor
    target: torch.Tensor
    weight: torch.Tensor
    resolution: torch.Tensor
    target_resolution: torch.Tensor


class Source(Protocol):
    """A molecule to cut patches from."""

    def draw(self, setting: Setting, random: np.random.Generator) -> Patch:
        """A patch at a random place."""


class AtomSource:
    """An atomic model, turned anew for each patch."""

    def __init__(self, structure: Structure) -> None:
        self._structure = structure

    def draw(self, setting: Setting, random: np.random.Generator) -> Patch:
        """Patch in a random orientation, with its input simulated as the setting says."""
        atoms, origin = self._place(setting, random)
        return _physics_patch(atoms, origin, setting, random) if setting.degradation == "physics" else _paper_patch(atoms, origin, setting, random)

    def _place(self, setting: Setting, random: np.random.Generator) -> tuple[Structure, NDArray[np.float64]]:
        """The atoms inside a box around one of them, after a turn, and the place of the box's first voxel."""
        turned = Rotation.random(random_state=int(random.integers(2**31))).apply(self._structure.coordinates)
        side = setting.box_px * setting.voxel_angst
        off = random.uniform(-0.25, 0.25, 3) * setting.patch_px * setting.voxel_angst
        origin = turned[random.integers(len(turned))] + off - side / 2
        inside = ((turned >= origin) & (turned < origin + side)).all(1)
        return self._structure.with_coordinates(turned).subset(inside), origin


class DensitySource:
    """Density on a grid: degraded in the paper's way, or in a pair with its own input.

    Parameters
    ----------
    target : (z, y, x) at the setting's voxel size
    seen : what the target is made of, when that is known
    places : (n, 3) voxels z, y, x inside the molecule
    resolution_angst : of the target
    """

    def __init__(self, target: Array, places: NDArray[np.int64], resolution_angst: float, seen: Array | None = None) -> None:
        self._target, self._places, self._resolution, self._seen = target, places, resolution_angst, seen
        self._scale = float(target[tuple(places.T)].std()) or 1.0

    def draw(self, setting: Setting, random: np.random.Generator) -> Patch:
        """Patch near a random place inside the molecule, in one of the orientations that keep the grid."""
        side = setting.box_px
        middle = self._places[random.integers(len(self._places))] + random.integers(-setting.patch_px // 4, setting.patch_px // 4 + 1, 3)
        turn = ROTATIONS[random.integers(len(ROTATIONS))]
        target = turn_array(_window(self._target, middle, side), turn)
        if self._seen is None:
            seen = degrade_paper(target, setting.voxel_angst, _patch_noise(setting, random), random)
        else:
            seen = turn_array(_window(self._seen, middle, side), turn)
        inside = ndimage.gaussian_filter(target, 2 / setting.voxel_angst) > 0.3 * self._scale
        return _finish(seen, target, inside=inside, resolution=self._resolution / TARGET_RATIO, aim=self._resolution, setting=setting, random=random)


def _window(density: Array, middle: NDArray[np.int64], side: int) -> Array:
    """A cube of the density around a voxel; what lies outside is 0."""
    found = np.zeros((side,) * 3, np.float32)
    first = np.asarray(middle) - side // 2
    there = tuple(slice(max(0, -low), min(side, total - low)) for low, total in zip(first, density.shape))
    here = tuple(slice(low + part.start, low + part.stop) for low, part in zip(first, there))
    if all(part.stop > part.start for part in there):
        found[there] = density[here]
    return found


def _patch_noise(setting: Setting, random: np.random.Generator) -> PaperDegradation:
    # noise is measured by the density of a whole map, of which a patch inside the molecule has more
    return replace(setting.paper, noise_sd=setting.paper.noise_sd * random.uniform(0.5, 1.0))


def _paper_patch(atoms: Structure, origin: NDArray[np.float64], setting: Setting, random: np.random.Generator) -> Patch:
    shape, voxel = (setting.box_px,) * 3, setting.voxel_angst
    resolution = max(random.uniform(*_XRAY_ANGST), VOXELS_OF_TARGET * voxel)
    target = model_map(atoms, shape, voxel, origin, resolution, "xray")
    inside = dilate(atom_voxels(atoms.coordinates, shape, voxel, origin), _INSIDE_ANGST / voxel)
    noise = _patch_noise(setting, random)
    if setting.unit:
        seen, level_error = degrade_paper(target, voxel, noise, random), 0.0
    else:
        target, surroundings = _in_a_crystal(target, inside, resolution, setting, random)
        seen, level_error = degrade_paper(target + surroundings, voxel, noise, random), _LEVEL_ERROR
        # a dilated background is not at 0 any more; inference finds its level, if not exactly
        seen = seen - np.median(seen[~inside]) if not inside.all() else seen
    return _finish(seen, target, inside=inside, resolution=resolution / TARGET_RATIO, aim=resolution, setting=setting, random=random, level_error=level_error)


def _in_a_crystal(density: Array, inside: NDArray[np.bool_], resolution: float, setting: Setting, random: np.random.Generator) -> tuple[Array, Array]:
    """A molecule's density as a crystal would show it, and what is measured beside it; half of the draws are a molecule in a vacuum.

    A network without normalisation answers nonsense to what it has not seen: a crystal's molecules stand in solvent nearly as dense as they are, errors of
    amplitudes and phases make ripples as large as density, and the solvent has lumps.
    """
    if random.random() < 0.5:
        return density, np.zeros_like(density)
    shape, voxel = density.shape, setting.voxel_angst
    radius = frequency(shape, (voxel,) * 3)
    contrast = water_contrast(radius, random.uniform(0, 0.95), random.uniform(60, 300))
    density = np.asarray(fft.irfftn(fft.rfftn(density) * contrast, s=shape), np.float32)
    spread = float(np.sqrt(np.square(density[inside]).mean())) if inside.any() else 1.0
    white = random.standard_normal(shape, dtype=np.float32)
    ripples = np.asarray(fft.irfftn(fft.rfftn(white) * cosine_edge(radius, resolution), s=shape), np.float32)
    lumps = ndimage.gaussian_filter(white, random.uniform(1.5, 5) / voxel, mode="wrap")
    sizes = random.uniform(0, _RIPPLES), random.uniform(0, _LUMPS)
    return density, np.asarray(sum(spread * size * part / max(float(part.std()), 1e-12) for size, part in zip(sizes, (ripples, lumps))), np.float32)


def _physics_patch(atoms: Structure, origin: NDArray[np.float64], setting: Setting, random: np.random.Generator) -> Patch:
    shape, voxel = (setting.box_px,) * 3, setting.voxel_angst
    drawn = draw_physics(random, setting.finest_angst, setting.coarsest_angst)
    aim = target_resolution(drawn.resolution_angst, voxel)
    distance = atom_distance(atoms.coordinates, shape, voxel, origin)
    bare = random.random() < _EMPTY
    still, moving = atoms.subset(slice(None)), fade_carboxylates(atoms, drawn.fade)
    moving.b_factor = input_b_factors(atoms, drawn, random)
    still.b_factor = target_b_factors(atoms)
    seen = cryo_map(model_map(moving, shape, voxel, origin), distance, voxel, drawn, random)
    if bare:  # the same noise without its molecule: the phases of the map are drawn anew
        target, distance = np.zeros(shape, np.float32), np.full(shape, 99, np.float32)
        seen = _other_phases(seen, random)
    else:
        radius = frequency(shape, (voxel,) * 3)
        transform = fft.rfftn(model_map(still, shape, voxel, origin)) * cosine_edge(radius, aim) * water_contrast(radius)
        target = np.asarray(fft.irfftn(transform, s=shape), np.float32)
    patch = _finish(seen, target, inside=distance < _INSIDE_ANGST, resolution=drawn.resolution_angst, aim=aim, setting=setting, random=random)
    if setting.side_chain_weight != 1 and not bare:
        side_chains = atoms.subset(~np.isin(atoms.atom_name, _BACKBONE) & np.isin(atoms.residue_name, _WITH_SIDE_CHAIN))
        near = dilate(atom_voxels(side_chains.coordinates, shape, voxel, origin), _SIDE_CHAIN_ANGST / voxel)[_CUT]
        patch.weight[near] = setting.side_chain_weight
    return patch


def _other_phases(density: Array, random: np.random.Generator) -> Array:
    noise = fft.rfftn(random.standard_normal(density.shape, dtype=np.float32))
    transform = np.abs(fft.rfftn(density - density.mean())) * noise / np.maximum(np.abs(noise), 1e-12)
    return np.asarray(fft.irfftn(transform, s=density.shape), np.float32)


def _finish(
    seen: Array, target: Array, inside: NDArray[np.bool_], resolution: float, aim: float, setting: Setting, random: np.random.Generator,
    level_error: float = 0.0,
) -> Patch:
    """Scale by the density inside the molecule, as inference does, and cut the pad away; ``level_error``: how far the solvent may be from 0 then."""
    if setting.unit:
        seen, target = unit_range(seen), unit_range(target)
    elif inside.any():
        # the scale that is estimated on a map of unknown content is not exact
        seen = seen / max(float(np.sqrt(np.square(seen[inside]).mean())), 1e-12) * random.uniform(0.75, 1.3)
        seen = seen + np.float32(random.uniform(-level_error, level_error)) if level_error else seen
        target = target / max(float(np.sqrt(np.square(target[inside]).mean())), 1e-12)
    else:
        seen = seen / max(float(seen.std()), 1e-12) * random.uniform(0.3, 1.3)
    weight = np.where(inside, 1.0, 0.3).astype(np.float32)
    seen, target, weight = (np.ascontiguousarray(part[_CUT], np.float32) for part in (seen, target, weight))
    return Patch(seen, target, weight, resolution * random.uniform(0.95, 1.05), aim)


class PatchSampler:
    """Draws blocks of patches; blocks of validation have negative numbers and come from other models.

    Parameters
    ----------
    threads : that draw ahead (:meth:`look_ahead`), while the network learns from what was drawn before

    Raises
    ------
    InputError
        when one of the sides has no molecule.
    """

    def __init__(
        self, training: list[Source], validation: list[Source], setting: Setting, seed: int, device: torch.device, threads: int = 1,
    ) -> None:
        if not training or not validation:
            raise InputError("There is nothing to learn from, or nothing to validate with: give at least two different models or maps.")
        self._training, self._validation, self.setting, self._seed, self._device = training, validation, setting, seed, device
        self._pool = ThreadPoolExecutor(threads)
        self._waiting: dict[tuple[int, int], Future[list[Patch]]] = {}

    def look_ahead(self, blocks: list[tuple[int, int]]) -> None:
        """Begin to draw what :meth:`draw` will be asked for; what it is depends on the block's number alone, so nothing changes but the time."""
        for block in blocks:
            if block not in self._waiting:
                self._waiting[block] = self._pool.submit(self.patches, *block)

    def draw(self, blocks: list[tuple[int, int]]) -> PatchBatch:
        """Patches of blocks given as (number, patches in it)."""
        drawn = [self._waiting.pop(block).result() if block in self._waiting else self.patches(*block) for block in blocks]
        patches = [patch for block in drawn for patch in block]
        volumes = [torch.from_numpy(np.stack([getattr(patch, name) for patch in patches]))[:, None].to(self._device) for name in ("seen", "target", "weight")]
        voxel = self.setting.voxel_angst
        told = [torch.tensor([getattr(patch, name) / voxel for patch in patches], dtype=torch.float32, device=self._device)
                for name in ("resolution_angst", "target_angst")]
        return PatchBatch(*volumes, *told)

    def patches(self, number: int, count: int) -> list[Patch]:
        """Patches of one block, with random numbers of its own; blocks of negative number are of the validation set."""
        generator = block_generator(self._seed, number)
        random = np.random.default_rng(torch.randint(2**62, (2,), generator=generator).tolist())
        sources = self._training if number >= 0 else self._validation
        return [sources[random.integers(len(sources))].draw(self.setting, random) for _ in range(count)]
