"""Figure 8 of the paper and its maps: train, recover the orientations of images that the network has not seen, and reconstruct them.

5j0n on all of SO(3), 5a1a on the full sphere with D2, without noise and at the paper's (variance 16, SNR 0.065 at 116 px). Unlike the paper's, the maps
are made from the noisy images themselves and no truth is used: frame, hand and the detector-side rotation come from the images. What each
part brings is seen beside it: the distances alone (no matching rounds), and matching from random orientations without any network.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass

import numpy as np
from _orientation import (
    BUDGETS,
    PAPER_PLATEAU_RAD,
    OrientationErrors,
    Recovered,
    arguments,
    in_angstrom,
    judge_learned,
    judge_map,
    judge_orientations,
    map_of_truth,
    measure_distances,
    recover,
    target,
    train,
)
from _orientation_data import SPLIT, Imaging, ParticleSet, make_set, paper_specimen
from _results import RESULTS
from _run import merge_table
from numpy.typing import NDArray

from cryolearn.engine.figures import fsc_curves, save_figure
from cryolearn.engine.orientation.recovery.recover_from_distances import recover as recover_from_distances
from cryolearn.engine.orientation.similarity_kernel import SimilarityKernel

SIZES = {"laptop": (84, SPLIT["test"]), "paper": (116, SPLIT["test"])}  # box and images to recover
LIKE = 600  # other images of the same kind, from which training takes what noise there is


@dataclass
class Case:
    """A row of the paper's table: largest allowed MAE and E_OR (rad), resolution to beat (Å), and what the paper measured."""

    protein: str
    noise: float
    mae: float
    error: float
    resolution: float
    paper: str

    @property
    def name(self) -> str:
        return f"{self.protein}, noise {self.noise:g}"


CASES = [
    Case("5j0n", 0, 0.10, 0.05, 12.2, "MAE .215, E_OR .199"), Case("5j0n", 16, 0.20, 0.12, 15.2, "MAE .278, E_OR .255"),
    Case("5a1a", 0, 0.10, 0.05, 8.0, "quarter sphere: MAE .172, E_OR .126"), Case("5a1a", 16, 0.20, 0.12, 9.6, "quarter sphere: MAE .198, E_OR .135"),
]


def main() -> None:
    options = arguments(__doc__ or "", distances_only=True)
    box, number = SIZES[options.scale]
    for case in CASES:
        if options.only and case.name not in options.only:
            continue
        specimen, imaging = paper_specimen(options, case.protein, box), Imaging(case.noise)
        made = make_set(options, specimen, number, imaging, "recovered")
        model = train(options, make_set(options, specimen, LIKE, imaging)).folder / "model"
        budget = BUDGETS[options.scale]
        condition = (f"{case.name}, {made.specimen.group}, {number} unseen images of {box} px, network trained on "
                     f"{budget['epochs'] * budget['images_per_epoch']} simulated images")
        distances, weights = measure_distances(made, model, model.parent / f"distances-{made.folder.name}")
        learned = judge_learned(made, distances)
        target(options, "distance MAE on unseen images", condition, f"<= {case.mae:.2f} rad (paper {case.paper})", str(learned),
               learned.mae_uniform <= case.mae)
        target(options, "no plateau at large distances", condition, f"slope at the far end > 0.5 (paper's ends at {PAPER_PLATEAU_RAD} rad)",
               f"slope {learned.slope:.2f}, far end {learned.far:.2f} rad", not learned.plateau)
        start = time.process_time()
        found = recover_from_distances(distances, np.arange(number), weights, SimilarityKernel(made.specimen.group), 25, 1)
        took = time.process_time() - start
        free = judge_orientations(made.rotation, found.rotations, made.specimen.group)
        target(options, "E_OR from the learned distances", condition, f"<= {case.error:.2f} rad (paper {case.paper})",
               f"{free.o4_mean:.3f} rad (median {free.o4_median:.3f}), L_OR {found.loss:.4f}, {took:.0f} s of processor", free.o4_mean <= case.error)
        if options.distances_only:
            continue
        runs = {
            "network and matching": recover(options, made, model), "network alone": recover(options, made, model, rounds=0),
            "matching from random orientations": recover(options, made, None),
        }
        ceiling = in_angstrom(map_of_truth(options, made))
        curves: dict[str, NDArray[np.float32]] = {}
        rows = [judge(options, case, made=made, name=name, run=run, condition=condition, ceiling=ceiling, curves=curves) for name, run in runs.items()]
        figure = fsc_curves(curves, box, made.specimen.pixel, (0.5,), title=f"{case.name}: FSC against the true map")
        save_figure(figure, str(RESULTS / f"orientation_fig8_{case.protein}_{case.noise:g}.png"))
        merge_table(RESULTS / "orientation_fig8.csv", rows, ("case", "run", "scale"))


def judge(options: argparse.Namespace, case: Case, made: ParticleSet, name: str, run: Recovered, condition: str, ceiling: str,
          curves: dict[str, NDArray[np.float32]]) -> dict[str, object]:
    """Record a run's rows; what it is worth as a row of the table beside."""
    errors = judge_orientations(made.rotation, run.rotation, made.specimen.group)
    resolution, curve = judge_map(run.map(), made.specimen, made.rotation, run.rotation, errors)
    summary = run.outcome.summary()
    said = f"{summary.get('trust')}, half maps {in_angstrom(summary.get('resolution_angst'))}"  # type: ignore[arg-type]
    title = "" if name == "network and matching" else f", {name}"
    target(options, f"E_OR, same protein{title}", condition, f"<= {case.error:.2f} rad (paper {case.paper})", str(errors), errors.o4_mean <= case.error)
    target(options, f"physical error over O(4) error{title}", condition, "<= 1.05", f"{errors.physical_mean / errors.o4_mean:.3f} "
           f"({errors.physical_mean:.3f} and {errors.o4_mean:.3f} rad)", errors.physical_mean <= 1.05 * errors.o4_mean)
    target(options, f"map from the images without truth: FSC 0.5{title}", condition, f"better than {case.resolution} Å",
           f"{in_angstrom(resolution)} (at the true orientations {ceiling}; the run says: {said})", resolution is not None and resolution < case.resolution)
    curves[name] = curve.numpy()
    return {"case": case.name, "run": name, **row_of(errors), "resolution_angst": in_angstrom(resolution), "trust": summary.get("trust", ""),
            "seconds": run.outcome.usage.seconds,
            "cpu_seconds": run.outcome.usage.cpu_seconds, "memory_mib": run.outcome.usage.memory_mib, "scale": options.scale}


def row_of(errors: OrientationErrors) -> dict[str, object]:
    return {name: getattr(errors, name) for name in ("o4_mean", "o4_median", "physical_mean", "physical_median")}


if __name__ == "__main__":
    main()
