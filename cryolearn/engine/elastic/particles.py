"""What alignment and prediction share: particle images as the model sees them, and the files both write."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..errors import InputError
from ..figures import error_histogram, landscape, save_figure
from ..imaging.ctf import Ctf
from ..imaging.normalise import noise_spectrum, normalise_background
from ..imaging.poses import euler_to_matrix, matrix_to_euler
from ..io.stacks import ImageStack
from ..io.star import ParticleTable, write_particles
from ..io.tables import write_table
from .aligner import FLAG_AMBIGUOUS, FLAG_AT_BOUND, FLAG_LOW_CORRELATION, FLAG_NOT_CONVERGED

_NOISE_SAMPLE = 500

FLAGS = {
    FLAG_AMBIGUOUS: "ambiguous", FLAG_AT_BOUND: "amplitude at bound",
    FLAG_LOW_CORRELATION: "low correlation", FLAG_NOT_CONVERGED: "not converged",
}


class ParticleImages:
    """Background-normalised images and CTFs of a particle set, read in batches.

    Parameters
    ----------
    table : particles
    radius_angst : the background begins here
    invert_contrast : particles are black
    ignore_ctf : images carry no CTF

    Raises
    ------
    InputError
        when the set is empty, carries no CTF though one is expected, or the particle does not fit its box.
    """

    def __init__(
        self, table: ParticleTable, radius_angst: float, device: torch.device, *, invert_contrast: bool = False, ignore_ctf: bool = False
    ) -> None:
        if not len(table):
            raise InputError("The particle set is empty: give at least one particle.")
        if table.ctf is None and not ignore_ctf:
            raise InputError("The particles carry no CTF: estimate it first, or choose to ignore the CTF when they have none.")
        half = table.box * table.pixel_size_angst / 2
        if radius_angst > 1.5 * half:
            raise InputError(
                f"The reference reaches {radius_angst:.0f} Å from its centre, but the images only {half:.0f} Å: use a larger box "
                "or check the pixel size."
            )
        self.table, self.device = table, device
        self._stack = ImageStack(table)
        # at least the image's corners are background
        self.radius_px = min(radius_angst / table.pixel_size_angst, 0.48 * table.box)
        self._sign = -1.0 if invert_contrast else 1.0
        self._ignore_ctf = ignore_ctf

    def read(self, rows: np.ndarray) -> tuple[torch.Tensor, Ctf | None]:
        """Images ``(B, box, box)`` with background of mean 0 and deviation 1, and their CTFs."""
        images = torch.from_numpy(self._stack.read(rows)).to(self.device) * self._sign
        ctf = None if self._ignore_ctf else Ctf.from_table(self.table.ctf, rows, self.device)
        return normalise_background(images, self.radius_px), ctf

    def poses(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotations ``(B, 3, 3)`` and shifts ``(B, 2)`` Å of the STAR file; without poses they are 1 and 0."""
        table = self.table
        if table.angles_deg is None:
            return torch.eye(3, device=self.device).expand(len(rows), 3, 3), torch.zeros(len(rows), 2, device=self.device)
        origin = np.zeros((len(rows), 2)) if table.origin_angst is None else table.origin_angst[rows]
        rotation = euler_to_matrix(torch.from_numpy(table.angles_deg[rows]))
        return rotation.float().to(self.device), torch.from_numpy(-origin).float().to(self.device)

    def sample_rows(self, count: int) -> np.ndarray:
        """At most ``count`` rows spread evenly over the set."""
        return np.unique(np.linspace(0, len(self.table) - 1, min(count, len(self.table))).round().astype(int))

    def noise_power(self) -> torch.Tensor:
        """Radial noise spectrum ``(box // 2 + 1,)`` from the background of a sample of the images."""
        rows = self.sample_rows(_NOISE_SAMPLE)
        total = torch.zeros(self.table.box // 2 + 1, device=self.device)
        for some in np.array_split(rows, max(1, len(rows) // 64)):
            total += noise_spectrum(self.read(some)[0], self.radius_px) * len(some)
        power = total / len(rows)
        floor = 1e-6 * float(power.max())
        if not floor > 0:
            raise InputError("The images have an empty background, so the noise cannot be estimated: give images with their noise.")
        return power.clamp_min(floor)


def write_alignment(
    out: Path, table: ParticleTable, columns: dict[str, np.ndarray], meta: dict[str, Any], mode_numbers: list[int]
) -> None:
    """Write ``alignment.npz``, ``particles.star``, ``summary.json`` and the figures of an alignment."""
    write_table(str(out / "alignment.npz"), columns, {**meta, "mode_numbers": list(mode_numbers)})
    angles = matrix_to_euler(torch.from_numpy(columns["rotation"]).double()).numpy()
    write_particles(str(out / "particles.star"), table.with_poses(angles, -columns["shift_angst"].astype(float)))
    flags = columns["flags"]
    summary: dict[str, Any] = {
        "particles": len(table), "median_correlation": round(float(np.median(columns["correlation"])), 4),
        "median_pose_sigma_deg": round(float(np.median(columns["pose_sigma_deg"])), 3),
        "median_amplitude_sigma": [round(float(value), 3) for value in np.median(columns["amplitude_sigma"], axis=0)],
        "flagged": int((flags != 0).sum()),
    }
    for bit, name in FLAGS.items():
        summary[name.replace(" ", "_")] = int(((flags & bit) != 0).sum())
    (out / "summary.json").write_text(json.dumps(summary, indent=2))
    amplitudes = columns["amplitudes"]
    labels = [f"amplitude of mode {number}" for number in mode_numbers]
    second = 1 if len(mode_numbers) > 1 else 0
    save_figure(
        landscape(amplitudes[:, 0], amplitudes[:, second], labels[0], labels[second], columns["correlation"], "correlation"),
        str(out / "figures" / "landscape.png"),
    )
    spread = {"pose sigma (degrees)": columns["pose_sigma_deg"]}
    spread |= {f"sigma of mode {number}": columns["amplitude_sigma"][:, k] for k, number in enumerate(mode_numbers)}
    save_figure(error_histogram(spread, title="Standard deviations by the Cramér-Rao bound"), str(out / "figures" / "precision.png"))
    parts = ", ".join(f"{summary[name.replace(' ', '_')]} {name}" for name in FLAGS.values())
    print(f"{len(table)} particles aligned; {summary['flagged']} flagged ({parts})", flush=True)
