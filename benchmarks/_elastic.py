"""What the benchmarks of the elastic method share: engine commands, errors against the truth, foreign particles."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import torch
from _foreign_particles import make_particles

from cryolearn.engine.imaging.poses import euler_to_matrix
from cryolearn.engine.io.modes import read_modes
from cryolearn.engine.io.tables import read_table, write_table

MODES = [7, 8, 9]


def engine(command: str, output: Path, **options: object) -> tuple[float, float]:
    """Run an engine command; seconds it took and the largest memory (MiB) of its process."""
    words = [sys.executable, "-m", "cryolearn.engine", command, "--output", str(output)]
    for name, value in options.items():
        words += [f"--{name}", str(value)]
    start = time.monotonic()
    process = subprocess.Popen(words)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{command} failed")
    return time.monotonic() - start, usage.ru_maxrss / 1024


def judge(work: Path, name: str, alignment: Path, truth: Path, modes: Path) -> dict[str, float]:
    """Errors over all images and the part of the amplitudes that their own 68 % intervals hold."""
    engine("elastic-errors", work / f"{name}-errors", alignment=alignment, truth=truth, modes=modes)
    summary = json.loads((work / f"{name}-errors" / "summary.json").read_text())
    found, right = read_table(str(alignment))[0], read_table(str(truth))[0]
    pull = np.abs(found["amplitudes"] - right["amplitudes"]) / found["amplitude_sigma"]
    return summary | {"coverage": float((pull < 1).mean())}


def foreign_particles(folder: Path, modes: Path, number: int) -> Path:
    """Particles by ProDy, gemmi and relion_project of the structure beside ``modes``; returns the table of their truth."""
    vectors = read_modes(str(modes)).select(MODES).eigenvectors
    made = make_particles(folder, modes.parent / "structure.pdb", vectors, number, 200.0)
    rotation = euler_to_matrix(torch.from_numpy(made["poses"][:, :3])).numpy()
    columns = {"id": made["id"], "amplitudes": made["amplitudes"], "rotation": rotation, "shift_angst": -made["poses"][:, 3:]}
    write_table(str(folder / "truth.npz"), columns, {"mode_numbers": MODES})
    return folder / "truth.npz"
