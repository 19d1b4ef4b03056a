"""Tiny sound inputs for every command of the engine, made by the commands themselves, and the settings with which each command takes them."""

from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path

import mrcfile
import numpy as np
import prody

from cryolearn.engine.__main__ import main

__all__ = ["COMMANDS", "INPUTS", "Options", "make_sets", "words_of"]

Options = Mapping[str, object]
_DATAFILES = Path(prody.__file__).parent / "tests" / "datafiles"

# Where each good input lies below the folder of the sets.
PLACES = {
    "structure": "a.pdb", "other": "b.pdb", "modes": "modes/modes.npz", "nmd": "modes/modes.nmd", "images": "images/particles.star", "few": "few.star",
    "truth": "images/truth.npz", "map": "map/map.mrc", "half1": "map/map_half1.mrc", "half2": "map/map_half2.mrc", "mask": "mask.mrc",
    "subtomograms": "subtomograms/subtomograms.star", "small mask": "small_mask.mrc", "small map": "small_map.mrc",
    "gaussians": "gaussians/gaussians.npz", "alignment": "alignment/alignment.npz", "clusters": "clusters/clusters.npz", "motion": "motion/motion.npz",
    "conformations": "motion/conformations.npz", "features": "features/clusters.npz",
    "elastic model": "elastic/model", "distance model": "distance/model", "subtomogram model": "subtomogram/model", "map model": "maps/model",
}
_MAKING: dict[str, tuple[str, dict[str, object]]] = {
    "modes": ("normal-modes", {"structure": "@structure", "number": 10, "selection": "name CA", "method": "anm_ca", "cutoff_angst": 15.0}),
    "images": ("simulate-particles", {"modes": "@modes", "number": 60, "box": 32, "pixel_size_angst": 2.5, "amplitude": 30.0, "snr": 0.5,
                                      "shift_angst": 3.0, "mode_numbers": [7, 8]}),
    "map": ("reconstruct", {"particles": "@images"}),
    "subtomograms": ("subtomogram-simulate", {"structures": ["@structure"], "null_class": True, "per_class": 8, "box": 16, "pixel_size_angst": 4.0, "snr": 1.0,
                                              "shift_angst": 4.0, "defocus_angst": 20000.0, "tilt_step_deg": 5.0}),
}
_MORE: dict[str, tuple[str, dict[str, object]]] = {  # what only the benchmark needs
    "gaussians": ("volume-to-gaussians", {"volume": "@map", "resolution_angst": 12.0, "iterations": 20}),
    "alignment": ("elastic-align", {}), "clusters": ("cluster-landscape", {}), "motion": ("gaussian-heterogeneity", {}),
    "elastic": ("elastic-train", {}), "distance": ("distance-train", {}), "subtomogram": ("subtomogram-train", {}), "maps": ("map-train", {}),
    "features": ("subtomogram-subdivide", {}),
}
_ELASTIC = {"mode_numbers": [7, 8], "amplitude_range": 30.0, "shift_range_angst": 4.0}

# Options of a quick run of each command; @NAME is the good input of that name.
COMMANDS: dict[str, dict[str, object]] = {
    "simulate-particles": {**_MAKING["images"][1], "number": 4},
    "subtomogram-simulate": {**_MAKING["subtomograms"][1], "per_class": 2},
    "normal-modes": _MAKING["modes"][1],
    "import-modes": {"structure": "modes/structure.pdb", "mode_files": ["@nmd"]},
    "volume-to-gaussians": {"volume": "@map", "resolution_angst": 12.0, "iterations": 5},
    "elastic-align": {"particles": "@few", "modes": "@modes", **_ELASTIC, "start": "local", "local_range_deg": 5.0, "candidates": 2},
    "elastic-train": {"modes": "@modes", "particles": "@few", "alignment": "@alignment", **_ELASTIC, "labels": "both", "width": 16, "epochs": 1,
                      "images_per_epoch": 16, "batch": 16},
    "elastic-predict": {"particles": "@few", "model": "@elastic model"},
    "elastic-errors": {"alignment": "@alignment", "truth": "@truth", "modes": "@modes"},
    "cluster-landscape": {"table": "@alignment", "clusters": 2},
    "select-landscape": {"table": "@alignment", "polygon": [-100.0, -100.0, 100.0, -100.0, 0.0, 100.0]},
    "trajectory": {"table": "@alignment", "modes": "@modes", "mode_numbers": [7, 8], "frames": 2, "volumes": False},
    "convert-particles": {"particles": "@few"},
    "reconstruct": {"particles": "@few"},
    "gaussian-heterogeneity": {"particles": "@few", "volume": "@map", "gaussians": "@gaussians", "maps": 0, "halves": False, "rounds": 1, "states": 3},
    "distance-train": {"structures": ["@structure"], "particles": "@few", "network_size_px": 32, "width": 8, "epochs": 1, "images_per_epoch": 16, "batch": 16},
    "orientation-recover": {"particles": "@images", "start": "random", "rounds": 1, "restarts": 1},
    "orientation-compare": {"particles": "@few", "reference": "@images"},
    "subtomogram-train": {"subtomograms": "@subtomograms", "width": 8, "embedding": 4, "epochs": 1, "batch": 16},
    "subtomogram-classify": {"subtomograms": "@subtomograms", "model": "@subtomogram model"},
    "subtomogram-subdivide": {"subtomograms": "@subtomograms", "model": "@subtomogram model", "clusters": 2},
    "subtomogram-average": {"subtomograms": "@subtomograms", "classes": 1, "iterations": 1, "starts": 1, "angular_step_deg": 45.0, "finest_step_deg": 10.0},
    "validate-map": {"volume": "@map", "structure": "@structure", "bootstraps": 100, "decoys": False},
    "map-train": {"structures": ["@structure", "@other"], "patch_px": 32, "width": 8, "epochs": 1, "patches_per_epoch": 1, "batch": 1, "validation_patches": 1,
                  "voxel_angst": 2.0},
    "map-enhance": {"volume": "@map", "half1": "@half1", "half2": "@half2", "model": "@map model", "rotations": "1", "tile_px": 32},
    "fsc": {"map1": "@half1", "map2": "@half2"},
}
# Parameters that are files, with the kind of what they hold; the first one of a command is given all faults of its kind.
INPUTS: dict[str, dict[str, str]] = {
    "simulate-particles": {"modes": "modes", "structure": "structure", "volumes": "map"},
    "subtomogram-simulate": {"structures": "structure", "volumes": "map"},
    "normal-modes": {"structure": "structure"},
    "import-modes": {"structure": "structure", "mode_files": "nmd"},
    "volume-to-gaussians": {"volume": "map", "mask": "mask"},
    "elastic-align": {"particles": "images", "modes": "modes"},
    "elastic-train": {"particles": "images", "modes": "modes", "alignment": "table"},
    "elastic-predict": {"particles": "images", "model": "model"},
    "elastic-errors": {"alignment": "table", "truth": "table", "modes": "modes"},
    "cluster-landscape": {"table": "table"}, "select-landscape": {"table": "table"},
    "trajectory": {"table": "table", "modes": "modes", "motion": "motion"},
    "convert-particles": {"particles": "star"},
    "reconstruct": {"particles": "images", "classes": "classes", "mask": "mask"},
    "gaussian-heterogeneity": {"particles": "images", "volume": "map", "gaussians": "gaussians", "mask": "mask", "focus": "mask"},
    "distance-train": {"particles": "images", "structures": "structure", "volumes": "map"},
    "orientation-recover": {"particles": "images", "model": "model"},
    "orientation-compare": {"particles": "star", "reference": "star"},
    "subtomogram-train": {"subtomograms": "subtomograms"},
    "subtomogram-classify": {"subtomograms": "subtomograms", "model": "model"},
    "subtomogram-subdivide": {"subtomograms": "subtomograms", "model": "model"},
    "subtomogram-average": {"subtomograms": "subtomograms", "references": "small map", "mask": "small mask", "features": "features"},
    "validate-map": {"volume": "map", "structure": "structure", "half1": "map", "mask": "mask"},
    "map-train": {"structures": "structure", "input_maps": "map"},
    "map-enhance": {"volume": "map", "half1": "map", "model": "model"},
    "fsc": {"map1": "map", "map2": "map", "mask": "mask"},
}


def words_of(command: str, output: Path, options: Options, sets: Path) -> list[str]:
    """Command line, with good inputs in the place of @NAME."""
    words = [command, "--output", str(output), "--threads", "1"]
    for name, value in options.items():
        known = [place(item, sets) for item in value] if isinstance(value, list) else place(value, sets)
        words += [f"--{name}", json.dumps(known) if isinstance(known, (bool, list)) else str(known)]
    return words


def place(value: object, sets: Path) -> object:
    """Path of the good input @NAME; any other value as it is."""
    if isinstance(value, str) and value.startswith("@"):
        return str(sets / PLACES[value[1:]])
    return str(sets / value) if value == "modes/structure.pdb" else value


def make_sets(sets: Path, whole: bool = False) -> Path:
    """Make the good inputs in a folder; ``whole`` also those that take a training or an alignment."""
    sets.mkdir(parents=True, exist_ok=True)
    for name, source in (("a.pdb", "pdb1ubi.pdb"), ("b.pdb", "pdb1ejg.pdb")):
        lines = (_DATAFILES / source).read_text().splitlines()
        end = next((row for row, line in enumerate(lines) if line.startswith("ENDMDL")), len(lines))
        (sets / name).write_text("\n".join([*(line for line in lines[:end] if line.startswith("ATOM")), "END", ""]))
    for name, (command, options) in {**_MAKING, **(_MORE if whole else {})}.items():
        if not (sets / name).exists():
            _made(sets, name, command, options or COMMANDS[command])
        if name == "images":
            rows = (sets / PLACES["images"]).read_text().replace("@particles", "@images/particles").splitlines()
            (sets / "few.star").write_text("\n".join(rows[: len(rows) - 36]) + "\n")
        if name == "map":
            sphere(sets / "mask.mrc", 32, 12, 2.5)
            sphere(sets / "small_mask.mrc", 16, 6, 4.0)
            sphere(sets / "small_map.mrc", 16, 4, 4.0)
    return sets


def sphere(path: Path, box: int, radius: float, voxel_angst: float) -> None:
    """A ball of ones, as a map."""
    axis = np.arange(box) - box // 2
    inside = axis[:, None, None] ** 2 + axis[:, None] ** 2 + axis**2 < radius**2
    with mrcfile.new(path, inside.astype(np.float32), overwrite=True) as handle:
        handle.voxel_size = voxel_angst


def _made(sets: Path, name: str, command: str, options: Options) -> None:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = main(words_of(command, sets / name, options, sets))
    if code:
        raise RuntimeError(f"{command} did not make '{name}': {text.getvalue()[-500:]}")


os.environ.setdefault("OMP_NUM_THREADS", "1")
