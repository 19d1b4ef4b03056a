"""What can be wrong with each kind of input, and what a sentence about it has to name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .bad_input_arrays import CLASSES, GAUSSIANS, MODEL, MODES, MOTION, NMD, STRUCTURE, TABLE
from .bad_input_files import BAD, DAMAGE, VALUES, Fault, cell, changed_map, changed_star, changed_volumes, damaged, edited_images, kept_rows, without

__all__ = ["KINDS"]

_THIS = (
    f"particle {BAD} ",
    f"particle {BAD}:",
    f"particle {BAD})",
    f"{BAD:06d}@",
    f"row {BAD}",
    f"subtomogram {BAD} ",
    f"subtomogram {BAD}:",
    f"subtomogram {BAD})",
)
_PLAIN = {"rlnDefocusU": "defocus", "rlnOriginXAngst": "origins"}
_FILES = [Fault(how, partial(damaged, how)) for how in ("missing", "empty", "truncated", "folder", "text", "picture")]


def _star(what: str, change: Any, names: tuple[str, ...] = (), harmless: bool = False, block: str = "data_particles") -> Fault:
    return Fault(what, lambda source, folder: changed_star(source, folder, change, block), names, harmless)


def _cells(label: str, values: dict[str, str], which: int | None = BAD) -> list[Fault]:
    return [
        _star(f"{label} {what}", cell(label, value, which), (*(_THIS if which else ()), label, _PLAIN.get(label, label))) for what, value in values.items()
    ]


def _optics(label: str, *values: str) -> list[Fault]:
    return [_star(f"{label} {value}", cell(label, value, 1), (label, "pixel size", "group"), block="data_optics") for value in values]


def _duplicate(labels: list[str], rows: list[list[str]]) -> None:
    rows.append(list(rows[BAD - 1]))


def _same_image(labels: list[str], rows: list[list[str]]) -> None:
    at = labels.index("rlnImageName")
    rows[BAD][at] = rows[BAD - 1][at]


def _stack(change: Callable[[Path], object]) -> Callable[[Path, Path], Path]:
    def make(source: Path, folder: Path) -> Path:
        path = edited_images("inverted", source, folder, ())
        change(folder / "bad.mrcs")
        return path

    return make


_TABLE_OF_ITEMS = [
    *(
        _star(what, change, names)
        for what, change, names in [
            ("zero items", kept_rows(0), ("bad.star",)),
            ("same id twice", _duplicate, (f" {BAD} ",)),
            ("image beyond the stack", cell("rlnImageName", "000999@missing.mrcs"), ("missing.mrcs", *_THIS)),
            ("text for a number", cell("rlnAngleTilt", "high"), ("rlnAngleTilt",)),
            ("image without a number", cell("rlnImageName", "x@x.mrcs"), ("x@x.mrcs", "x.mrcs")),
        ]
    ),
    *_cells("rlnAnglePsi", {"NaN": "nan", "infinite": "inf"}),
    *_cells("rlnOriginXAngst", {"NaN": "nan"}),
    *_optics("rlnImagePixelSize", "nan", "0", "-2.5", "1e9"),
    *_optics("rlnVoltage", "0", "-300", "nan"),
    *_optics("rlnAmplitudeContrast", "10", "nan"),
    _star("one item only", kept_rows(1), ("bad.star", "1 ", "one", "labelled"), harmless=True),
    _star("items without group", cell("rlnOpticsGroup", "5"), ("rlnOpticsGroup", "group 5")),
]
STAR = [
    *_TABLE_OF_ITEMS,
    *_cells("rlnDefocusU", {"NaN": "nan", "infinite": "inf"}),
    *_cells("rlnDefocusU", {"1e12 Å": "1e12"}, None),
    *_cells("rlnOriginXAngst", {"1e6 Å": "1e6"}, None),
    *(Fault(f"stack {how}", _stack(change), ("bad.mrcs", "bad.star")) for how, change in DAMAGE.items()),
    _star("no image names", without("rlnImageName"), ("rlnImageName",)),
    _star("half a CTF", without("rlnVoltage"), ("rlnVoltage",), block="data_optics"),
]
IMAGES = [
    *STAR,
    *(Fault(f"one image {how}", partial(edited_images, how), _THIS) for how in VALUES if how not in ("inverted", "masked")),
    Fault("one image masked", partial(edited_images, "masked"), _THIS),
    Fault("one image inverted", partial(edited_images, "inverted"), _THIS, harmless=True),
    *(
        Fault(
            f"all images {how}",
            lambda source, folder, how=how: edited_images(how, source, folder, None),
            ("images", "image"),
            how in ("x 1e30", "hot pixel", "inverted"),
        )
        for how in VALUES
        if how != "x 1e4"
    ),
    _star("same image twice", _same_image, ("image that another particle has", "same image")),
    _star("no poses", without("rlnAngle"), ("pose",), harmless=True),
    _star("no CTF", without("rlnDefocus", "rlnPhaseShift"), ("CTF",), harmless=True),
]
_ONE = {how: partial(changed_map, change=change) for how, change in VALUES.items()}
_SHAPES: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "of another box": lambda values: values[: len(values) - 8, : len(values) - 8, : len(values) - 8],
    "not a cube": lambda values: values[:-8],
    "one section": lambda values: values[0],
}
MAP = [
    *(Fault(f"map {how}", make, harmless=how in ("masked", "x 1e4", "saturated", "inverted")) for how, make in _ONE.items()),
    *(Fault(f"map {how}", partial(changed_map, change=change), harmless=how in ("of another box", "not a cube")) for how, change in _SHAPES.items()),
    *(
        Fault(f"voxel size {size:g} Å", partial(changed_map, change=lambda values: values, voxel=size), ("bad_", "voxel", "pixel"), harmless=size == 5.0)
        for size in (0.0, -2.5, float("nan"), 5.0, 1e6)
    ),
]
MASK = [Fault(f"mask {how}", _ONE[how], harmless=how == "constant") for how in ("blank", "NaN", "infinite", "all NaN", "x 1e30", "inverted")] + [
    Fault("mask of another box", partial(changed_map, change=_SHAPES["of another box"])),
    Fault("mask of another voxel size", partial(changed_map, change=lambda values: values, voxel=9.0)),
]


def _volume(how: str) -> Callable[[Path], object]:
    return lambda path: changed_map(path, path.parent, VALUES[how]).rename(path)


SUBTOMOGRAMS = [
    *_TABLE_OF_ITEMS,
    *(Fault(f"one subtomogram {how}", partial(changed_volumes, change=_volume(how)), (*_THIS, "sub")) for how in VALUES if how != "inverted"),
    *(Fault(f"subtomogram file {how}", partial(changed_volumes, change=change), ("0007", "sub", *_THIS)) for how, change in DAMAGE.items()),
    *_cells("rlnTomoTiltAngleMin", {"NaN": "nan"}),
]

KINDS: dict[str, list[Fault]] = {
    "images": IMAGES,
    "star": STAR,
    "map": MAP,
    "small map": MAP,
    "mask": MASK,
    "small mask": MASK,
    "subtomograms": SUBTOMOGRAMS,
    "table": TABLE,
    "features": TABLE,
    "classes": CLASSES,
    "modes": MODES,
    "gaussians": GAUSSIANS,
    "motion": MOTION,
    "structure": STRUCTURE,
    "nmd": NMD,
    "model": MODEL,
}
_PART_OF_FILES = {"model": ("missing", "empty", "text"), "structure": ("missing", "empty", "folder", "text", "picture")}  # half a PDB file is a PDB file
KINDS = {kind: [*(fault for fault in _FILES if fault.what in _PART_OF_FILES.get(kind, (fault.what,))), *faults] for kind, faults in KINDS.items()}
