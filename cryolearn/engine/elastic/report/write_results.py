"""The files that alignment and prediction both write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....common.axis_labels import axis_label
from ....common.flags import AlignmentFlag, flag_counts
from ...figures import PointColours, error_histogram, landscape, save_figure
from ...imaging.first_images import warn
from ...imaging.poses import matrix_to_euler
from ...imaging.unusable_images import unusable_sentences
from ...io.star import ParticleTable, write_particles
from ...io.summary import AlignmentSummary, write_summary
from ...io.tables import write_table


def write_alignment(out: Path, table: ParticleTable, columns: dict[str, np.ndarray], mode_numbers: list[int], notes: dict[str, Any]) -> None:
    """Write ``alignment.npz``, ``particles.star``, ``summary.json`` and the figures of an alignment."""
    notes = {"box": table.box, "pixel_size_angst": table.pixel_size_angst, "mode_numbers": list(mode_numbers), **notes}
    write_table(str(out / "alignment.npz"), columns, notes)
    rotation, shift = columns["rotation"].astype(float), columns["shift_angst"].astype(float)
    if table.tilts is not None:  # poses in the tomogram, as the tilts see them
        member = table.particles()[1]
        rotation, shift = table.tilts.matrix @ rotation[member], np.einsum("nij,nj->ni", table.tilts.matrix[:, :2], shift[member])
    write_particles(str(out / "particles.star"), table.with_poses(matrix_to_euler(torch.from_numpy(rotation)).numpy(), -shift))
    flags = columns["flags"]
    unusable = (flags & AlignmentFlag.UNUSABLE_IMAGE) != 0
    warn(table, unusable_sentences(columns["id"], unusable))
    summary = AlignmentSummary(
        particles=len(flags), median_correlation=round(float(np.median(columns["correlation"])), 4),
        median_pose_sigma_deg=round(float(np.median(columns["pose_sigma_deg"])), 3),
        median_amplitude_sigma=[round(float(value), 3) for value in np.median(columns["amplitude_sigma"], axis=0)],
        flagged=int((flags != 0).sum()),
    )
    counts = flag_counts(flags, AlignmentFlag)
    write_summary(out, summary, counts, warnings=table.warnings)
    amplitudes = columns["amplitudes"]
    labels = [axis_label(f"amplitudes:{index}", {"mode_numbers": mode_numbers}) for index in range(len(mode_numbers))]
    second = 1 if len(mode_numbers) > 1 else 0
    save_figure(
        landscape(amplitudes[:, 0], amplitudes[:, second], labels[0], labels[second], PointColours(columns["correlation"], "correlation")),
        str(out / "figures" / "landscape.png"),
    )
    spread = {"pose sigma (degrees)": columns["pose_sigma_deg"][~unusable]}
    spread |= {f"sigma of mode {number}": columns["amplitude_sigma"][~unusable, k] for k, number in enumerate(mode_numbers)}
    save_figure(error_histogram(spread, title="Standard deviations by the Cramér-Rao bound"), str(out / "figures" / "precision.png"))
    parts = ", ".join(f"{count} {name.replace('_', ' ')}" for name, count in counts.items())
    print(f"{len(flags)} particles aligned; {summary['flagged']} flagged ({parts})", flush=True)
