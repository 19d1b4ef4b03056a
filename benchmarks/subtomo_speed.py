"""How fast subtomograms are simulated, learned from and classified, and that memory stays flat over 100,000 of them.

The stream of 100,000 repeats the files of a small set, each under an id of its own, and is classified by a narrow network: what memory holds
beside the network does not depend on its width. ``--data`` names a folder of maps of complexes. ``--scale paper`` streams a million, for which a
GPU is meant (``--use_gpu``); without one the time for a million is extrapolated, and its row says so.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
from _run import Usage, engine
from _subtomo import LAPTOP_CLASSES, LabelledSet, arguments, make_set, target, train_method

from cryolearn.engine.io.subtomograms import read_subtomograms, write_subtomograms

STREAM = {"laptop": (10_000, 100_000), "paper": (100_000, 1_000_000)}
RATE = {"laptop": (400, 1600), "paper": (10_000, 100_000)}
PER_CLASS = 25


def stream(made: LabelledSet, count: int) -> Path:
    """A set of ``count`` subtomograms of the few files there are."""
    path = made.train.parent / f"stream_{count}.star"
    table = read_subtomograms(str(made.train)).subset(np.arange(count) % len(read_subtomograms(str(made.train))))
    write_subtomograms(str(path), replace(table, ids=np.arange(1, count + 1)))
    return path


def classify(options: argparse.Namespace, made: LabelledSet, model: Path, count: int, name: str) -> Usage:
    out = made.train.parent / f"{name}_{count}"
    return engine("subtomogram-classify", out, subtomograms=stream(made, count), model=model / "model", use_gpu=options.use_gpu, threads=options.threads,
                  chunk=10_000)


def main() -> None:
    options = arguments(__doc__ or "")
    made = make_set(options, "speed", LAPTOP_CLASSES, PER_CLASS, 1, snr=0.1)
    clock = "on the GPU" if options.use_gpu else "of one core"
    for method in ("residual3d", "rif_svm", "inception3d", "dsrf3d"):
        trained = train_method(options, made, method, 1, epochs=1).folder
        few, many = RATE[options.scale] if method in ("residual3d", "rif_svm") else tuple(number // 8 for number in RATE[options.scale])
        took = [classify(options, made, trained, count, f"rate_{method}") for count in (few, many)]
        seconds = took[1].seconds - took[0].seconds if options.use_gpu else took[1].cpu_seconds - took[0].cpu_seconds
        rate = (many - few) / seconds
        condition = f"network '{method}', box 40, files of the system's cache"
        ours = method == "residual3d"
        if ours:
            million = f"{1e6 / rate:.0f} s" if options.use_gpu else f"{1e6 / rate / 3600:.1f} hours of one core, extrapolated from {many}: a GPU was not there"
            target(options, "inference: time for a million", condition, "< 300 s on one H200", million, options.use_gpu and 1e6 / rate < 300)
        if ours and not options.use_gpu:
            target(options, "inference: rate", condition, ">= 30 a second on 2 cores", f"{rate:.1f} a second {clock}", 2 * rate >= 30)
        else:
            target(options, "inference: rate", condition, "reported", f"{rate:.1f} a second {clock}", True)
    narrow = train_method(options, made, "residual3d", 1, width=8, epochs=1, average_turns=False).folder
    fewer, more = STREAM[options.scale]
    usage = [classify(options, made, narrow, count, "memory") for count in (fewer, more)]
    each = 1024 * (usage[1].memory_mib - usage[0].memory_mib) / (more - fewer)
    volume = 4 * 40**3 / 1024
    target(options, "memory over a stream", f"{fewer} and {more} subtomograms of box 40, batches of 64, network of width 8, one orientation",
           "flat: less than 2 % of a volume for each more", f"{usage[0].memory_mib:.0f} and {usage[1].memory_mib:.0f} MiB, {each:.2f} KiB each (a volume is "
           f"{volume:.0f} KiB)", each < 0.02 * volume)


if __name__ == "__main__":
    main()
