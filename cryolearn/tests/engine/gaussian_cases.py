"""Small particle sets of a body with a hinged arm, for the tests of the Gaussian method."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

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


@dataclass(kw_only=True)
class Truth:
    """What images were made of: ``level`` is the signal that counts as 1, since the noise has deviation 1.

    Attributes
    ----------
    angle : (n,) of the arm, degrees
    rotation, shift, defocus : (n, 3, 3), (n, 2) Å, (n,) Å
    arm : (n,) weight of the arm, or None: 1
    """

    angle: torch.Tensor
    rotation: torch.Tensor
    shift: torch.Tensor
    defocus: torch.Tensor
    arm: torch.Tensor | None
    level: float = 1.0

    def images(self, angle: torch.Tensor, arm: torch.Tensor | None) -> torch.Tensor:
        """Images (n, box, box) without noise, of other angles or arms."""
        seen = (hinge(angle) @ self.rotation.transpose(1, 2))[..., :2] + self.shift[:, None]
        ctf = Ctf.constant(len(angle), 15000.0)
        ctf.defocus_u_angst, ctf.defocus_v_angst = self.defocus, self.defocus
        projected = render_gaussians_2d(seen, weights_of(len(angle), arm), SIGMA, BOX, PIXEL)
        return irfft2_centred(rfft2_centred(projected) * ctf_2d(ctf, BOX, PIXEL), BOX) / self.level

    def energy(self, images: torch.Tensor, resolution_angst: float) -> np.ndarray:
        """(n,) sums of squares of images as far as a resolution: against noise of variance 1, the square of the signal over the noise."""
        spectrum = rfft2_centred(images).abs().square()
        ky, kx = torch.meshgrid(torch.fft.fftfreq(BOX, PIXEL), torch.fft.rfftfreq(BOX, PIXEL), indexing="ij")
        twice = torch.where((kx > 0) & (kx < 0.5 / PIXEL), 2.0, 1.0)  # Friedel pairs
        return ((spectrum * twice * (torch.hypot(kx, ky) <= 1 / resolution_angst)).sum((1, 2)) / BOX**2).numpy()

    def angle_information(self, resolution_angst: float) -> np.ndarray:
        """(n,) Fisher information of the angle in each image, per square degree, as far as a resolution: the energy of the derivative (Cramér-Rao)."""
        slope = self.images(self.angle + 0.5, self.arm) - self.images(self.angle - 0.5, self.arm)
        return self.energy(slope, resolution_angst)


def write_case(
    folder: Path, count: int = 300, reach_deg: float = 25.0, noise: float = 1.0, seed: int = 1, arm: torch.Tensor | None = None, junk: int = 0,
) -> dict[str, Any]:
    """Write ``particles.star``, ``particles.mrcs`` and the consensus ``map.mrc``; returns the truth, ``truth`` among it.

    ``noise`` is the ratio of the noise's variance to that of the mean signal over the whole image; the last ``junk`` images hold no particle.
    """
    random = torch.Generator().manual_seed(seed)
    angle = (torch.rand(count, generator=random) * 2 - 1) * reach_deg
    truth = Truth(angle=angle, rotation=random_rotations(count, random), shift=(torch.rand(count, 2, generator=random) * 2 - 1) * 6,
                  defocus=15000 + 10000 * torch.rand(count, generator=random), arm=arm)
    rotation, shift, defocus = truth.rotation, truth.shift, truth.defocus
    clean = truth.images(angle, arm)
    if junk:
        clean[-junk:] = 0
    truth.level = float(clean.var(dim=(1, 2)).mean().sqrt() * noise**0.5)
    images = clean / truth.level + torch.randn(clean.shape, generator=random)
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
    return {"id": table.ids, "angle": angle.numpy(), "rotation": rotation.numpy(), "shift": shift.numpy(), "truth": truth}


def expected_order(angle: np.ndarray, information: np.ndarray, error: float = 1.0, gradient: bool = False) -> float:
    """Spearman correlation with the angles that unbiased estimates have whose errors are ``error`` times the least possible ones (Cramér-Rao).

    With ``gradient``, of the scores' gradients at no motion instead: ``I a`` with noise of variance ``I``, large where a view shows the motion well.
    """
    random = np.random.default_rng(0)
    noise = error * random.standard_normal((50, len(angle))) / np.sqrt(information)
    estimates = (angle + noise) * (information if gradient else 1.0)
    return float(np.mean([spearmanr(one, angle).statistic for one in estimates]))
