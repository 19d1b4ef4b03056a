"""Look-alikes of CryoBench's IgG-1D, IgG-RL and Ribosembly, made from other structures, judged as CryoBench does, beside cryoDRGN.

Two proteins joined at a hinge that goes around a full circle (IgG-1D) or by a random linker (IgG-RL), 100 conformations each; a 30S subunit
with groups of proteins and domains of its RNA left out, 16 states (Ribosembly). Per conformation: the map at the mean latent of its particles
against the true map, within a mask, area under the FSC (ceiling 0.5).
"""

from __future__ import annotations

import argparse

import numpy as np
from _gaussian import METHOD, arguments, circular_best, compare, consensus, heterogeneity, target
from _gaussian_data import Imaging, MapScene, assembly_states, atom_maps, find_structure, hinge_states, make_set
from _results import RESULTS
from _run import merge_table
from sklearn.cluster import KMeans
from sklearn.metrics import adjusted_rand_score

# of the images in Å: as the real sets, and closer about the molecule at laptop scale
WIDTHS_ANGST = {"paper": (384.0, 384.0), "laptop": (256.0, 320.0)}
# published areas under the per-conformation FSC of the real sets (100,000 particles), which cannot be had here
PUBLISHED = {"IgG-1D look-alike": (0.402, 0.391), "IgG-RL look-alike": (0.386, 0.372), "Ribosembly look-alike": (0.427, 0.430)}


def scenes(options: argparse.Namespace, name: str, box: int) -> MapScene:
    pixel = WIDTHS_ANGST[options.scale][name.startswith("Ribosembly")] / box
    work = options.work / METHOD / "structures"
    if name == "Ribosembly look-alike":
        structure = find_structure(options.structures, "4v4r_30S", work)
        centred = structure.coordinates - structure.coordinates.mean(axis=0)
        maps = atom_maps(structure, centred[None], box, pixel, options.device, assembly_states(structure), solvent=False)
    else:
        structure, shapes = hinge_states(find_structure(options.structures, "3d2f", work), 100, name.startswith("IgG-RL"))
        maps = atom_maps(structure, shapes, box, pixel, options.device, solvent=False)
    return MapScene(maps, pixel, options.device)


def main() -> None:
    options = arguments(__doc__ or "", structures=True, peers=True)
    laptop = options.scale == "laptop"
    # the same noise a square Å gives SNR 0.04 in 64 px of 4 Å (or 5 Å for the larger ribosome) and 0.01 in 128 px of 3 Å: pixels and empty rim differ
    count, box, peer_box, snr = (3000, 64, 32, 0.04) if laptop else (100000, 128, 128, 0.01)
    peer = {"epochs": 10} if laptop else {"epochs": 20, "width": 1024}  # an epoch at laptop scale takes a minute of a core
    settings = {
        "IgG-1D look-alike": ("closed", {"path": "closed", "maps": 20 if laptop else 100, "states": 41}),
        "IgG-RL look-alike": ("open", {"method": "autoencoder", "components": 8, "maps": 20 if laptop else 100}),
        "Ribosembly look-alike": ("states", {"vary": "composition", "path": "states", "states": 16, "maps": 16}),
    }
    for name, (kind, extra) in settings.items():
        if options.only and name not in options.only:
            continue
        scene = scenes(options, name, box)
        states = np.arange(count) % len(scene.maps())
        folder = options.work / METHOD / name.replace(" ", "-")
        made = make_set(folder, scene, states, {"latent": states.astype(float)}, Imaging(snr, shift_angst=10), consensus=False)
        consensus(made, folder / "consensus", options.use_gpu)
        run = heterogeneity(made, folder / "run", options.use_gpu, halves=False, **extra)

        def agreement(latents: np.ndarray) -> float:
            if kind == "closed":  # noqa: B023
                return circular_best(latents, 2 * np.pi * states / 100)  # noqa: B023
            labels = latents[:, 0] if latents.shape[1] == 1 else KMeans(16, n_init=4, random_state=0).fit_predict(latents)
            return float(adjusted_rand_score(states, labels))  # noqa: B023

        condition = f"{count} particles of {box} px and {scene.pixel:g} Å, SNR {snr:g}, map from the particles"
        rows = compare(
            options, name, condition=condition, made=made, run=run, kind=kind, peer_box=peer_box, correlation=None if kind == "open" else agreement, peer=peer
        )
        merge_table(RESULTS / "gaussian_peers.csv", [{**row, "scale": options.scale} for row in rows], ("set", "program", "scale"))
        if not laptop:
            spire, recovar = PUBLISHED[name]
            found = max(float(rows[0]["fsc_area_maps"]), float(rows[0]["fsc_area_model"]))  # type: ignore[arg-type]
            target(options, f"{name}: per-conformation FSC area", condition, f"toward {spire} (CryoSPIRE) and {recovar} (RECOVAR) on the real set",
                   f"{found:.3f}", found >= min(spire, recovar))


if __name__ == "__main__":
    main()
