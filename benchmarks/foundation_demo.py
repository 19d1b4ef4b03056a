"""The main job as a Scipion project (``make demo``): its verdicts and its time as rows of the results.

Alignment without prior poses, network, refinement, clusters and reconstructions of simulated adenylate kinase,
128 px at 2 Å, SNR 0.1, CTF, all orientations, shifts, amplitudes of modes 7-9.
"""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

from _results import parser, record

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
            record("foundation", "demo: " + row["what"], CONDITION, row["target"], row["measured"], row["holds"] == "true", options.scale)


if __name__ == "__main__":
    main()
