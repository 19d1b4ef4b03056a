"""How long the network that comes with the software takes for a map, and what memory."""

from __future__ import annotations

import numpy as np
from _results import parser, record
from _superres import METHOD
from _superres_data import add_data_option
from _superres_maps import arguments, enhanced
from scipy import ndimage

from cryolearn.engine.io.maps import write_map

SIDES = {"laptop": (256,), "paper": (256, 400)}


def main() -> None:
    made = parser(__doc__ or "")
    add_data_option(made)
    made.add_argument("--side", type=int, default=0, help="side of the map in voxels of 1 Å (a trial: writes no rows)")
    options = arguments(made)
    for side in (options.side,) if options.side else SIDES[options.scale]:
        path = options.work / f"speed-{side}.mrc"
        random = np.random.default_rng(0)
        data = ndimage.gaussian_filter(random.standard_normal((side,) * 3, dtype=np.float32), 1.0)
        middle = tuple(slice(side // 4, -side // 4) for _ in range(3))
        data[middle] += 3 * np.maximum(ndimage.gaussian_filter(random.standard_normal(data[middle].shape, dtype=np.float32), 1.0), 0)
        write_map(str(path), data, 1.0)
        for rotations in ("1", "4"):
            _, usage = enhanced(options, path, options.work / f"speed-{side}-{rotations}", 3.0, rotations=rotations)
            told = f"{usage.seconds:.0f} s on the clock, {usage.cpu_seconds:.0f} s of processor, {usage.memory_mib:.0f} MiB"
            print(f"{side}^3, {rotations} orientation(s): {told}", flush=True)
            if options.side:
                continue
            where = f"map of {side}^3 voxels, {rotations} orientation(s){', GPU' if options.use_gpu else ''}"
            limit = 60 if options.use_gpu else 2 * 15 * 60  # of processor: two cores for 15 minutes
            used = usage.seconds if options.use_gpu else usage.cpu_seconds
            target = "seconds on a GPU" if options.use_gpu else "< 15 minutes on 2 cores"
            record(METHOD, "time of enhancement", condition=where, target=target, measured=told, holds=used < limit, scale=options.scale)
            record(
                METHOD,
                "memory of enhancement",
                condition=where,
                target="< 4 GB",
                measured=f"{usage.memory_mib:.0f} MiB",
                holds=usage.memory_mib < 4096,
                scale=options.scale,
            )


if __name__ == "__main__":
    main()
