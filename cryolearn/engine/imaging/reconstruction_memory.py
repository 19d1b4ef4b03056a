"""What a reconstruction takes of memory: said before the work, and true to a tenth from 128 px on (``test_reconstruct_memory.py``)."""

from __future__ import annotations

import os
import resource

import torch

from ..exceptions import DeviceError
from .fourier_sphere import sphere_points
from .fourier_volume import padded_side

__all__ = ["images_at_once", "memory_plan", "reconstruction_bytes", "resident_bytes", "sums_bytes"]

_BATCH_BYTES = {"cpu": 1 << 25, "cuda": 1 << 27}  # of images that are read at a time; insertion takes fewer anyway
_WORKSPACE = {"cpu": 150 << 20, "cuda": 3 << 30}  # slabs, samples, and what libraries take when they are first used
_GPU_KEPT = 0.05  # part of the free memory that is not counted on


def images_at_once(batch: int, box: int, device_type: str) -> int:
    """Images that are read at a time: ``batch``, or fewer when they are large."""
    return max(1, min(batch, _BATCH_BYTES.get(device_type, 1 << 27) // (4 * box**2)))


def sums_bytes(box: int, padding: float) -> int:
    """Of the sums of both half sets: a complex and a real number for each point of half a ball of diameter ``padding * box``."""
    return 2 * 12 * sphere_points(padded_side(box, padding), box)


def reconstruction_bytes(box: int, padding: float, symmetric: bool = False, images: int = 0, device_type: str = "cpu") -> int:
    """Largest memory of one reconstruction and its mask.

    Parameters
    ----------
    box, padding
        Of the images and the Fourier volume.
    symmetric
        Whether a point group is imposed, for which the sums of one half set are copied.
    images
        Those read at a time.
    device_type
        'cpu' or 'cuda'.
    """
    side, volume, sums = padded_side(box, padding), 4 * box**3, sums_bytes(box, padding)
    insertion = 4 * 4 * images * box**2  # three batches, and the one that is inverted
    solution = 3 * volume + 8 * (side // 2 + 1) * box**2  # the half maps and the map, and their transform along x
    correlation = 2 * volume + 2 * 16 * (box // 2 + 1) * box**2  # the half maps and their transforms in double precision
    copies = sums // 2 if symmetric else 0
    return sums + volume + max(insertion, solution, correlation, copies) + _WORKSPACE.get(device_type, 3 << 30)


def memory_plan(needed: int, device: torch.device, processes: int = 1) -> str:
    """One sentence on the memory that a run is about to take.

    Raises
    ------
    DeviceError
        when a GPU has less.
    """
    each = f" in each of {processes} processes" if processes > 1 else ""
    if device.type != "cuda":
        return f"Memory{each}: about {(needed + resident_bytes()) / 2**20:.0f} MiB, whatever the number of images"
    free = torch.cuda.mem_get_info(device)[0] * (1 - _GPU_KEPT) + torch.cuda.memory_reserved(device)
    if needed > free:
        raise DeviceError(f"The reconstruction needs {needed / 2**30:.1f} GB of the GPU's memory, of which {free / 2**30:.1f} GB are free: take less padding, "
                          "or the CPU.")
    return f"GPU memory{each}: about {needed / 2**20:.0f} MiB, whatever the number of images"


def resident_bytes() -> int:
    """What this process holds in memory now (at most until now, where the system does not say)."""
    try:
        with open("/proc/self/statm", encoding="ascii") as handle:
            return int(handle.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
