"""Maps along the path: each particle goes into every map with the weight that its posterior gives it."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ....common.fsc import HALF_MAP_THRESHOLD
from ...exceptions import InputError
from ...figures import fsc_curves, map_slices, save_figure
from ...imaging.half_set_maps import (
    ImageOptions,
    finish_reconstruction,
    fsc_sphere,
    insert_particles,
    new_reconstructor,
    write_reconstruction,
)
from ...imaging.reconstruction_memory import sums_bytes
from ...imaging.standard_images import StandardImages, even_rows
from ...io.atomic import write_json
from ...io.star import ParticleTable
from ...progress import Progress
from ..model.fourier_particles import ImageConventions

__all__ = ["PathWeights", "effective_count", "path_weights", "window_weights", "write_path_maps"]

_PADDING = 2.0
_MEMORY_BYTES = 2 << 30  # of the Fourier volumes that are filled in one pass over the images
_LEAST_WEIGHT = 1e-3  # of a particle's largest: less changes a map by less than its noise and costs an insertion
_SHOWN = 6  # maps in a figure


def effective_count(weights: ArrayLike) -> NDArray[np.float64]:
    """Number ``(sum w)^2 / sum w^2`` of equally weighted particles with the variance of a weighted mean; over the first axis."""
    values = np.asarray(weights, np.float64)
    power = np.square(values).sum(axis=0)
    return np.divide(values.sum(axis=0) ** 2, power, out=np.zeros_like(power), where=power > 0)


@dataclass(frozen=True)
class PathWeights:
    """What the maps along a path are made of.

    Attributes
    ----------
    weights : (n, S) of each particle in each map
    latents : (S, K) mean latent of what each map holds
    """

    weights: NDArray[np.float32]
    latents: NDArray[np.float64]


def window_weights(latents: NDArray[np.float64], weight: NDArray[np.float64], maps: int) -> PathWeights:
    """Overlapping windows of equal population along the first of (n, K) latents, for methods without a grid; particles count by ``weight`` (n,)."""
    order = np.argsort(np.argsort(latents[:, 0])) / max(1, len(latents) - 1)
    places = (np.arange(maps) + 0.5) / maps
    heights = np.clip(1 - np.abs(order[:, None] - places) * maps, 0, None)
    heights[order < places[0], 0], heights[order > places[-1], -1] = 1.0, 1.0
    weights = (heights * weight[:, None]).astype(np.float32)
    return PathWeights(weights, (weights.T.astype(np.float64) @ latents[:, :1]) / np.maximum(weights.sum(0)[:, None], 1e-12))


def path_weights(
    state_weight: NDArray[np.float32], grid: ArrayLike, maps: int, periodic: bool = False, separate: bool = False,
) -> PathWeights:
    """Weight of each particle in each map along the path.

    The path is cut by population: with ``u`` the share of particles before a place, map s takes what lies within one window of
    ``u = (s + 1/2) / S``, fading linearly to its neighbours' centres. Windows overlap, add up to 1 everywhere, and hold the same
    population each (the first and the last keep what is beyond their centres).

    Parameters
    ----------
    state_weight
        (n, G) posterior of each particle over the grid; rows add up to 1, or to less for particles that count less.
    grid
        (G,) latents.
    maps
        S, number of maps.
    periodic
        The path is closed: latents -1 and 1 are the same place, and windows wrap.
    separate
        The grid's points are states without order: each makes its own map, and ``maps`` is not looked at.

    Raises
    ------
    InputError
        when no particle has any weight.
    """
    places = np.asarray(grid, np.float64)
    population = state_weight.sum(axis=0, dtype=np.float64)
    if not population.sum() > 0:
        raise InputError("No particle has a place on the path: no map can be made of it.")
    if separate:
        return PathWeights(np.ascontiguousarray(state_weight, np.float32), places[:, None])
    share = population / population.sum()
    end = np.cumsum(share)
    begin = end - share
    windows = _windows(begin, end, maps, periodic)
    held = share[:, None] * windows
    if periodic:
        angle = np.pi * places[:, None]
        latents = np.arctan2((held * np.sin(angle)).sum(axis=0), (held * np.cos(angle)).sum(axis=0)) / np.pi
    else:
        latents = (held * places[:, None]).sum(axis=0) / held.sum(axis=0)
    return PathWeights((state_weight @ windows.astype(np.float32)).astype(np.float32), latents[:, None])


def _windows(begin: NDArray[np.float64], end: NDArray[np.float64], maps: int, periodic: bool) -> NDArray[np.float64]:
    """Mean height (G, maps) of the windows over stretches of the population, so that windows hold exactly equal parts.

    Tents about ``s + 1/2`` windows for s = -1 ... maps add up to 1 on the whole path; the two outer ones belong to the first and
    last map, or to the last and first where the path is closed.
    """
    centres = np.arange(-1, maps + 1) + 0.5
    low, high = ((values[:, None] * maps - centres).clip(-1, 1) for values in (begin, end))

    def integral(t: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.where(t < 0, (1 + t) ** 2 / 2, 1 - (1 - t) ** 2 / 2)

    width = (end - begin)[:, None] * maps
    at_point = np.clip(1 - np.abs((begin + end)[:, None] / 2 * maps - centres), 0, None)
    heights = np.divide(integral(high) - integral(low), width, out=at_point, where=width > 1e-9)
    inner = heights[:, 1:-1].copy()
    first, last = (-1, 0) if periodic else (0, -1)
    inner[:, first] += heights[:, 0]
    inner[:, last] += heights[:, -1]
    return inner


def write_path_maps(
    output: str, table: ParticleTable, path: PathWeights, *, half: NDArray[np.int64], conventions: ImageConventions, batch: int = 256,
    device: torch.device | str = "cpu", mask: Tensor | None = None,
) -> list[dict[str, Any]]:
    """Reconstruct and write one map a column of ``path.weights`` at the particles' full box.

    As many maps at a time as memory takes are filled in one pass over the images; a map takes about 96 box^3 bytes while it is filled (25 MB at
    64 px, 200 MB at 128 px, 1.6 GB at 256 px; at least one is always made) and as much again while it is finished.

    The half maps are of disjoint particles; the weights come from a model that has seen both halves unless the caller made them
    apart, so their FSC says how much noise is in the maps, not whether the states themselves are right.

    Parameters
    ----------
    output
        Folder of the maps (``map_001.mrc``, ``map_001_half1.mrc``, ``map_001_half2.mrc``, ``map_001_fsc.csv``, ``reconstructions.json``) and their
        pictures (``figures/slices.png``, ``figures/fsc.png``).
    table
        The particles with their poses.
    path
        A row of weights for each row of the table.
    half
        (n,) half set, 1 or 2.
    conventions
        How the images carry CTF and contrast.
    batch
        Images that are read and inserted together.
    device
        Where the maps are summed up.
    mask
        (box, box, box) for the FSC; without it a soft sphere.

    Returns
    -------
    list of dict
        The entries of ``reconstructions.json``: those of the command ``reconstruct`` with ``latent`` and ``weight`` (effective number of
        particles). A map that has less than two effective particles in a half is left out.
    """
    weights, places = _checked(table, path)
    device = torch.device(device)
    os.makedirs(output, exist_ok=True)
    mask = fsc_sphere(table.box, table.pixel_size_angst) if mask is None else mask
    effective = [effective_count(weights[half == number]) for number in (1, 2)]
    wanted = np.flatnonzero(np.minimum(*effective) >= 2 - 1e-6)
    left_out = {_name(state): float(effective[0][state] + effective[1][state]) for state in range(weights.shape[1]) if state not in wanted}
    for name, count in left_out.items():
        print(f"WARNING: {name} has {count:.1f} particles by weight, too few for two half maps: it is left out.", flush=True)
    at_once = max(1, int(_MEMORY_BYTES // sums_bytes(table.box, _PADDING)))
    passes = [wanted[start : start + at_once] for start in range(0, len(wanted), at_once)]
    if passes:
        print(f"Maps: {len(wanted)} of {table.box} voxels a side, {len(passes[0])} at a time in "
              f"{len(passes[0]) * sums_bytes(table.box, _PADDING) / 2**20:.0f} MiB, {len(passes)} pass(es) over the images", flush=True)
    report = Progress("Maps along the path", len(passes) * len(table))
    stack = StandardImages(table, keep_magnification=True)
    entries, curves, volumes = [], {}, {}
    shown = set(wanted[even_rows(len(wanted), _SHOWN)].tolist())
    for states in passes:
        works = [new_reconstructor(table, _PADDING, device, conventions.phase_flipped) for _ in states]
        insert_particles(
            works,
            stack,
            rows=np.arange(len(table)),
            halves=half,
            weights=weights[:, states],
            options=ImageOptions(use_ctf=not conventions.ignore_ctf, invert_contrast=conventions.invert_contrast, batch=batch),
            progress=report,
        )
        for state in states:
            work = works.pop(0)  # freed as soon as it is finished
            result = finish_reconstruction(work, mask)
            name, used = _name(int(state)), weights[:, state] > 0
            entries.append({
                **write_reconstruction(output, name, result, table.pixel_size_angst), "class": int(state) + 1, "particles": int(used.sum()),
                "particles_half1": int((used & (half == 1)).sum()), "particles_half2": int((used & (half == 2)).sum()),
                "latent": places[state].tolist(), "weight": float(effective_count(weights[:, state])),
                "weight_half1": float(effective[0][state]), "weight_half2": float(effective[1][state]),
            })
            if int(state) in shown:
                curves[name], volumes[name] = result.curve.numpy(), result.volume.numpy()
    write_json(os.path.join(output, "reconstructions.json"), {"reconstructions": entries, "left_out": left_out, "symmetry": "C1"})
    if entries:
        _draw(output, table, entries, curves, volumes)
    return entries


def _name(state: int) -> str:
    return f"map_{state + 1:03d}"


def _checked(table: ParticleTable, path: PathWeights) -> tuple[NDArray[np.float32], NDArray[np.float64]]:
    weights, places = path.weights, path.latents
    if table.angles_deg is None:
        raise InputError("The particles have no poses (rlnAngleRot, rlnAngleTilt, rlnAnglePsi): align them first.")
    if weights.shape != (len(table), len(places)):
        raise ValueError(f"{len(table)} particles and {len(places)} maps need weights of that shape, not {weights.shape}")
    if not np.isfinite(weights).all() or (weights < 0).any():
        raise ValueError("weights must be finite and not negative")
    kept = weights >= _LEAST_WEIGHT * weights.max(axis=1, keepdims=True)
    return np.where(kept, weights, 0).astype(np.float32), places


def _draw(output: str, table: ParticleTable, entries: list[dict[str, Any]], curves: dict[str, Any], volumes: dict[str, Any]) -> None:
    titles = {}
    for entry in entries:
        latent = ", ".join(f"{value:.2f}" for value in entry["latent"])
        titles[entry["name"]] = f"{entry['name']} at {latent} ({entry['weight']:.0f} particles)"
    figures = os.path.join(output, "figures")
    figure = fsc_curves({titles[name]: curve for name, curve in curves.items()}, table.box, table.pixel_size_angst, (HALF_MAP_THRESHOLD,),
                        title="FSC of the half maps along the path")
    save_figure(figure, os.path.join(figures, "fsc.png"))
    figure = map_slices({titles[name]: data for name, data in volumes.items()}, table.pixel_size_angst, title="Maps along the path")
    save_figure(figure, os.path.join(figures, "slices.png"))
