"""The slides' experiment with cryoDRGN (and RECOVAR, when the person running this has installed it) on the same particles, in one run.

cryoDRGN gets its own environment in the work folder. RECOVAR's licence is non-commercial: name the Python of your own installation with
``--recovar``. The sets from atoms and the look-alikes are compared by gaussian_atoms.py and gaussian_lookalikes.py.
"""

from __future__ import annotations

from _gaussian import METHOD, arguments, compare, heterogeneity, rank_correlation
from _gaussian_data import Imaging, slides_set
from _results import RESULTS
from _run import merge_table

CASES = {
    "hinged arm ±15 degrees, SNR 1 in 25-200 Å": (15, Imaging(1.0, (200.0, 25.0))),
    "hinged arm ±45 degrees, SNR 1 in 25-200 Å": (45, Imaging(1.0, (200.0, 25.0))),
}


def main() -> None:
    options = arguments(__doc__ or "", peers=True)
    laptop = options.scale == "laptop"
    count, peer_box = (3000, 32) if laptop else (30000, 64)
    peer = {"epochs": 20} if laptop else {"epochs": 50, "width": 1024}
    for name, (angle, imaging) in CASES.items():
        if options.only and name not in options.only:
            continue
        folder = options.work / METHOD / f"peers-{angle}-{imaging.snr:g}"
        made = slides_set(folder, angle, imaging, count, options.device)
        run = heterogeneity(made, folder / "curve", options.use_gpu, maps=11, halves=False)
        truth = made.columns["latent"].astype(float)
        condition = f"{count} particles of 64 px and 4 Å, 11 classes, true poses, map of the truth"
        rows = compare(
            options,
            name,
            condition=condition,
            made=made,
            run=run,
            kind="open",
            peer_box=peer_box,
            correlation=lambda latents: rank_correlation(latents, truth),  # noqa: B023
            peer=peer,
        )
        merge_table(RESULTS / "gaussian_peers.csv", [{**row, "scale": options.scale} for row in rows], ("set", "program", "scale"))


if __name__ == "__main__":
    main()
