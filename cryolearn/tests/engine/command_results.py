"""Results of the engine's commands on two devices, side by side: the cases, what a run left in its folder, and how far two are apart."""

from __future__ import annotations

import csv
import re
from pathlib import Path

import mrcfile
import numpy as np
from safetensors.numpy import load_file

from .bad_input_sets import COMMANDS as QUICK
from .bad_input_sets import Options, words_of

__all__ = ["CASES", "SIXTEEN_BITS", "TRAININGS", "difference", "results", "words_of_case"]

# Largest difference from the CPU's result, in parts of the largest number of a map, table or column. The pretend GPU computes each operation as the CPU does,
# so only those paths differ that are others on a GPU.
EXACT = 1e-6
SIXTEEN_BITS = 0.03  # a GPU trains and classifies in bfloat16, whose numbers have 8 bits: 2^-9 each

_OTHERS = ("simulate-particles", "subtomogram-simulate", "volume-to-gaussians", "elastic-align", "elastic-predict", "gaussian-heterogeneity", "fsc",
           "reconstruct", "subtomogram-average", "subtomogram-subdivide")
TRAININGS = {"elastic-train": "elastic", "distance-train": "distance", "subtomogram-train": "subtomogram", "map-train": "maps"}

# Name of a case: (command, changes of its quick options, largest difference). An option that is None is left out.
CASES: dict[str, tuple[str, Options, float]] = {
    **{name: (name, {}, EXACT) for name in _OTHERS}, **{name: (name, {"precision": "32"}, EXACT) for name in TRAININGS},
    "subtomogram-classify": ("subtomogram-classify", {}, SIXTEEN_BITS),
    "orientation-recover": (
        "orientation-recover", {"start": "network", "model": "@distance model", "restarts": 1, "gauge_candidates": 100, "second_start": False}, EXACT),
    "map-enhance": ("map-enhance", {"half1": None, "half2": None, "resolution_angst": 6.0, "tile_px": 208}, EXACT),  # one tile
}

_AXES = "known.whitening"


def words_of_case(name: str, output: Path, sets: Path) -> list[str]:
    """Command line of a case."""
    command, changes, _ = CASES[name]
    return words_of(command, output, {option: value for option, value in {**QUICK[command], **changes}.items() if value is not None}, sets)


def results(folder: Path) -> dict[str, np.ndarray]:
    """Arrays, maps, numbers of tables and weights that a run left in its folder."""
    found: dict[str, np.ndarray] = {}
    for path in sorted(item for pattern in ("*", "model/*") for item in folder.glob(pattern)):
        if path.suffix == ".npz":
            with np.load(path) as arrays:
                found |= {f"{path.name}: {name}": arrays[name] for name in arrays.files if arrays[name].dtype.kind in "fiubc"}
        elif path.suffix in (".mrc", ".mrcs"):
            with mrcfile.open(path, permissive=True) as handle:
                found[path.name] = np.array(handle.data)
        elif path.suffix == ".safetensors":
            found |= {f"{path.name}: {name}": values for name, values in load_file(path).items()}
            if f"{path.name}: {_AXES}" in found:  # axes of equal scatter may be any, their metric is one
                axes = found[f"{path.name}: {_AXES}"]
                found[f"{path.name}: {_AXES}"] = axes @ axes.T
        elif path.suffix == ".star":
            found[path.name] = np.array([float(word) for word in re.findall(r"(?<!\S)-?\d+\.\d+(?!\S)", path.read_text())])
        elif path.suffix == ".csv":
            with open(path, newline="", encoding="utf-8") as handle:
                rows = list(csv.DictReader(handle))
            found |= {f"{path.name}: {name}": np.array([_number(row[name]) for row in rows]) for name in rows[0] if "seconds" not in name}
    found.pop("clusters.npz: reduced", None)  # a picture of the features, which the last bit may move far
    return found


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")


def difference(found: np.ndarray, expected: np.ndarray) -> float:
    """Largest difference in parts of the largest expected number; infinite where shapes or NaN differ."""
    if found.shape != expected.shape or not np.array_equal(np.isnan(found), np.isnan(expected)):
        return float("inf")
    known = np.isfinite(expected)
    if not np.array_equal(found[~known], expected[~known], equal_nan=True):
        return float("inf")
    apart = np.abs(found[known] * 1.0 - expected[known] * 1.0).max(initial=0)
    return float(apart / max(np.abs(expected[known] * 1.0).max(initial=0), 1e-30)) if apart else 0.0
