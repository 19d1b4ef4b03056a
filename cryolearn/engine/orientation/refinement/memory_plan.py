"""What matching takes of memory and disk, said before the work."""

from __future__ import annotations

from torch import Tensor

from ...alignment.fourier_band import FourierBand
from ...alignment.posterior import scores_bytes
from ...imaging.fourier_volume import padded_side
from ...imaging.poses import rotation_grid
from ...imaging.reconstruction_memory import resident_bytes
from ...training.process_group import processes
from .half_set_references import stretch
from .projection_matching import FINE_GRID_DEG, GLOBAL_RINGS

__all__ = ["matching_bytes", "memory_line"]

_AN_IMAGE = 2400  # bytes: its row of the table, its CTF, six poses and those that a search finds
_SUMS = 24  # bytes a voxel of the half transform: numerator and denominator of both half sets
_SOLVED = 57  # of a map that is made from its sums
_REFERENCES = 16  # of the references of both half sets
_START_SLICES = 60 << 20  # of random starts, and the images that they look at
_LIBRARIES = 120 << 20  # what libraries take when they are first used, for figures too
_BANK, _SEARCHED = 36, 20  # bytes a coefficient of the slices at all poses of a grid, while they are made and while images are compared with them


def matching_bytes(band: FourierBand, count: int, diameter_angst: float, symmetry: Tensor | None, device_type: str) -> int:
    """Most memory that the matching of ``count`` images takes: it makes maps or searches a grid of poses, one after the other."""
    side = padded_side(2 * (band.radius + 1), 2.0)
    voxels = (side + 1) ** 2 * (side // 2 + 1)
    points = len(band.within(min(band.radius, round(GLOBAL_RINGS * stretch(band, diameter_angst))) + 0.5))
    poses = len(rotation_grid(FINE_GRID_DEG)) // (1 if symmetry is None else len(symmetry))
    maps = voxels * (2 * _SUMS + _SOLVED)
    scores = scores_bytes(device_type)
    search = max(_BANK * poses * points, _SEARCHED * poses * points + 2 * scores, _START_SLICES + 4 * scores)
    return _AN_IMAGE * count + _REFERENCES * voxels + max(maps, search) + _LIBRARIES


def memory_line(band: FourierBand, count: int, needed: int, device_type: str) -> str:
    """One line on memory and disk."""
    world = processes()[1]
    each = f" in each of {world} processes" if world > 1 else ""
    kind, held = ("GPU memory", 0) if device_type == "cuda" else ("Memory", resident_bytes())
    return (f"{kind} for matching{each}: at most {(needed + held) / 2**20:.0f} MiB, of which {_AN_IMAGE * count / 2**20:.0f} MiB for the poses of {count} "
            f"images; disk: {8 * len(band) * count / 2**20:.0f} MiB for their transforms, until the run ends")
