"""Small particle sets of a body with a hinged arm, for the tests of the Gaussian method."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from cryolearn.engine.imaging.ctf import Ctf, ctf_2d
from cryolearn.engine.imaging.fourier import irfft2_centred, rfft2_centred
from cryolearn.engine.imaging.gaussians import render_gaussians_2d, render_gaussians_3d
from cryolearn.engine.imaging.poses import matrix_to_euler, random_rotations
from cryolearn.engine.io.maps import write_map
from cryolearn.engine.io.stacks import write_stack
from cryolearn.engine.io.star import CtfTable, ParticleTable, write_particles

BOX, PIXEL, SIGMA = 32, 6.0, 7.0
PIVOT = torch.tensor([30.0, 0.0, 0.0])


def hinge(angle_deg: torch.Tensor) -> torch.Tensor:
    """Positions (n, M, 3) in Å of a body of 60 blobs and an arm of 30 turned about z by (n,) angles."""
    made = torch.Generator().manual_seed(5)
    body = (torch.rand(60, 3, generator=made) * 2 - 1) * torch.tensor([35.0, 25.0, 30.0])
    arm = torch.cat([32 + 38 * torch.rand(30, 1, generator=made), 6 * torch.randn(30, 2, generator=made)], 1)
    turn = torch.deg2rad(angle_deg)
    cos, sin, zero, one = torch.cos(turn), torch.sin(turn), torch.zeros_like(turn), torch.ones_like(turn)
    matrix = torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, one], -1).view(-1, 3, 3)
    moved = (arm - PIVOT) @ matrix.transpose(1, 2) + PIVOT
    return torch.cat([body.expand(len(turn), -1, -1), moved], 1)


def weights_of(count: int, arm: torch.Tensor | None = None) -> torch.Tensor:
    """(count, M) weights: 1, and of the arm ``arm`` (count,)."""
    weights = torch.ones(count, 90)
    if arm is not None:
        weights[:, 60:] = arm[:, None]
    return weights


def write_case(
    folder: Path, count: int = 300, reach_deg: float = 25.0, noise: float = 1.0, seed: int = 1, arm: torch.Tensor | None = None, junk: int = 0,
) -> dict[str, np.ndarray]:
    """Write ``particles.star``, ``particles.mrcs`` and the consensus ``map.mrc``; returns the truth.

    ``noise`` is the ratio of the noise's variance to that of the mean signal over the whole image; the last ``junk`` images hold no particle.
    """
    random = torch.Generator().manual_seed(seed)
    angle = (torch.rand(count, generator=random) * 2 - 1) * reach_deg
    rotation = random_rotations(count, random)
    shift = (torch.rand(count, 2, generator=random) * 2 - 1) * 6
    defocus = 15000 + 10000 * torch.rand(count, generator=random)
    ctf = Ctf.constant(count, 15000.0)
    ctf.defocus_u_angst, ctf.defocus_v_angst = defocus, defocus
    places = hinge(angle)
    seen = (places @ rotation.transpose(1, 2))[..., :2] + shift[:, None]
    weights = weights_of(count, arm)
    clean = irfft2_centred(rfft2_centred(render_gaussians_2d(seen, weights, SIGMA, BOX, PIXEL)) * ctf_2d(ctf, BOX, PIXEL), BOX)
    if junk:
        clean[-junk:] = 0
    level = clean.var(dim=(1, 2)).mean().sqrt() * noise**0.5
    images = clean / level + torch.randn(clean.shape, generator=random)
    folder.mkdir(parents=True, exist_ok=True)
    write_stack(str(folder / "particles.mrcs"), images.numpy(), PIXEL)

    def filled(value: float) -> np.ndarray:
        return np.full(count, value)

    table = ParticleTable(
        ids=np.arange(1, count + 1) * 3, image_file=[str(folder / "particles.mrcs")], file_index=np.zeros(count, np.int64), image_index=np.arange(count),
        pixel_size_angst=PIXEL, box=BOX, angles_deg=matrix_to_euler(rotation.double()).numpy(), origin_angst=-shift.double().numpy(),
        ctf=CtfTable(defocus.double().numpy(), defocus.double().numpy(), filled(0), filled(0), filled(300), filled(2.7), filled(0.1)),
        random_subset=1 + np.arange(count) % 2, extra={"rlnGroupNumber": np.arange(count) % 7})
    write_particles(str(folder / "particles.star"), table)
    few = torch.linspace(-reach_deg, reach_deg, 9)
    mean = torch.stack([render_gaussians_3d(place, weight, SIGMA, BOX, PIXEL)
                        for place, weight in zip(hinge(few), weights_of(9, None if arm is None else arm.mean().expand(9)))]).mean(0)
    write_map(str(folder / "map.mrc"), mean.numpy(), PIXEL)
    return {"id": table.ids, "angle": angle.numpy(), "rotation": rotation.numpy(), "shift": shift.numpy()}
