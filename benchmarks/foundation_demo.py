"""The main job as a Scipion project (``make demo``): its verdicts and its time as rows of the results.

Alignment without prior poses, network, refinement, clusters and reconstructions of simulated adenylate kinase,
128 px at 2 Å, SNR 0.1, CTF, all orientations, shifts, amplitudes of modes 7-9.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
from _elastic import engine, foreign_particles, judge
from _results import parser, record

from cryolearn.common.fsc import resolution_at
from cryolearn.engine.io.tables import read_table, write_table

FOREIGN = "made by ProDy, gemmi (B 30) and relion_project; network of the demo, which has not seen such particles"
CONDITION = "4AKE, 128 px at 2 Å, SNR 0.1, CTF, all poses, shifts, modes 7-9 within ±200; Scipion project of make demo"


def main() -> None:
    options = parser(__doc__ or "").parse_args()
    output = options.work / "demo"
    words = [sys.executable, str(Path(__file__).parents[1] / "demo" / "run_demo.py"), "--output", str(output)]
    if options.scale == "paper":
        words += ["--align", "20000", "--unseen", "20000", "--epochs", "100"]
    subprocess.run(words, check=False)
    with open(output / "report" / "verdicts.csv", newline="", encoding="utf-8") as handle:
        for row in csv.DictReader(handle):
            record(
                "foundation",
                "demo: " + row["what"],
                condition=CONDITION,
                target=row["target"],
                measured=row["measured"],
                holds=row["holds"] == "true",
                scale=options.scale,
            )
    with open(output / "report" / "times.csv", newline="", encoding="utf-8") as handle:
        minutes = sum(float(row["minutes"]) for row in csv.DictReader(handle))
    record(
        "foundation",
        "demo: time of all runs",
        condition=CONDITION,
        target="<= 15 min on two cores",
        measured=f"{minutes:.1f} min",
        holds=minutes <= 15,
        scale=options.scale,
    )
    without_mask(output / "report", options.scale)
    foreign(options.work, 100 if options.scale == "laptop" else 1000, options.scale)


def without_mask(report: Path, scale: str) -> None:
    """The class maps' verdict when the noise around the molecule counts too."""
    better = []
    for folder in sorted(report.glob("fsc_class_*")):
        found = []
        for path in (folder, folder.with_name(folder.name.replace("class", "consensus"))):
            curve = np.genfromtxt(path / "fsc.csv", delimiter=",", names=True)
            summary = json.loads((path / "summary.json").read_text())
            whole = torch.cat([torch.ones(1), torch.from_numpy(curve["fsc_unmasked"]).float()])
            found.append(resolution_at(whole, 0.5, summary["box"], summary["pixel_size_angst"]))
        better.append(found[0] is not None and (found[1] is None or found[0] < found[1]))
    record("foundation", "demo: class maps better than the consensus map (FSC 0.5) without any mask", condition=CONDITION, target="all",
           measured=f"{sum(better)} of {len(better)}", holds=all(better), scale=scale)


def foreign(work: Path, number: int, scale: str) -> None:
    """The demo's network on particles that this package did not make."""
    project = work / "demo" / "scipion" / "data" / "projects" / "CryoLearnDemo" / "Runs"
    modes, model = (next(project.glob(pattern)) for pattern in ("*NormalModes/extra/modes.npz", "*ElasticTrain/extra/model"))
    truth = foreign_particles(work / "foreign", modes, number)
    particles = work / "foreign" / "particles.star"
    engine("elastic-align", work / "foreign-aligned", particles=particles, modes=modes)
    engine("elastic-predict", work / "foreign-predicted", particles=particles, model=model)
    predicted = work / "foreign-predicted" / "alignment.npz"
    columns, meta = read_table(str(predicted))
    alone = work / "foreign-network.npz"
    names = ("amplitudes", "amplitude_sigma", "rotation", "shift_angst")
    write_table(str(alone), {"id": columns["id"]} | {name: columns.get(f"network_{name}", columns[name]) for name in names}, meta)
    tables = {"aligned": work / "foreign-aligned" / "alignment.npz", "network": alone, "refined": predicted}
    errors = {name: judge(work, f"foreign-{name}", table, truth, modes) for name, table in tables.items()}
    known = read_table(str(truth))[0]["amplitudes"]
    constant = float(np.abs(known - np.median(known, axis=0)).mean())
    mean, median = (f"amplitude_of_all_modes_{kind}" for kind in ("mean", "median"))
    own, reached, wanted = errors["network"][mean], errors["refined"][median], errors["aligned"][median]
    record("foundation", "foreign particles, network alone: mean error against that of a constant predictor", condition=f"{number} images {FOREIGN}",
           target=">= 1.5 x better", measured=f"{constant / own:.2f} x ({own:.1f} against {constant:.1f})", holds=constant >= 1.5 * own, scale=scale)
    record("foundation", "foreign particles, network and refinement: median error against that of the alignment",
           condition=f"{number} images {FOREIGN}", target="<= 1.5 x", measured=f"{reached / wanted:.2f} x ({reached:.2f} against {wanted:.2f})",
           holds=reached <= 1.5 * wanted, scale=scale)
    solved = errors["refined"]["solved_fraction"]
    record("foundation", "foreign particles, network and refinement: solved", condition=f"{number} images {FOREIGN}", target=">= 95 %",
           measured=f"{100 * solved:.1f} %", holds=solved >= 0.95, scale=scale)


if __name__ == "__main__":
    main()
