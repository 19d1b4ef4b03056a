"""The command ``reconstruct``: maps with half maps and FSC from aligned particles."""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...common.fsc import HALF_MAP_THRESHOLD
from ..config import require
from ..device import select_device
from ..exceptions import InputError
from ..figures import fsc_curves, map_slices, save_figure
from ..io.atomic import write_json
from ..io.maps import read_mask
from ..io.star import ParticleTable, read_particles
from ..io.summary import ReconstructionSummary, write_summary
from ..io.tables import join, number_vectors, read_table
from ..launch import is_first_process
from ..progress import Progress
from .config import ReconstructConfig
from .defocus_hand import with_defocus_hand
from .first_images import ImageUse, box_warnings, check_contrast, header_warnings, negative_map, warn
from .half_set_maps import (
    ImageOptions,
    Reconstruction,
    finish_reconstruction,
    fsc_sphere,
    insert_particles,
    new_reconstructor,
    split_halves,
    write_reconstruction,
)
from .image_scales import ImageScales
from .standard_images import StandardImages
from .symmetry import symmetry_matrices

__all__ = ["reconstruct_rows", "run"]


def reconstruct_rows(
    table: ParticleTable, stack: StandardImages, rows: NDArray[np.int64], config: ReconstructConfig, mask: Tensor,
    device: torch.device, progress: Progress | None = None, scales: ImageScales | None = None,
) -> Reconstruction:
    """Reconstruct one class: the particles in ``rows`` of the table, streamed in batches; ``scales`` is told of their images."""
    work = new_reconstructor(table, config.padding, device, config.phase_flipped)
    options = ImageOptions(use_ctf=config.use_ctf, invert_contrast=config.invert_contrast, batch=config.batch)
    insert_particles([work], stack, rows, split_halves(table, rows), options=options, progress=progress, scales=scales)
    return finish_reconstruction(work, mask, config.wiener, symmetry_matrices(config.symmetry))


def _class_rows(config: ReconstructConfig, table: ParticleTable) -> dict[str, NDArray[np.int64]]:
    """Rows of the particle table by the name of the map they make."""
    if not config.classes:
        return {"map": np.arange(len(table), dtype=np.int64)}
    columns, _ = read_table(config.classes)
    if "class" not in columns:
        raise InputError(f"The table '{config.classes}' has no column 'class': give the result of a clustering.")
    found = number_vectors(columns, "class", config.classes)[:, 0]
    labels = found.astype(np.int64)
    if (labels != found).any() or (labels < 0).any():
        raise InputError(f"The column 'class' of '{config.classes}' does not hold whole numbers from 0 on: give the result of a clustering.")
    ids, member = table.particles()
    rows = join(columns["id"], ids, table=f"'{config.particles}'")
    named = {f"class_{label:03d}": np.flatnonzero(np.isin(member, rows[labels == label])) for label in np.unique(labels) if label > 0}
    if not named:
        raise InputError(f"The table '{config.classes}' puts no particle in a class: choose other clusters.")
    return named


def _fsc_mask(config: ReconstructConfig, table: ParticleTable) -> Tensor:
    """Mask (box, box, box) that is laid over the half maps before their FSC."""
    if config.mask:
        return torch.from_numpy(read_mask(config.mask, (table.box,) * 3, table.pixel_size_angst, "maps of the particles"))
    return fsc_sphere(table.box, table.pixel_size_angst, config.mask_radius_angst)


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
    require(config, "particles")
    device = select_device(config)
    table = with_defocus_hand(read_particles(config.particles, datadir=config.datadir, tilt_series=True))
    if table.angles_deg is None:
        raise InputError(f"The particles in '{config.particles}' have no poses (rlnAngleRot, rlnAngleTilt, rlnAnglePsi): align them first.")
    if config.use_ctf and table.ctf is None:
        raise InputError(f"The particles in '{config.particles}' have no CTF (rlnDefocusU): estimate it, or turn the CTF correction off.")
    symmetry_matrices(config.symmetry)
    mask = _fsc_mask(config, table)
    groups = _class_rows(config, table)
    count = {name: _particles(table, rows) for name, rows in groups.items()}
    usable = {name: rows for name, rows in groups.items() if count[name] >= 2}
    left_out = {name: number for name, number in count.items() if number < 2}
    for name, number in left_out.items():
        print(f"WARNING: {name} has {number} particle(s), too few for two half maps: it is left out.", flush=True)
    if not usable:
        raise InputError(f"No class has at least two particles of '{config.particles}': nothing can be reconstructed.")
    warn(table, [*box_warnings(table, config.mask_radius_angst), *header_warnings(table)])
    dark = check_contrast(table, ImageUse(invert_contrast=config.invert_contrast, ignore_ctf=not config.use_ctf, phase_flipped=config.phase_flipped))
    stack = StandardImages(table, keep_magnification=True)
    scales = ImageScales(table)
    progress = Progress("Reconstruction", sum(len(rows) for rows in usable.values()))
    entries, curves, volumes = [], {}, {}
    for name, rows in usable.items():
        result = reconstruct_rows(table, stack, rows=rows, config=config, mask=mask, device=device, progress=progress, scales=scales)
        scales.refuse_constant()
        entries.append(_write(config, table, name, rows, result))
        if not dark:
            warn(table, negative_map(result.volume, f"map '{name}'"))
        curves[name], volumes[name] = result.curve.numpy(), result.volume.numpy()
        if len(volumes) > 8:
            del volumes[name]
    warn(table, [*stack.warnings(), *scales.warnings()])
    _write_reports(config, table, entries, left_out, curves, volumes)


def _particles(table: ParticleTable, rows: NDArray[np.int64]) -> int:
    """Number of particles that the images in ``rows`` show."""
    return len(np.unique(table.particles()[1][rows]))


def _write(config: ReconstructConfig, table: ParticleTable, name: str, rows: NDArray[np.int64], result: Reconstruction) -> dict[str, object]:
    """Write one class's files; returns its entry for ``reconstructions.json``."""
    entry = write_reconstruction(config.output, name, result, table.pixel_size_angst)
    halves = split_halves(table, rows)
    resolution = entry["resolution_angst"]
    text = "none" if resolution is None else f"{resolution:.2f} Å"
    number = _particles(table, rows)
    images = "" if table.tilts is None else f" ({len(rows)} tilt images)"
    print(f"{name}: {number} particles{images}, resolution {text} (FSC {HALF_MAP_THRESHOLD})", flush=True)
    return {
        **entry, "class": int(name[-3:]) if name.startswith("class_") else None, "particles": number,
        "particles_half1": _particles(table, rows[halves == 1]), "particles_half2": _particles(table, rows[halves == 2]),
    }


def _write_reports(
    config: ReconstructConfig, table: ParticleTable, entries: list[dict[str, object]], left_out: dict[str, int],
    curves: dict[str, NDArray[np.float32]], volumes: dict[str, NDArray[np.float32]],
) -> None:
    pixel = table.pixel_size_angst
    write_json(os.path.join(config.output, "reconstructions.json"), {"reconstructions": entries, "left_out": left_out, "symmetry": config.symmetry.upper()})
    found = [entry["resolution_angst"] for entry in entries if isinstance(entry["resolution_angst"], float)]
    if found and config.use_ctf:
        warn(table, box_warnings(table, resolution_angst=min(found)))
    write_summary(config.output, ReconstructionSummary(
        maps=len(entries), particles=sum(int(str(entry["particles"])) for entry in entries), box=table.box, pixel_size_angst=pixel,
        best_resolution_angst=min(found, default=None), worst_resolution_angst=max(found, default=None), left_out_classes=len(left_out),
    ), warnings=table.warnings)
    figures = os.path.join(config.output, "figures")
    save_figure(fsc_curves(curves, table.box, pixel, (HALF_MAP_THRESHOLD,), title="FSC of the half maps"), os.path.join(figures, "fsc.png"))
    save_figure(map_slices(volumes, pixel), os.path.join(figures, "slices.png"))
