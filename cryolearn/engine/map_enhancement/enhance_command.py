"""Command ``map-enhance``: a network's view of a map, held to the data, with what it is worth."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import fft, ndimage

from ...common.fsc import HALF_MAP_THRESHOLD, resolution_of_curve
from ..config import check_config, digest_config, digest_values, require
from ..device import select_device
from ..digests import digest_input
from ..exceptions import InputError
from ..imaging.map_resampling import plan_grid
from ..imaging.map_shells import Shells, cosine_edge, frequency, half_fsc, logistic_fsc
from ..io.map_grid import MapGrid, read_map_grid, same_grid
from ..io.records import RunRecord
from .config import MapEnhanceConfig
from .inference.data_consistency import hold_to_data, local_correlation, signal_share
from .inference.enhanced_map import EnhancedMap, Setting
from .inference.solvent import measure_solvent, noise_spread
from .inference.tiling import Inference, apply_network
from .networks.by_name import TrainedMapNetwork
from .report.confidence_map import confidence_map
from .report.enhancement_report import write_results
from .training.patches import FINEST_TARGET_ANGST, TARGET_RATIO, target_resolution, unit_range

__all__ = ["enhance_map", "run"]

Array = NDArray[np.float32]
_TOLERANCE = 0.9  # of the range of resolutions that a network was trained on
_FALL_OFF = 0.025  # 1/Å of the FSC that stands in for that of half maps
_MASK_SOFT_ANGST = 5.0
_SMALLEST_PX = 8


@dataclass
class _Inputs:
    grid: MapGrid
    halves: list[MapGrid] = field(default_factory=list)


def run(config: MapEnhanceConfig) -> None:
    """Enhance; a killed run goes on after the last tile that it finished."""
    check_config(config)
    inputs = _read(config)
    device = select_device(config)
    model = TrainedMapNetwork.load(config.model, device)
    setting = _prepare(config, inputs, model)
    print(
        f"map of {setting.resolution_angst:.2f} Å on {'x'.join(map(str, inputs.grid.data.shape[::-1]))} voxels; the network works on "
        f"{'x'.join(map(str, setting.plan.sides[::-1]))} voxels of {model.voxel_angst:g} Å and aims at {setting.target_angst:.2f} Å", flush=True,
    )
    record = RunRecord(config.output, "tiles", digest_config(config))
    found = enhance_map(config, inputs.grid, setting, model, device, record=record, what="map")
    halves = [enhance_map(config, half, setting, model, device, record=record, what=f"half map {number}")
              for number, half in enumerate(inputs.halves, 1)]
    local = _local_correlation(config, setting, found)
    confidence = _confidence(inputs.grid, setting, halves)
    write_results(config, inputs.grid, setting=setting, model=model, found=found, halves=halves, local=local, confidence=confidence)
    record.remove()


def _read(config: MapEnhanceConfig) -> _Inputs:
    require(config, "volume")
    if bool(config.half1) != bool(config.half2):
        raise InputError("One half map alone tells nothing: give both, or none.")
    if not config.half1 and not config.resolution_angst:
        raise InputError("Parameter resolution_angst is needed without half maps: give the resolution of the map, in Å.")
    inputs = _Inputs(read_map_grid(config.volume))
    if min(inputs.grid.data.shape) < _SMALLEST_PX:
        raise InputError(f"The map '{config.volume}' has {min(inputs.grid.data.shape)} voxels along one axis: it is no map of a molecule.")
    for path in (config.half1, config.half2):
        if path:
            half = read_map_grid(path)
            if not same_grid(half, inputs.grid):
                raise InputError(f"The half map '{path}' is not on the grid of the map '{config.volume}': sides or voxel sizes differ.")
            inputs.halves.append(half)
    return inputs


def _prepare(config: MapEnhanceConfig, inputs: _Inputs, model: TrainedMapNetwork) -> Setting:
    grid = inputs.grid
    solvent = measure_solvent(grid.data, grid.voxel_angst, f"The map '{config.volume}'")
    if not solvent.found:
        print("Warning: nothing in the map stands out of the solvent; is there a molecule in it?", flush=True)
    plan = plan_grid(grid.data.shape, grid.voxel_angst, model.voxel_angst)
    shells = Shells(plan.sides, plan.voxel_angst)
    mask = plan.forward(_soft(solvent.inside, grid.voxel_angst), 0.0)
    raw = None
    if inputs.halves:
        first, second = (plan.forward(half.data, _level(half, path)) for half, path in zip(inputs.halves, (config.half1, config.half2)))
        raw = half_fsc(shells, first - first.mean(), second - second.mean(), mask)
    resolution = config.resolution_angst or _resolution(shells, raw)
    aim = _target(config, resolution, model)
    curve = np.asarray(logistic_fsc(shells.frequency, resolution, _FALL_OFF), np.float64) if raw is None else raw
    seen = plan.forward((grid.data - np.float32(solvent.level)) / np.float32(config.scale or solvent.scale), 0.0)
    power = shells.mean(np.abs(fft.rfftn(seen)) ** 2)
    return Setting(plan=plan, shells=shells, solvent=solvent, mask=mask, resolution_angst=resolution, target_angst=aim, share=signal_share(curve), power=power)


def _level(grid: MapGrid, path: str) -> float:
    return measure_solvent(grid.data, grid.voxel_angst, f"The half map '{path}'").level


def _soft(inside: NDArray[np.bool_], voxel_angst: tuple[float, float, float]) -> Array:
    distance = ndimage.distance_transform_edt(~inside, sampling=voxel_angst)
    return np.asarray(0.5 + 0.5 * np.cos(np.pi * np.clip(distance / _MASK_SOFT_ANGST, 0, 1)), np.float32)


def _resolution(shells: Shells, curve: NDArray[np.float64] | None) -> float:
    """Where the half maps' FSC first falls below 0.143, by linear interpolation; the network's Nyquist when it never does."""
    assert curve is not None
    resolution = resolution_of_curve(shells.frequency, curve, HALF_MAP_THRESHOLD)
    if resolution is None:
        raise InputError("The half maps do not agree at all: their FSC is below 0.143 from the first shell on. Are they of the same particle, and aligned?")
    return resolution


def _target(config: MapEnhanceConfig, resolution: float, model: TrainedMapNetwork) -> float:
    finest, coarsest = model.finest_angst, model.coarsest_angst
    if model.description["degradation"] == "physics" and not _TOLERANCE * finest <= resolution <= coarsest / _TOLERANCE:
        raise InputError(
            f"The map's resolution is {resolution:.2f} Å, but this network was trained on maps of {finest:g} to {coarsest:g} Å: for other maps it would "
            "invent; choose another network or train one."
        )
    bound = target_resolution(resolution, model.voxel_angst)
    if config.target_angst and config.target_angst < bound - 1e-6:
        raise InputError(
            f"Parameter target_angst is {config.target_angst:g}, but from a map of {resolution:.2f} Å nothing finer than {bound:.2f} Å can be aimed at "
            f"({TARGET_RATIO:g} of its resolution, {FINEST_TARGET_ANGST:g} Å and the network's voxels are the bounds)."
        )
    return config.target_angst or bound


def enhance_map(
    config: MapEnhanceConfig, grid: MapGrid, setting: Setting, model: TrainedMapNetwork, device: torch.device, *, record: RunRecord, what: str
) -> EnhancedMap:
    """Enhance one map: normalise, resample, network, hold to the data."""
    whole = what == "map"
    solvent = setting.solvent if whole else measure_solvent(grid.data, grid.voxel_angst, f"The {what}")
    # a half map has more noise, but its density is that of the map
    scale = config.scale or setting.solvent.scale
    level = solvent.level
    seen = setting.plan.forward((grid.data - np.float32(level)) / np.float32(scale), 0.0)
    if not whole:
        seen = _filtered_as_the_map(seen, setting)
    shown = unit_range(seen) if model.unit else seen
    tiles = record.part(digest_values([  # besides the run's parameters: the map, and the network that this version ships
        digest_input(grid.header.path), digest_input(config.model) if config.model else model.description, setting.resolution_angst, setting.target_angst,
        config.rotations, config.tile_px, scale, level,
    ]))
    how = Inference(rotations=int(config.rotations), tile_px=config.tile_px, device=device)
    resolutions = setting.resolution_angst / model.voxel_angst, setting.target_angst / model.voxel_angst
    result = apply_network(model.network, shown, *resolutions, how, tiles, what=f"enhancing {what}")
    sharp_to = setting.resolution_angst if config.keep_sharpness else 0.0
    density, held = hold_to_data(
        seen, result.density, share=setting.share, strength=config.data_consistency, shells=setting.shells, mask=setting.mask, sharp_to_angst=sharp_to
    )
    density = _cut_at(density, setting)
    return EnhancedMap(seen=seen, density=density, spread=result.spread, error=result.error, held=held, level=level, scale=scale)


def _cut_at(density: Array, setting: Setting) -> Array:
    """Density without what is finer than the target resolution."""
    edge = cosine_edge(frequency(setting.plan.sides, setting.plan.voxel_angst), setting.target_angst)
    return np.asarray(fft.irfftn(fft.rfftn(density) * edge, s=density.shape), np.float32)


def _filtered_as_the_map(half: Array, setting: Setting) -> Array:
    """A half map with the map's mean amplitude in every shell.

    Half maps are raw: neither sharpened nor weighted, and full of noise beyond their resolution; the network knows maps. The other half map has
    no part in this, and correlations do not see it.
    """
    transform = fft.rfftn(half)
    power = setting.shells.mean(np.abs(transform) ** 2)
    factor = np.sqrt(np.divide(setting.power, power, out=np.zeros(len(setting.shells)), where=power > 0))
    return np.asarray(fft.irfftn(transform * setting.shells.spread(factor), s=half.shape), np.float32)


def _local_correlation(config: MapEnhanceConfig, setting: Setting, found: EnhancedMap) -> Array:
    edge = cosine_edge(frequency(setting.plan.sides, setting.plan.voxel_angst), setting.resolution_angst)
    one, two = (np.asarray(fft.irfftn(fft.rfftn(item) * edge, s=item.shape), np.float32) for item in (found.seen, found.density))
    return local_correlation(one, two, config.local_window_angst / setting.plan.voxel_angst[0])


def _confidence(grid: MapGrid, setting: Setting, halves: list[EnhancedMap]) -> Array | None:
    """Confidence (z, y, x) of the input at its resolution, on its own grid; None when nothing tells how much noise it has.

    It is the input's, not the result's: a network takes the noise off the solvent, after which everything would stand out. The noise is the solvent's; of a map
    that was masked it is the half maps'.
    """
    solvent = setting.solvent
    edge = cosine_edge(frequency(grid.data.shape, grid.voxel_angst), setting.resolution_angst)
    density = np.asarray(fft.irfftn(fft.rfftn(grid.data - np.float32(solvent.level)) * edge, s=grid.data.shape), np.float32)
    if solvent.spread > 0:
        level, noise = noise_spread(density, solvent)
    elif halves:
        edge = cosine_edge(frequency(setting.plan.sides, setting.plan.voxel_angst), setting.resolution_angst)
        apart = fft.irfftn(fft.rfftn((halves[0].seen - halves[1].seen) / 2) * edge, s=setting.plan.sides)
        level, noise = 0.0, float(apart[setting.mask > 0.5].std()) * halves[0].scale
    else:
        print("The map was masked and brings no half maps: nothing tells how much noise it has, so there is no confidence map.", flush=True)
        return None
    return confidence_map(density, level, noise)
