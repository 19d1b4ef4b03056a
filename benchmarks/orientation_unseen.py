"""Proteins that the network was not trained on: 5j0n, the 30S subunit and RNA polymerase II, all of SO(3).

The network (sets of views seen together) is trained on the other large complexes and on the largest of 658 protein models; none of them has a
chain that resembles one of a tested protein (E-value below 0.001 by local alignment). Matching from random orientations, which needs no network, stands beside
it, and ASPIRE's common lines on the raw images (``--aspire``) in the same run.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from _orientation import (
    BUDGETS,
    arguments,
    in_angstrom,
    judge_learned,
    judge_map,
    judge_orientations,
    measure_distances,
    recover,
    run_engine,
    shift_range,
    target,
)
from _orientation_data import PAPER_BOX, Imaging, Specimen, make_set, paper_specimen, protein_specimen, sequences, smallest_e_value
from _orientation_peers import ASPIRE, run_aspire
from _results import RESULTS
from _run import merge_table

TESTED = ("5j0n", "4v4r_30S", "1wcm")
E_VALUE = 1e-3  # below it two sequences are taken as relatives
SIDE_ANGST = PAPER_BOX * 11 / 3
SYMMETRIC = ("5a1a", "1oel", "3c91", "3j9i", "apoferritin")  # the distance of orientations modulo a group is another one
SETTINGS = {"laptop": (64, 40, 500, 200), "paper": (PAPER_BOX, 400, 1650, 500)}  # box, proteins to learn from, images, images for ASPIRE
PRESET = "views"


def learned_proteins(options: argparse.Namespace, number: int) -> tuple[list[Path], float]:
    """Models to learn from, the largest first, and the smallest E-value of any of them with a tested protein."""
    tested = [chain for name in TESTED for chain in chains_of(options.data, name)]
    complexes = [path for path in sorted((options.data / "structures").glob("*.pdb.gz")) if not path.name.startswith((*TESTED, *SYMMETRIC))]
    models = sorted((options.data / "models").glob("*.pdb.gz"), key=lambda path: -path.stat().st_size)
    kept: list[Path] = []
    seen: set[str] = set()  # most models are there twice, bound and unbound
    smallest = float("inf")
    for path in complexes + models:
        if len(kept) == number:
            break
        if path.name[:6] in seen:
            continue
        value = smallest_e_value(sequences(path), tested)
        if value < E_VALUE:
            print(f"{path.name}: E-value {value:.1g} with a tested protein, left out", flush=True)
            continue
        kept.append(path)
        seen.add(path.name[:6])
        smallest = min(smallest, value)
    return kept, smallest


def chains_of(data: Path, name: str) -> list[str]:
    """Protein chains of a tested protein; of 5j0n there is only the density, so none."""
    found = list((data / "structures").glob(f"{name}.pdb.gz"))
    return sequences(found[0]) if found else []


def specimen_of(options: argparse.Namespace, name: str, box: int) -> Specimen:
    if name == "5j0n":
        return paper_specimen(options, name, box)
    return protein_specimen(options, options.data / "structures" / f"{name}.pdb.gz", box, SIDE_ANGST / box)


def main() -> None:
    options = arguments(__doc__ or "", peers=True)
    box, number, count, lines = SETTINGS[options.scale]
    proteins, relation = learned_proteins(options, number)
    for noise, goal in ((16.0, 0.5), (0.0, None)):
        tested = [name for name in TESTED if not options.only or f"{name}, noise {noise:g}" in options.only]
        if not tested:
            continue
        # all sets, since the network's settings are taken from one of them
        sets = {name: make_set(options, specimen_of(options, name, box), count, Imaging(noise)) for name in TESTED}
        snr = sets["5j0n"].imaging.snr(box)
        model = run_engine(options, "distance-train", "train-many", structures=[str(path) for path in proteins], preset=PRESET, box_px=box,
                           pixel_size_angst=SIDE_ANGST / box, snr=snr, ignore_ctf=True, shift_range_angst=shift_range(sets["5j0n"]),
                           **BUDGETS[options.scale]).folder / "model"
        for name in tested:
            made, case = sets[name], f"{name}, noise {noise:g}"
            told = f"SNR {0.065 if noise else 0:g} at {PAPER_BOX} px ({snr:.3g} here)" if noise else "no noise"
            condition = f"{name}, {told}, {count} images of {box} px; learned from {len(proteins)} other proteins, E-values >= {relation:.1g}"
            learned = judge_learned(made, measure_distances(made, model, model.parent / f"distances-{made.folder.name}")[0])
            target(options, "unseen protein: distance MAE of the network", condition, "below .53 rad, which knowing nothing gives", str(learned),
                   learned.mae < 0.53)
            rows: list[dict[str, object]] = []
            cases = (("network and matching", model, {}), ("network alone", model, {"rounds": 0}), ("matching from random orientations", None, {}))
            for run, given, extra in cases:
                found = recover(options, made, given, **extra)
                errors = judge_orientations(made.rotation, found.rotation, "C1")
                resolution, _ = judge_map(found.map(), made.specimen, made.rotation, found.rotation, errors)
                rows.append({"case": case, "program": run, "physical_mean": errors.physical_mean, "physical_median": errors.physical_median,
                             "o4_mean": errors.o4_mean, "resolution_angst": in_angstrom(resolution), "trust": found.outcome.summary().get("trust", ""),
                             "seconds": found.outcome.usage.seconds, "cpu_seconds": found.outcome.usage.cpu_seconds, "scale": options.scale})
            if options.aspire:
                peer = run_aspire(options, made, "CLSyncVoting", lines)
                errors = judge_orientations(made.rotation[:lines], peer.rotation, "C1")
                rows.append({"case": case, "program": f"ASPIRE {ASPIRE} CLSyncVoting, {lines} raw images", "physical_mean": errors.physical_mean,
                             "physical_median": errors.physical_median, "o4_mean": errors.o4_mean, "seconds": peer.usage.seconds,
                             "cpu_seconds": peer.usage.cpu_seconds, "scale": options.scale})
            merge_table(RESULTS / "orientation_unseen.csv", rows, ("case", "program", "scale"))
            record_case(options, condition, goal, rows)


def record_case(options: argparse.Namespace, condition: str, goal: float | None, rows: list[dict[str, object]]) -> None:
    peers = [row for row in rows if str(row["program"]).startswith("ASPIRE")]
    beside = "".join(f"; {row['program']}: {row['physical_mean']:.3f}" for row in peers)
    for row in rows[:3]:
        value = float(row["physical_mean"])  # type: ignore[arg-type]
        text = f"{value:.3f} rad (median {row['physical_median']:.3f}), FSC 0.5 {row['resolution_angst']}, the run says {row['trust']}{beside}"
        best = min((float(peer["physical_mean"]) for peer in peers), default=float("nan"))  # type: ignore[arg-type]
        aim, holds = (f"< {goal} rad", value < goal) if goal is not None else ("beside ASPIRE (.001 to .005 rad on 5j0n)", value <= best)
        target(options, f"unseen protein: physical error, {row['program']}", condition, aim, text, holds)


if __name__ == "__main__":
    main()
