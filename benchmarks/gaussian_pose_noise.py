"""The slides' experiment with wrong poses: 4 degrees and 4 Å (rms), with and without refining them in alternation."""

from __future__ import annotations

import numpy as np
import torch
from _gaussian import METHOD, arguments, heterogeneity, rank_correlation, target
from _gaussian_data import Imaging, slides_set

from cryolearn.engine.imaging.poses import angle_between_deg, euler_to_matrix
from cryolearn.engine.io.star import read_particles

ROUNDS = 3


def pose_errors(path: str, truth: np.ndarray, shift: np.ndarray) -> tuple[float, float]:
    """Median errors (degrees, Å) of the poses in a STAR file."""
    table = read_particles(path)
    rows = np.argsort(table.ids)
    angle = angle_between_deg(euler_to_matrix(torch.as_tensor(table.angles_deg[rows])), torch.as_tensor(truth))
    return float(angle.median()), float(np.median(np.linalg.norm(-table.origin_angst[rows] - shift, axis=1)))


def main() -> None:
    options = arguments(__doc__ or "")
    count = 3000 if options.scale == "laptop" else 30000
    for angle in (15, 45):
        if options.only and str(angle) not in options.only:
            continue
        imaging = Imaging(1.0, (200.0, 25.0), pose_noise_deg=4.0, pose_noise_angst=4.0)
        made = slides_set(options.work / METHOD / f"poses-{angle}", angle, imaging, count, options.device)
        truth = made.columns["latent"].astype(float)
        condition = f"hinged arm ±{angle} degrees, 64 px of 4 Å, SNR 1 in 25-200 Å, poses wrong by 4 degrees and 4 Å rms, {count} particles"
        kept = heterogeneity(made, made.folder / "kept", options.use_gpu, maps=0, halves=False)
        refined = heterogeneity(made, made.folder / "refined", options.use_gpu, maps=0, refine_poses=ROUNDS)
        before = pose_errors(str(made.particles), made.columns["rotation"], made.columns["shift_angst"])
        after = pose_errors(str(refined.folder / "particles.star"), made.columns["rotation"], made.columns["shift_angst"])
        found, plain = rank_correlation(refined.latents, truth), rank_correlation(kept.latents, truth)
        target(options, "wrong poses: |Spearman| with poses refined", condition, ">= 0.85", f"{found:.3f} (poses kept: {plain:.3f})", found >= 0.85)
        target(options, "wrong poses: median rotation error after refinement", condition, "halved", f"{after[0]:.2f} of {before[0]:.2f} degrees",
               after[0] <= before[0] / 2)
        target(options, "wrong poses: median shift error after refinement", condition, "smaller", f"{after[1]:.2f} of {before[1]:.2f} Å", after[1] < before[1])


if __name__ == "__main__":
    main()
