"""What the tests on averaging subtomograms share: copies of models at known poses behind a missing wedge."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cryolearn.engine.imaging.gaussians import render_gaussians_3d
from cryolearn.engine.imaging.missing_wedge import wedge_mask
from cryolearn.engine.imaging.poses import matrix_to_euler, random_rotations
from cryolearn.engine.io.maps import write_map
from cryolearn.engine.io.subtomograms import SubtomogramTable, write_subtomograms

from .imaging_cases import GaussianModel, gaussian_model

BOX, PIXEL, TILT = 24, 10.0, 60.0


@dataclass
class Copies:
    """Subtomograms (n, box, box, box) of models at poses (n, 3, 3) and shifts in voxels (n, 3)."""

    volumes: torch.Tensor
    number: torch.Tensor
    rotation: torch.Tensor
    shift_px: torch.Tensor

    @property
    def tilt(self) -> torch.Tensor:
        return torch.tensor([[-TILT, TILT]]).expand(len(self.volumes), 2)


def models(count: int = 2) -> list[GaussianModel]:
    """Lumps in a ball of a third of the box: a compact one and ones that are longer along z."""
    made = []
    for one in range(count):
        model = gaussian_model(70.0, 11.0, count=14, seed=3 + one)
        stretch = torch.tensor([1.0, 1.0, 1.0]) if one % 2 == 0 else torch.tensor([0.5, 0.8, 1.3])
        made.append(GaussianModel(model.positions * stretch - (model.positions * stretch).mean(0), model.weights, model.sigma))
    return made


def behind_wedge(volumes: torch.Tensor, tilt: float = TILT) -> torch.Tensor:
    """Volumes without what a tilt series from -tilt to tilt does not measure."""
    axes = (-3, -2, -1)
    box = volumes.shape[-1]
    return torch.fft.irfftn(torch.fft.rfftn(volumes, dim=axes) * wedge_mask(box, -tilt, tilt), s=(box,) * 3, dim=axes)


def copies(count: int, snr: float = 0.0, classes: int = 1, shift_px: float = 1.0, seed: int = 1, box: int = BOX) -> Copies:
    """Copies of the models in turn; ``snr`` 0 is without noise, else var(signal) / var(noise) of the whole box, noise behind the wedge too."""
    generator = torch.Generator().manual_seed(seed)
    rotation = random_rotations(count, generator)
    shift = (torch.rand(count, 3, generator=generator) - 0.5) * 2 * shift_px
    number = torch.arange(count) % classes
    known = models(classes)
    volumes = torch.stack([
        render_gaussians_3d(known[int(k)].positions @ turn.T + moved * PIXEL, known[int(k)].weights, known[int(k)].sigma, box, PIXEL)
        for k, turn, moved in zip(number, rotation, shift)
    ])
    volumes = behind_wedge(volumes)
    if snr:
        noise = behind_wedge(torch.randn(volumes.shape, generator=generator))
        volumes = volumes + noise * (volumes.var() / noise.var() / snr).sqrt()
    return Copies(volumes, number, rotation, shift)


def write_copies(folder: Path, made: Copies, poses: bool = False, names: bool = False, half: bool = False) -> str:
    """Write a set as MRC files and a STAR file; returns its path."""
    folder.mkdir(parents=True, exist_ok=True)
    count = len(made.volumes)
    files = []
    for row, volume in enumerate(made.volumes):
        files.append(str(folder / f"sub_{row:03d}.mrc"))
        write_map(files[-1], volume.numpy(), PIXEL)
    table = SubtomogramTable(
        ids=np.arange(1, count + 1) * 3, file=files, pixel_size_angst=PIXEL, box=int(made.volumes.shape[-1]), tilt_min_deg=np.full(count, -TILT),
        tilt_max_deg=np.full(count, TILT),
        angles_deg=matrix_to_euler(made.rotation.double()).numpy() if poses else None,
        shifts_angst=made.shift_px.double().numpy() * PIXEL if poses else None,
        class_name=[f"kind{int(k)}" for k in made.number] if names else None,
        random_subset=1 + np.arange(count) // max(1, int(made.number.max()) + 1) % 2 if half else None,
    )
    star = str(folder / "subtomograms.star")
    write_subtomograms(star, table)
    return star
