"""What can be wrong with tables, modes, Gaussians, motions, structures and models."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from .bad_input_files import BAD, DAMAGE, Fault, changed_table

__all__ = ["CLASSES", "GAUSSIANS", "MODEL", "MODES", "MOTION", "NMD", "STRUCTURE", "TABLE"]


def _arrays(**changes: Callable[[np.ndarray], np.ndarray]) -> Callable[[Path, Path], Path]:
    def change(arrays: dict[str, np.ndarray]) -> None:
        for name in [name for name in changes if name in arrays]:
            arrays[name] = changes[name](arrays[name])

    return lambda source, folder: changed_table(source, folder, change)


def _value(value: float) -> Callable[[np.ndarray], np.ndarray]:
    def change(array: np.ndarray) -> np.ndarray:
        array = np.array(array, float)
        array.reshape(-1)[array.size // len(array) * (BAD - 1)] = value
        return array

    return change


def _each(change: Callable[[np.ndarray], np.ndarray], *spared: str) -> Callable[[Path, Path], Path]:
    def every(arrays: dict[str, np.ndarray]) -> None:
        for name in [name for name in arrays if name not in (*spared, "meta", "description")]:
            arrays[name] = change(arrays[name])

    return lambda source, folder: changed_table(source, folder, every)


def _dropped(*names: str) -> Callable[[Path, Path], Path]:
    def drop(arrays: dict[str, np.ndarray]) -> None:
        for name in names:
            arrays.pop(name, None)

    return lambda source, folder: changed_table(source, folder, drop)


def _pickled(source: Path, folder: Path) -> Path:
    path = folder / f"bad_{source.name}"
    np.savez(path, id=np.array([{"a": 1}, None], dtype=object))
    return path


_VALUES_OF = ("amplitudes", "features")  # what the tables are read for
TABLE = [
    *(
        Fault(f"{what} in a row", _arrays(**{name: _value(value) for name in _VALUES_OF}), ("bad_", f" {BAD} ", f" {BAD}:"))
        for what, value in [("NaN", np.nan), ("infinity", np.inf), ("1e300", 1e300)]
    ),
    Fault("zero rows", _each(lambda array: array[:0])),
    Fault("one row", _each(lambda array: array[:1]), ("bad_", "one", "1 ", "id ", "axis"), harmless=True),
    Fault("same id twice", _arrays(id=lambda array: np.where(array == BAD, 1, array))),
    Fault("ids of other items", _arrays(id=lambda array: array + 1000), ("bad_", "100", "id"), harmless=True),
    Fault("text for numbers", _arrays(**{name: lambda array: array.astype(str) for name in _VALUES_OF})),
    Fault("no vectors", _dropped(*_VALUES_OF), (*_VALUES_OF, "bad_")),
    Fault("no ids", _dropped("id")),
    Fault("pickled", _pickled),
    Fault("vectors without columns", _arrays(**{name: lambda array: array[:, :0] for name in _VALUES_OF})),
    Fault("columns of unlike length", _arrays(**{name: lambda array: array[:-1] for name in _VALUES_OF})),
]
CLASSES = [
    Fault("class of NaN", _arrays(**{"class": _value(np.nan)}), ("bad_", "class")),
    Fault("class of text", _arrays(**{"class": lambda array: array.astype(str)}), ("bad_", "class"), harmless=True),
    Fault("no class", _dropped("class")),
    Fault("all in class 0", _arrays(**{"class": np.zeros_like})),
    Fault("zero rows", _each(lambda array: array[:0])),
    Fault("ids of other items", _arrays(id=lambda array: array + 1000), ("bad_", "100", "id")),
    Fault("same id twice", _arrays(id=lambda array: np.where(array == BAD, 1, array))),
    Fault("negative classes", _arrays(**{"class": lambda array: -array})),
    Fault("one item a class", _arrays(**{"class": lambda array: np.arange(1, len(array) + 1)}), ("class", "bad_")),
]
MODES = [
    *(
        Fault(f"{name} {what}", _arrays(**{name: _value(value)}))
        for name in ("eigenvectors", "coordinates", "weights", "sigma_angst")
        for what, value in [("NaN", np.nan), ("1e300", 1e300)]
    ),
    Fault("modes of zeros", _arrays(eigenvectors=np.zeros_like), ("bad_", "mode")),
    Fault("atoms of unlike number", _arrays(weights=lambda array: array[:-1])),
    Fault("weights of zeros", _arrays(weights=np.zeros_like)),
    Fault("no eigenvectors", _dropped("eigenvectors")),
    Fault(
        "two modes only",
        _arrays(
            eigenvectors=lambda array: array[:2],
            eigenvalues=lambda array: array[:2],
            mode_numbers=lambda array: array[:2],
            collectivity=lambda array: array[:2],
            score=lambda array: array[:2],
        ),
        ("bad_", "mode"),
        harmless=True,
    ),
    Fault("numbers twice", _arrays(mode_numbers=np.ones_like), ("bad_", "mode")),
    Fault("pickled", _pickled),
]
GAUSSIANS = [
    *(
        Fault(f"{name} {what}", _arrays(**{name: _value(value)}))
        for name in ("position_angst", "weight", "sigma_angst")
        for what, value in [("NaN", np.nan), ("1e300", 1e300)]
    ),
    Fault("zero Gaussians", _each(lambda array: array[:0])),
    Fault("widths of zero", _arrays(sigma_angst=np.zeros_like)),
    Fault("weights of zero", _arrays(weight=np.zeros_like)),
    Fault("no positions", _dropped("position_angst")),
    Fault("negative widths", _arrays(sigma_angst=lambda array: -array)),
]


def _all_nan(array: np.ndarray) -> np.ndarray:
    return np.full_like(array, np.nan)


MOTION = [
    Fault("NaN displacement", _arrays(displacement=_all_nan)),
    Fault("NaN positions", _arrays(positions_angst=_all_nan)),
    Fault("no description", _dropped("description")),
    Fault("Gaussians of unlike number", _arrays(weights=lambda array: array[:-1])),
    Fault("pickled", _pickled),
]


def _lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path, Path], Path]:
    def make(source: Path, folder: Path) -> Path:
        path = folder / f"bad_{source.name}"
        path.write_text("\n".join(change(source.read_text().splitlines())) + "\n")
        return path

    return make


def _atoms(change: Callable[[str], str], which: int | None = BAD) -> Callable[[Path, Path], Path]:
    return _lines(lambda lines: [change(line) if line.startswith("ATOM") and which in (None, row) else line for row, line in enumerate(lines, 1)])


STRUCTURE = [
    Fault("no atoms", _lines(lambda lines: ["REMARK nothing", "END"])),
    Fault("one atom", _lines(lambda lines: [lines[0], "END"]), harmless=True),
    Fault("a line cut short", _lines(lambda lines: [*lines[:40], lines[40][:36]])),
    Fault("only water", _atoms(lambda line: "HETATM" + line[6:12] + " O   HOH " + line[21:76] + " O  ", None)),
    Fault("coordinate NaN", _atoms(lambda line: line[:30] + "     nan" + line[38:])),
    Fault("coordinate of asterisks", _atoms(lambda line: line[:30] + "********" + line[38:])),
    Fault("text for a coordinate", _atoms(lambda line: line[:30] + "   a.bcd" + line[38:])),
    Fault("all atoms at one place", _atoms(lambda line: line[:30] + "   1.000   1.000   1.000" + line[54:], None)),
    Fault("an atom far away", _atoms(lambda line: line[:30] + "9999.999" + line[38:], 2), ("bad_", "reaches", "atom", "MET A/1")),
    Fault("occupancies of 0", _atoms(lambda line: line[:54] + "  0.00" + line[60:], None)),
    Fault("B factor NaN", _atoms(lambda line: line[:60] + "   nan" + line[66:])),
]
NMD = [
    Fault("NaN in a mode", _lines(lambda lines: [line.replace(line.split()[5], "nan", 1) if line.startswith("mode") else line for line in lines])),
    Fault("a mode cut short", _lines(lambda lines: [line[: len(line) // 2] if line.startswith("mode") else line for line in lines])),
    Fault("no modes", _lines(lambda lines: [line for line in lines if not line.startswith("mode")])),
    Fault("modes of another structure", _lines(lambda lines: [" ".join(line.split()[:34]) if line.startswith("mode") else line for line in lines])),
]


def _model(change: Callable[[Path], object]) -> Callable[[Path, Path], Path]:
    def make(source: Path, folder: Path) -> Path:
        shutil.copytree(source, folder / "bad_model")
        change(folder / "bad_model")
        return folder / "bad_model"

    return make


def _described(**changes: object) -> Callable[[Path], object]:
    def change(folder: Path) -> None:
        values = json.loads((folder / "model.json").read_text())
        kept = {name: value for name, value in {**values, **changes}.items() if value is not None}
        (folder / "model.json").write_text(json.dumps(kept))

    return change


def _weights(change: Callable[[Any], Any]) -> Callable[[Path], object]:
    def changed(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        path = folder / "weights.safetensors"
        save_file(change(load_file(path)), path)

    return changed


def _other_method(source: Path, folder: Path) -> Path:
    other = next(path for name in ("distance", "subtomogram", "elastic") if (path := source.parents[1] / name / "model") != source)
    return Path(shutil.copytree(other, folder / "bad_model"))


MODEL = [
    *(
        Fault(f"{name} {how}", _model(lambda folder, name=name, change=change: change(folder / name)), ("bad_model",))
        for name in ("model.json", "weights.safetensors")
        for how, change in DAMAGE.items()
        if how in ("missing", "empty", "truncated", "folder")
    ),
    Fault(
        "weights NaN", _model(_weights(lambda found: {name: value.float() * float("nan") for name, value in found.items()})),
        ("bad_model", "the model is damaged"),
    ),
    Fault("no weights in the file", _model(_weights(lambda found: {})), ("bad_model",)),
    Fault(
        "weights of another shape",
        _model(_weights(lambda found: {name: value[..., :1].contiguous() if value.dim() else value for name, value in found.items()})),
        ("bad_model",),
    ),
    Fault("model of another method", _other_method, ("bad_model",)),
    Fault("text for a box", _model(_described(box="big", width="big")), ("bad_model",), harmless=True),
    *(
        Fault(
            f"pixel size {value}", _model(_described(pixel_size_angst=value, voxel_angst=value)), ("bad_model", "pixel size", "voxel size", "Å/px", "Å/voxel")
        )
        for value in (0, -1, 1e-3, float("nan"), "x", None)
    ),
    Fault("other arguments", _model(_described(arguments={"zzz": 1})), ("bad_model",)),
    Fault("no arguments", _model(_described(arguments=None)), ("bad_model",)),
    Fault("input of text", _model(_described(input="x")), ("bad_model",), harmless=True),
]
