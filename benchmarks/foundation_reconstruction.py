"""Reconstruction of 10,000 images of 128 px beside ``relion_reconstruct``: time, and agreement with the true density.

Both programs read the same STAR file and stack, one after the other, in one run. Half maps and FSC are part of our time;
``relion_reconstruct`` makes one map only, so its time for both half maps and the whole map is measured too.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from _results import RESULTS, parser, record

from cryolearn.engine.figures import fsc_curves, save_figure
from cryolearn.engine.imaging.ctf import Ctf, apply_ctf
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.gaussians import render_gaussians_2d, render_gaussians_3d
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.noise import add_noise
from cryolearn.engine.imaging.poses import euler_to_matrix, matrix_to_euler, random_rotations
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.stacks import StackWriter
from cryolearn.engine.io.star import CtfTable, ParticleTable, write_particles

BOX, PIXEL, SNR, SIGMA = 128, 2.0, 0.1, 2.5
TARGET_S = 120.0


def make_particles(folder: Path, count: int) -> None:
    """Particles of 300 Gaussians in a ball of 45 Å: all orientations, shifts, astigmatic CTF, white noise."""
    generator = torch.Generator().manual_seed(0)
    random = np.random.default_rng(0)
    direction = torch.nn.functional.normalize(torch.randn(300, 3, generator=generator), dim=-1)
    positions, weights = direction * 45 * torch.rand(300, 1, generator=generator) ** (1 / 3), 0.5 + torch.rand(300, generator=generator)
    write_map(str(folder / "true.mrc"), (render_gaussians_3d(positions, weights, SIGMA, BOX, PIXEL) * PIXEL).numpy(), PIXEL)
    angles = matrix_to_euler(random_rotations(count, generator, torch.float64))
    shift = (torch.rand(count, 2, generator=generator) - 0.5) * 20
    defocus = random.uniform(8000, 25000, count)
    ctf = CtfTable(
        defocus, defocus - random.uniform(0, 2000, count), defocus_angle=random.uniform(0, 180, count), phase_shift=np.zeros(count),
        voltage_kv=np.full(count, 300.0), cs_mm=np.full(count, 2.7), amplitude_contrast=np.full(count, 0.1),
    )
    stack = str(folder / "particles.mrcs")
    with StackWriter(stack, count, BOX, PIXEL) as writer:
        for start in range(0, count, 128):
            rows = slice(start, min(start + 128, count))
            seen = (euler_to_matrix(angles[rows]).float()[:, None] @ positions[None, :, :, None])[..., 0][..., :2] + shift[rows, None]
            images = apply_ctf(render_gaussians_2d(seen, weights, SIGMA, BOX, PIXEL), Ctf.from_table(ctf, rows), PIXEL)
            writer.write(start, add_noise(images, SNR, generator).numpy())
    table = ParticleTable(
        ids=np.arange(1, count + 1),
        image_file=[stack],
        file_index=np.zeros(count, np.int64),
        image_index=np.arange(count),
        pixel_size_angst=PIXEL,
        box=BOX,
        angles_deg=angles.numpy(),
        origin_angst=-shift.double().numpy(),
        ctf=ctf,
        random_subset=1 + np.arange(count) % 2,
    )
    write_particles(str(folder / "particles.star"), table)


def timed(words: list[str], folder: Path) -> tuple[float, float]:
    """Wall seconds of a program and its largest memory in MiB."""
    start = time.monotonic()
    with open(folder / "log.txt", "ab") as log:
        process = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{words[0]} failed: see {folder / 'log.txt'}")
    return time.monotonic() - start, usage.ru_maxrss / 1024


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--count", type=int, default=10000, help="images")
    arguments.add_argument("--gpu", action="store_true", help="ours on the GPU")
    options = arguments.parse_args()
    folder = (options.work / f"reconstruction-{options.count}").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if not (folder / "particles.star").exists():
        make_particles(folder, options.count)
    with open(folder / "particles.mrcs", "rb") as handle:  # both programs find the stack in the file cache
        while handle.read(1 << 26):
            pass
    environment_root = Path(__file__).resolve().parent.parent
    os.environ["PYTHONPATH"] = os.pathsep.join([str(environment_root), *filter(None, [os.environ.get("PYTHONPATH")])])
    ours = [sys.executable, "-m", "cryolearn.engine", "reconstruct", "--particles", "particles.star", "--output", "ours"]
    seconds, memory = timed([*ours, "--wiener", "constant", *(["--use_gpu", "true"] if options.gpu else [])], folder)
    device = "GPU" if options.gpu else "CPU"
    condition = f"{options.count} images of {BOX} px, CTF, shifts, with reading, two half maps, map and FSC, {device}"
    record(
        "foundation", "reconstruction: wall time", condition=condition, target=f"under {TARGET_S:g} s", measured=f"{seconds:.1f} s, {memory:.0f} MiB",
        holds=seconds < TARGET_S, scale=options.scale,
    )
    if shutil.which("relion_reconstruct") is None:
        print("relion_reconstruct is not installed: no comparison (Debian: apt-get install relion)")
        return
    relion = ["relion_reconstruct", "--i", "particles.star", "--ctf", "--angpix", str(PIXEL)]
    whole, memory = timed([*relion, "--o", "relion.mrc"], folder)
    halves = sum(timed([*relion, "--o", f"relion_half{half}.mrc", "--subset", str(half)], folder)[0] for half in (1, 2))
    record(
        "foundation", "reconstruction: time of relion_reconstruct over ours, same run", condition=f"{condition}; theirs on one core: map and two half maps",
        target="at least 1", measured=f"{(whole + halves) / seconds:.2f} ({whole + halves:.1f} s, {memory:.0f} MiB; the map alone {whole:.1f} s)",
        holds=whole + halves >= seconds, scale=options.scale,
    )
    truth, first, second = (torch.from_numpy(read_map(str(folder / name)).data.copy()) for name in ("true.mrc", "ours/map.mrc", "relion.mrc"))
    mask, last = sphere_mask(BOX, 0.4 * BOX, 5), int(BOX / 2 / 1.2)
    curves = {"ours": fsc(first, truth, mask).numpy(), "relion_reconstruct": fsc(second, truth, mask).numpy()}
    gap = float(np.abs(curves["ours"] - curves["relion_reconstruct"])[1 : last + 1].max())
    record(
        "foundation",
        "reconstruction: largest gap between our and RELION's FSC with the truth, to Nyquist / 1.2",
        condition=f"{options.count} images of {BOX} px at {PIXEL:g} Å, SNR {SNR:g}",
        target="at most 0.02",
        measured=f"{gap:.4f}",
        holds=gap <= 0.02,
        scale=options.scale,
    )
    save_figure(
        fsc_curves(curves, BOX, PIXEL, (0.5,), title=f"{options.count} images against the true density"),
        str(RESULTS / "foundation_reconstruction.png"),
    )


if __name__ == "__main__":
    main()
