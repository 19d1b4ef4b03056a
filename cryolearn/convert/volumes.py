"""Maps: Scipion volumes <-> MRC files with voxel size and origin in their headers."""

from __future__ import annotations

import os
from typing import Any

import mrcfile
import numpy as np
from pwem.objects import Transform, Volume

from ..common.atomic import whole_file
from .files import unpackedName


def makeVolume(path: str, halfMaps: Any = None, volumeClass: Any = Volume, **kwargs: Any) -> Any:
    """A volume object of a map that the engine wrote: sampling and origin from its header, half maps if there are any.

    Raises
    ------
    ValueError
        when a half map is absent.
    """
    for half in halfMaps or ():
        if not os.path.exists(half):
            raise ValueError("The half map '%s' of '%s' is missing." % (half, path))
    pixelSize, origin = readHeader(path)
    volume = volumeClass(**kwargs)
    volume.setLocation(path)
    volume.setSamplingRate(pixelSize)
    if any(origin):  # a header of zeros says nothing; Scipion then takes the centre of the map as its origin
        transform = Transform()
        transform.setShifts(*origin)
        volume.setOrigin(transform)
    if halfMaps:
        volume.setHalfMaps(list(halfMaps))
    return volume


def readHeader(path: str) -> Any:
    """Pixel size and position of the first voxel, in Å, from an MRC header: ``(float, (x, y, z))``."""
    with mrcfile.open(path, header_only=True, permissive=True) as mrc:
        pixelSize = float(mrc.voxel_size.x)
        origin = tuple(float(mrc.header.origin[axis]) for axis in 'xyz')
        if not any(origin):
            start = mrc.header.nxstart, mrc.header.nystart, mrc.header.nzstart
            origin = tuple(float(value) * pixelSize for value in start)
    return pixelSize, origin


def writeVolume(volume: Any, path: str) -> Any:
    """Write a Scipion volume as MRC whose header says what Scipion knows: sampling rate and origin.

    Scipion keeps both in its own objects, where a user may have corrected them, and the file may be in another format.
    """
    data = readData(volume)
    with whole_file(path) as part, mrcfile.new(part) as mrc:
        mrc.set_data(np.asarray(data, dtype=np.float32))
        mrc.set_volume()
        mrc.voxel_size = volume.getSamplingRate()
        shifts = volume.getOrigin(force=True).getShifts()
        mrc.header.origin.x, mrc.header.origin.y, mrc.header.origin.z = (float(value) for value in shifts[:3])
    return path


def readData(volume: Any) -> Any:
    """Array (z, y, x) of a Scipion volume in any format that Scipion reads."""
    name = volume.getFileName()
    plain = name.rsplit(':', 1)[0] if name.endswith(':mrc') else name
    if os.path.splitext(unpackedName(plain))[1].lower() in ('.mrc', '.map', '.ccp4'):
        try:
            with mrcfile.open(plain, permissive=True) as mrc:
                if mrc.data is not None:
                    return np.array(mrc.data)
        except (OSError, ValueError) as error:
            raise ValueError("The map '%s' cannot be read: %s" % (plain, error)) from error
        raise ValueError("The map '%s' is shorter than its header says: copy it again." % plain)
    from pwem.emlib.image import ImageHandler
    return np.squeeze(ImageHandler().read(volume.getLocation()).getData())
