"""Real data: 40 ribosomes of 37 tilts each (RELION 5 / WarpTools STAR, 32 px, 12 Å) reconstructed with their own poses and CTF.

The command ``reconstruct`` reads them; the pose of tilt t of a particle is ``P_t A(rot, tilt, psi)``, P_t being the tilt's projection matrix, and other
products of the two must fail. Particles are split into even and odd ones. ``--data`` names the folder with
``warptools_test_4-tomos_10-ptcls_box-32_angpix-12.star`` and its stacks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import mrcfile
import numpy as np
import torch
from _inputs_tilts import GIVEN, MASK_ANGST, NAME, TOLERANCE, half_map_fsc
from _results import RESULTS, parser, record
from torch import Tensor

from cryolearn.engine.figures import map_slices, new_figure, save_figure
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.half_set_maps import Reconstruction, finish_reconstruction, insert_particles, new_reconstructor, split_halves
from cryolearn.engine.imaging.poses import euler_to_matrix, matrix_to_euler
from cryolearn.engine.imaging.standard_images import StandardImages
from cryolearn.engine.io.maps import read_map
from cryolearn.engine.io.star import ParticleTable, read_particles

LOST = 0.143

Poses = Callable[[Tensor, Tensor], Tensor]
WRONG: dict[str, Poses] = {"Pᵀ A": lambda p, a: p.mT @ a, "P Aᵀ": lambda p, a: p @ a.mT, "A P": lambda p, a: a @ p}


def reconstructed(table: ParticleTable, mask: Tensor) -> Reconstruction:
    """Maps with the poses and CTFs that the table has."""
    work, rows = new_reconstructor(table, 2.0, torch.device("cpu"), False), np.arange(len(table))
    insert_particles([work], StandardImages(table, keep_magnification=True), rows, split_halves(table, rows))
    return finish_reconstruction(work, mask)


def main() -> None:
    arguments = parser(__doc__ or "")
    arguments.add_argument("--data", type=Path, required=True, help="folder with the STAR file and the stacks")
    options = arguments.parse_args()
    work = options.work.resolve() / "foundation_ribosome_tilts"
    curves = {"P A": np.concatenate(([1.0], half_map_fsc(work, options.data)))}
    table = read_particles(str(options.data / f"{NAME}_optimisation_set.star"), tilt_series=True)
    box, pixel = table.box, table.pixel_size_angst
    mask, volume = (torch.from_numpy(read_map(str(work / name)).data.copy()) for name in ("mask.mrc", "map/map.mrc"))
    tilt = torch.from_numpy(table.tilts.matrix)
    particle = tilt.mT @ euler_to_matrix(torch.from_numpy(table.angles_deg))
    for label, pose in WRONG.items():
        curves[label] = reconstructed(table.with_poses(matrix_to_euler(pose(tilt, particle)), table.origin_angst), mask).curve.numpy()
    right = curves["P A"][1 : len(GIVEN) + 1]
    condition = f"{len(table)} images of 40 particles, even/odd particles, soft sphere of {MASK_ANGST:g} Å"
    record(
        "foundation", "real ribosome tilts: half-map FSC at shells 1-13 with R = P A", condition=condition,
        target="each at least " + " ".join(f"{v:.2f}" for v in GIVEN) + f" less {TOLERANCE}",
        measured=" ".join(f"{v:.3f}" for v in right), holds=bool(np.all(right >= GIVEN - TOLERANCE)), scale=options.scale,
    )
    for label in WRONG:
        lost = next((shell for shell in range(1, len(curves[label])) if curves[label][shell] < LOST), None)
        record(
            "foundation", f"real ribosome tilts: half-map FSC with the wrong R = {label}", condition=condition, target=f"below {LOST} by shell 10",
            measured=f"below at shell {lost}", holds=lost is not None and lost <= 10, scale=options.scale,
        )
    reference = options.data / "warptools_test_box-32_angpix-12_reconstruct.mrc"
    if reference.exists():
        theirs = torch.from_numpy(mrcfile.read(reference).astype(np.float32))
        # a mirror through the central plane z = n // 2: the unpaired first layer stays
        mirrored = torch.cat((theirs[:1], theirs[1:].flip(0)))
        for name, other in (("as it is", theirs), ("mirrored", mirrored)):
            curve = fsc(volume, other, mask)
            curves[f"P A against the authors' map, {name}"] = curve.numpy()
            print(f"FSC with the authors' map, {name}: " + " ".join(f"{float(v):.2f}" for v in curve[1:]))
        best = np.stack([curves[f"P A against the authors' map, {name}"] for name in ("as it is", "mirrored")])[:, 1:9].mean(1)
        record(
            "foundation", "real ribosome tilts: mean FSC of shells 1-8 with the authors' own map", condition="the better hand (poses alone do not settle it)",
            target="at least 0.5", measured=f"{best[0]:.2f} as it is, {best[1]:.2f} mirrored", holds=float(best.max()) >= 0.5, scale=options.scale,
        )
        plain = reconstructed(replace(table, ctf=replace(table.ctf, dose=None, scale=None)), mask).volume
        means = [float(fsc(one, mirrored, mask)[1 : len(GIVEN) + 1].mean()) for one in (volume, plain)]
        record(
            "foundation", "real ribosome tilts: mean FSC of shells 1-13 with the authors' own map, mirrored",
            condition="exposure filter and scale of each tilt", target="at least that without them", measured=f"{means[0]:.4f}, without {means[1]:.4f}",
            holds=means[0] >= means[1], scale=options.scale,
        )
    figure = new_figure(7.5, 5)
    axes = figure.subplots()
    shells = np.arange(box // 2 + 1)
    for label, curve in curves.items():
        axes.plot(shells[1:], curve[1:], label=label if "map" in label else f"half maps, R = {label}")
    axes.plot(shells[1 : len(GIVEN) + 1], GIVEN, "k.", label="given with the data")
    axes.axhline(0, color="0.8", linewidth=0.8)
    axes.set(xlabel=f"shell (1 / {box * pixel:g} Å)", ylabel="FSC", title="40 ribosomes x 37 real tilts", ylim=(-0.2, 1.02))
    axes.legend(frameon=False, fontsize=8)
    save_figure(figure, str(RESULTS / "foundation_ribosome_tilts.png"))
    save_figure(map_slices({"ours": volume.numpy()}, pixel), str(RESULTS / "foundation_ribosome_tilts_slices.png"))


if __name__ == "__main__":
    main()
