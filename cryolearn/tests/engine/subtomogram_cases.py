"""Molecules that tests on subtomograms tell apart: blobs of different make."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cryolearn.engine.io.maps import write_map

SIDE, PIXEL = 24, 10.0


def blob_maps(folder: Path, count: int, seed: int = 5) -> list[str]:
    """Maps of some Gaussians each, of about 90 Å and larger by some 20 Å from one to the next."""
    axis = (np.arange(SIDE) - SIDE // 2) * PIXEL
    z, y, x = np.meshgrid(axis, axis, axis, indexing="ij")
    paths = []
    for number in range(count):
        generator = np.random.default_rng((seed, number))
        parts = 3 + 2 * number
        reach = 28 + 9 * number
        places = generator.uniform(-reach, reach, (parts, 3))
        widths = generator.uniform(11, 16, parts)
        data = sum(np.exp(-((x - p[0]) ** 2 + (y - p[1]) ** 2 + (z - p[2]) ** 2) / (2 * width**2)) for p, width in zip(places, widths))
        paths.append(str(folder / f"blob{number}.mrc"))
        write_map(paths[-1], data, PIXEL)
    return paths
