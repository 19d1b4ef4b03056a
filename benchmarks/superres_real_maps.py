"""Cryo-EM maps of which the network has seen neither map nor model nor relative: scores before and after, with the network that comes with the software.

Beside it the linear baseline: the input with the result's amplitude in every shell, which is what sharpening alone can do. Neither map has half
maps here, so data consistency goes by the stated resolution. EMD-20026 is finer than what the network is for; it is cut to 3 and 4 Å first.
"""

from __future__ import annotations

import argparse
import gzip
import shutil
from pathlib import Path

import numpy as np
from _results import RESULTS, parser
from _superres import Case, ScoredCase, record_changes, score_case, write_case_table
from _superres_data import add_data_option
from _superres_maps import amplitude_matched, arguments, enhanced
from scipy import fft

from cryolearn.engine.figures import map_slices, save_figure
from cryolearn.engine.imaging.map_shells import cosine_edge, frequency
from cryolearn.engine.io.maps import Map, read_map, write_map
from cryolearn.engine.map_enhancement.training.training_sources import polymer_structure

# name, map, model, resolution that it is used at, cut to that
MAPS = (
    ("EMD-3488", "emd_3488.mrc.gz", "5ni1_updated.cif.gz", 3.2, False),
    ("EMD-20026 cut to 3 Å", "emd20026_prot.mrc.gz", "3ajo_fitted_refined.pdb.gz", 3.0, True),
    ("EMD-20026 cut to 4 Å", "emd20026_prot.mrc.gz", "3ajo_fitted_refined.pdb.gz", 4.0, True),
)


def prepare(options: argparse.Namespace, name: str, file: str, resolution: float, cut: bool) -> Path:
    """The map as it is enhanced: unpacked, and cut to a resolution."""
    path = options.work / "real" / f"{name.replace(' ', '_')}.mrc"
    path.parent.mkdir(parents=True, exist_ok=True)
    with gzip.open(options.data / "maps" / file) as source, open(path, "wb") as target:
        shutil.copyfileobj(source, target)
    if cut:
        volume = read_map(str(path))
        edge = cosine_edge(frequency(volume.data.shape, (volume.pixel_size_angst,) * 3), resolution)
        data = fft.irfftn(fft.rfftn(volume.data) * edge, s=volume.data.shape)
        write_map(str(path), np.asarray(data, np.float32), volume.pixel_size_angst, volume.origin_angst)
    return path


def treat(options: argparse.Namespace, name: str, file: str, model: str, resolution: float, cut: bool) -> tuple[ScoredCase, dict[str, Map]]:
    path = prepare(options, name, file, resolution, cut)
    before = read_map(str(path))
    folder = options.work / "real" / f"{path.stem}-{options.rotations}-{options.consistency:g}"
    after, _ = enhanced(options, path, folder, resolution, options.model, rotations=options.rotations, data_consistency=options.consistency)
    maps = {"before": before, "linear": amplitude_matched(before, after, resolution), "enhanced": after}
    return score_case(Case(name, maps, polymer_structure(str(options.data / "maps" / model))), resolution), maps


def main() -> None:
    made = parser(__doc__ or "")
    add_data_option(made)
    made.add_argument("--only", default="", help="maps whose name holds this (a trial: writes no rows)")
    made.add_argument("--model", default="", help="folder of another network (a trial: writes no rows)")
    made.add_argument("--rotations", default="4", help="orientations that the network sees")
    made.add_argument("--consistency", type=float, default=1.0, help="data consistency (another than 1 is a trial: writes no rows)")
    options = arguments(made)
    scored = []
    for entry in MAPS:
        if options.only not in entry[0]:
            continue
        case, maps = treat(options, *entry)
        scored.append(case)
        pixel = maps["before"].pixel_size_angst
        figure = map_slices({label: volume.data for label, volume in maps.items()}, pixel, case.name)
        save_figure(figure, str(options.work / "real" / f"{case.name.replace(' ', '_')}.png"))
        for label, values in zip(maps, zip(*case.values(list(maps)).values())):
            print(case.name, label, {name: round(float(value), 3) for name, value in zip(case.values(list(maps)), values)}, flush=True)
    if options.only or options.model or options.consistency != 1:
        return
    for case in scored:
        for after in ("linear", "enhanced"):
            record_changes(case, "before", after, f"network of the software, {options.rotations} orientations", options.scale)
    write_case_table(RESULTS / "superres_real_maps.csv", [case.summary() for case in scored])


if __name__ == "__main__":
    main()
