"""Small simulated tilt series: particles of Gaussians with known poses, as RELION 5 and as WarpTools write them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from cryolearn.engine.imaging.ctf import Ctf, ctf_2d
from cryolearn.engine.imaging.fourier import irfft2_centred, rfft2_centred
from cryolearn.engine.imaging.gaussians import render_gaussians_2d
from cryolearn.engine.imaging.poses import euler_to_matrix, matrix_to_euler, random_rotations
from cryolearn.engine.io.stacks import write_stack
from cryolearn.engine.io.star_text import write_star

TILTS_DEG = np.arange(-60, 61, 15)
SERIES_PIXEL = 2.0  # Å of the tilt series
SIZE_PX = (2000, 3000, 800)
HIDDEN = 2  # tilt that the first particle does not show


@dataclass(kw_only=True)
class TiltCase:
    """What images were made of.

    Attributes
    ----------
    matrix : (t, 3, 3) of the tilts
    rotation, shift_angst : (p, 3, 3) and (p, 3) of the particles in the tomogram
    defocus_angst : (p, t)
    dose : (t,)
    """

    matrix: torch.Tensor
    rotation: torch.Tensor
    shift_angst: torch.Tensor
    defocus_angst: torch.Tensor
    dose: np.ndarray


def turn(axis: int, angle_deg: np.ndarray) -> torch.Tensor:
    """Right-handed rotations about an axis."""
    angle = torch.deg2rad(torch.as_tensor(angle_deg, dtype=torch.float64))
    first, second = (axis + 1) % 3, (axis + 2) % 3
    found = torch.zeros(len(angle), 3, 3, dtype=torch.float64)
    found[:, axis, axis] = 1
    found[:, first, first] = found[:, second, second] = torch.cos(angle)
    found[:, second, first], found[:, first, second] = torch.sin(angle), -torch.sin(angle)
    return found


def lists(rows: np.ndarray) -> np.ndarray:
    return np.array(["[" + ",".join(f"{value:.9g}" for value in row) + "]" for row in rows], dtype=object)


def write_case(
    folder: Path, positions: torch.Tensor, weights: torch.Tensor, sigma: float, *, box: int, pixel: float, noise: float = 0.0, seed: int = 1,
    style: str = "relion", premultiplied: bool = False,
) -> TiltCase:
    """Write ``particles.star``, ``tomograms.star``, ``optimisation_set.star`` and the stacks of particles with Gaussians at ``positions`` (p, M, 3).

    ``noise`` is the deviation of the noise; images are scaled so that clean ones have deviation 1. ``style`` is 'relion' (angles of the tilts in a file for the
    series, stacks of the visible tilts, subtomogram frames) or 'warp' (matrices in one file, stacks of all tilts).
    """
    relion, random = style == "relion", np.random.default_rng(seed)
    generator, count, tilts = torch.Generator().manual_seed(seed), len(positions), len(TILTS_DEG)
    angles = np.full(tilts, 1.5) * relion, TILTS_DEG + 0.0, np.full(tilts, 85.0)
    matrix = turn(2, angles[2]) @ turn(1, angles[1]) @ turn(0, angles[0])
    frame = euler_to_matrix(torch.tensor(random.uniform(-180, 180, (count, 3)) * relion))
    pose = random_rotations(count, generator, torch.float64)
    offset = torch.tensor(random.uniform(-6, 6, (count, 3)))
    rotation, shift = frame @ pose, -(frame @ offset[..., None])[..., 0]
    centred = torch.tensor(random.uniform(-0.4, 0.4, (count, 3)) * np.array(SIZE_PX) * SERIES_PIXEL)
    hand, defocus = -1.0 if relion else 1.0, 20000 + 500 * random.standard_normal(tilts)
    at = torch.tensor(defocus) + hand * torch.einsum("tj,pj->pt", matrix[:, 2], centred + shift)
    dose = 3.0 * np.abs(np.arange(tilts) - tilts // 2) * 2
    scale = np.cos(np.deg2rad(TILTS_DEG))
    case = TiltCase(matrix=matrix, rotation=rotation, shift_angst=shift, defocus_angst=at, dose=dose)
    (folder / "stacks").mkdir(parents=True, exist_ok=True)
    seen = matrix @ (rotation[:, None] @ positions.double()[:, None].mT + shift[:, None, :, None])  # (p, t, 3, M)
    projected = render_gaussians_2d(seen[:, :, :2].mT.float().flatten(0, 1), weights, sigma, box, pixel)
    ctf = Ctf.constant(count * tilts, 2e4, dtype=torch.float64)
    ctf.defocus_u_angst = ctf.defocus_v_angst = at.flatten()
    ctf.scale, ctf.dose_e_angst2 = (torch.tensor(np.tile(values, count)) for values in (scale, dose))
    transfer = ctf_2d(ctf, box, pixel).float()
    images = irfft2_centred(rfft2_centred(projected) * transfer, box)
    images = images / images.std(dim=(1, 2)).mean() + noise * torch.randn(images.shape, generator=generator)
    if premultiplied:
        images = irfft2_centred(rfft2_centred(images) * transfer, box)
    stacks, visible = images.unflatten(0, (count, tilts)).numpy(), np.ones((count, tilts), int)
    visible[0, HIDDEN] = 0
    for number in range(count):
        write_stack(str(folder / "stacks" / f"p{number}.mrcs"), stacks[number][visible[number] > 0] if relion else stacks[number], pixel)
    _write_particles(folder, offset, (frame, pose, centred), visible, box=box, pixel=pixel, relion=relion, premultiplied=premultiplied)
    tomogram = {"rlnTomoName": np.array(["TS_1"], dtype=object), "rlnTomoTiltSeriesPixelSize": [SERIES_PIXEL], "rlnTomoHand": [hand]}
    tomogram |= {f"rlnTomoSize{axis}": [size] for axis, size in zip("XYZ", SIZE_PX)}
    columns = {"rlnDefocusU": defocus, "rlnDefocusV": defocus, "rlnDefocusAngle": np.zeros(tilts), "rlnCtfScalefactor": scale, "rlnMicrographPreExposure": dose}
    if relion:
        columns |= {f"rlnTomo{name}": values for name, values in zip(("XTilt", "YTilt", "ZRot"), angles)}
        tomogram["rlnTomoTiltSeriesStarFile"] = np.array(["TS_1.star"], dtype=object)
        write_star(str(folder / "TS_1.star"), {"TS_1": columns})
    else:
        rows = np.concatenate((matrix.numpy(), np.zeros((tilts, 3, 1))), axis=2)
        columns |= {f"rlnTomoProj{axis}": lists(rows[:, number]) for number, axis in enumerate("XYZ")}
    blocks = {"global": {label: np.asarray(values) for label, values in tomogram.items()}}
    write_star(str(folder / "tomograms.star"), blocks if relion else {**blocks, "TS_1": columns})
    named = {"rlnTomoParticlesFile": "particles.star", "rlnTomoTomogramsFile": "tomograms.star"}
    write_star(str(folder / "optimisation_set.star"), {"": {label: np.array([name], dtype=object) for label, name in named.items()}})
    return case


def _write_particles(
    folder: Path, offset: torch.Tensor, poses: tuple[torch.Tensor, torch.Tensor, torch.Tensor], visible: np.ndarray, *, box: int, pixel: float, relion: bool,
    premultiplied: bool,
) -> None:
    frame, pose, centred = poses
    count = len(pose)
    optics = {"rlnOpticsGroup": [1], "rlnVoltage": [300.0], "rlnSphericalAberration": [2.7], "rlnAmplitudeContrast": [0.1], "rlnImagePixelSize": [pixel],
              "rlnImageSize": [box], "rlnImageDimensionality": [2], "rlnCtfDataAreCtfPremultiplied": [int(premultiplied)]}
    particles = {"rlnTomoName": np.full(count, "TS_1", dtype=object), "rlnTomoVisibleFrames": lists(visible), "rlnOpticsGroup": np.ones(count, int),
                 "rlnImageName": np.array([f"stacks/p{number}.mrcs" for number in range(count)], dtype=object), "rlnGroupNumber": np.arange(count) % 5}
    particles |= dict(zip(("rlnAngleRot", "rlnAngleTilt", "rlnAnglePsi"), matrix_to_euler(pose).T.numpy()))
    particles |= {f"rlnOrigin{axis}Angst": column for axis, column in zip("XYZ", offset.T.numpy())}
    if relion:
        particles |= dict(zip(("rlnTomoSubtomogramRot", "rlnTomoSubtomogramTilt", "rlnTomoSubtomogramPsi"), matrix_to_euler(frame).T.numpy()))
        particles |= {f"rlnCenteredCoordinate{axis}Angst": column for axis, column in zip("XYZ", centred.T.numpy())}
    else:
        places = (centred.numpy() + np.array(SIZE_PX) / 2 * SERIES_PIXEL) / pixel
        particles |= {f"rlnCoordinate{axis}": column for axis, column in zip("XYZ", places.T)}
    blocks = {"general": {"rlnTomoSubTomosAre2DStacks": [1]}, "optics": optics, "particles": particles}
    write_star(str(folder / "particles.star"), {name: {key: np.asarray(value) for key, value in block.items()} for name, block in blocks.items()})
