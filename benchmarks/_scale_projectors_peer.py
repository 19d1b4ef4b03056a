"""torch-projectors at work in its own environment: for each word from standard input, one timed call; its seconds go to standard output.

``scale_projectors.py`` starts it with the folder of the data and a number of threads. Imports nothing of cryolearn.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np
import torch


def main() -> None:
    import torch_projectors

    folder, threads, device = Path(sys.argv[1]), int(sys.argv[2]), torch.device(sys.argv[3])
    torch.set_num_threads(threads)
    data = {name: torch.from_numpy(np.load(folder / f"{name}.npy")).to(device) for name in ("volume", "rotations", "transforms", "power")}
    box = data["transforms"].shape[-2]
    rotations = data["rotations"][None]
    calls = {
        "project": lambda: torch_projectors.project_3d_to_2d_forw(
            data["volume"][None], rotations, output_shape=(box, box), oversampling=data["volume"].shape[0] / box, fourier_radius_cutoff=box / 2),
        "insert": lambda: torch_projectors.backproject_2d_to_3d_forw(
            data["transforms"][None], rotations, weights=data["power"][None], fourier_radius_cutoff=box / 2),
    }
    print("ready", torch.__version__, flush=True)
    for line in sys.stdin:
        word = line.strip()
        start = clock(device)
        found = calls[word]()
        seconds = clock(device) - start
        first = found[0] if isinstance(found, tuple) else found
        np.save(folder / f"peer_{word}.npy", first[0].cpu().numpy())
        print(seconds, flush=True)


def clock(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter()


if __name__ == "__main__":
    main()
