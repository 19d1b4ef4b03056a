"""Maps that the benchmarks of map enhancement make and treat: degraded X-ray density, plain sharpening, networks run as commands."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from _run import Usage, engine
from numpy.typing import NDArray
from scipy import fft

from cryolearn.engine.imaging.map_shells import Shells, cosine_edge, frequency
from cryolearn.engine.imaging.model_map import box_around, model_map
from cryolearn.engine.io.maps import Map, read_map, write_map
from cryolearn.engine.io.structures import Structure
from cryolearn.engine.map_enhancement.training.degradation import PaperDegradation, degrade_paper
from cryolearn.engine.map_enhancement.training.training_sources import crystal_density, polymer_structure

Array = NDArray[np.float32]
PAPER_VOXEL = 0.6
TRUTH_ANGST = 2.0
TOLD_ANGST = TRUTH_ANGST / 0.7  # resolution that the network is told of a degraded map, so that it aims at the truth's
_PAD_ANGST = 8.0


@dataclass
class Degraded:
    """A molecule's density, and the same degraded in the paper's way; the file of the latter."""

    name: str
    structure: Structure
    truth: Map
    degraded: Map
    path: Path


def simulated_case(model: Path, folder: Path, settings: PaperDegradation, seed: int) -> Degraded:
    """X-ray density of a model at 2 Å, degraded."""
    structure = polymer_structure(str(model))
    shape, origin = box_around(structure.coordinates, PAPER_VOXEL, _PAD_ANGST)
    density = model_map(structure, shape, PAPER_VOXEL, origin, TRUTH_ANGST, "xray")
    return _degraded(model.name.split(".")[0], structure, density=density, origin=origin, folder=folder, settings=settings, seed=seed)


def crystal_case(coefficients: Path, model: Path, folder: Path, settings: PaperDegradation, seed: int) -> Degraded:
    """Measured X-ray density around a model, degraded."""
    structure = polymer_structure(str(model))
    density, origin, _ = crystal_density(str(coefficients), structure, PAPER_VOXEL)
    return _degraded(model.name.split(".")[0], structure, density=density, origin=origin, folder=folder, settings=settings, seed=seed)


def _degraded(
    name: str, structure: Structure, density: Array, origin: NDArray[np.float64], folder: Path, settings: PaperDegradation, seed: int
) -> Degraded:
    x, y, z = (float(value) for value in origin)
    seen = degrade_paper(density, PAPER_VOXEL, settings, np.random.default_rng(seed))
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}.mrc"
    write_map(str(path), seen, PAPER_VOXEL, (x, y, z))
    return Degraded(name, structure, Map(density, PAPER_VOXEL, (x, y, z)), read_map(str(path)), path)


def sharpened(volume: Map, b_factor: float, finest_angst: float) -> Map:
    """The linear baseline: amplitudes times exp(B s^2 / 4), and nothing finer than a resolution."""
    radius = frequency(volume.data.shape, (volume.pixel_size_angst,) * 3)
    weight = np.exp(b_factor * np.minimum(radius, 1 / finest_angst) ** 2 / 4) * cosine_edge(radius, finest_angst)
    return _filtered(volume, weight)


def amplitude_matched(volume: Map, other: Map, finest_angst: float) -> Map:
    """The linear baseline for maps of unknown fall-off: the map with another one's mean amplitude in every shell up to a resolution, and nothing beyond it."""
    shells = Shells(volume.data.shape, (volume.pixel_size_angst,) * 3)
    own, wanted = (np.sqrt(shells.mean(np.abs(fft.rfftn(item.data)) ** 2)) for item in (volume, other))
    known = (own > 0) & (shells.frequency <= 1 / finest_angst)
    return _filtered(volume, shells.spread(np.divide(wanted, own, out=np.zeros(len(shells)), where=known)))


def _filtered(volume: Map, weight: Array) -> Map:
    data = np.asarray(fft.irfftn(fft.rfftn(volume.data) * weight, s=volume.data.shape), np.float32)
    return Map(data, volume.pixel_size_angst, volume.origin_angst)


def enhanced(options: argparse.Namespace, path: Path, folder: Path, resolution_angst: float, model: Path | str = "", **settings: object) -> tuple[Map, Usage]:
    """Run ``map-enhance``; what it took."""
    usage = engine(
        "map-enhance", folder, volume=path, model=model, resolution_angst=resolution_angst, use_gpu=options.use_gpu, threads=options.threads, **settings,
    )
    return read_map(str(folder / "enhanced.mrc")), usage


def arguments(made: argparse.ArgumentParser) -> argparse.Namespace:
    """``--use_gpu`` and ``--threads`` besides what all benchmarks have."""
    made.add_argument("--use_gpu", action="store_true", help="compute on the first GPU")
    made.add_argument("--threads", type=int, default=0, help="CPU threads; 0 takes all")
    options = made.parse_args()
    if not options.data.exists():
        sys.exit(f"ERROR: '{options.data}' is not there: name the folder of the data with --data.")
    options.work = options.work / "superres"
    options.work.mkdir(parents=True, exist_ok=True)
    return options
