"""Real data, a small demonstration: 40 ribosomes of 37 tilts each, back-projected into 40 subtomograms, averaged without a reference.

``--data`` names the folder with ``warptools_test_4-tomos_10-ptcls_box-32_angpix-12.star`` and its stacks; ``--tomograms`` the folder with
the crops of two tomograms with microtubules (TIFF, 10.52 Å), whose patches beside the microtubule are the background. Subtomograms are 28
voxels of 12 Å (patches: 32 voxels of 10.52 Å resampled), each with its own tilt range. The authors' poses are used only at the end, to judge
ours. Patches come from other tomograms, so telling them apart is easier than it would be within one tomogram.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import tifffile
import torch
from _results import RESULTS, parser, record
from _run import engine
from _subtomo_average import agreement
from foundation_ribosome_tilts import load
from torch import Tensor

from cryolearn.engine.figures import fsc_curves, save_figure
from cryolearn.engine.imaging.fourier import fourier_resize
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.poses import angle_between_deg, euler_to_matrix, matrix_to_euler
from cryolearn.engine.imaging.reconstruction import Reconstructor
from cryolearn.engine.io.maps import read_map, write_map
from cryolearn.engine.io.subtomograms import SubtomogramTable, read_subtomograms, write_subtomograms
from cryolearn.engine.subtomogram.report.class_gallery import GalleryRow, class_gallery

BOX, PIXEL = 28, 12.0
PATCH, PATCH_PIXEL = 32, 10.52
STEP = 16  # voxels between patches
TILT = 60.0  # of the tomograms of the patches
RADIUS = 132.0  # of a 70S ribosome, Å
FINE = 45.0  # Å: where the half maps from the authors' poses still agree
NEAR = 20.0  # degrees: an orientation that is found


def back_projected(folder: Path) -> tuple[Tensor, Tensor, np.ndarray]:
    """Subtomograms (40, n, n, n), the authors' poses (40, 3, 3) and first and last tilts (40, 2)."""
    images, tilts, angles, ctf, numbers, pixel = load(folder)
    assert pixel == PIXEL
    volumes, poses, ranges = [], [], []
    for number in range(int(numbers.max()) + 1):
        at = numbers == number
        work = Reconstructor(images.shape[-1], pixel)
        work.insert(images[at], tilts[at], None, ctf[at])
        whole = work.finish(constant=0.1)
        low = (whole.shape[-1] - BOX) // 2
        volumes.append(whole[low : low + BOX, low : low + BOX, low : low + BOX])
        poses.append(angles[at][0])
        beam = tilts[at][:, 2]  # (-sin t, 0, cos t)
        degrees = torch.rad2deg(torch.atan2(-beam[:, 0], beam[:, 2]))
        ranges.append([float(degrees.min()), float(degrees.max())])
    return torch.stack(volumes), torch.stack(poses), np.array(ranges)


def patches(folder: Path) -> Tensor:
    """Background (n, n, n, n) on both sides of the microtubules, which run along y through the middle."""
    found = []
    for path in sorted(folder.glob("*.tif")):
        data = torch.from_numpy(tifffile.imread(path).astype(np.float32))
        _, ny, nx = data.shape
        for y in range(0, ny - PATCH + 1, STEP):
            found += [fourier_resize(data[:PATCH, y : y + PATCH, x : x + PATCH], BOX, 3) for x in (0, nx - PATCH)]
    return torch.stack(found)


def write_set(folder: Path, volumes: Tensor, tilts: np.ndarray, names: list[str]) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    files = [str(folder / f"{row:03d}.mrc") for row in range(len(volumes))]
    for path, volume in zip(files, volumes):
        write_map(path, volume.numpy(), PIXEL)
    star = str(folder / "subtomograms.star")
    write_subtomograms(star, SubtomogramTable(np.arange(1, len(files) + 1), files, PIXEL, BOX, tilts[:, 0], tilts[:, 1], class_name=names))
    return star


def found_orientations(ours: Tensor, theirs: Tensor) -> float:
    """Part of the poses that agree within 20 degrees, in the one common frame in which most do."""
    gauges = theirs.mT @ ours
    return max(float((angle_between_deg(theirs @ gauge, ours) < NEAR).double().mean()) for gauge in gauges)


def record_bound(work: Path, theirs: Path, star: str, poses: Tensor, scale: str) -> None:
    """How many orientations of each half set a search over all rotations finds with the best map there is: the other half's, from the authors' poses."""
    shares = []
    for half in (1, 2):
        output = work / f"against_half{3 - half}"
        engine("subtomogram-average", output, subtomograms=star, classes=1, mask_radius_angst=RADIUS, start="reference", iterations=1, threads=1,
               references=[str(theirs / f"class_001_half{3 - half}.mrc")], initial_resolution_angst=FINE, angular_step_deg=12)
        made = read_subtomograms(str(output / "subtomograms.star"))
        assert made.angles_deg is not None
        own = torch.from_numpy(made.random_subset == half)
        shares.append(found_orientations(euler_to_matrix(torch.from_numpy(made.angles_deg))[own], poses[own]))
    record("subtomograms", f"ribosomes: orientations within {NEAR:g} degrees, against the other half's map from the authors' poses",
           condition="20 real ribosomes a half set, search over all rotations", target="reported: the bound for a search from nothing",
           measured=", ".join(f"{100 * share:.0f} %" for share in shares), holds=True, scale=scale)


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, required=True, help="folder with the ribosomes' STAR file and stacks")
    arguments.add_argument("--tomograms", type=Path, required=True, help="folder with the tomograms' crops")
    arguments.add_argument("--starts", type=int, default=4)
    options = arguments.parse_args()
    volumes, poses, ranges = back_projected(options.data)
    star = write_set(options.work / "ribosomes", volumes, ranges, ["ribosome"] * len(volumes))
    output = options.work / "averages"
    engine("subtomogram-average", output, subtomograms=star, classes=1, mask_radius_angst=RADIUS, starts=options.starts, threads=1, angular_step_deg=12)
    entry = json.loads((output / "summary.json").read_text())["classes"][0]
    made = read_subtomograms(str(output / "subtomograms.star"))
    assert made.angles_deg is not None
    ours = euler_to_matrix(torch.from_numpy(made.angles_deg))
    shares = [found_orientations(ours[at], poses[at]) for at in (torch.from_numpy(made.random_subset == half) for half in (1, 2))]
    condition = f"{len(volumes)} real ribosomes, {BOX} voxels of {PIXEL:g} Å, from nothing, half sets apart"
    halves = entry["resolution_angst"]
    # half maps of wrong poses agree somewhat too, since they are laid on each other: what counts are the orientations
    record("subtomograms", "ribosomes: resolution between half maps", condition=condition, target="reported (a demonstration)",
           measured="none" if halves is None else f"{halves:.1f} Å", holds=True, scale=options.scale)
    chance = (NEAR / 180 * np.pi - np.sin(NEAR / 180 * np.pi)) / np.pi  # of a random rotation
    record(
        "subtomograms",
        f"ribosomes: orientations within {NEAR:g} degrees of the authors'",
        condition=condition,
        target=f"above half in each half set (chance {100 * chance:.1f} %)",
        measured=", ".join(f"{100 * share:.0f} %" for share in shares),
        holds=min(shares) > 0.5,
        scale=options.scale,
    )
    with_theirs = options.work / "theirs"
    given = read_subtomograms(str(output / "subtomograms.star"))
    aligned = replace(given, angles_deg=matrix_to_euler(poses).numpy(), shifts_angst=np.zeros((len(poses), 3)))
    write_subtomograms(str(options.work / "aligned.star"), aligned)
    engine("subtomogram-average", with_theirs, subtomograms=str(options.work / "aligned.star"), classes=1, mask_radius_angst=RADIUS, threads=1,
           start="alignment", local_search=True, iterations=1, angular_step_deg=4, shift_range_angst=24)
    reference = json.loads((with_theirs / "summary.json").read_text())["classes"][0]["resolution_angst"]
    record(
        "subtomograms",
        "ribosomes: resolution from the authors' poses, refined locally",
        condition=condition.replace("from nothing", "from their poses"),
        target="reported",
        measured="none" if reference is None else f"{reference:.1f} Å",
        holds=True,
        scale=options.scale,
    )
    record_bound(options.work, with_theirs, star, poses, options.scale)
    background = patches(options.tomograms)
    both = torch.cat((volumes / volumes.std(), background / background.std()))
    names = ["ribosome"] * len(volumes) + ["background"] * len(background)
    tilts = np.concatenate((ranges, np.tile([[-TILT, TILT]], (len(background), 1))))
    mixed = options.work / "mixed"
    star = write_set(options.work / "with_background", both, tilts, names)
    engine("subtomogram-average", mixed, subtomograms=star, classes=2, mask_radius_angst=RADIUS, starts=options.starts, threads=1)
    classes = read_subtomograms(str(mixed / "subtomograms.star"))
    assert classes.class_name is not None
    right = agreement(np.array(classes.class_name), np.array(names))
    record("subtomograms", "ribosomes: told apart from background patches",
           condition=f"{len(volumes)} ribosomes, {len(background)} patches of other tomograms, 2 classes from nothing", target="reported (a demonstration)",
           measured=f"{100 * right:.0f} %", holds=True, scale=options.scale)
    mask = sphere_mask(BOX, RADIUS / PIXEL, 2)
    runs = {"from nothing": output, "authors' poses": with_theirs}
    maps = {label: torch.from_numpy(read_map(str(folder / "class_001.mrc")).data.copy()) for label, folder in runs.items()}
    rows = [GalleryRow(f"40 ribosomes, {label}", volume.numpy()) for label, volume in maps.items()]
    save_figure(class_gallery(rows, PIXEL, "Real ribosomes averaged"), str(RESULTS / "subtomo_ribosome.png"))
    curves = {}
    for label, folder in runs.items():
        first, second = (torch.from_numpy(read_map(str(folder / f"class_001_half{half}.mrc")).data.copy()) for half in (1, 2))
        curves[label] = fsc(first, second, mask).numpy()
    save_figure(fsc_curves(curves, BOX, PIXEL, (0.143,), title="Half maps of 40 real ribosomes"), str(RESULTS / "subtomo_ribosome_fsc.png"))


if __name__ == "__main__":
    main()
