"""What the imaging tests share: devices, a random model of Gaussians, a small simulated particle set."""

from __future__ import annotations

import os
from dataclasses import dataclass

import numpy as np
import pytest
import torch

from cryolearn.engine.imaging.ctf import Ctf, apply_ctf
from cryolearn.engine.imaging.gaussians import render_gaussians_2d, render_gaussians_3d
from cryolearn.engine.imaging.noise import add_noise
from cryolearn.engine.imaging.poses import euler_to_matrix, matrix_to_euler, random_rotations
from cryolearn.engine.io.maps import write_map
from cryolearn.engine.io.stacks import StackWriter
from cryolearn.engine.io.star import CtfTable, ParticleTable, write_particles

DEVICES = ["cpu", pytest.param("cuda", marks=[pytest.mark.cuda, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU here")])]


@dataclass
class GaussianModel:
    """Gaussians in Å around the origin: positions (N, 3), weights (N,), one sigma."""

    positions: torch.Tensor
    weights: torch.Tensor
    sigma: float

    def volume(self, box: int, pixel: float) -> torch.Tensor:
        return render_gaussians_3d(self.positions, self.weights, self.sigma, box, pixel)

    def images(self, rotations: torch.Tensor, shift_angst: torch.Tensor, box: int, pixel: float) -> torch.Tensor:
        seen = (rotations[:, None] @ self.positions[None, :, :, None])[..., 0]
        return render_gaussians_2d(seen[..., :2] + shift_angst[:, None], self.weights, self.sigma, box, pixel)


def gaussian_model(radius_angst: float, sigma: float, count: int = 80, seed: int = 0) -> GaussianModel:
    """Gaussians spread evenly in a ball: no symmetry, no preferred axis."""
    generator = torch.Generator().manual_seed(seed)
    direction = torch.nn.functional.normalize(torch.randn(count, 3, generator=generator), dim=-1)
    radius = radius_angst * torch.rand(count, 1, generator=generator) ** (1 / 3)
    return GaussianModel(direction * radius, 0.5 + torch.rand(count, generator=generator), sigma)


def particle_set(
    folder: str, count: int, box: int, pixel: float, model: GaussianModel, snr: float = 0.0, ctf: bool = True, seed: int = 1
) -> ParticleTable:
    """Write ``particles.star``, ``particles.mrcs`` and ``true.mrc`` (density x Å, so that its voxel sums are the images)."""
    generator = torch.Generator().manual_seed(seed)
    angles = matrix_to_euler(random_rotations(count, generator, torch.float64))
    shift = (torch.rand(count, 2, generator=generator, dtype=torch.float64) - 0.5) * 10 * pixel
    random = np.random.default_rng(seed)
    defocus = random.uniform(8000, 20000, count)
    table = None
    if ctf:
        table = CtfTable(
            defocus, defocus - random.uniform(0, 2500, count), random.uniform(0, 180, count), np.zeros(count),
            np.full(count, 300.0), np.full(count, 2.7), np.full(count, 0.1),
        )
    path = os.path.join(folder, "particles.mrcs")
    with StackWriter(path, count, box, pixel) as writer:
        for start in range(0, count, 64):
            rows = slice(start, min(start + 64, count))
            images = model.images(euler_to_matrix(angles[rows]).float(), shift[rows].float(), box, pixel)
            if table is not None:
                images = apply_ctf(images, Ctf.from_table(table, rows), pixel)
            writer.write(start, add_noise(images, snr, generator).numpy() if snr else images.numpy())
    particles = ParticleTable(
        ids=np.arange(1, count + 1), image_file=[path], file_index=np.zeros(count, np.int64), image_index=np.arange(count), pixel_size_angst=pixel, box=box,
        angles_deg=angles.numpy(), origin_angst=-shift.numpy(), ctf=table,
    )
    write_particles(os.path.join(folder, "particles.star"), particles)
    write_map(os.path.join(folder, "true.mrc"), (model.volume(box, pixel) * pixel).numpy(), pixel)
    return particles


def correlation(first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """Pearson correlation (b,) of images (b, y, x)."""
    a, b = (item.double() - item.double().mean((-2, -1), keepdim=True) for item in (first, second))
    return (a * b).sum((-2, -1)) / (a.norm(dim=(-2, -1)) * b.norm(dim=(-2, -1)))
