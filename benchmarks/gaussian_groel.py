"""A GroEL ring whose seven apical domains turn each for itself, neighbours in step: symmetry expansion and the correlation between subunits."""

from __future__ import annotations

import argparse

import numpy as np
from _gaussian import METHOD, arguments, engine, heterogeneity, rank_correlation, target
from _gaussian_data import Imaging, MapScene, atom_maps, find_structure, groel_subunit, make_set, neighbour_angles, write_apical_focus
from _results import RESULTS
from scipy.stats import spearmanr

from cryolearn.engine.figures import new_figure, save_figure

WIDTH_ANGST, SIGMA_DEG, LIMIT_DEG, STEPS = 224.0, 8.0, 16.0, 17
NEIGHBOURS, SNR = 0.6, 0.1


def main() -> None:
    options = arguments(__doc__ or "", structures=True)
    count, box = (1000, 64) if options.scale == "laptop" else (30000, 128)
    pixel, folder = WIDTH_ANGST / box, options.work / METHOD / "groel-subunits"
    structure = find_structure(options.structures, "1oel", options.work / METHOD / "structures")
    grid = np.linspace(-LIMIT_DEG, LIMIT_DEG, STEPS)
    first, shapes, places = groel_subunit(structure, grid)
    scene = MapScene(atom_maps(first, shapes, box, pixel, options.device), pixel, options.device, places)
    angles = neighbour_angles(count, NEIGHBOURS, SIGMA_DEG, LIMIT_DEG, seed=4)
    state = np.abs(angles[..., None] - grid).argmin(axis=-1)
    made = make_set(folder, scene, state, {"latent": grid[state]}, Imaging(SNR, defocus_angst=(10000, 25000), b_factor=60, shift_angst=6, solvent_noise=0.5),
                    consensus=False)
    gpu: dict[str, object] = {"use_gpu": True} if options.use_gpu else {}
    engine("reconstruct", folder / "consensus", particles=made.particles, symmetry="C7", **gpu)
    (folder / "consensus" / "map.mrc").replace(made.consensus)
    write_apical_focus(folder / "focus.mrc", first, shapes, box, pixel, options.device)
    run = heterogeneity(made, folder / "curve", options.use_gpu, symmetry="C7", focus=folder / "focus.mrc", maps=0, halves=False,
                        resolutions_angst=[6 * pixel, 3 * pixel])  # the domains move by some 4 Å: at the default of six pixels there is too little to see
    judge(options, made.columns["latent"].astype(float), run, f"{count} rings of {box} px and {pixel:g} Å, SNR {SNR:g}, C7, focus on one apical domain")


def lag_correlations(latents: np.ndarray) -> np.ndarray:
    """Correlation of subunits 0, 1, 2 and 3 places apart, over all rings and subunits."""
    centred = (latents - latents.mean()).astype(float)
    return np.array([(centred * np.roll(centred, -lag, axis=1)).mean() for lag in range(4)]) / (centred**2).mean()


def judge(options: argparse.Namespace, truth: np.ndarray, run: object, condition: str) -> None:
    latents = run.latents  # type: ignore[attr-defined]
    # subunit s of the report is some subunit of the truth: which, and in which sense, follows from the best match of one ring's order
    found = rank_correlation(latents.reshape(-1), matched(latents, truth).reshape(-1))
    true, plain = lag_correlations(truth), lag_correlations(latents)
    table = np.genfromtxt(run.folder / "subunits.csv", delimiter=",", names=True)  # type: ignore[attr-defined]
    correlation, error = table["correlation"], table["standard_error"]
    measured = float(correlation[0])
    print(f"|Spearman| of the subunits' latents {found:.3f}; correlations at 1-3 places: truth {true[1:].round(3)}, latents {plain[1:].round(3)}, "
          f"as the run reports them {correlation.round(3)} ± {error.round(3)}", flush=True)
    detail = f"of the latents as they are {plain[1]:.3f}; |Spearman| of a latent with its truth {found:.3f}"
    target(options, "GroEL, symmetry expanded: correlation between neighbouring subunits", condition, f"{true[1]:.2f} ± 0.1",
           f"{measured:.3f} ± {error[0]:.3f} ({detail})", abs(measured - true[1]) <= 0.1)
    memory = run.usage.memory_mib / 1024  # type: ignore[attr-defined]
    target(options, "GroEL, symmetry expanded: peak memory", condition, "< 4 GB", f"{memory:.2f} GiB", memory < 4e9 / 2**30)
    figure = new_figure(5, 3.6)
    axes = figure.add_subplot()
    for label, values in (("truth", true), ("latents", plain), ("as the run reports it", np.concatenate([[1], correlation]))):
        axes.plot(range(4), values, "o-", label=label)
    axes.set(xlabel="places around the ring", ylabel="correlation", title="Apical domains of a GroEL ring", xticks=range(4))
    axes.legend()
    save_figure(figure, str(RESULTS / "gaussian_groel.png"))


def matched(latents: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """The truth with its subunits turned and reversed so that they fit the latents best (the engine's count may start elsewhere)."""
    options = [np.roll(truth[:, ::way], turn, axis=1) for way in (1, -1) for turn in range(7)]
    fits = [abs(spearmanr(option.reshape(-1), latents.reshape(-1))[0]) for option in options]
    return options[int(np.argmax(fits))]


if __name__ == "__main__":
    main()
