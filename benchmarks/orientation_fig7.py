"""Figure 7 of the paper: what noise, shifts and (which the paper left for later) the CTF do to learned distances and to the orientations.

5j0n. Shifts are drawn from triangular distributions with mean 0 and growing limits, noise is white with variances of up to 25 at 116 px. Networks are
trained for each condition; orientations are recovered from the distances alone, as in the paper, and with matching rounds. What shifts and CTF may
change "within the spread" is told by trainings that differ in their seed only.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

from _orientation import (
    SHORT_BUDGETS,
    DistanceErrors,
    OrientationErrors,
    arguments,
    judge_learned,
    judge_orientations,
    measure_distances,
    recover,
    target,
    train,
)
from _orientation_data import SPLIT, Imaging, make_set, paper_specimen
from _results import RESULTS
from _run import merge_table

PAPER_ERROR = {0: 0.159, 5: 0.189, 10: 0.232, 16: 0.418, 20: 0.801, 25: 0.725}  # E_OR over variance, Fig. 7b
SETTINGS = {  # box, images, noises, limits of shifts in pixels of the paper's 116, seeds of the training
    "laptop": (58, 500, (0, 16, 25), (10,), (1, 2)),
    "paper": (116, SPLIT["test"], tuple(PAPER_ERROR), (2, 5, 10, 20), (1, 2, 3, 4, 5)),
}


@dataclass
class Measured:
    learned: DistanceErrors
    alone: OrientationErrors
    matched: OrientationErrors


def measure(options: argparse.Namespace, name: str, imaging: Imaging, seed: int) -> Measured:
    box, number, *_ = SETTINGS[options.scale]
    made = make_set(options, paper_specimen(options, "5j0n", box), number, imaging)
    model = train(options, made, seed=seed, **SHORT_BUDGETS[options.scale]).folder / "model"
    learned = judge_learned(made, measure_distances(made, model, model.parent / f"distances-{made.folder.name}")[0])
    errors = [judge_orientations(made.rotation, recover(options, made, model, **extra).rotation, "C1") for extra in ({"rounds": 0}, {})]
    row: dict[str, object] = {
        "case": name, "seed": seed, "mae": learned.mae_uniform, "slope": learned.slope, "alone_o4": errors[0].o4_mean,
        "alone_physical": errors[0].physical_mean, "matched_o4": errors[1].o4_mean, "matched_physical": errors[1].physical_mean, "scale": options.scale,
    }
    print(row, flush=True)
    merge_table(RESULTS / "orientation_fig7.csv", [row], ("case", "seed", "scale"))
    return Measured(learned, *errors)


def main() -> None:
    options = arguments(__doc__ or "")
    box, number, noises, limits, seeds = SETTINGS[options.scale]
    size = f"5j0n, {number} images of {box} px"
    for noise in noises:
        name = f"noise {noise:g}"
        if options.only and name not in options.only:
            continue
        found = measure(options, name, Imaging(noise), seeds[0])
        target(options, f"E_OR from the distances alone, noise {noise:g}", size, f"below the paper's {PAPER_ERROR[noise]} rad",
               f"{found.learned}; {found.alone}", found.alone.o4_mean < PAPER_ERROR[noise])
        target(options, f"E_OR with matching rounds, noise {noise:g}", size, f"below the paper's {PAPER_ERROR[noise]} rad", str(found.matched),
               found.matched.o4_mean < PAPER_ERROR[noise])
    base, other = Imaging(16), {f"shifts of up to {limit:g} px of 116": Imaging(16, shift=limit) for limit in limits} | {"CTF": Imaging(16, ctf=True)}
    wanted = [name for name in other if not options.only or name in options.only]
    if not wanted:
        return
    repeats = [measure(options, f"noise 16, seed {seed}", base, seed) for seed in seeds]
    for name in wanted:
        found = measure(options, f"noise 16, {name}", other[name], seeds[0])
        for what, value, same in (
            ("distance MAE", found.learned.mae_uniform, [item.learned.mae_uniform for item in repeats]),
            ("E_OR from the distances alone", found.alone.o4_mean, [item.alone.o4_mean for item in repeats]),
            ("E_OR with matching rounds", found.matched.o4_mean, [item.matched.o4_mean for item in repeats]),
        ):
            spread = max(max(same) - min(same), 0.05 * max(same))
            target(options, f"{name}: {what} as without", f"{size}, noise 16", f"<= {max(same):.3f} + spread of seeds {spread:.3f} rad", f"{value:.3f} rad",
                   value <= max(same) + spread)


if __name__ == "__main__":
    main()
