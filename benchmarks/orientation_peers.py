"""Orientations without a reference by ASPIRE's common lines, by RELION's initial model and by this software, on the same images in one run.

ASPIRE 0.14.3 lives in an environment of its own: name its Python with ``--aspire``. RELION 3.1 is Debian's. This software stands with matching from random
orientations, which knows as little of the particle as its peers do, and with a network that was trained on the same protein, which knows more.
"""

from __future__ import annotations

import argparse
import shutil

from _orientation import SHORT_BUDGETS, Recovered, arguments, in_angstrom, judge_map, judge_orientations, recover, target, train
from _orientation_data import Imaging, ParticleSet, make_set, paper_specimen
from _orientation_peers import ASPIRE, Peer, RelionSettings, run_aspire, run_relion
from _results import RESULTS
from _run import merge_table

SETTINGS = {  # box, images, images for ASPIRE by method, RELION
    "laptop": (58, 200, {"CLSyncVoting": 200}, RelionSettings((30, 60, 30), (50, 100), (35, 24), 4)),
    "paper": (116, 1650, {"CLSyncVoting": 500, "CommonlineLUD": 100}, RelionSettings(threads=16)),
}
NOISES = (0.0, 1.04, 16.0)  # no noise, SNR 1 at 116 px, the paper's


def main() -> None:
    options = arguments(__doc__ or "", peers=True)
    box, number, lines, relion = SETTINGS[options.scale]
    for noise in NOISES:
        name = f"noise {noise:g}"
        if options.only and name not in options.only:
            continue
        made = make_set(options, paper_specimen(options, "5j0n", box), number, Imaging(noise))
        snr = f"SNR {made.imaging.snr(box):.3g}" if noise else "no noise"
        condition = f"5j0n, {snr}, {box} px, centred, no CTF"
        rows = []
        if options.aspire:
            for method, count in lines.items():
                rows.append(row_of(options, made, condition, f"ASPIRE {ASPIRE} {method}", run_aspire(options, made, method, min(count, number))))
        if not noise:
            print("RELION is left out without noise: its weights come from the noise, and its first iterations take hours where there is none.", flush=True)
        elif shutil.which("relion_refine"):
            note = f"RELION 3.1 initial model ({'/'.join(map(str, relion.iterations))} iterations), {relion.refine} of refinement"
            rows.append(row_of(options, made, condition, note, run_relion(options, made, relion)))
        else:
            print("relion_refine is not on the PATH: RELION is left out.", flush=True)
        rows.append(row_of(options, made, condition, "this software, from random orientations", as_peer(recover(options, made, None))))
        rows.append(row_of(options, made, condition, "this software, network trained on the same protein",
                           as_peer(recover(options, made, train(options, made, seed=1, **SHORT_BUDGETS[options.scale]).folder / "model"))))
        merge_table(RESULTS / "orientation_peers.csv", rows, ("condition", "program", "scale"))
        record_best(options, condition, number, rows)


def as_peer(run: Recovered) -> Peer:
    return Peer(run.rotation, run.map(), run.outcome.usage)


def row_of(options: argparse.Namespace, made: ParticleSet, condition: str, program: str, found: Peer) -> dict[str, object]:
    truth = made.rotation[: len(found.rotation)]
    errors = judge_orientations(truth, found.rotation, made.specimen.group)
    resolution = judge_map(found.volume, made.specimen, truth, found.rotation, errors)[0] if found.volume is not None else None
    row: dict[str, object] = {
        "condition": condition, "program": program, "images": len(truth), "physical_mean": errors.physical_mean, "physical_median": errors.physical_median,
        "resolution_angst": in_angstrom(resolution) if found.volume is not None else "", "seconds": found.usage.seconds,
        "cpu_seconds": found.usage.cpu_seconds, "scale": options.scale,
    }
    print(row, flush=True)
    return row


def record_best(options: argparse.Namespace, condition: str, number: int, rows: list[dict[str, object]]) -> None:
    """Our row without a network beside the best of the peers."""
    mine = next(row for row in rows if row["program"] == "this software, from random orientations")
    others = [row for row in rows if not str(row["program"]).startswith("this software")]
    if not others:
        return
    beside = "; ".join(f"{row['program']}, {row['images']} images: {row['physical_mean']:.3f} rad in {row['cpu_seconds']:.0f} s of processor" for row in others)
    best = min(float(row["physical_mean"]) for row in others)  # type: ignore[arg-type]
    value = float(mine["physical_mean"])  # type: ignore[arg-type]
    target(options, "physical error without a reference, beside peers", f"{condition}, {number} images", "below ASPIRE and RELION",
           f"{value:.3f} rad in {mine['cpu_seconds']:.0f} s of processor; {beside}", value < best)


if __name__ == "__main__":
    main()
