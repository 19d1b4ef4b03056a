"""Accuracy of all methods over SNR and tilt range, as in table 2 of Xu, Chai et al. 2017, on our complexes: same split for all, several seeds.

``--data`` names a folder of maps of complexes. ``--scale laptop``: the eight complexes of ``_subtomo.LAPTOP_CLASSES`` and the cells SNR 0.1 and
0.05 at ±60 degrees, 20 subtomograms a class to learn from and 40 to judge by, two seeds; two hours and a half of one core, nearly all of it for the
paper's networks. These get batches of 16 instead of 64, so that few subtomograms make as many steps as the time allows, and the paper's 20 epochs,
dsrf3d 40, as it learns later; whether that is enough is a row of its own. ``--scale paper``: 22 complexes and NULL, 1,000 a class of which a fifth is
judged by, all 15 cells, three seeds, the paper's batches, on a GPU. ``--keep`` goes on with a killed run.

Of inception3d the paper's text keeps 70 % of the values before the last layer and its code drops 70 %: both stand in the table.
"""

from __future__ import annotations

import csv
import math
from dataclasses import dataclass
from pathlib import Path

from _results import RESULTS
from _run import merge_table
from _subtomo import LAPTOP_CLASSES, METHODS, arguments, is_above, losses, make_set, spread, target, test_accuracy, train_method

from cryolearn.engine.figures import new_figure, save_figure


@dataclass
class Sizes:
    """How much of everything; ``classes`` None takes all complexes and NULL, ``settings`` are those of each method's training."""

    classes: list[str] | None
    cells: list[tuple[float, int]]
    train: int
    test: int
    seeds: tuple[int, ...]
    settings: dict[str, dict[str, object]]


PAPERS = ("inception3d", "dsrf3d")
LAPTOP = Sizes(LAPTOP_CLASSES, [(0.1, 60), (0.05, 60)], 20, 40, (1, 2), {"inception3d": {"epochs": 20, "batch": 16}, "dsrf3d": {"epochs": 40, "batch": 16}})
FULL = Sizes(None, [(snr, tilt) for snr in (1000, 0.5, 0.1, 0.05, 0.03) for tilt in (60, 50, 40)], 800, 200, (1, 2, 3), {})
TINY = Sizes(LAPTOP_CLASSES[:2], [(0.1, 60)], 10, 3, (1, 2), {method: {"epochs": 2, "batch": 16} for method in METHODS})
TEXT_DROPOUT = "inception3d, 30 % dropped"
RUNS: dict[str, tuple[str, dict[str, object]]] = {method: (method, {}) for method in METHODS} | {TEXT_DROPOUT: ("inception3d", {"dropout": 0.3})}
HARD = 0.1  # SNR from which the target counts
FITTED = 0.1  # of the loss of a guess: a training loss below it says that there is hardly anything left to learn from the set
PAPER = {  # Inception3D, DSRF3D, RIF-SVM of the paper, on its own complexes
    (1000, 60): (.993, .990, .992), (1000, 50): (.994, .978, .983), (1000, 40): (.983, .991, .967),
    (0.5, 60): (.975, .972, .929), (0.5, 50): (.964, .967, .885), (0.5, 40): (.931, .951, .857),
    (0.1, 60): (.851, .891, .762), (0.1, 50): (.807, .873, .633), (0.1, 40): (.809, .866, .649),
    (0.05, 60): (.757, .767, .592), (0.05, 50): (.682, .728, .455), (0.05, 40): (.637, .684, .468),
    (0.03, 60): (.608, .658, .446), (0.03, 50): (.516, .604, .319), (0.03, 40): (.473, .556, .341),
}


def main() -> None:
    options = arguments(__doc__ or "")
    sizes = TINY if options.tiny else LAPTOP if options.scale == "laptop" else FULL
    number = len(sizes.classes) if sizes.classes else 23
    folder = options.work if options.tiny else RESULTS
    path = folder / "subtomo_table2.csv"
    for snr, tilt in sizes.cells:
        found: dict[str, list[float]] = {run: [] for run in RUNS}
        left: dict[str, list[float]] = {run: [] for run, (method, _) in RUNS.items() if method in PAPERS}
        for seed in sizes.seeds:
            made = make_set(options, f"table2_{snr:g}_{tilt}", sizes.classes, sizes.train, sizes.test, snr=snr, tilt_min_deg=-tilt, tilt_max_deg=tilt,
                            null_class=sizes.classes is None, seed=seed)
            for run, (method, others) in RUNS.items():
                trained = train_method(options, made, method, seed, **sizes.settings.get(method, {}), **others)
                found[run].append(test_accuracy(options, made, trained))
                if run in left:
                    left[run].append(min(losses(trained, "train_loss")) / math.log(number))
                print(f"SNR {snr:g}, ±{tilt}, seed {seed}: {run} {found[run][-1]:.3f}", flush=True)
        paper = dict(zip(("inception3d", "dsrf3d", "rif_svm"), PAPER[snr, tilt]))
        merge_table(path, [
            {"snr": snr, "tilt": tilt, "scale": options.scale, "classes": number, "method": run, "accuracy": spread(values), "seeds": len(values),
             "paper, its complexes": paper.get(RUNS[run][0], "")} for run, values in found.items()
        ], ("snr", "tilt", "scale", "method"))
        above = all(is_above(found["residual3d"], values) for run, values in found.items() if run != "residual3d")
        said = ", ".join(f"{run} {spread(values)}" for run, values in found.items())
        condition = f"SNR {snr:g}, ±{tilt} degrees, {number} classes, {sizes.train} a class to learn from and {sizes.test} to judge by, "
        condition += f"{len(sizes.seeds)} seeds"
        aim = "residual3d above all by more than the seed scatter" if snr <= HARD else "reported"
        target(options, "accuracy of the networks", condition, aim, said, above or snr > HARD)
        if not sizes.settings:
            continue
        said = ", ".join(f"{run} {spread(values)}" for run, values in left.items())
        target(options, "accuracy of the networks: the paper's were trained to the end", condition,
               f"lowest training loss of an epoch below {FITTED:g} of that of a guess in every run", said, max(map(max, left.values())) < FITTED)
    draw(path, folder / f"subtomo_table2_{options.scale}.png", options.scale)


def draw(path: Path, picture: Path, scale: str) -> None:
    """Accuracy of each method over the cells."""
    with open(path, newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["scale"] == scale]
    figure = new_figure(7.0, 4.2)
    axes = figure.subplots()
    cells = sorted({(-float(row["snr"]), row["tilt"]) for row in rows})
    for run in RUNS:
        here = {(-float(row["snr"]), row["tilt"]): row["accuracy"].split(" ± ") for row in rows if row["method"] == run}
        known = [cell for cell in cells if cell in here]
        means, deviations = ([float(here[cell][part]) if part < len(here[cell]) else 0.0 for cell in known] for part in (0, 1))
        axes.errorbar([cells.index(cell) for cell in known], means, deviations, marker="o", capsize=3, label=run)
    axes.set_xticks(range(len(cells)), [f"SNR {-cell[0]:g}\n±{cell[1]}°" for cell in cells], fontsize=8)
    axes.set(ylabel="accuracy on subtomograms apart", title="Classes told, same split for all (mean and deviation of seeds)")
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, str(picture))


if __name__ == "__main__":
    main()
