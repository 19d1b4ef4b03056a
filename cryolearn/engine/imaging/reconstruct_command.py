"""The command ``reconstruct``: maps with half maps and FSC from aligned particles."""

from __future__ import annotations

import csv
import json
import os
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..device import select_device
from ..errors import InputError
from ..figures import fsc_curves, map_slices, save_figure
from ..io.maps import read_map, write_map
from ..io.stacks import ImageStack
from ..io.star import ParticleTable, read_particles
from ..io.tables import join, read_table
from ..launch import is_first_process
from ..progress import Progress
from .config import ReconstructConfig
from .ctf import Ctf
from .fsc import fsc, resolution_at
from .masks import sphere_mask
from .poses import euler_to_matrix
from .reconstruction import Reconstructor
from .symmetry import symmetry_matrices

__all__ = ["reconstruct_rows", "run", "split_halves", "write_fsc_csv"]

HALF_MAP_THRESHOLD = 0.143
_CONSTANT = 0.1  # of the mean weight: the Wiener constant when it is not taken from the FSC


@dataclass
class Reconstruction:
    """Maps `(box, box, box)` of one class and their FSC curves `(box // 2 + 1,)`."""

    volume: Tensor
    half1: Tensor
    half2: Tensor
    curve: Tensor
    curve_unmasked: Tensor


def split_halves(table: ParticleTable, rows: NDArray[np.int64]) -> NDArray[np.int64]:
    """Half set, 1 or 2, of some particles: ``rlnRandomSubset`` when it is there, else a fixed rule on the id.

    The rule mixes the id's bits, so that regular subsets (every second id) are halved as well; where it leaves a half
    empty, the particles are taken in turns.
    """
    if table.random_subset is not None and {1, 2} <= set(np.unique(table.random_subset[rows]).tolist()):
        return np.where(table.random_subset[rows] == 2, 2, 1)
    mixed = table.ids[rows].astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)  # Fibonacci hashing; wraps on purpose
    halves = 1 + (mixed >> np.uint64(63)).astype(np.int64)
    if len(np.unique(halves)) < 2:
        halves = 1 + np.argsort(np.argsort(table.ids[rows])) % 2
    return halves


def reconstruct_rows(
    table: ParticleTable, stack: ImageStack, rows: NDArray[np.int64], config: ReconstructConfig, mask: Tensor,
    device: torch.device, progress: Progress | None = None,
) -> Reconstruction:
    """Reconstruct one class: the particles in ``rows`` of the table, streamed in batches."""
    assert table.angles_deg is not None
    premultiplied = bool(np.any(np.asarray(table.optics.get("rlnCtfDataAreCtfPremultiplied", [0])).astype(float) != 0))
    work = Reconstructor(table.box, table.pixel_size_angst, config.padding, device, config.phase_flipped, premultiplied)
    halves = split_halves(table, rows)
    for start in range(0, len(rows), config.batch):
        part = rows[start : start + config.batch]
        images = torch.from_numpy(stack.read(part)).to(device)
        angles = torch.from_numpy(table.angles_deg[part]).to(device)
        shift = None if table.origin_angst is None else -torch.from_numpy(table.origin_angst[part])
        ctf = Ctf.from_table(table.ctf, part, device) if config.use_ctf and table.ctf is not None else None
        work.insert(
            -images if config.invert_contrast else images, euler_to_matrix(angles), shift, ctf,
            half=torch.from_numpy(halves[start : start + config.batch]),
        )
        if progress:
            progress.step(len(part))
    matrices = symmetry_matrices(config.symmetry)
    if len(matrices) > 1:
        work.symmetrise(matrices)
    first_guess = fsc(*work.half_maps(), mask.to(device))
    half1, half2 = work.half_maps(_until_lost(first_guess))
    curve = fsc(half1, half2, mask.to(device))
    if config.wiener == "fsc":
        volume = work.finish(_until_lost(curve))
    else:
        volume = work.finish(constant=_CONSTANT)
    return Reconstruction(volume.cpu(), half1.cpu(), half2.cpu(), curve.cpu(), fsc(half1, half2).cpu())


def _until_lost(curve: Tensor) -> Tensor:
    """The curve with zeros from its first value that is not positive: what comes after is noise."""
    lost = torch.nonzero(curve <= 0).flatten()
    kept = curve.clone()
    if len(lost):
        kept[int(lost[0]) :] = 0
    return kept


def write_fsc_csv(path: str, curves: dict[str, Tensor], box: int, pixel_size_angst: float) -> None:
    """Write FSC curves as CSV, from shell 1 on: shell, frequency (1/Å), resolution (Å), then one column a curve."""
    with open(path, "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        writer.writerow(["shell", "frequency_inv_angst", "resolution_angst", *curves])
        for shell in range(1, box // 2 + 1):
            length = box * pixel_size_angst
            values = (f"{float(curve[shell]):.6f}" for curve in curves.values())
            writer.writerow([shell, f"{shell / length:.8f}", f"{length / shell:.4f}", *values])


def _class_rows(config: ReconstructConfig, table: ParticleTable) -> dict[str, NDArray[np.int64]]:
    """Rows of the particle table by the name of the map they make."""
    if not config.classes:
        return {"map": np.arange(len(table), dtype=np.int64)}
    columns, _ = read_table(config.classes)
    if "class" not in columns:
        raise InputError(f"The table '{config.classes}' has no column 'class': give the result of a clustering.")
    labels = np.asarray(columns["class"]).astype(np.int64)
    rows = join(columns["id"], table.ids)
    named = {f"class_{label:03d}": np.sort(rows[labels == label]) for label in np.unique(labels) if label > 0}
    if not named:
        raise InputError(f"The table '{config.classes}' puts no particle in a class: choose other clusters.")
    return named


def _fsc_mask(config: ReconstructConfig, table: ParticleTable) -> Tensor:
    """Mask `(box, box, box)` that is laid over the half maps before their FSC."""
    if config.mask:
        found = read_map(config.mask)
        if found.data.shape != (table.box,) * 3:
            raise InputError(
                f"The mask '{config.mask}' has the shape {found.data.shape}, but the particles make maps of {table.box} voxels a side: "
                "resample the mask."
            )
        return torch.from_numpy(found.data)
    radius = config.mask_radius_angst / table.pixel_size_angst or 0.45 * table.box
    return sphere_mask(table.box, radius, min(5.0, 0.05 * table.box))


def run(config: ReconstructConfig) -> None:
    """Run the command.

    Raises
    ------
    InputError
        when the particles have no poses or no CTF although it is to be corrected, a class table or mask does not fit, or no
        class has at least two particles.
    """
    if not is_first_process():
        return  # one process is enough: the work is bound by memory
    device = select_device(config)
    table = read_particles(config.particles)
    if table.angles_deg is None:
        raise InputError(f"The particles in '{config.particles}' have no poses (rlnAngleRot, rlnAngleTilt, rlnAnglePsi): align them first.")
    if config.use_ctf and table.ctf is None:
        raise InputError(f"The particles in '{config.particles}' have no CTF (rlnDefocusU): estimate it, or turn the CTF correction off.")
    symmetry_matrices(config.symmetry)
    mask = _fsc_mask(config, table)
    groups = _class_rows(config, table)
    usable = {name: rows for name, rows in groups.items() if len(rows) >= 2}
    left_out = {name: len(rows) for name, rows in groups.items() if len(rows) < 2}
    for name, count in left_out.items():
        print(f"WARNING: {name} has {count} particle(s), too few for two half maps: it is left out.", flush=True)
    if not usable:
        raise InputError(f"No class has at least two particles of '{config.particles}': nothing can be reconstructed.")
    stack = ImageStack(table)
    progress = Progress("Reconstruction", sum(len(rows) for rows in usable.values()))
    entries, curves, volumes = [], {}, {}
    for name, rows in usable.items():
        result = reconstruct_rows(table, stack, rows, config, mask, device, progress)
        entries.append(_write(config, table, name, rows, result))
        curves[name], volumes[name] = result.curve.numpy(), result.volume.numpy()
        if len(volumes) > 8:
            del volumes[name]
    _write_reports(config, table, entries, left_out, curves, volumes)


def _write(config: ReconstructConfig, table: ParticleTable, name: str, rows: NDArray[np.int64], result: Reconstruction) -> dict[str, object]:
    """Write one class's files; returns its entry for ``reconstructions.json``."""
    pixel = table.pixel_size_angst
    files = {"map": f"{name}.mrc", "half1": f"{name}_half1.mrc", "half2": f"{name}_half2.mrc", "fsc": f"{name}_fsc.csv"}
    for key, volume in (("map", result.volume), ("half1", result.half1), ("half2", result.half2)):
        write_map(os.path.join(config.output, files[key]), volume.numpy(), pixel)
    curves = {"fsc": result.curve, "fsc_unmasked": result.curve_unmasked}
    write_fsc_csv(os.path.join(config.output, files["fsc"]), curves, table.box, pixel)
    resolution = resolution_at(result.curve, HALF_MAP_THRESHOLD, table.box, pixel)
    halves = split_halves(table, rows)
    text = "none" if resolution is None else f"{resolution:.2f} Å"
    print(f"{name}: {len(rows)} particles, resolution {text} (FSC {HALF_MAP_THRESHOLD})", flush=True)
    return {
        "name": name, "class": int(name[-3:]) if name.startswith("class_") else None, "files": files, "particles": len(rows),
        "particles_half1": int((halves == 1).sum()), "particles_half2": int((halves == 2).sum()),
        "resolution_angst": resolution, "pixel_size_angst": pixel, "box": table.box,
    }


def _write_reports(
    config: ReconstructConfig, table: ParticleTable, entries: list[dict[str, object]], left_out: dict[str, int],
    curves: dict[str, NDArray[np.float32]], volumes: dict[str, NDArray[np.float32]],
) -> None:
    pixel = table.pixel_size_angst
    with open(os.path.join(config.output, "reconstructions.json"), "w", encoding="utf-8") as handle:
        json.dump({"reconstructions": entries, "left_out": left_out, "symmetry": config.symmetry.upper()}, handle, indent=2)
    found = [entry["resolution_angst"] for entry in entries if isinstance(entry["resolution_angst"], float)]
    summary = {
        "maps": len(entries), "particles": sum(int(str(entry["particles"])) for entry in entries), "box": table.box,
        "pixel_size_angst": pixel, "best_resolution_angst": min(found, default=None),
        "worst_resolution_angst": max(found, default=None), "left_out_classes": len(left_out),
    }
    with open(os.path.join(config.output, "summary.json"), "w", encoding="utf-8") as handle:
        json.dump(summary, handle, indent=2)
    figures = os.path.join(config.output, "figures")
    save_figure(fsc_curves(curves, table.box, pixel, (HALF_MAP_THRESHOLD,), title="FSC of the half maps"), os.path.join(figures, "fsc.png"))
    save_figure(map_slices(volumes, pixel), os.path.join(figures, "slices.png"))
