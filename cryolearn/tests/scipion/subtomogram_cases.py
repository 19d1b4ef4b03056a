"""Subtomograms made without any code of ours: Gaussian blobs at random orientations, a missing wedge, noise, written by mrcfile."""

import os

import mrcfile
import numpy as np
from scipy.spatial.transform import Rotation

SHAPES = {  # places of blobs in parts of the box, from its centre
    'rod': [(0, 0, z) for z in np.linspace(-0.3, 0.3, 9)],
    'ring': [(0.26 * np.cos(a), 0.26 * np.sin(a), 0) for a in np.linspace(0, 2 * np.pi, 10)[:-1]],
    'corner': [(t, 0, 0) for t in np.linspace(0, 0.3, 5)] + [(0, t, 0) for t in np.linspace(0, 0.3, 5)] + [(0, 0, t) for t in np.linspace(0, 0.15, 3)],
}


def blobs(places, box, sigma):
    """Sum of Gaussians at ``places`` (n, 3) as x, y, z in voxels from the centre (index box // 2)."""
    axis = np.arange(box) - box // 2
    lines = [np.exp(-0.5 * ((axis[None] - places[:, k, None]) / sigma) ** 2) for k in range(3)]
    return np.einsum('nz,ny,nx->zyx', lines[2], lines[1], lines[0])


def throughWedge(volume, halfAngle):
    """What a tilt series about y of plus and minus ``halfAngle`` degrees sees."""
    z, _, x = np.meshgrid(*[np.fft.fftfreq(size) for size in volume.shape], indexing='ij')
    seen = np.abs(z) <= np.abs(x) * np.tan(np.radians(halfAngle)) + 1e-9
    return np.fft.ifftn(np.fft.fftn(volume) * seen).real


def writeCases(folder, count, box=24, pixel=9.2, snr=2.0, halfAngle=60, seed=0, shift=1.0):
    """``count`` subtomograms of each shape; files are named ``<shape>_<number>.mrc``.

    Returns
    -------
    dict
        ``{file name: (shape, rotation (3, 3) that turns the shape, shift (3,) in voxels)}``.
    """
    os.makedirs(folder, exist_ok=True)
    rng = np.random.RandomState(seed)
    truth = {}
    for shape, places in SHAPES.items():
        for number in range(count):
            rotation, move = Rotation.random(random_state=rng).as_matrix(), rng.uniform(-shift, shift, 3)
            clean = throughWedge(blobs(box * np.array(places) @ rotation.T + move, box, 1.3), halfAngle)
            noisy = clean + throughWedge(rng.normal(size=clean.shape), halfAngle) * clean.std() / np.sqrt(snr)
            name = '%s_%02d.mrc' % (shape, number)
            with mrcfile.new(os.path.join(folder, name), overwrite=True) as mrc:
                mrc.set_data(noisy.astype(np.float32))
                mrc.voxel_size = pixel
            truth[name] = shape, rotation, move
    return truth
