"""From gathered images to files: half sets, maps with half maps and FSC, and how they are written."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...common.fsc import HALF_MAP_THRESHOLD, first_shell_below, resolution_at
from ..io.atomic import write_csv
from ..io.maps import write_map
from ..io.read_ahead import ReadAhead
from ..io.star import ParticleTable
from ..progress import Progress
from .ctf import Ctf
from .fsc import fsc
from .image_scales import ImageScales
from .masks import sphere_mask
from .poses import euler_to_matrix
from .reconstruction import Reconstructor
from .reconstruction_memory import images_at_once
from .standard_images import StandardImages

__all__ = ["ImageOptions", "Reconstruction", "finish_reconstruction", "fsc_sphere", "halves_of", "insert_particles",
           "new_reconstructor", "split_halves", "write_fsc_csv", "write_reconstruction"]

_POSITIVE = sys.float_info.min
_CONSTANT = 0.1  # of the mean weight: the Wiener constant when it is not taken from the FSC


@dataclass
class Reconstruction:
    """Maps (box, box, box) of one set of images and their FSC curves (box // 2 + 1,)."""

    volume: Tensor
    half1: Tensor
    half2: Tensor
    curve: Tensor
    curve_unmasked: Tensor


def split_halves(table: ParticleTable, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Half set, 1 or 2, of some images: ``rlnRandomSubset`` when it is there, else a fixed rule on the id; of tilt-series particles odd and even ones."""
    if table.tilts is not None and table.random_subset is None:
        return 1 + table.particles()[1][rows] % 2
    return halves_of(table.ids[rows], None if table.random_subset is None else table.random_subset[rows])


def halves_of(ids: NDArray[np.int64], given: NDArray[np.int64] | None = None) -> NDArray[np.int64]:
    """Half set, 1 or 2, of each id: the one that is ``given`` when both halves are in it, else a fixed rule.

    The rule mixes the id's bits, so that regular subsets (every second id) are halved as well; where it leaves a half
    empty, the particles are taken in turns.
    """
    if given is not None and {1, 2} <= set(np.unique(given).tolist()):
        return np.where(given == 2, 2, 1)
    mixed = ids.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing; wraps on purpose
    halves = 1 + (mixed >> np.uint64(63)).astype(np.int64)
    if len(np.unique(halves)) < 2:
        halves = 1 + np.argsort(np.argsort(ids)) % 2
    return halves


def new_reconstructor(table: ParticleTable, padding: float, device: torch.device, phase_flipped: bool) -> Reconstructor:
    """An empty reconstructor for the images of a table."""
    return Reconstructor(table.box, table.pixel_size_angst, padding, device, phase_flipped)


@dataclass(frozen=True, kw_only=True)
class ImageOptions:
    """How the images of a set are taken.

    Attributes
    ----------
    use_ctf : correct for the CTF that the set gives, if it does
    invert_contrast : particles are black on white
    batch : images in memory at a time; fewer when they are large
    """

    use_ctf: bool = True
    invert_contrast: bool = False
    batch: int = 256


def insert_particles(
    works: Sequence[Reconstructor], stack: StandardImages, rows: NDArray[np.int64], halves: NDArray[np.int64], weights: NDArray[np.float32] | None = None,
    options: ImageOptions = ImageOptions(), progress: Progress | None = None, scales: ImageScales | None = None,
) -> None:
    """Add particles to one or several reconstructors in one pass over their images, which are read ahead.

    Parameters
    ----------
    works
        Reconstructors that are added to.
    stack
        Particles with poses.
    rows, halves
        (n,) rows of the table, and the half set of each.
    weights
        (n, len(works)); an image is not looked at by a reconstructor to which its weight is 0. None is 1.
    options
        Contrast, CTF and batch.
    progress
        Told of each batch.
    scales
        Told of each batch's images.
    """
    table, device = stack.table, works[0].device
    assert table.angles_deg is not None
    step = images_at_once(options.batch, table.box, device.type)

    def read(part: NDArray[np.int64]) -> Tensor:
        images = stack.read(rows[part])
        if scales is not None:
            scales.add(rows[part], images)
        found = torch.from_numpy(images)
        return found.pin_memory() if device.type == "cuda" else found

    reader = ReadAhead(read, np.split(np.arange(len(rows)), range(step, len(rows), step)) if len(rows) else [])
    for here, images in reader:
        part, halves_here = rows[here], halves[here]
        weights_here = np.ones((len(part), len(works)), np.float32) if weights is None else weights[here]
        seen = images.to(device, non_blocking=True)
        seen = -seen if options.invert_contrast else seen
        rotations = euler_to_matrix(torch.from_numpy(table.angles_deg[part]).to(device))
        shift = None if table.origin_angst is None else -torch.from_numpy(table.origin_angst[part])
        ctf = stack.ctf(part, device, ignore_ctf=not options.use_ctf)
        magnification = stack.magnification(part)
        if magnification is not None:
            rotations, shift, ctf = _as_magnified(torch.from_numpy(magnification).to(rotations), rotations, shift, ctf)
        for work, weight in zip(works, weights_here.T):
            used = np.flatnonzero(weight)
            if not len(used):
                continue
            at = torch.from_numpy(used).to(device)
            every = len(used) == len(part)
            work.insert(
                seen if every else seen[at], rotations if every else rotations[at], None if shift is None else shift[used],
                ctf if ctf is None or every else ctf[at], None if weights is None else torch.from_numpy(weight[used]),
                half=torch.from_numpy(halves_here[used]),
            )
        if progress:
            progress.step(len(part), note=f"{100 * reader.waiting:.0f} % of the time waiting for files")


def _as_magnified(matrix: Tensor, rotations: Tensor, shift: Tensor | None, ctf: Ctf | None) -> tuple[Tensor, Tensor | None, Ctf | None]:
    """Poses, shifts and CTFs by which coefficients at k of images are those of the particle at ``matrix k``, for matrices (b, 2, 2)."""
    turned = rotations.clone()
    turned[:, :2] = matrix.mT @ rotations[:, :2]
    moved = None if shift is None else (matrix.cpu().mT.to(shift) @ shift[..., None])[..., 0]
    return turned, moved, None if ctf is None else replace(ctf, magnification=matrix.to(ctf.voltage_kv))


def finish_reconstruction(work: Reconstructor, mask: Tensor, wiener: str = "fsc", symmetry: Tensor | None = None) -> Reconstruction:
    """Maps of what was gathered: half maps, their FSC inside the mask, and the Wiener-filtered map of both halves.

    Parameters
    ----------
    work
        Sums of both half sets.
    mask
        (n, n, n) weights 0 to 1, for the FSC.
    wiener
        'fsc': by the signal-to-noise ratio of each shell from the half maps; 'constant': by a constant.
    symmetry
        (n, 3, 3) rotations of a point group to impose.
    """
    if symmetry is not None and len(symmetry) > 1:
        work.symmetrise(symmetry)
    mask = mask.to(work.device)
    first_guess = fsc(*work.half_maps(), mask)
    half1, half2 = work.half_maps(_until_lost(first_guess))
    curve, unmasked = fsc(half1, half2, mask), fsc(half1, half2)
    volume = work.finish(_until_lost(curve)) if wiener == "fsc" else work.finish(constant=_CONSTANT)
    return Reconstruction(volume.cpu(), half1.cpu(), half2.cpu(), curve.cpu(), unmasked.cpu())


def _until_lost(curve: Tensor) -> Tensor:
    """The curve with zeros from its first value that is not positive: what comes after is noise."""
    kept = curve.clone()
    kept[first_shell_below(curve, _POSITIVE) :] = 0
    return kept


def fsc_sphere(box: int, pixel_size_angst: float, radius_angst: float = 0.0) -> Tensor:
    """Soft sphere (box, box, box) for the FSC of half maps; its radius is 45 % of the box unless it is given."""
    return sphere_mask(box, radius_angst / pixel_size_angst or 0.45 * box, min(5.0, 0.05 * box))


def write_reconstruction(folder: str, name: str, result: Reconstruction, pixel_size_angst: float) -> dict[str, Any]:
    """Write ``NAME.mrc``, ``NAME_half1.mrc``, ``NAME_half2.mrc`` and ``NAME_fsc.csv``; returns what ``reconstructions.json`` says of them."""
    box = len(result.volume)
    files = {"map": f"{name}.mrc", "half1": f"{name}_half1.mrc", "half2": f"{name}_half2.mrc", "fsc": f"{name}_fsc.csv"}
    for key, volume in (("map", result.volume), ("half1", result.half1), ("half2", result.half2)):
        write_map(os.path.join(folder, files[key]), volume.numpy(), pixel_size_angst)
    curves = {"fsc": result.curve, "fsc_unmasked": result.curve_unmasked}
    write_fsc_csv(os.path.join(folder, files["fsc"]), curves, box, pixel_size_angst)
    resolution = resolution_at(result.curve, HALF_MAP_THRESHOLD, box, pixel_size_angst)
    return {"name": name, "files": files, "resolution_angst": resolution, "pixel_size_angst": pixel_size_angst, "box": box}


def write_fsc_csv(path: str, curves: dict[str, Tensor], box: int, pixel_size_angst: float) -> None:
    """Write FSC curves as CSV, from shell 1 on: shell, frequency (1/Å), resolution (Å), then one column a curve."""
    length = box * pixel_size_angst
    write_csv(path, ["shell", "frequency_inv_angst", "resolution_angst", *curves], (
        [shell, f"{shell / length:.8f}", f"{length / shell:.4f}", *(f"{float(curve[shell]):.6f}" for curve in curves.values())]
        for shell in range(1, box // 2 + 1)
    ))
