"""A network over a map of any size, tile by tile: memory is that of a tile, and killed work goes on after the last finished one.

Of each tile the border within the network's reach is thrown away, so what is kept is what the network would say of the whole map; networks that
rescale a tile by its content are blended by Hann weights besides. Orientations are those of the octahedral group: the mean is the result, the
spread what the network cannot decide.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray

from ...exceptions import InputError
from ...io.recorded_array import RecordedArray
from ...io.records import RunRecord
from ...progress import Progress
from ..networks.by_name import MapNetwork
from ..networks.cube_rotations import GROUPS, Turn, turn_array, turn_back

__all__ = ["Enhanced", "Inference", "TilePlan", "apply_network", "plan_tiles"]

Array = NDArray[np.float32]
Places = tuple[int, int, int]


@dataclass
class Enhanced:
    """What the network makes of a map (z, y, x): density, spread over the orientations, and the error that it expects of itself (None: it does not say)."""

    density: Array
    spread: Array
    error: Array | None


@dataclass(frozen=True)
class TilePlan:
    """Tiles of a map.

    Attributes
    ----------
    core : sides of what is kept of a tile, along z, y, x
    border : voxels around it that the network sees besides
    starts : first voxels of the cores along each axis
    overlap : the cores overlap and are blended
    """

    core: Places
    border: int
    starts: tuple[tuple[int, ...], ...]
    overlap: bool

    def __len__(self) -> int:
        return int(np.prod([len(line) for line in self.starts]))

    def __iter__(self) -> Iterator[Places]:
        return iter((z, y, x) for z, y, x in product(*self.starts))

    def weights(self) -> Array:
        """Weights of a core's voxels."""
        if not self.overlap:
            return np.ones(self.core, np.float32)
        z, y, x = (np.sin(np.pi * (np.arange(side) + 0.5) / side).astype(np.float32) ** 2 for side in self.core)
        return np.asarray(z[:, None, None] * y[:, None] * x + np.float32(1e-6))


def plan_tiles(shape: Places, network: MapNetwork, tile_px: int) -> TilePlan:
    """Tiles of at most ``tile_px`` a side where the network's reach allows it, with sides and starts that are multiples of the network's stride."""
    stride = network.stride
    border = _up(network.reach, stride)
    kept = max(stride, (tile_px - 2 * border) // stride * stride)
    core = [min(kept, _up(side, stride)) for side in shape]
    if not network.overlap:  # tiles of equal sides, so that the last one is not mostly empty
        core = [_up(-(-side // -(-side // width)), stride) for side, width in zip(shape, core)]
    starts = []
    for side, width in zip(shape, core):
        step = max(stride, int(width * (1 - network.overlap)) // stride * stride)
        starts.append(tuple(range(0, max(side - width, 0) + step, step)) if side > width else (0,))
    return TilePlan((core[0], core[1], core[2]), border, tuple(starts), network.overlap > 0)


def _up(value: int, step: int) -> int:
    """Smallest multiple of ``step`` that is not below ``value``."""
    return -(-value // step) * step


@dataclass(frozen=True, kw_only=True)
class Inference:
    """How a network is applied: in 1, 4, 12 or 24 orientations (``rotations``), to tiles of at most ``tile_px`` a side."""

    rotations: int
    tile_px: int
    device: torch.device


def apply_network(
    network: MapNetwork, data: Array, resolution_px: float, target_px: float, how: Inference, record: RunRecord, what: str = "enhancing",
) -> Enhanced:
    """Apply a network to a map (z, y, x) on the network's grid.

    Parameters
    ----------
    network
        Network with its stride, reach and overlap.
    data : (z, y, x)
        Density on the network's grid, normalised as in its training, 0 in the solvent.
    resolution_px, target_px
        Resolutions of the input and of the result in voxels, which the network is given.
    how
        Number of orientations, size of the tiles, and device.
    record
        Where finished tiles are kept until the caller removes it; its digest is that of all that the result depends on.
    what
        Name in the progress lines.
    """
    plan = plan_tiles((data.shape[0], data.shape[1], data.shape[2]), network, how.tile_px)
    tiles = record.array("tiles", (len(plan), 3, *plan.core), np.float32)
    finished = tiles.finished
    turns = GROUPS[how.rotations]
    told = [torch.tensor([value], dtype=torch.float32, device=how.device) for value in (resolution_px, target_px)]
    progress = Progress(what, len(plan), "tiles", done=int(finished.sum()))
    for number, start in enumerate(plan):
        if not finished[number]:
            tile = torch.from_numpy(_cut(data, start, plan)).to(how.device)
            tiles.write(number, _mean_over_turns(network, tile, told, turns, plan.border))
            progress.step()
    density, spread, error = _blend(tiles, plan, data.shape)
    return Enhanced(density, spread, None if np.isnan(error[0, 0, 0]) else error)


@torch.inference_mode()
def _mean_over_turns(network: MapNetwork, tile: torch.Tensor, told: list[torch.Tensor], turns: tuple[Turn, ...], border: int) -> Array:
    """Mean, spread and expected error (3, z, y, x) of a tile's core."""
    # the mean and the sum of squared differences from it (Welford), so that nothing cancels
    mean = squares = error = None
    for count, turn in enumerate(turns, 1):
        found, expected = network(turn_array(tile, turn)[None, None], told[0], told[1])
        value = turn_back(found[0, 0], turn)
        if mean is None or squares is None:
            mean, squares = value.clone(), torch.zeros_like(value)
        else:
            step = value - mean
            mean += step / count
            squares += step * (value - mean)
        if expected is not None:
            part = turn_back(expected[0, 0], turn) / len(turns)
            error = part if error is None else error + part
    assert mean is not None and squares is not None
    if not bool(torch.isfinite(mean).all()):
        raise InputError("The network's answer is not a number in a part of the map: the model is damaged, or the map has damaged voxels.")
    spread = (squares / max(len(turns) - 1, 1)).clamp_min(0).sqrt()
    parts = (mean, spread, torch.full_like(mean, torch.nan) if error is None else error)
    inner = (slice(border, -border),) * 3
    return np.stack([part[inner].float().cpu().numpy() for part in parts])


def _cut(data: Array, start: Places, plan: TilePlan) -> Array:
    """A core with its border; outside the map is solvent, 0."""
    tile = np.zeros([side + 2 * plan.border for side in plan.core], np.float32)
    first = [at - plan.border for at in start]
    there = tuple(slice(max(0, -low), min(side, total - low)) for low, side, total in zip(first, tile.shape, data.shape))
    tile[there] = data[tuple(slice(low + part.start, low + part.stop) for low, part in zip(first, there))]
    return tile


def _blend(tiles: RecordedArray, plan: TilePlan, shape: tuple[int, ...]) -> list[Array]:
    total = np.zeros(shape, np.float32)
    sums = [np.zeros(shape, np.float32) for _ in range(3)]
    weights = plan.weights()
    for number, start in enumerate(plan):
        here = tuple(slice(at, min(at + width, side)) for at, width, side in zip(start, plan.core, shape))
        part = tuple(slice(0, piece.stop - piece.start) for piece in here)
        total[here] += weights[part]
        for result, values in zip(sums, tiles.read(number)):
            result[here] += weights[part] * values[part]
    return [result / total for result in sums]
