"""Random shapes that no molecule has: what a network shall not take for one of its classes (outlier exposure; Hendrycks, Mazeika & Dietterich, ICLR 2019).

A decoy is one to four ellipsoidal domains in contact, filled as unevenly as secondary structure fills a protein, with about the volume of a known molecule.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from ..imaging.gaussians import render_gaussians_3d
from .densities import ClassDensity

__all__ = ["decoy_densities"]

_POINT_ANGST3 = 20.0  # volume of a point, about that of a heavy atom in a protein
_SIGMA_ANGST = 2.5
_MOST_POINTS, _FEWEST_POINTS = 20000, 50
_VOLUMES = 2.0  # a decoy is up to so many times larger or smaller than a known molecule
_MOST_DOMAINS = 4
_WAVES, _WAVE_ANGST = 6, (8.0, 16.0)  # the unevenness


def decoy_densities(
    count: int, known: Sequence[ClassDensity], pixel_size_angst: float, widest_angst: float, seed: int, device: torch.device,
) -> list[ClassDensity]:
    """Densities of decoys.

    Parameters
    ----------
    count
        How many.
    known
        Densities of the known molecules, whose volumes theirs are like.
    pixel_size_angst
        Voxel size that is simulated, and of the decoys' own grids.
    widest_angst
        Decoys that would be wider are made smaller.
    seed
        Of the shapes; each decoy is the same whatever the count.
    device
        Where the densities are put.
    """
    volumes = [density.volume_angst3 for density in known]
    found = []
    for number in range(count):
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(number,)))
        places = _places(generator, volumes[number % len(volumes)] * _VOLUMES ** generator.uniform(-1, 1))
        reach = float(np.linalg.norm(places, axis=1).max())
        most = widest_angst / 2 - 3 * math.hypot(_SIGMA_ANGST, pixel_size_angst)
        places *= min(1.0, max(most, pixel_size_angst) / reach)
        found.append(_density(f"decoy {number + 1}", places, pixel_size_angst, device))
    return found


def _places(generator: np.random.Generator, volume_angst3: float) -> NDArray[np.float64]:
    """Points (n, 3) in Å about their centre."""
    shares = generator.dirichlet(np.full(generator.integers(1, _MOST_DOMAINS + 1), 3.0))
    density = min(1 / _POINT_ANGST3, _MOST_POINTS / volume_angst3)
    centre, parts = np.zeros(3), []
    for share in shares:
        radius = (3 * share * volume_angst3 / (4 * math.pi)) ** (1 / 3)
        axes = np.exp(generator.normal(0, 0.3, 3))
        axes *= radius / axes.prod() ** (1 / 3)
        points = generator.normal(size=(max(_FEWEST_POINTS, int(density * share * volume_angst3)), 3))
        points *= generator.random((len(points), 1)) ** (1 / 3) / np.linalg.norm(points, axis=1, keepdims=True)
        points = (points * axes) @ np.linalg.qr(generator.normal(size=(3, 3)))[0].T
        waves = generator.normal(size=(_WAVES, 3)) * 2 * math.pi / (math.sqrt(3) * generator.uniform(*_WAVE_ANGST, (_WAVES, 1)))
        uneven = np.cos(points @ waves.T + generator.uniform(0, 2 * math.pi, _WAVES)).sum(1)
        parts.append(centre + points[uneven >= np.quantile(uneven, generator.uniform(0.05, 0.4))])
        direction = generator.normal(size=3)
        centre = centre + direction / np.linalg.norm(direction) * radius * generator.uniform(1.2, 2.0)
    places: NDArray[np.float64] = np.concatenate(parts)
    return places - places.mean(0)


def _density(name: str, places: NDArray[np.float64], step: float, device: torch.device) -> ClassDensity:
    sigma = math.hypot(_SIGMA_ANGST, step)  # a step of blur against aliases, which is taken off again
    side = 2 * math.ceil((np.linalg.norm(places, axis=1).max() + 4 * sigma) / step)
    at = torch.as_tensor(places, dtype=torch.float32, device=device)
    weight = torch.ones(len(at), device=device)
    return ClassDensity.in_own_units(name, render_gaussians_3d(at, weight, torch.full_like(weight, sigma), side, step), step, step**2)
