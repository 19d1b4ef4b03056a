"""The command ``reconstruct``: maps with half maps and FSC from aligned particles."""

from __future__ import annotations

import os

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...common.fsc import HALF_MAP_THRESHOLD
from ..config import digest_config, require
from ..device import select_device
from ..exceptions import InputError
from ..figures import fsc_curves, map_slices, save_figure
from ..io.atomic import write_json
from ..io.maps import read_mask
from ..io.mrc_header import read_header
from ..io.records import RunRecord, is_whole_npz
from ..io.star import ParticleTable, read_particles
from ..io.summary import ReconstructionSummary, write_summary
from ..io.tables import join, number_vectors, read_table
from ..launch import is_first_process, process_rank, say_once
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
    split_halves,
    write_reconstruction,
)
from .image_scales import ImageScales
from .reconstruction import Reconstructor
from .reconstruction_memory import images_at_once, memory_plan, reconstruction_bytes
from .shared_sums import SharedSums
from .standard_images import StandardImages
from .symmetry import symmetry_matrices

__all__ = ["run"]

_SHOWN = 8  # maps in the picture of slices


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
    require(config, "particles")
    device = select_device(config)
    table = with_defocus_hand(read_particles(config.particles, datadir=config.datadir, tilt_series=True))
    if table.angles_deg is None:
        raise InputError(f"The particles in '{config.particles}' have no poses (rlnAngleRot, rlnAngleTilt, rlnAnglePsi): align them first.")
    if config.use_ctf and table.ctf is None:
        raise InputError(f"The particles in '{config.particles}' have no CTF (rlnDefocusU): estimate it, or turn the CTF correction off.")
    images = images_at_once(config.batch, table.box, device.type)
    needed = reconstruction_bytes(table.box, config.padding, len(symmetry_matrices(config.symmetry)) > 1, images, device.type)
    say_once(memory_plan(needed, device, process_rank()[1]))
    mask = _fsc_mask(config, table)
    groups = _class_rows(config, table)
    count = {name: _particles(table, rows) for name, rows in groups.items()}
    usable = {name: rows for name, rows in groups.items() if count[name] >= 2}
    left_out = {name: number for name, number in count.items() if number < 2}
    for name, number in left_out.items():
        say_once(f"WARNING: {name} has {number} particle(s), too few for two half maps: it is left out.")
    if not usable:
        raise InputError(f"No class has at least two particles of '{config.particles}': nothing can be reconstructed.")
    warn(table, [*box_warnings(table, config.mask_radius_angst), *header_warnings(table)])
    dark = check_contrast(table, ImageUse(invert_contrast=config.invert_contrast, ignore_ctf=not config.use_ctf, phase_flipped=config.phase_flipped))
    _Maps(config, table, usable, mask, device).make(left_out, dark)


class _Maps:
    """The maps of a run, whose images several processes share; see :mod:`.shared_sums`.

    Parameters
    ----------
    config, table : parameters and particles
    groups : rows of the particle table by the name of the map they make
    mask : for the FSC
    device : that of this process
    """

    def __init__(self, config: ReconstructConfig, table: ParticleTable, groups: dict[str, NDArray[np.int64]], mask: Tensor, device: torch.device) -> None:
        self.config, self.table, self.groups, self.mask, self.device = config, table, groups, mask, device
        self.stack, self.scales = StandardImages(table, keep_magnification=True), ImageScales(table)
        self.record = RunRecord(config.output, "reconstruction", digest_config(config, table.files())) if process_rank()[1] > 1 else None
        self.shared = SharedSums(self.record)
        self.done: dict[str, tuple[dict[str, object], NDArray[np.float32], list[str]]] = {}  # entry, FSC and warnings of each map

    def make(self, left_out: dict[str, int], dark: bool) -> None:
        """Make the maps that fall to this process, and its part of the others; the first process writes the reports."""
        progress = Progress("Reconstruction", sum(len(self.shared.own(rows)) for rows in self.groups.values()))
        for number, name in enumerate(self.groups):
            self._make_one(number, name, progress, dark)
        self._gather()
        if not is_first_process():
            return
        self.scales.refuse_constant()
        for _, _, said in self.done.values():
            self.table.warnings.extend(text for text in said if text not in self.table.warnings)
        warn(self.table, [*self.stack.warnings(), *self.scales.warnings()])
        _write_reports(self.config, self.table, left_out, [self.done[name][0] for name in self.groups], {name: self.done[name][1] for name in self.groups})
        if self.record is not None:
            self.record.remove()

    def _make_one(self, number: int, name: str, progress: Progress, dark: bool) -> None:
        """Insert images of one map, and give the sums to the process that finishes it."""
        rows, is_finisher = self.groups[name], self.shared.is_finisher(number)
        work = Reconstructor(self.table.box, self.table.pixel_size_angst, self.config.padding, self.device, self.config.phase_flipped)
        if self._is_done(name) or (not is_finisher and self.shared.is_given(name, work)):
            progress.step(len(self.shared.own(rows)))
            return
        self._insert(work, rows, progress)
        if is_finisher:
            self.shared.add(name, work)
            self._finish(name, rows, work, dark)
        else:
            self.shared.give(name, work)

    def _insert(self, work: Reconstructor, rows: NDArray[np.int64], progress: Progress) -> None:
        own, config = self.shared.own(rows), self.config
        options = ImageOptions(use_ctf=config.use_ctf, invert_contrast=config.invert_contrast, batch=config.batch)
        insert_particles([work], self.stack, rows[own], split_halves(self.table, rows)[own], options=options, progress=progress, scales=self.scales)

    def _finish(self, name: str, rows: NDArray[np.int64], work: Reconstructor, dark: bool) -> None:
        """Make and write one map of its sums."""
        if self.shared.world == 1:
            self.scales.refuse_constant()
        result = finish_reconstruction(work, self.mask, self.config.wiener, symmetry_matrices(self.config.symmetry))
        said = [] if dark else negative_map(result.volume, f"map '{name}'")
        warn(self.table, said)
        entry = _write(self.config, self.table, name, rows, result)
        self.done[name] = entry, result.curve.numpy(), said
        if self.record is not None:
            self.record.stage(name).write({"curve": result.curve.numpy()}, {"entry": entry, "said": said})
            self.shared.remove(name)

    def _is_done(self, name: str) -> bool:
        return self.record is not None and self.record.stage(name).exists()

    def _gather(self) -> None:
        """Have the first process know what the others found."""
        if self.record is None:
            return
        seen = [self.record.stage(f"images_{rank + 1}_of_{self.shared.world}") for rank in range(self.shared.world)]
        rows = self.scales.rows
        if not seen[self.shared.rank].exists() or len(rows):
            seen[self.shared.rank].write({"rows": rows, **self.scales.columns(rows), "fault": self.stack.faults[rows], "ratio": self.stack.deviations[rows]})
        if self.shared.rank:
            return
        stages = {name: self.record.stage(name) for name in self.groups}
        self.record.wait_for([stage.path for stage in (*stages.values(), *seen)], is_whole_npz)
        for stage in seen:
            columns, _ = stage.read() or ({}, {})
            self.scales.take(columns["rows"], columns)
            self.stack.faults[columns["rows"]], self.stack.deviations[columns["rows"]] = columns["fault"], columns["ratio"]
        for name, stage in stages.items():
            found, values = stage.read() or ({}, {})
            self.done[name] = values["entry"], found["curve"], values["said"]


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
    config: ReconstructConfig, table: ParticleTable, left_out: dict[str, int], entries: list[dict[str, object]], curves: dict[str, NDArray[np.float32]],
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
    volumes = {name: read_header(os.path.join(config.output, f"{name}.mrc")).mapped() for name in list(curves)[:_SHOWN]}
    save_figure(map_slices(volumes, pixel), os.path.join(figures, "slices.png"))
