"""The command ``subtomogram-average``: reference-free alignment, classification and averaging under the missing wedge."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...common.checks import check_average_box, check_references
from ...common.limits import same_pixel_size
from ..config import digest_config, digest_values, require
from ..device import select_device
from ..exceptions import InputError
from ..imaging.density_maps import check_density
from ..imaging.half_set_maps import halves_of
from ..imaging.masks import sphere_mask
from ..imaging.symmetry import symmetry_matrices
from ..io.maps import read_map, read_mask
from ..io.records import RunRecord
from ..io.subtomograms import SubtomogramStack, SubtomogramTable, read_subtomograms
from .averaging.aligner import Plan
from .averaging.averaging_iterations import Rounds, start_shells
from .averaging.averaging_state import Settings
from .averaging.class_novelty import read_known
from .config import SubtomogramAverageConfig
from .report.averaging_report import Averaged, averaged, write_report

__all__ = ["run"]

_RADIUS = 0.4  # of the box
_SHIFT = 0.1  # of the box
_INITIAL = 6.0  # Fourier pixels
_SOFT = 0.08  # of the box: edge of the spherical mask


def run(config: SubtomogramAverageConfig) -> None:
    """Run the command.

    Raises
    ------
    InputError
        naming what is missing, of another size, or too small.
    """
    require(config, "subtomograms")
    device = select_device(config)
    table = read_subtomograms(config.subtomograms, config.datadir)
    SubtomogramStack(table)  # every header, before any work
    settings = _settings(config, table)
    known = read_known(config.features, config.known_features, table) if config.features or config.known_features else None
    groups, left_out = _groups(config, table)
    record = RunRecord(config.output, "averaging", digest_config(config, table.file))
    found: list[Averaged] = []
    for name, rows in groups.items():
        part = table.subset(rows)
        half = halves_of(part.ids, part.random_subset)
        rounds = Rounds(part, half, settings, record.part(digest_values(name)), device, name)
        state, averages = rounds.run()
        found += averaged(name, rows, table=part, half=half, state=state, averages=averages, mask=settings.mask, floor=settings.floor)
    coarse = table.box * table.pixel_size_angst / start_shells(table.box, settings.plan.particle_px)
    write_report(config, table, found, left_out, known, coarse)
    record.remove()


def _groups(config: SubtomogramAverageConfig, table: SubtomogramTable) -> tuple[dict[str, NDArray[np.int64]], list[str]]:
    """Rows that are averaged together, by the name of their input class, and sentences about those that are left out."""
    least = 2 * config.classes
    if not config.each_class:
        if len(table) < least:
            raise InputError(f"{len(table)} subtomograms are too few for {config.classes} classes in two half sets: at least {least} are needed.")
        return {"": np.arange(len(table))}, []
    names = np.array(_class_names(config, table))
    rows = {str(name): np.flatnonzero(names == name) for name in np.unique(names) if name}
    least = max(config.smallest, least)
    left_out = [f"Class '{name}' is left out: it has only {len(at)} subtomograms." for name, at in rows.items() if len(at) < least]
    if np.any(names == ""):
        left_out.append(f"{np.count_nonzero(names == '')} subtomograms are left out: they belong to no class of the input.")
    kept = {name: at for name, at in rows.items() if len(at) >= least}
    if not kept:
        raise InputError(f"No class of '{config.subtomograms}' has {least} subtomograms or more: lower 'smallest' or 'classes'.")
    return kept, left_out


def _class_names(config: SubtomogramAverageConfig, table: SubtomogramTable) -> list[str]:
    """Name of the class of each subtomogram; "" for those that belong to none (class number 0)."""
    if table.class_name is not None:
        return table.class_name
    if "rlnClassNumber" not in table.extra:
        raise InputError(
            f"The STAR file '{config.subtomograms}' has no classes (rlnClassName or rlnClassNumber): switch each_class off, or give classified subtomograms."
        )
    numbers = np.asarray(table.extra["rlnClassNumber"]).astype(float).astype(int)
    width = len(str(int(numbers.max(initial=0))))
    return [f"{number:0{width}d}" if number > 0 else "" for number in numbers.tolist()]


def _settings(config: SubtomogramAverageConfig, table: SubtomogramTable) -> Settings:
    box, pixel = table.box, table.pixel_size_angst
    check_average_box(box)
    if config.start == "alignment" and table.angles_deg is None:
        raise InputError(f"The STAR file '{config.subtomograms}' has no alignment (rlnAngleRot/Tilt/Psi): start at random or from references.")
    if config.local_search and config.start != "alignment":
        raise InputError("A local search needs the poses of the input: set start to 'alignment', or switch local_search off.")
    references = None
    if config.start == "reference":
        if not config.references:
            raise InputError("The start from references needs maps: name them in 'references'.")
        check_references(len(config.references), config.classes)
        references = torch.stack([_reference(path, table) for path in config.references])
    radius = config.mask_radius_angst / pixel or _RADIUS * box
    if radius > box / 2:
        raise InputError(f"The mask's radius of {config.mask_radius_angst:g} Å is larger than half the box of {box * pixel:g} Å.")
    mask = _mask(config, table) if config.mask else sphere_mask(box, radius, min(_SOFT * box, box / 2 - radius))
    if config.mask:
        radius = _extent(mask) if not config.mask_radius_angst else radius
    group = symmetry_matrices(config.symmetry).float()
    shift = config.shift_range_angst / pixel or _SHIFT * box
    if shift > box / 4:
        raise InputError(f"The shift range of {config.shift_range_angst:g} Å is larger than a quarter of the box of {box * pixel:g} Å: extract larger boxes.")
    initial = box * pixel / config.initial_resolution_angst if config.initial_resolution_angst else _INITIAL
    plan = Plan(
        step_deg=config.angular_step_deg,
        finest_deg=min(config.finest_step_deg, config.angular_step_deg),
        fine_px=initial,
        particle_px=radius,
        shift_px=shift,
        group=group if len(group) > 1 else None,
        seed=config.seed,
        local=config.local_search,
    )
    return Settings(
        classes=config.classes,
        iterations=config.iterations,
        start=config.start,
        starts=config.starts,
        seed=config.seed,
        batch=config.batch,
        initial_px=min(initial, box / 2 - 1),
        plan=plan,
        mask=mask,
        edge_px=config.wedge_edge_px,
        floor=config.coverage_floor,
        invert=config.invert_contrast,
        references=references,
    )


def _mask(config: SubtomogramAverageConfig, table: SubtomogramTable) -> Tensor:
    return torch.from_numpy(read_mask(config.mask, (table.box,) * 3, table.pixel_size_angst, "averages of the subtomograms")).clamp(0, 1)


def _reference(path: str, table: SubtomogramTable) -> Tensor:
    """A map in the box and at the voxel size of the subtomograms."""
    item = read_map(path)
    if item.data.shape != (table.box,) * 3:
        size = " x ".join(str(side) for side in item.data.shape[::-1])
        raise InputError(f"The reference '{path}' has {size} voxels, but the subtomograms have a box of {table.box}: crop or pad it.")
    if not same_pixel_size(item.pixel_size_angst, table.pixel_size_angst):
        raise InputError(f"The reference '{path}' has {item.pixel_size_angst:g} Å/voxel, but the subtomograms have {table.pixel_size_angst:g}: resample it.")
    check_density(item, path)
    return torch.from_numpy(item.data)


def _extent(mask: Tensor) -> float:
    """Radius in voxels, about the box's centre, that holds all of a mask."""
    places = torch.nonzero(mask > 0.5).float() - mask.shape[-1] // 2
    return min(float(places.norm(dim=1).max()), mask.shape[-1] / 2) if len(places) else math.nan
