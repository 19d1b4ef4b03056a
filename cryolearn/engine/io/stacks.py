"""Particle images: stacks read through memory maps and written image by image, in flat memory."""

from __future__ import annotations

import os
from types import TracebackType
from typing import Self

import numpy as np
from mrcfile.dtypes import HEADER_DTYPE
from numpy.typing import ArrayLike, NDArray

from ..exceptions import InputError
from .atomic import finish_part, naming, part_of, reserve
from .grey_values import unusable
from .image_names import check_box
from .mrc_header import HEADER_BYTES, MrcHeader, is_packed, read_header
from .star import ParticleTable


class ImageStack:
    """The images of a particle set as they are in their files; :class:`cryolearn.engine.imaging.standard_images.StandardImages` brings them to one standard.

    Opening checks every stack's header; reading maps a stack only as long as it is read, so that
    memory stays that of the images asked for, whatever the size and number of the stacks.

    Parameters
    ----------
    table : ParticleTable
        Particles whose images are read; rows count as in the table.

    Raises
    ------
    InputError
        naming the stack that is truncated, has a header that does not fit, or another box size.
    """

    def __init__(self, table: ParticleTable) -> None:
        self.table = table
        groups, rows = table.groups()
        self.boxes = np.where(groups.box > 0, groups.box, table.box)[rows]
        used = np.unique(np.stack((table.file_index, self.boxes)), axis=1).T
        self._headers: dict[int, MrcHeader] = {int(file): self._open(table.image_file[file], int(box)) for file, box in used}

    def __len__(self) -> int:
        return len(self.table)

    def _open(self, path: str, box: int) -> MrcHeader:
        if is_packed(path):
            raise InputError(f"The stack '{path}' is compressed, and single images cannot be read from it: unpack it (gunzip, bunzip2) and name that file.")
        header = read_header(path)
        check_box(path, header, box)
        return header

    def read(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Read images.

        Parameters
        ----------
        rows : (b,) int
            Rows of the table, in any order; their images are of one box.

        Returns
        -------
        (b, y, x) float32

        Raises
        ------
        InputError
            naming the particle whose index is beyond its stack or whose image holds NaN or infinity.
        """
        at = np.atleast_1d(np.asarray(rows, np.int64))
        table = self.table
        files, sections = table.file_index[at], table.image_index[at]
        boxes = np.unique(self.boxes[at])
        if len(boxes) > 1:
            raise ValueError(f"images of {boxes[0]} and of {boxes[1]} px cannot be read together")
        box = int(boxes[0]) if len(boxes) else self.table.box
        images = np.empty((len(at), box, box), np.float32)
        for file in np.unique(files):
            header = self._headers[int(file)]
            here = np.flatnonzero(files == file)
            wanted = sections[here]
            if wanted.max() >= header.shape[0]:
                row = at[here[wanted.argmax()]]
                raise InputError(f"Particle {table.ids[row]} is image {wanted.max() + 1} of '{header.path}', which has {header.shape[0]}.")
            data = header.mapped()
            order = np.argsort(wanted, kind="stable")  # ascending on disk
            images[here[order]] = data[wanted[order]]
            del data
        if len(bad := unusable(images)):
            row = int(at[bad[0]])
            raise InputError(
                f"The image {table.image_name(row)} of particle {table.ids[row]} holds NaN or infinite values, or some beyond 1e19: remove that particle."
            )
        if table.image_sign is not None:
            images *= np.asarray(table.image_sign, np.float32)[at, None, None]
        return images


class StackWriter:
    """Writes an image stack (MRC mode 2) piece by piece, in any order, in flat memory.

    The file stands under ``path + '.part'`` until :meth:`close`, so a killed writer leaves nothing that looks finished.

    Parameters
    ----------
    path : str
        Stack to write.
    count, box : int
        Number of images and their side in pixels.
    pixel_size_angst : float
        Pixel size in Å.
    resume : bool
        Go on with the part that a killed writer of the same size left, when there is one: ``goes_on`` says so.
    """

    def __init__(self, path: str, count: int, box: int, pixel_size_angst: float, resume: bool = False) -> None:
        self.path, self.count, self.box, self.pixel_size_angst = path, count, box, pixel_size_angst
        self._part = part_of(path)
        size = stack_bytes(count, box)
        self.goes_on = resume and os.path.exists(self._part) and os.path.getsize(self._part) == size
        with naming(path, self._part):
            self._handle = open(self._part, "r+b" if self.goes_on else "w+b")
            try:
                if not self.goes_on:
                    self._handle.write(stack_header(count, box, pixel_size_angst))
                    self._handle.truncate(size)
                    reserve(self._part)
            except BaseException:
                self._handle.close()
                os.remove(self._part)
                raise

    def write(self, row: int, images: ArrayLike) -> None:
        """Write ``images`` (b, y, x) or (y, x) from image ``row`` (counted from 0) on."""
        block = np.asarray(images, "<f4").reshape(-1, self.box, self.box)
        if row < 0 or row + len(block) > self.count:
            raise ValueError(f"images {row} to {row + len(block)} do not fit a stack of {self.count}")
        with naming(self.path, self._part):
            self._handle.seek(HEADER_BYTES + 4 * row * self.box * self.box)
            self._handle.write(np.ascontiguousarray(block).tobytes())

    def flush(self) -> None:
        """See to it that all that was written is on the disk, so that it outlives this process and a power cut."""
        with naming(self.path, self._part):
            self._handle.flush()
            os.fsync(self._handle.fileno())

    def close(self) -> None:
        """Finish the stack under its own name."""
        if not self._handle.closed:
            with naming(self.path, self._part):
                self._handle.close()
            finish_part(self.path)

    def abandon(self) -> None:
        """Stop without finishing; the part stays for a resumed writer."""
        self._handle.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if kind is None:
            self.close()
        else:
            self.abandon()


def write_stack(path: str, images: ArrayLike, pixel_size_angst: float) -> None:
    """Write ``images`` (n, y, x) as an image stack."""
    block = np.asarray(images, np.float32)
    with StackWriter(path, len(block), block.shape[-1], pixel_size_angst) as writer:
        writer.write(0, block)


def stack_bytes(count: int, box: int) -> int:
    """Size of the file that :class:`StackWriter` writes."""
    return HEADER_BYTES + 4 * count * box * box


def stack_header(count: int, box: int, pixel_size_angst: float) -> bytes:
    """MRC header of an image stack (space group 0; statistics marked as not known, as MRC2014 has it)."""
    header = np.zeros((), HEADER_DTYPE.newbyteorder("<"))
    header["nx"] = header["ny"] = header["mx"] = header["my"] = box
    header["nz"] = header["mz"] = count
    header["mode"] = 2
    header["cella"] = (box * pixel_size_angst, box * pixel_size_angst, count * pixel_size_angst)
    header["cellb"] = (90.0, 90.0, 90.0)
    header["mapc"], header["mapr"], header["maps"] = 1, 2, 3
    header["dmin"], header["dmax"], header["dmean"], header["rms"] = 0.0, -1.0, -2.0, -1.0
    header["exttyp"], header["nversion"], header["map"] = b"", 20141, b"MAP "
    header["machst"] = [0x44, 0x44, 0, 0]
    return header.tobytes()
