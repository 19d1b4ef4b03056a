"""Names of images in STAR files, ``000001@stack.mrcs``: the stacks, and the section of each image."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..exceptions import InputError
from .mrc_header import MrcHeader, read_header

__all__ = ["check_sections", "split_image_names"]

_MOST_DIGITS = 18  # of an image's number


def split_image_names(path: str, names: NDArray[Any], ids: NDArray[np.int64]) -> tuple[list[str], NDArray[np.int64], NDArray[np.int64]]:
    """Unique stack names, and each particle's stack and section (from 0)."""
    known: dict[str, int] = {}
    file_index, image_index = np.empty(len(names), np.int64), np.empty(len(names), np.int64)
    for row, name in enumerate(names):
        number, at, file = name.partition("@")
        if not at or not number.isdigit() or number.strip("0") == "" or len(number) > _MOST_DIGITS or not file:
            raise InputError(
                f"The STAR file '{path}' names the image '{name}' for particle {ids[row]}, which is not of the form "
                "000001@stack.mrcs with an index from 1."
            )
        image_index[row] = int(number) - 1
        file_index[row] = known.setdefault(file, len(known))
    return list(known), file_index, image_index


def check_box(file: str, header: MrcHeader, box: int) -> None:
    """Refuse a stack whose images are not ``box`` pixels wide and high."""
    if header.shape[1:] != (box, box):
        raise InputError(f"The images of the stack '{file}' are {header.shape[2]} x {header.shape[1]} px, but the STAR file says {box} x {box} px.")


def check_sections(
    path: str, files: list[str], file_index: NDArray[np.int64], image_index: NDArray[np.int64], ids: NDArray[np.int64], boxes: NDArray[np.int64],
) -> None:
    """Refuse an image whose section (from 0) is beyond the end of its stack, and a stack whose images have not the box (n,) that they should."""
    headers = [read_header(name) for name in files]
    for file, box in np.unique(np.stack((file_index, boxes)), axis=1).T.tolist():
        check_box(files[file], headers[file], box)
    sections = np.array([header.shape[0] for header in headers])
    beyond = np.flatnonzero(image_index >= sections[file_index])
    if len(beyond):
        row = beyond[0]
        file = file_index[row]
        raise InputError(
            f"The STAR file '{path}' names image {image_index[row] + 1} of '{files[file]}' for particle {ids[row]}, "
            f"but that stack has {sections[file]} images."
        )
