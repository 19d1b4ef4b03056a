"""The MRC file of each subtomogram of Scipion."""

from __future__ import annotations

import os
from typing import Any

import mrcfile
import numpy as np

from ..common.atomic import whole_file
from .files import unpackedName

MRC_EXTENSIONS = ('.mrc', '.mrcs', '.map', '.ccp4', '.rec', '.st')


class SubtomogramFiles:
    """Name of the MRC file of a subtomogram: its own where it has one to itself, else one that is written.

    RELION reads no quotes in STAR: a file with a space in its path gets a link without one. Files of other formats, and volumes in a stack, are written
    into ``folder``.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder

    def __call__(self, item: Any, pixelSize: float, objId: int) -> Any:
        index, name = item.getLocation()
        plain = name.rsplit(':', 1)[0] if name.endswith((':mrc', ':mrcs')) else name
        if not os.path.exists(plain):
            raise ValueError("The file '%s' of subtomogram %s does not exist." % (plain, item.getObjId()))
        target = os.path.join(self._folder, 'subtomogram_%06d.mrc' % objId)
        if os.path.splitext(unpackedName(plain))[1].lower() not in MRC_EXTENSIONS:
            return self._write(target, _foreignData(item), pixelSize)
        if index > 1 or (index == 1 and _isStack(plain)):
            return self._write(target, _volumeOfStack(plain, index, item), pixelSize)
        if len(plain.split()) == 1:
            return plain
        os.makedirs(self._folder, exist_ok=True)
        with whole_file(target) as part:
            os.symlink(os.path.abspath(plain), part)
        return target

    def _write(self, path: str, data: Any, pixelSize: float) -> Any:
        os.makedirs(self._folder, exist_ok=True)
        with whole_file(path) as part, mrcfile.new(part) as mrc:
            mrc.set_data(np.asarray(data, dtype=np.float32))
            mrc.set_volume()
            mrc.voxel_size = pixelSize
        return path


def _isStack(path: str) -> bool:
    with mrcfile.open(path, header_only=True, permissive=True) as mrc:
        return int(mrc.header.nz) > int(mrc.header.ny)


def _volumeOfStack(path: str, index: int, item: Any) -> Any:
    """Volume ``index`` (from 1) of an MRC file that holds cubes one after another."""
    isPacked = unpackedName(path) != path
    with (mrcfile.open if isPacked else mrcfile.mmap)(path, permissive=True) as mrc:
        data = mrc.data.reshape((-1,) + mrc.data.shape[-2:])
        box = data.shape[-1]
        if index * box > len(data):
            raise ValueError("The file '%s' holds no volume %d (of subtomogram %s)." % (path, index, item.getObjId()))
        return np.array(data[(index - 1) * box:index * box])


def _foreignData(item: Any) -> Any:
    from pwem.emlib.image import ImageHandler
    try:
        return np.squeeze(ImageHandler().read(item.getLocation()).getData())
    except Exception as error:  # xmippLib raises its own classes
        raise ValueError("The file '%s' of subtomogram %s cannot be read: convert the subtomograms to MRC (%s)."
                         % (item.getFileName(), item.getObjId(), str(error).strip().split('\n')[0])) from error
