"""What ``subtomogram-average`` writes: maps, poses and classes, tables and pictures."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...figures import bar_chart, fsc_curves, save_figure
from ...imaging.fourier import filter_shells
from ...imaging.fsc import fsc, ssnr_from_fsc
from ...imaging.half_set_maps import Reconstruction, write_reconstruction
from ...imaging.poses import matrix_to_euler
from ...io.atomic import write_csv
from ...io.subtomograms import SubtomogramTable, write_subtomograms
from ...io.summary import AveragingSummary, write_summary
from ...io.tables import write_table
from ..averaging.averages import Averages
from ..averaging.averaging_state import State
from ..averaging.class_novelty import Known, Novelty, novelty_of
from ..averaging.half_set_alignment import LOST, kept_shells
from ..config import SubtomogramAverageConfig
from .class_gallery import GalleryRow, class_gallery

__all__ = ["Averaged", "averaged", "write_report"]

_GALLERY = 12  # classes of one picture
_CURVES = 10


@dataclass(kw_only=True)
class Averaged:
    """One class.

    Attributes
    ----------
    input_class : name of the class of the input that it is part of, "" for all
    rows : (m,) rows of the whole table
    result : maps and curves
    half, score : (m,)
    rotation, shift_px : (m, 3, 3), (m, 3)
    evidence : (2, starts) of the random starts
    """

    input_class: str
    rows: NDArray[np.int64]
    result: Reconstruction
    half: NDArray[np.int64]
    score: NDArray[np.float32]
    rotation: Tensor
    shift_px: Tensor
    evidence: Tensor


def averaged(
    name: str, rows: NDArray[np.int64], table: SubtomogramTable, half: NDArray[np.int64], state: State, averages: Averages, mask: Tensor, floor: float,
) -> list[Averaged]:
    """The classes of one input class that have subtomograms; ``table`` and ``half`` hold its ``rows``."""
    maps, joined = averages.maps(floor).cpu(), averages.maps(floor, joined=True).cpu()
    found = []
    for number in range(maps.shape[1]):
        own = torch.nonzero(state.number == number).flatten()
        if not len(own):
            continue
        first, second = maps[:, number]
        both = bool((averages.count[:, number] > 0).all())
        curve = fsc(first, second, mask) if both else torch.zeros(maps.shape[-1] // 2 + 1)
        ssnr = ssnr_from_fsc(kept_shells(curve))
        volume = filter_shells(joined[number], ssnr / (1 + ssnr))  # Wiener filter of the map of both halves
        result = Reconstruction(volume, first, second, curve, fsc(first, second) if both else torch.zeros_like(curve))
        at = own.numpy()
        found.append(
            Averaged(
                input_class=name,
                rows=rows[at],
                result=result,
                half=half[at],
                score=state.score[own, number].numpy(),
                rotation=state.rotation[own],
                shift_px=state.shift_px[own],
                evidence=state.evidence,
            )
        )
    return found


def write_report(
    config: SubtomogramAverageConfig, table: SubtomogramTable, found: list[Averaged], left_out: list[str], known: Known | None, coarse_angst: float,
) -> None:
    """Write all files; classes are numbered by size, those of one input class together.

    ``coarse_angst``: half maps have to agree to finer than this for a class to be called new. Any two compact maps that are laid on each other agree
    at the resolution of random starts.
    """
    order = sorted(found, key=lambda item: (item.input_class, -len(item.rows)))
    entries, warnings = [], list(left_out)
    for number, item in enumerate(order, start=1):
        name = f"class_{number:03d}"
        entry = write_reconstruction(config.output, name, item.result, table.pixel_size_angst)
        agrees = entry["resolution_angst"] is not None and entry["resolution_angst"] < coarse_angst
        entry.update({
            "number": number, "count": len(item.rows), "half_counts": [int((item.half == h).sum()) for h in (1, 2)],
            "score": float(np.mean(item.score)), "input_class": item.input_class,
        })
        if known is not None:
            entry.update(_novelty_columns(novelty_of(known, item.rows, agrees)))
        entries.append(entry)
        if min(entry["half_counts"]) == 0:
            warnings.append(f"All subtomograms of {name} are in one half set, so it has no resolution.")
    _write_subtomograms(config, table, order)
    _write_classes(os.path.join(config.output, "classes.csv"), entries)
    _draw(config, table, order, entries)
    write_summary(config.output, AveragingSummary(
        subtomograms=int(sum(len(item.rows) for item in order)), box=table.box, pixel_size_angst=table.pixel_size_angst, classes=entries, warnings=warnings,
        starts_evidence={item.input_class: item.evidence.tolist() for item in order},
    ))
    for entry in entries:
        resolution = entry["resolution_angst"]
        print(f"{entry['name']}: {entry['count']} subtomograms, " + ("halves do not agree" if resolution is None else f"{resolution:.1f} Å")
              + (f", new: {entry['outside']:.0%} outside of the training classes" if entry.get("new") else ""), flush=True)
    for line in warnings:
        print(line, flush=True)


def _novelty_columns(novelty: Novelty) -> dict[str, Any]:
    return {"nearest_class": novelty.nearest, "distance": novelty.distance, "outside": novelty.outside, "new": novelty.new}


def _write_subtomograms(config: SubtomogramAverageConfig, table: SubtomogramTable, order: list[Averaged]) -> None:
    rows = np.concatenate([item.rows for item in order])
    number = np.concatenate([np.full(len(item.rows), place) for place, item in enumerate(order, start=1)])
    angles = np.concatenate([matrix_to_euler(item.rotation.double()).numpy() for item in order])
    shifts = np.concatenate([item.shift_px.double().numpy() for item in order]) * table.pixel_size_angst
    half, score = (np.concatenate([getattr(item, name) for item in order]) for name in ("half", "score"))
    back = np.argsort(rows, kind="stable")
    part = table.subset(rows[back])
    extra = {**part.extra, "rlnClassNumber": number[back]}
    written = replace(
        part, angles_deg=angles[back], shifts_angst=shifts[back], random_subset=half[back],
        class_name=[f"class_{one:03d}" for one in number[back]], extra=extra,
    )
    write_subtomograms(os.path.join(config.output, "subtomograms.star"), written)
    columns = {
        "id": part.ids, "class": number[back], "half": half[back], "score": score[back], "angles_deg": angles[back], "shifts_angst": shifts[back],
    }
    write_table(os.path.join(config.output, "averages.npz"), columns, {"pixel_size_angst": table.pixel_size_angst, "box": table.box})


def _write_classes(path: str, entries: list[dict[str, Any]]) -> None:
    columns = ["name", "number", "input_class", "count", "resolution_angst", "score"]
    if entries and "nearest_class" in entries[0]:
        columns += ["nearest_class", "distance", "outside", "new"]
    write_csv(path, columns, (
        ["" if value is None else f"{value:.4f}" if isinstance(value, float) else value for value in (entry[name] for name in columns)] for entry in entries
    ))


def _draw(config: SubtomogramAverageConfig, table: SubtomogramTable, order: list[Averaged], entries: list[dict[str, Any]]) -> None:
    folder, pixel = os.path.join(config.output, "figures"), table.pixel_size_angst
    largest = sorted(range(len(order)), key=lambda place: -len(order[place].rows))
    shown = sorted(largest[:_GALLERY])
    rows = []
    for place in shown:
        entry = entries[place]
        resolution = "halves do not agree" if entry["resolution_angst"] is None else f"{entry['resolution_angst']:.0f} Å"
        rows.append(GalleryRow(f"{entry['name']}: {entry['count']} subtomograms, {resolution}", order[place].result.volume.numpy()))
    title = "Class averages" if len(shown) == len(order) else f"The {len(shown)} largest of {len(order)} class averages"
    save_figure(class_gallery(rows, pixel, title), os.path.join(folder, "class_gallery.png"))
    drawn = sorted(largest[:_CURVES])
    curves = {entries[place]["name"]: order[place].result.curve.numpy() for place in drawn}
    save_figure(fsc_curves(curves, table.box, pixel, (LOST,), title="Half maps of the class averages"), os.path.join(folder, "fsc.png"))
    if entries and "outside" in entries[0]:
        figure = bar_chart([entry["name"] for entry in entries], [round(entry["outside"], 2) for entry in entries],
                           "part of the subtomograms", "Outside of every training class")
        save_figure(figure, os.path.join(folder, "novelty.png"))
