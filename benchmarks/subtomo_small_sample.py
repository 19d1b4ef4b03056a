"""Training sets of the size of an experiment: 200 subtomograms of eight complexes, the default network against RIF-SVM, several seeds.

The paper had 401 experimental subtomograms (.905 against .890). ``--data`` names a folder of maps of complexes. ``--scale paper`` judges by ten
times as many subtomograms and takes ten seeds.
"""

from __future__ import annotations

from _subtomo import LAPTOP_CLASSES, arguments, is_above, losses, make_set, spread, target, test_accuracy, train_method

TRAIN = 25  # of each of eight classes
SETTINGS = {"laptop": (60, (1, 2, 3)), "paper": (600, tuple(range(1, 11)))}
SNR = 0.1


def main() -> None:
    options = arguments(__doc__ or "")
    test, seeds = SETTINGS[options.scale]
    found: dict[str, list[float]] = {"residual3d": [], "rif_svm": []}
    first, last = [], []
    for seed in seeds:
        made = make_set(options, f"small_{options.scale}_{seed}", LAPTOP_CLASSES, TRAIN, test, snr=SNR, seed=seed)
        for method, values in found.items():
            trained = train_method(options, made, method, seed)
            values.append(test_accuracy(options, made, trained))
            print(f"seed {seed}: {method} {values[-1]:.3f}", flush=True)
            if method == "residual3d":
                curve = losses(trained, "val_loss")
                first.append(max(curve[:3]))
                last.append(curve[-1])
    condition = f"{8 * TRAIN} training subtomograms of 8 complexes, SNR {SNR:g}, ±60 degrees, {8 * test} to judge by, {len(seeds)} seeds"
    measured = f"residual3d {spread(found['residual3d'])}, rif_svm {spread(found['rif_svm'])}"
    target(options, "training on few subtomograms: accuracy", condition, "residual3d above rif_svm by more than the seed scatter", measured,
           is_above(found["residual3d"], found["rif_svm"]))
    converged = all(end < 0.75 * start for start, end in zip(first, last))
    target(options, "training on few subtomograms: convergence", condition, "validation loss falls in every run",
           f"from {spread(first)} to {spread(last)}", converged)


if __name__ == "__main__":
    main()
