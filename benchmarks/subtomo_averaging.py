"""Speed and resolution of reference-free averaging: 1,000 subtomograms of three complexes mixed, 3 classes x 5 iterations.

``--data`` names a folder of maps of complexes; 4cr2 (26S proteasome), 1qvr (ClpB) and 3j9i (20S proteasome) are taken. 40 voxels of 9.2 Å, SNR 0.05, tilts
-60 to 60 degrees. The truth is not used before the end, when classes are compared with it. At ``--scale laptop`` the engine gets one
thread, and its time is that of the processor, which other programs on the machine change less than the clock.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from _results import RESULTS, parser, record
from _run import engine
from _subtomo_average import agreement, discrepancy_nm, maps_of, true_maps

from cryolearn.engine.figures import save_figure
from cryolearn.engine.io.maps import read_map
from cryolearn.engine.io.subtomograms import read_subtomograms
from cryolearn.engine.io.tables import read_table
from cryolearn.engine.simulate.config import SubtomogramSimulateConfig
from cryolearn.engine.subtomogram.report.class_gallery import GalleryRow, class_gallery

NAMES = ["4cr2", "1qvr", "3j9i"]
LIMIT_MINUTES = 30.0


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, required=True, help="folder of maps (MRC) at about 10 Å a voxel")
    arguments.add_argument("--count", type=int, default=1000, help="subtomograms in all")
    arguments.add_argument("--snr", type=float, default=0.05)
    arguments.add_argument("--iterations", type=int, default=5)
    arguments.add_argument("--starts", type=int, default=2)
    options = arguments.parse_args()
    gpu = options.scale == "paper"
    per_class = -(-options.count // len(NAMES))
    simulated, output = options.work / "simulated", options.work / "averages"
    volumes = maps_of(options.data, NAMES)
    engine("subtomogram-simulate", simulated, volumes=volumes, per_class=per_class, snr=options.snr, seed=5, threads=1)
    usage = engine(
        "subtomogram-average", output, subtomograms=str(simulated / "subtomograms.star"), classes=len(NAMES), iterations=options.iterations,
        starts=options.starts, use_gpu=gpu, threads=0 if gpu else 1,
    )
    summary = json.loads((output / "summary.json").read_text())
    table = read_subtomograms(str(simulated / "subtomograms.star"))
    assert table.class_name is not None
    true = np.array(table.class_name)
    columns, _ = read_table(str(output / "averages.npz"))
    right = agreement(columns["class"], true)
    truths = true_maps(SubtomogramSimulateConfig(volumes=volumes, snr=options.snr, per_class=per_class, seed=5))
    names = list(dict.fromkeys(table.class_name))
    condition = f"{len(true)} subtomograms of 40 voxels, {' '.join(NAMES)}, SNR {options.snr:g}, ±60, {len(NAMES)} classes x {options.iterations} iterations"
    how = "GPU" if gpu else "one thread"
    minutes = (usage.seconds if gpu else usage.cpu_seconds) / 60
    record(
        "subtomograms",
        f"averaging: time ({how})",
        condition=condition,
        target=f"<= {LIMIT_MINUTES:g} minutes on 2 CPU cores",
        measured=f"{minutes:.1f} minutes of {'the clock' if gpu else 'one CPU core'}, {usage.memory_mib:.0f} MiB",
        holds=minutes <= LIMIT_MINUTES,
        scale=options.scale,
    )
    record(
        "subtomograms",
        "averaging: subtomograms in the class of their complex",
        condition=condition,
        target="reported",
        measured=f"{100 * right:.1f} %",
        holds=True,
        scale=options.scale,
    )
    rows = []
    for entry in summary["classes"]:
        members = true[np.isin(table.ids, columns["id"][columns["class"] == entry["number"]])]
        name = max(names, key=lambda one: int((members == one).sum()))
        volume = torch.from_numpy(read_map(str(output / entry["files"]["map"])).data.copy())
        apart = discrepancy_nm(volume, truths[names.index(name)], table.pixel_size_angst)
        halves = entry["resolution_angst"]
        text = "none" if halves is None else f"{halves / 10:.2f} nm"
        # 7 nm is the paper's rule for a structure that was recovered
        record(
            "subtomograms",
            f"averaging: FSC 0.5 with the truth, {name}",
            condition=condition,
            target="<= 7 nm",
            measured=f"{apart:.2f} nm (half maps at 0.143: {text}; {entry['count']} subtomograms, {int((members == name).sum())} of it)",
            holds=apart <= 7.0,
            scale=options.scale,
        )
        rows.append(GalleryRow(f"{name}: {entry['count']} subtomograms, FSC 0.5 with the truth {apart:.1f} nm", volume.numpy()))
    figure = class_gallery(rows, table.pixel_size_angst, f"{len(true)} subtomograms at SNR {options.snr:g}, averaged without a reference")
    save_figure(figure, str(RESULTS / "subtomo_averaging.png"))


if __name__ == "__main__":
    main()
