"""Composition: the arm (29 % of the mass) or a factor of 5 % of the mass is present in half of the particles."""

from __future__ import annotations

import numpy as np
from _gaussian import METHOD, arguments, auc, heterogeneity, judge_maps, target
from _gaussian_data import Imaging, composition_set
from _results import RESULTS

from cryolearn.engine.figures import new_figure, save_figure

SETTING = "64 px of 4 Å, true poses, SNR 1 in 25-200 Å"
# name -> part, least AUC, options of the engine
CASES = {
    "arm, 50 Å and 64 Gaussians as in the slides": ("arm", 0.98, {"resolutions_angst": [50.0], "number": 64}),
    "arm, default settings": ("arm", 0.98, {}),
    "factor of 5 % of the mass, default settings": ("factor", 0.90, {}),
}


def main() -> None:
    options = arguments(__doc__ or "")
    count = 3000 if options.scale == "laptop" else 30000
    figure = new_figure(3.6 * len(CASES), 3.4)
    for number, (name, (part, least, settings)) in enumerate(CASES.items()):
        if options.only and name not in options.only:
            continue
        made = composition_set(options.work / METHOD / f"composition-{part}", part, Imaging(1.0, (200.0, 25.0)), count, options.device)
        run = heterogeneity(made, made.folder / f"run-{number}", options.use_gpu, vary="composition", maps=2, halves=False, **settings)
        present = made.columns["state"] == 1
        found = auc(run.latents[:, 0], present)
        target(options, f"composition: AUC, {name}", f"{SETTING}, {count} particles", f">= {least}", f"{found:.3f}", found >= least)
        judged = judge_maps(run, made, "open")
        print(f"{name}: FSC area of maps {judged.maps.mean():.3f}, of the model {judged.model.mean():.3f}", flush=True)
        axes = figure.add_subplot(1, len(CASES), number + 1)
        edges = np.linspace(run.latents[:, 0].min(), run.latents[:, 0].max(), 50)
        for label, rows in (("present", present), ("absent", ~present)):
            axes.hist(run.latents[rows, 0], edges, alpha=0.6, label=label)
        axes.set(xlabel="latent", ylabel="particles", title=f"{name}\nAUC {found:.3f}")
        axes.title.set_fontsize(8)
        axes.legend()
    if not options.only:
        save_figure(figure, str(RESULTS / "gaussian_composition.png"))


if __name__ == "__main__":
    main()
