"""Speed, memory and exactness: ratios in one run, and the GroEL case extrapolated from what was measured.

Gradients are timed inside one process, without reading files; whole runs as a user starts them. The machine should be idle.
"""

from __future__ import annotations

import argparse
import time

import numpy as np
import torch
from _gaussian import METHOD, Run, arguments, heterogeneity, rank_correlation, target
from _gaussian_data import Imaging, ParticleSet, slides_set

from cryolearn.engine.gaussian.linear.gradients import GradientSource
from cryolearn.engine.gaussian.model.fourier_particles import GaussianImages, band_between
from cryolearn.engine.gaussian.model.projection import Gaussians
from cryolearn.engine.imaging.poses import random_rotations

EXACT = ("amplitudes", "amplitude_sigma", "gain", "log_likelihood", "state_weight")


def gradient_seconds(count: int, gaussians: int, radius: int, box: int, pixel: float, device: torch.device, repeats: int = 3) -> float:
    """Best time of the forward projections, scores and gradients of ``count`` images."""
    generator = torch.Generator().manual_seed(0)
    band = band_between(box, pixel, box * pixel / radius, 200.0, device)
    data = torch.randn(count, len(band), 2, generator=generator)
    ones = torch.ones(band.rings, device=device)
    images = GaussianImages(
        band=band, transforms=torch.view_as_complex(data).numpy(), rotation=random_rotations(count, generator).to(device),
        shift_angst=torch.zeros(count, 2, device=device), ctf=None, phase_flipped=False, device=device, gain=ones, noise_power=ones.clone())
    places = torch.randn(gaussians, 3, generator=generator).to(device) * box * pixel / 10
    model = Gaussians(places, torch.ones(gaussians, device=device), torch.full((gaussians,), 0.3 * box * pixel / radius, device=device))
    best = np.inf
    for _ in range(repeats):
        start = time.perf_counter()
        total = 0.0
        for _, _, vectors in GradientSource(images, model).vectors():
            total += float(vectors[0, 0])
        if device.type == "cuda":
            torch.cuda.synchronize()
        best = min(best, time.perf_counter() - start)
    return best


def same(first: Run, second: Run) -> tuple[bool, float]:
    """Are two results equal bit by bit, and how far apart are their latents (in error bars)?"""
    equal = all(np.array_equal(first.columns[name], second.columns[name]) for name in EXACT)
    return equal, float((np.abs(first.latents - second.latents) / np.maximum(first.sigma, 1e-9)).max())


def exactness(options: argparse.Namespace, made: ParticleSet) -> None:
    condition = f"hinged arm ±15 degrees, {len(made.real)} particles, curved trajectory"
    runs = {name: heterogeneity(made, made.folder / name, options.use_gpu, maps=0, halves=False, **settings)
            for name, settings in {"first": {}, "again": {}, "batch": {"batch": 77}}.items()}
    equal, gap = same(runs["first"], runs["again"])
    target(options, "same seed: bit-identical", condition, "yes", f"{'yes' if equal else f'no, latents differ by {gap:.2g} error bars'}", equal)
    equal, gap = same(runs["first"], runs["batch"])
    target(options, "batches of 77 and of 500: the same result", condition, "the same", "bit-identical" if equal else f"latents within {gap:.2g} error bars",
           equal or gap < 1e-3)


def gradients(options: argparse.Namespace, where: str) -> None:
    small = gradient_seconds(3000, 128, 10, 64, 4.0, options.device)
    target(options, "gradients of 3,000 images by 128 Gaussians", f"ring 10, {where}", "< 0.5 s", f"{small:.2f} s", small < 0.5)
    # the GroEL case: 1,344 Gaussians and ring 36 (128 px of 2 Å to 7 Å)
    images = 200 if not options.use_gpu else 100000
    large = gradient_seconds(images, 1344, radius=36, box=128, pixel=2.0, device=options.device, repeats=2)
    rate = images / large
    once = 100000 / rate / 60
    source = "measured" if options.use_gpu else f"extrapolated from {images} images"
    target(options, "GroEL case, one pass of gradients of 100,000 particles by 1,344 Gaussians", f"ring 36, {where}, {source}",
           "whole run < 5 minutes on one H200", f"{once:.2f} minutes ({rate:.0f} images/s), no comparison with states in it", options.use_gpu and once < 5)


def whole_runs(options: argparse.Namespace, where: str) -> None:
    imaging = Imaging(1.0, (200.0, 25.0))
    made = slides_set(options.work / METHOD / "speed", 15, imaging, 3000, options.device)
    whole = heterogeneity(made, made.folder / "whole", options.use_gpu, maps=5)
    found = rank_correlation(whole.latents, made.columns["latent"].astype(float))
    target(options, "the whole slides' run, 3,000 particles", f"default settings with half sets and 5 maps, {where}", "< 60 s", f"{whole.usage.seconds:.0f} s "
           f"({whole.usage.cpu_seconds:.0f} s of processor; |Spearman| {found:.3f})", whole.usage.seconds < 60)
    more = slides_set(options.work / METHOD / "speed-more", 15, imaging, 12000, options.device)
    longer = heterogeneity(more, more.folder / "whole", options.use_gpu, maps=5)
    target(options, "four times the particles: peak memory", where, "<= 1.25 x", f"{longer.usage.memory_mib / whole.usage.memory_mib:.2f} x "
           f"({whole.usage.memory_mib:.0f} and {longer.usage.memory_mib:.0f} MiB)", longer.usage.memory_mib <= 1.25 * whole.usage.memory_mib)
    ratio = longer.usage.cpu_seconds / whole.usage.cpu_seconds
    target(options, "four times the particles: processor time", where, "<= 4 x", f"{ratio:.2f} x", ratio <= 4)


def main() -> None:
    options = arguments(__doc__ or "")
    where = "one GPU" if options.use_gpu else f"{torch.get_num_threads()} CPU threads"
    parts = options.only or ["gradients", "exact", "whole"]
    if "gradients" in parts:
        gradients(options, where)
    if "exact" in parts:
        exactness(options, slides_set(options.work / METHOD / "speed-exact", 15, Imaging(1.0, (200.0, 25.0)), 400, options.device))
    if "whole" in parts:
        whole_runs(options, where)


if __name__ == "__main__":
    main()
