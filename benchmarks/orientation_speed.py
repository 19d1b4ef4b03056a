"""How fast it is: training and measuring in images per second, recovery from distances, the detector-side rotation and matching.

Times are those of the processor where other programs run on the same machine, and per core.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from _orientation import Outcome, arguments, measure_distances, recover, run_engine, target, true_distances
from _orientation_data import SPLIT, Imaging, ParticleSet, make_set, paper_specimen

from cryolearn.engine.imaging.poses import random_rotations
from cryolearn.engine.orientation.frame_alignment import align_o4
from cryolearn.engine.orientation.recovery.recover_from_distances import recover as recover_from_distances
from cryolearn.engine.orientation.similarity_kernel import SimilarityKernel

SETTINGS = {"laptop": (84, 600, 6400), "paper": (116, SPLIT["test"], 64000)}  # box, images to recover, images more that the longer training sees


def training_rate(options: argparse.Namespace, made: ParticleSet, preset: str) -> float:
    """Images per second of processor: from two trainings of different length, so that neither start nor validation counts."""
    _, _, more = SETTINGS[options.scale]
    more = more // 8 if preset == "paper" and options.scale == "laptop" else more
    took = []
    for images in (1280, 1280 + more):
        usage = short_training(options, made, preset, images).usage
        took.append(usage.seconds if options.use_gpu else usage.cpu_seconds)
    return more / (took[1] - took[0])


def short_training(options: argparse.Namespace, made: ParticleSet, preset: str, images: int) -> Outcome:
    return run_engine(options, "distance-train", f"speed-{preset}", volumes=[str(made.specimen.path)], particles=made.particles, ignore_ctf=True,
                      preset=preset, epochs=1, images_per_epoch=images, shift_range_angst=made.specimen.pixel)


def main() -> None:
    options = arguments(__doc__ or "")
    box, number, _ = SETTINGS[options.scale]
    made = make_set(options, paper_specimen(options, "5j0n", box), number, Imaging(16))
    clock = "on the GPU" if options.use_gpu else "of one core"
    for preset in ("exact", "views", "paper"):
        rate = training_rate(options, made, preset)
        target(options, f"training rate, network '{preset}'", f"images of {box} px drawn on the fly", "reported", f"{rate:.0f} images/s {clock}", True)
    model = short_training(options, made, "exact", 1280).folder / "model"
    start = time.process_time()
    measure_distances(made, model, options.work / "orientation" / "speed-distances" / str(time.time_ns()))
    rate = number / (time.process_time() - start)
    target(options, "measuring rate, network 'exact'", f"{number} images of {box} px, all pairs", "reported", f"{rate:.0f} images/s of one core", True)
    recovery(options)
    rounds = [recover(options, made, model, rounds=count).outcome.usage.cpu_seconds for count in (0, 6)]
    target(options, "recovery, detector-side rotation and reconstruction", f"{number} images of {box} px", "reported", f"{rounds[0]:.0f} s of processor", True)
    target(options, "six rounds of matching", f"{number} images of {box} px", "reported", f"{rounds[1] - rounds[0]:.0f} s of processor", True)


def recovery(options: argparse.Namespace) -> None:
    """Recovery of the paper's number of orientations, and their alignment."""
    kernel, number = SimilarityKernel("C1"), SPLIT["test"]
    poses = random_rotations(number, torch.Generator().manual_seed(1), torch.float64)
    noise = np.triu(np.random.default_rng(1).normal(scale=0.2, size=(number, number)), 1)
    distances = np.clip(true_distances(poses.numpy(), "C1") + noise + noise.T, 0, np.pi)
    start = time.process_time()
    found = recover_from_distances(distances, np.arange(number), None, kernel, 25, 1)
    took = time.process_time() - start
    condition = f"P = {number}, distances off by 0.2 rad"
    target(options, "recovery from distances: time", condition, "< 60 s on 2 cores", f"{took:.1f} s of processor", took < 120)
    align_o4(poses, found.rotations)
    start = time.process_time()
    align_o4(poses, found.rotations)
    took = time.process_time() - start
    target(options, "alignment: time", condition, "<= 0.1 s", f"{took:.3f} s of processor", took <= 0.1)


if __name__ == "__main__":
    main()
