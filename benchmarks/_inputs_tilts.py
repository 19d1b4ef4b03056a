"""Tilt-series particles: 40 real ribosomes of 37 tilts each (RELION 5 / WarpTools STAR, 32 px, 12 Å) through the three commands that take them.

They are not part of the project: without their folder nothing is measured.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from _results import Row
from _run import engine

from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.poses import angle_between_deg
from cryolearn.engine.io.maps import write_map
from cryolearn.engine.io.star import read_particles
from cryolearn.engine.io.tables import read_table

NAME = "warptools_test_4-tomos_10-ptcls_box-32_angpix-12"
# even/odd half-map FSC at shells 1 to 13 that came with the data
GIVEN = np.array([0.98, 0.85, 0.82, 0.72, 0.61, 0.48, 0.44, 0.44, 0.38, 0.33, 0.25, 0.22, 0.21])
TOLERANCE = 0.02  # they are rounded to two digits and their mask is not stated
MASK_ANGST = 132.0  # a 70S ribosome is some 250 Å across
MASK_EDGE_PX = 3
SET = "40 ribosomes, 1430 tilt images"


def half_map_fsc(work: Path, data: Path) -> np.ndarray:
    """FSC of the half maps of odd and even ribosomes at shells 1 ..., by the command ``reconstruct``."""
    particles = data / f"{NAME}_optimisation_set.star"
    table = read_particles(str(particles), tilt_series=True)
    work.mkdir(parents=True, exist_ok=True)
    write_map(str(work / "mask.mrc"), sphere_mask(table.box, MASK_ANGST / table.pixel_size_angst, MASK_EDGE_PX).numpy(), table.pixel_size_angst)
    engine("reconstruct", work / "map", particles=particles, mask=work / "mask.mrc")
    return np.genfromtxt(work / "map" / "map_fsc.csv", delimiter=",", names=True)["fsc"]


def tilts(work: Path, data: Path | None) -> Iterator[Row]:
    """Rows of reconstruction, Gaussian heterogeneity and elastic alignment of the ribosomes in the folder ``data``."""
    if data is None:
        print("The part 'tilts' is left out: --ribosome-tilts names no folder.", flush=True)
        return
    found = half_map_fsc(work, data)[: len(GIVEN)]
    text = " ".join(f"{value:.3f}" for value in found)
    yield Row("tilt series: reconstruct, half-map FSC at shells 1-13", SET, "each at least that given with the data less .02", text,
              bool((found >= GIVEN - TOLERANCE).all()))
    yield Row("tilt series: reconstruct, mean half-map FSC of shells 1-13", SET, f"at least {GIVEN.mean():.3f} less .02", f"{found.mean():.3f}",
              bool(found.mean() >= GIVEN.mean() - TOLERANCE))
    particles, volume = data / f"{NAME}_optimisation_set.star", work / "map" / "map.mrc"
    for method in ("linear", "curve"):
        output = work / method
        engine("gaussian-heterogeneity", output, particles=particles, volume=volume, mask=work / "mask.mrc", method=method, components=2, maps=2)
        columns, _ = read_table(str(output / "conformations.npz"))
        summary = json.loads((output / "summary.json").read_text())
        yield Row("tilt series: Gaussian heterogeneity", f"{SET}, method '{method}'", "a finite latent for each ribosome, and its STAR is read",
                  f"{len(columns['id'])} latents, {summary['significant_components']} of {summary['components']} eigen-motions beyond noise, "
                  f"median error {summary['median_error']:.2f}",
                  len(columns["id"]) == 40 and bool(np.isfinite(columns["amplitudes"]).all()) and _is_read(output))
    engine("volume-to-gaussians", work / "gaussians", volume=volume, mask=work / "mask.mrc", resolution_angst=48)
    engine("normal-modes", work / "modes", structure=work / "gaussians" / "gaussians.cif", cutoff_mode="relative", cutoff_percent=100, method="anm_ca")
    output = work / "aligned"
    engine("elastic-align", output, particles=particles, modes=work / "modes" / "modes.npz", mode_numbers=[7], start="local", amplitude_range=60,
           search_pixel_angst=12, local_range_deg=10)
    columns, _ = read_table(str(output / "alignment.npz"))
    poses = read_table(str(work / "linear" / "conformations.npz"))[0]
    away = angle_between_deg(*(torch.from_numpy(table["rotation"]).double() for table in (columns, poses)))
    yield Row("tilt series: elastic alignment on pseudo-atoms, median change of the given orientation", f"{SET}, from their poses",
              "below 6 degrees, and its STAR is read", f"{float(away.median()):.1f} degrees, median correlation {np.median(columns['correlation']):.3f}",
              float(away.median()) < 6 and _is_read(output))


def _is_read(output: Path) -> bool:
    return len(read_particles(str(output / "particles_optimisation_set.star"), tilt_series=True).particles()[0]) == 40
