"""Sets of several optics groups, made from clean images, for the benchmark ``inputs``."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cryolearn.engine.imaging.ctf import Ctf, ctf_2d, ctf_at
from cryolearn.engine.imaging.fourier import frequency_grid
from cryolearn.engine.imaging.poses import matrix_to_euler
from cryolearn.engine.imaging.standard_images import odd_phase
from cryolearn.engine.io.stacks import write_stack
from cryolearn.engine.io.star import CtfTable
from cryolearn.engine.io.star_text import Block, write_star


@dataclass(frozen=True, kw_only=True)
class Group:
    """An acquisition. ``crop`` is the side in Fourier space, which makes the pixels coarser; ``box`` the side that is cut out after that; 0 keeps all."""

    voltage_kv: float = 300.0
    cs_mm: float = 2.7
    amplitude_contrast: float = 0.1
    crop: int = 0
    box: int = 0
    premultiplied: bool = False
    beam_tilt_mrad: tuple[float, float] = (0.0, 0.0)
    stretch: tuple[float, float] = (1.0, 1.0)  # rlnMagMat00, rlnMagMat11


GROUPS = {
    "plain": Group(),
    "200 kV": Group(voltage_kv=200.0, cs_mm=2.0, amplitude_contrast=0.07),
    "premultiplied": Group(premultiplied=True),
    "beam tilt": Group(beam_tilt_mrad=(8.0, -5.0)),
    "coarser pixels": Group(voltage_kv=200.0, crop=54),
    "smaller box": Group(cs_mm=0.01, amplitude_contrast=0.2, box=56),
}
ONE_SIZE = ("plain", "200 kV", "premultiplied", "beam tilt")  # of one pixel size and box, as Scipion's join protocol demands


@dataclass(frozen=True, kw_only=True)
class Clean:
    """Images (n, box, box) without CTF and noise, numbered from 1, and how their particles lie."""

    images: Tensor
    pixel: float
    rotation: NDArray[np.float64]
    shift_angst: NDArray[np.float64]


def write_groups(folder: Path, clean: Clean, groups: dict[str, Group], snr: float, seed: int = 3) -> dict[str, Path]:
    """Write particles that belong to the groups in turns, all in ``all.star`` and those of each group in a STAR file of its own; returns these by name.

    Noise is as strong in each Fourier coefficient whatever the group, white and of variance 1 in each stack before it is multiplied by a CTF.
    """
    folder.mkdir(parents=True, exist_ok=True)
    count = len(clean.images)
    turn, draw = np.arange(count) % len(groups), np.random.default_rng(seed)
    table = _ctfs(list(groups.values()), turn, draw)
    spread = float((clean.images.var((1, 2)).mean() / 2 / snr).sqrt())  # a CTF leaves about half of the variance
    optics: list[dict[str, object]] = []
    names = np.empty(count, object)
    origins = -clean.shift_angst.copy()
    for number, (name, group) in enumerate(groups.items()):
        rows = np.flatnonzero(turn == number)
        stack, pixel = _taken(clean.images[rows], clean.pixel, group, table.subset(rows), noise=(spread, draw))
        file = f"{name.replace(' ', '_').replace('.', '')}.mrcs"
        write_stack(str(folder / file), stack.numpy(), pixel)
        names[rows] = [f"{index + 1:06d}@{file}" for index in range(len(rows))]
        origins[rows] *= group.stretch  # of the image as it was taken
        optics.append({
            "rlnOpticsGroup": number + 1, "rlnOpticsGroupName": f"group{number + 1}", "rlnVoltage": group.voltage_kv, "rlnSphericalAberration": group.cs_mm,
            "rlnAmplitudeContrast": group.amplitude_contrast, "rlnImagePixelSize": round(pixel, 6), "rlnImageSize": stack.shape[-1],
            "rlnImageDimensionality": 2, "rlnCtfDataAreCtfPremultiplied": int(group.premultiplied), "rlnBeamTiltX": group.beam_tilt_mrad[0],
            "rlnBeamTiltY": group.beam_tilt_mrad[1], "rlnMagMat00": group.stretch[0], "rlnMagMat01": 0.0, "rlnMagMat10": 0.0, "rlnMagMat11": group.stretch[1]})
    angles = matrix_to_euler(torch.from_numpy(np.asarray(clean.rotation, np.float64))).numpy()
    particles: Block = {
        "rlnImageName": names, "rlnImageId": np.arange(1, count + 1), "rlnOpticsGroup": turn + 1,
        "rlnDefocusU": table.defocus_u, "rlnDefocusV": table.defocus_v, "rlnDefocusAngle": table.defocus_angle,
        "rlnAngleRot": angles[:, 0], "rlnAngleTilt": angles[:, 1], "rlnAnglePsi": angles[:, 2],
        "rlnOriginXAngst": origins[:, 0], "rlnOriginYAngst": origins[:, 1]}
    return {name: write_part(folder / f"{name.replace(' ', '_')}.star", particles, optics, [number]) for number, name in enumerate(groups)} | {
        "all": write_part(folder / "all.star", particles, optics, list(range(len(groups))))}


def write_part(path: Path, particles: Block, optics: list[dict[str, object]], groups: list[int]) -> Path:
    """Write the particles of some groups."""
    rows = np.flatnonzero(np.isin(particles["rlnOpticsGroup"], [optics[number]["rlnOpticsGroup"] for number in groups]))
    chosen = {label: np.array([optics[number][label] for number in groups], dtype=object if label.endswith("Name") else None) for label in optics[0]}
    write_star(str(path), {"optics": chosen, "particles": {label: values[rows] for label, values in particles.items()}})
    return path


def _ctfs(groups: list[Group], turn: NDArray[np.int64], draw: np.random.Generator) -> CtfTable:
    count = len(turn)
    defocus = draw.uniform(8000, 20000, count)
    columns = {name: np.array([getattr(group, name) for group in groups])[turn] for name in ("voltage_kv", "cs_mm", "amplitude_contrast")}
    return CtfTable(defocus_u=defocus, defocus_v=defocus - draw.uniform(0, 1000, count), defocus_angle=draw.uniform(0, 180, count), phase_shift=np.zeros(count),
                    **columns)


def _taken(
    images: Tensor, pixel: float, group: Group, table: CtfTable, noise: tuple[float, np.random.Generator],
) -> tuple[Tensor, float]:
    """Images as the microscope took them, with noise of variance 1, and their pixel size."""
    box, ctf = images.shape[-1], Ctf.from_table(table)
    spread, draw = noise
    if group.stretch != (1.0, 1.0):
        x, y = (_stretched(box, factor) for factor in group.stretch)
        images = torch.einsum("ay,bx,nyx->nab", y, x, images)
    ky, kx = (axis / pixel for axis in frequency_grid(box))
    kx, ky = kx * group.stretch[0], ky * group.stretch[1]
    phase = odd_phase(torch.zeros(1), torch.tensor(group.beam_tilt_mrad), group.voltage_kv, group.cs_mm, (kx, ky))
    images = torch.fft.irfft2(torch.fft.rfft2(images) * ctf_at(ctf, kx, ky) * torch.exp(1j * phase), s=(box, box)) / spread
    images = images + torch.from_numpy(draw.standard_normal(images.shape).astype(np.float32))
    if group.crop:
        low, half = group.crop // 2, group.crop // 2 + 1
        whole = torch.fft.rfft2(torch.fft.ifftshift(images, dim=(-2, -1)))
        part = torch.cat((whole[:, :low, :half], whole[:, -low:, :half]), 1)
        part[:, low], part[..., -1] = 0, 0  # Nyquist
        images = torch.fft.fftshift(torch.fft.irfft2(part, s=(group.crop, group.crop)), dim=(-2, -1)) * (group.crop / box)
        pixel = pixel * box / group.crop
    if group.premultiplied:
        images = torch.fft.irfft2(torch.fft.rfft2(images) * ctf_2d(ctf, images.shape[-1], pixel), s=images.shape[-2:])
    first = (images.shape[-1] - (group.box or images.shape[-1])) // 2
    last = images.shape[-1] - first
    return images[:, first:last, first:last].contiguous(), pixel


def _stretched(box: int, factor: float) -> Tensor:
    """(box, box) from samples of a periodic function f(x) to those of f(x / factor) / factor, exact: coefficients at k become those at factor k."""
    axis = np.arange(box) - box // 2
    k = np.arange(-(box // 2) + 1, box // 2)
    matrix = np.exp(2j * np.pi * np.multiply.outer(axis / factor, k) / box) @ np.exp(-2j * np.pi * np.multiply.outer(k, axis) / box) / box / factor
    return torch.from_numpy(matrix.real.astype(np.float32))
