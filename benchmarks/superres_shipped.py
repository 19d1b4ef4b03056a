"""Train the network that comes with the software, look at it, put it in its place.

It learns from all models of the folder of the data except those that are tested on and their relatives, degradation 'physics' at 2.5 to 6 Å. Two weights differ
from map-train's defaults, both for side chains, on which the first network gained nothing: voxels around side chains count three times, since they are a small
part of the density and the least certain one; and so do Fourier shells between the input's resolution and the target's, where the network and not the data
decide.

    python benchmarks/superres_shipped.py                          # an hour and a half of one core; killed, it goes on
    python benchmarks/superres_shipped.py --scale paper --use_gpu
    python benchmarks/superres_simulated_maps.py --model WORK/superres/shipped-laptop/model    # is it better than the present one?
    python benchmarks/superres_shipped.py --install                # into cryolearn/engine/superres/weights
    python benchmarks/superres_real_maps.py                        # before and after on maps that it has not seen

What it was trained on, how long, and with what settings stands in the network's own model.json.
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

from _results import parser
from _run import engine
from _superres_data import add_data_option, all_models, excluded_models, unseen_models
from _superres_maps import arguments

from cryolearn.engine.map_enhancement.networks.by_name import SHIPPED

TRAINING: dict[str, dict[str, object]] = {
    "laptop": dict(epochs=10, patches_per_epoch=1600, batch=8, precision="bf16", checkpoint_steps=50),
    "paper": dict(epochs=40, patches_per_epoch=8000, batch=16),
}
WEIGHTS = dict(side_chain_weight=3.0, fine_weight=3.0)


def main() -> None:
    made = parser(__doc__ or "")
    add_data_option(made)
    made.add_argument("--install", action="store_true", help="only copy the finished network to where the software looks for it")
    made.add_argument("--patches", type=int, default=None, help="so many patches in one epoch (a trial)")
    made.add_argument("--learned", type=int, default=None, help="only so many models to learn from (a trial)")
    options = arguments(made)
    trial = options.patches is not None or options.learned is not None
    folder = options.work / f"shipped-{options.scale}{'-trial' if trial else ''}"
    if not options.install:
        tested = set(unseen_models(options.data))
        learned = [path for path in all_models(options.data) if path not in tested][: options.learned]
        settings = {**TRAINING[options.scale], **WEIGHTS}
        if options.patches is not None:
            settings |= {"epochs": 1, "patches_per_epoch": options.patches, "validation_patches": 4}
        engine(
            "map-train", folder, structures=[str(path) for path in learned], exclude=[str(path) for path in excluded_models(options.data)],
            use_gpu=options.use_gpu, threads=options.threads, **settings,
        )
        return
    for name in ("weights.safetensors", "model.json"):
        source = folder / "model" / name
        if not source.exists():
            sys.exit(f"ERROR: '{source}' is not there: train the network first.")
        shutil.copyfile(source, Path(SHIPPED) / name)
    print(f"'{folder / 'model'}' is now the network that comes with the software.", flush=True)


if __name__ == "__main__":
    main()
