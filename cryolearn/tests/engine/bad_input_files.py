"""Inputs with one fault each, made from sound ones."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import mrcfile
import numpy as np
from numpy.typing import NDArray

__all__ = [
    "BAD", "DAMAGE", "VALUES", "Fault", "cell", "changed_map", "changed_star", "changed_table", "changed_volumes", "damaged", "edited_images", "kept_rows",
    "without", "write_mrc",
]

BAD = 7  # number of the particle or subtomogram that has the fault
Rows = list[list[str]]


def damaged(how: str, source: Path, folder: Path) -> Path:
    """A file as a copy that went wrong leaves it: ``missing``, ``empty``, ``truncated``, ``folder``, ``text``, ``picture``."""
    path = folder / source.name
    whole = b"" if source.is_dir() else source.read_bytes()
    if how == "folder":
        path.mkdir()
    elif how != "missing":
        png = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 8
        content = {"empty": b"", "truncated": whole[: len(whole) // 2], "text": b"no file of this kind\n" * 40, "picture": png}[how]
        path.write_bytes(content)
    return path


def changed_star(source: Path, folder: Path, change: Callable[[list[str], Rows], object], block: str = "data_particles", name: str = "bad.star") -> Path:
    """A STAR file whose columns and rows of one block were changed; images are named by their whole paths."""
    whole = re.sub(r"(?m)(?<=@)([^/\s]\S*)|^([^/\s]\S*\.mrc)\b", lambda match: str(source.parent / match[0]), source.read_text())
    lines = whole.splitlines()
    start = next(row for row, line in enumerate(lines) if line.strip() == block)
    first = next(row for row in range(start, len(lines)) if lines[row].startswith("_"))
    last = next(row for row in range(first, len(lines)) if not lines[row].startswith("_"))
    end = next((row for row in range(last, len(lines)) if not lines[row].strip()), len(lines))
    labels, rows = [line.split()[0][1:] for line in lines[first:last]], [line.split() for line in lines[last:end]]
    change(labels, rows)
    written = [*lines[:first], *(f"_{label} #{number}" for number, label in enumerate(labels, 1)), *("\t".join(row) for row in rows), *lines[end:]]
    path = folder / name
    path.write_text("\n".join(written) + "\n")
    return path


def cell(label: str, value: str, which: int | None = BAD) -> Callable[[list[str], Rows], object]:
    """Put a value into a column: of one row, counted from 1, or of all."""
    def change(labels: list[str], rows: Rows) -> None:
        at = labels.index(label)
        for row in rows if which is None else [rows[which - 1]]:
            row[at] = value
    return change


def without(*dropped: str) -> Callable[[list[str], Rows], object]:
    """Remove columns whose names begin so."""
    def change(labels: list[str], rows: Rows) -> None:
        kept = [at for at, label in enumerate(labels) if not label.startswith(dropped)]
        labels[:], rows[:] = [labels[at] for at in kept], [[row[at] for at in kept] for row in rows]
    return change


def kept_rows(count: int) -> Callable[[list[str], Rows], object]:
    """Keep the first rows."""
    def change(labels: list[str], rows: Rows) -> None:
        del rows[count:]
    return change


def _saturated(image: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.where(image > 0, np.float32(32767), np.float32(-32768))


def _masked(image: NDArray[np.float32]) -> NDArray[np.float32]:
    grids = np.meshgrid(*(np.arange(side) - side // 2 for side in image.shape), indexing="ij")
    return np.where(sum(axis**2 for axis in grids) < (image.shape[0] // 3) ** 2, image, np.float32(0))


def _pixel(value: float) -> Callable[[NDArray[np.float32]], NDArray[np.float32]]:
    def change(image: NDArray[np.float32]) -> NDArray[np.float32]:
        image = image.copy()
        image.flat[image.size // 2 + 3] = value
        return image
    return change


# what happens to the values of an image, a subtomogram or a map
VALUES: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float32]]] = {
    "NaN": _pixel(np.nan), "infinite": _pixel(np.inf), "blank": np.zeros_like, "constant": lambda image: np.full_like(image, 3.0), "masked": _masked,
    "saturated": _saturated, "x 1e30": lambda image: image * np.float32(1e30), "x 1e4": lambda image: image * np.float32(1e4),
    "hot pixel": _pixel(1e5), "all NaN": lambda image: np.full_like(image, np.nan), "inverted": lambda image: -image,
}


def edited_images(how: str, source: Path, folder: Path, which: Sequence[int] | None = (BAD,)) -> Path:
    """Particles one of which, or all (None), have other values."""
    stack = source.parent / "images" / "particles.mrcs" if source.name == "few.star" else source.with_suffix(".mrcs")
    with mrcfile.open(stack) as handle:
        images, voxel = handle.data.copy(), float(handle.voxel_size.x)
    for at in range(len(images)) if which is None else [number - 1 for number in which]:
        images[at] = VALUES[how](images[at])
    path = folder / "bad.mrcs"
    write_mrc(path, images, voxel)
    return changed_star(source, folder, renamed(path))


def renamed(stack: Path) -> Callable[[list[str], Rows], object]:
    """Take the images from another stack."""
    def change(labels: list[str], rows: Rows) -> None:
        at = labels.index("rlnImageName")
        for row in rows:
            row[at] = f"{row[at].partition('@')[0]}@{stack}"
    return change


def changed_volumes(source: Path, folder: Path, change: Callable[[Path], object]) -> Path:
    """Subtomograms one of which was changed as a file."""
    named: list[Path] = []

    def other(labels: list[str], rows: Rows) -> None:
        at = labels.index("rlnImageName")
        named.append(Path(rows[BAD - 1][at]))
        rows[BAD - 1][at] = str(folder / named[0].name)
    path = changed_star(source, folder, other)
    shutil.copy(named[0], folder / named[0].name)
    change(folder / named[0].name)
    return path


def changed_map(source: Path, folder: Path, change: Callable[[NDArray[np.float32]], NDArray[np.float32]], voxel: float | None = None) -> Path:
    """A map with other values, another shape or another voxel size."""
    with mrcfile.open(source) as handle:
        values, size = handle.data.copy(), float(handle.voxel_size.x)
    path = folder / f"bad_{source.name}"
    write_mrc(path, change(values), size if voxel is None else voxel)
    return path


def write_mrc(path: Path, values: NDArray[np.float32], voxel_angst: float) -> None:
    """Write values as they are, with no check of them."""
    with np.errstate(all="ignore"):
        with mrcfile.new(path, overwrite=True) as handle:
            handle._data = None  # statistics of NaN and of 1e30 would be warned of
            handle.set_data(np.zeros_like(values))
            handle.data[...] = values
            handle.voxel_size = voxel_angst


def changed_table(source: Path, folder: Path, change: Callable[[dict[str, NDArray[np.generic]]], object]) -> Path:
    """An npz file with other arrays."""
    with np.load(source, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    change(arrays)
    path = folder / f"bad_{os.path.basename(source)}"
    np.savez(path, **arrays)
    if source.name == "modes.npz":
        shutil.copy(source.parent / "structure.pdb", folder / "structure.pdb")
    return path


class Fault(NamedTuple):
    """A fault of an input.

    Attributes
    ----------
    what : the fault
    make : writes the faulty input from a sound one into a folder; returns its path
    names : texts of which the sentence about it has one; none is the name of the file or of the parameter
    harmless : a result without any sentence is right too
    """

    what: str
    make: Callable[[Path, Path], Path]
    names: tuple[str, ...] = ()
    harmless: bool = False


def _cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _as_folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


DAMAGE: dict[str, Callable[[Path], object]] = {
    "missing": Path.unlink,
    "empty": lambda path: path.write_bytes(b""),
    "truncated": _cut,
    "folder": _as_folder,
    "of another box": lambda path: write_mrc(path, np.ones((60, 24, 24), np.float32), 2.5),
}
