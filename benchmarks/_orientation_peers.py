"""The peers on the very same images: ASPIRE in an environment of its own, RELION's initial model and refinement."""

from __future__ import annotations

import argparse
import json
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from _orientation_data import METHOD, Array, ParticleSet, short_digest
from _run import Usage, run_process
from torch import Tensor

from cryolearn.engine.imaging.poses import euler_to_matrix
from cryolearn.engine.io.maps import read_map
from cryolearn.engine.io.stacks import ImageStack
from cryolearn.engine.io.star import CtfTable, read_particles, write_particles

ASPIRE = "0.14.3"

# ASPIRE's rotations take views to the particle, ours the particle to views
_ASPIRE_SCRIPT = """
import sys, numpy
from aspire.abinitio import CLSyncVoting, CommonlineLUD
from aspire.image import Image
from aspire.source import ArrayImageSource
images, output, pixel, method = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
source = ArrayImageSource(Image(numpy.load(images).astype(numpy.float32), pixel_size=pixel), pixel_size=pixel)
estimator = {"CLSyncVoting": CLSyncVoting, "CommonlineLUD": CommonlineLUD}[method](source)
estimator.estimate_rotations()
numpy.save(output, numpy.swapaxes(numpy.asarray(estimator.rotations, float), 1, 2))
"""


@dataclass
class Peer:
    """Orientations (n, 3, 3) of a set's first images by another program, its map when it made one, and what it took."""

    rotation: Array
    volume: Tensor | None
    usage: Usage


def run_aspire(options: argparse.Namespace, made: ParticleSet, method: str, number: int) -> Peer:
    """ASPIRE's common lines on the first images as they are."""
    images = ImageStack(read_particles(str(made.particles))).read(np.arange(number))
    with tempfile.TemporaryDirectory() as folder:
        place, output = Path(folder) / "images.npy", Path(folder) / "rotations.npy"
        np.save(place, images)
        with open(made.folder / f"aspire-{method}.log", "w", encoding="utf-8") as log:
            usage = run_process([str(options.aspire), "-c", _ASPIRE_SCRIPT, str(place), str(output), str(made.specimen.pixel), method],
                                stdout=log, stderr=subprocess.STDOUT, cwd=folder)
        return Peer(np.load(output), None, usage)


@dataclass
class RelionSettings:
    """Iterations of stochastic gradient descent, sizes of their subsets and their first and last resolution in Å (the defaults are the form's own), and
    iterations of refinement. From 23 Å on it samples 5j0n more finely, for minutes an iteration on a CPU."""

    iterations: tuple[int, int, int] = (50, 200, 50)
    subsets: tuple[int, int] = (100, 500)
    resolutions: tuple[int, int] = (35, 15)
    refine: int = 10
    threads: int = 2


def run_relion(options: argparse.Namespace, made: ParticleSet, settings: RelionSettings) -> Peer:
    """RELION's initial model, then iterations of its refinement of one class with all images, as its users do before an auto-refinement."""
    folder = options.work / METHOD / "relion" / f"{made.folder.name}-{short_digest(vars(settings))}"
    folder.mkdir(parents=True, exist_ok=True)
    table = read_particles(str(made.particles))
    if table.ctf is None:  # RELION wants a microscope even where it does not correct for one
        number = len(table)
        values = (15000.0, 15000.0, 0.0, 0.0, 300.0, 2.7, 0.1)
        table = replace(table, ctf=CtfTable(*(np.full(number, value) for value in values)), optics={})
    write_particles(str(made.folder / "relion.star"), table)
    diameter = 0.8 * made.specimen.box * made.specimen.pixel
    reach = max(3, int(np.ceil(np.abs(made.shift_angst).max() / made.specimen.pixel)) + 1)
    common = ["--i", str(made.folder / "relion.star"), "--K", "1", "--sym", made.specimen.group, "--flatten_solvent", "--zero_mask",
              "--dont_combine_weights_via_disc", "--dont_check_norm", "--pool", "3", "--pad", "1", "--particle_diameter", f"{diameter:.0f}",
              "--oversampling", "1", "--offset_range", str(reach), "--offset_step", "2",
              "--j", str(settings.threads), "--random_seed", "1", *(["--ctf"] if made.imaging.ctf else [])]
    first, between, last = settings.iterations
    descent = ["--sgd", "--denovo_3dref", "--sgd_ini_iter", str(first), "--sgd_inbetween_iter", str(between), "--sgd_fin_iter", str(last),
               "--sgd_write_iter", str(first + between + last), "--sgd_ini_resol", str(settings.resolutions[0]),
               "--sgd_fin_resol", str(settings.resolutions[1]), "--sgd_ini_subset", str(settings.subsets[0]),
               "--sgd_fin_subset", str(settings.subsets[1]), "--healpix_order", "1", "--skip_gridding"]
    note = folder / "benchmark.json"
    if options.keep and note.exists():
        total = Usage(**json.loads(note.read_text(encoding="utf-8")))
    else:
        usage = _relion(made, folder, "initial", [*common, *descent])
        start = folder / f"initial_it{first + between + last:03d}_class001.mrc"
        more = _relion(made, folder, "refined", [*common, "--ref", str(start), "--iter", str(settings.refine), "--tau2_fudge", "4", "--healpix_order", "2",
                                                 "--ini_high", "30", "--norm", "--scale", "--firstiter_cc"])
        total = Usage(usage.seconds + more.seconds, max(usage.memory_mib, more.memory_mib), usage.cpu_seconds + more.cpu_seconds)
        note.write_text(json.dumps(vars(total)), encoding="utf-8")
    stack = folder / "particles.mrcs"  # its tables name the stack as ours does, relative to them
    if not stack.exists():
        stack.symlink_to(made.folder / "particles.mrcs")
    found = read_particles(str(folder / f"refined_it{settings.refine:03d}_data.star"))
    rotation = np.empty((len(found), 3, 3))
    assert found.angles_deg is not None
    rotation[found.ids - 1] = euler_to_matrix(torch.from_numpy(found.angles_deg)).numpy()
    volume = torch.from_numpy(read_map(str(folder / f"refined_it{settings.refine:03d}_class001.mrc")).data)
    return Peer(rotation, volume, total)


def _relion(made: ParticleSet, folder: Path, name: str, words: list[str]) -> Usage:
    with open(folder / f"{name}.log", "w", encoding="utf-8") as log:
        return run_process(["relion_refine", "--o", str(folder / name), *words], stdout=log, stderr=subprocess.STDOUT, cwd=made.folder)
