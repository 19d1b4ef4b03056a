"""The images that wizards preview: particles or slices of a map, with their pixel size."""

import os

import mrcfile
import numpy as np
from pwem.objects import SetOfClasses, Volume

from ..convert.volumes import readData

MEAN_OF = 200  # particles whose mean is offered as the first image
MOST_PARTICLES = 50  # single particles to leaf through


class Preview:
    """Images of an input: ``names``, ``image(index)`` (y, x) with white protein as stored, and ``pixelSize`` in Å."""

    def __init__(self, names, read, pixelSize):
        self.names, self.image, self.pixelSize = names, read, pixelSize


def previewOf(item):
    """Preview of a set of particles, of classes of them, or of a map; None when it is empty."""
    if item is None:
        return None
    if isinstance(item, Volume):
        return _volumePreview(item)
    particles = item.getImages() if isinstance(item, SetOfClasses) else item
    if not particles.getSize():
        return None
    found = []
    for particle in particles.iterItems():
        found.append((particle.getObjId(), particle.getLocation()))
        if len(found) == MEAN_OF:
            break
    names = ['mean of %d particles' % len(found)] + ['particle %d' % objId for objId, _ in found[:MOST_PARTICLES]]

    def read(index):
        return meanImage([location for _, location in found]) if index == 0 else readImage(found[index - 1][1])
    return Preview(names, read, particles.getSamplingRate())


def _volumePreview(volume):
    data = np.asarray(readData(volume), dtype=np.float32)
    names = ['central slice xy', 'central slice xz', 'central slice yz', 'sum along z']

    def read(index):
        middle = [size // 2 for size in data.shape]
        return (data[middle[0]], data[:, middle[1]], data[:, :, middle[2]], data.sum(axis=0))[index]
    return Preview(names, read, volume.getSamplingRate())


def readImage(location):
    """One image (y, x) of a stack, ``location`` = (index from 1, file name)."""
    index, name = location
    if os.path.splitext(name)[1].lower() in ('.mrc', '.mrcs'):
        with mrcfile.mmap(name, mode='r', permissive=True) as stack:
            data = stack.data
            return np.array(data if data.ndim == 2 else data[max(index, 1) - 1], dtype=np.float32)
    from pwem.emlib.image import ImageHandler
    return np.squeeze(ImageHandler().read(location).getData()).astype(np.float32)


def meanImage(locations):
    """Mean of images, read one by one."""
    total = 0.0
    for location in locations:
        total = total + readImage(location)
    return total / len(locations)


def lowPass(image, pixelSize, resolution):
    """Image low-pass filtered at ``resolution`` Å, with a soft edge of a tenth of the frequency."""
    fy = np.fft.fftfreq(image.shape[0], pixelSize)[:, None]
    fx = np.fft.rfftfreq(image.shape[1], pixelSize)[None]
    cut = 1.0 / resolution
    soft = 0.5 * (1 + np.cos(np.pi * np.clip((np.hypot(fx, fy) - cut) / (0.1 * cut), 0, 1)))
    return np.fft.irfft2(np.fft.rfft2(image) * soft, image.shape)
