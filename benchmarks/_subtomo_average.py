"""What the benchmarks of averaging share: true maps, maps laid on the truth, the paper's rule of recovery, agreement of classes."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from cryolearn.common.fsc import resolution_at
from cryolearn.engine.alignment.fourier_band import FourierBand
from cryolearn.engine.alignment.fourier_images import FourierImages
from cryolearn.engine.alignment.reference import Reference
from cryolearn.engine.imaging.fourier import rfftn_centred
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.simulate.config import SubtomogramSimulateConfig
from cryolearn.engine.simulate.subtomogram_simulator import SubtomogramSimulator
from cryolearn.engine.subtomogram.averaging.aligner import Aligner, Plan
from cryolearn.engine.subtomogram.averaging.averages import turned_average

TRUTH_THRESHOLD = 0.5  # FSC with the truth, as in the paper
RECOVERED_NM = 7.0  # the paper's rule
LEFT_OUT_MAPS = ("1s3x", "3qm1", "4v7r", "5mrc")  # tiny, negative background, large: as the method asks


def maps_of(folder: Path, names: list[str] | None = None) -> list[str]:
    """Maps of complexes in a folder, those named or all but the unsuitable ones."""
    found = {path.name.split(".")[0]: str(path) for path in sorted(folder.glob("*.mrc*"))}
    chosen = names or [name for name in found if name not in LEFT_OUT_MAPS]
    missing = [name for name in chosen if name not in found]
    if missing:
        raise SystemExit(f"ERROR: '{folder}' has no map of {', '.join(missing)}.")
    return [found[name] for name in chosen]


def true_maps(config: SubtomogramSimulateConfig) -> Tensor:
    """Noise-free maps (classes, n, n, n) convolved with the CTF, without missing wedge, each in its own upright pose."""
    whole = replace(config, snr=0.0, tilt_min_deg=-90.0, tilt_max_deg=90.0, tilt_spread_deg=0.0, null_class=False, shift_angst=0.0)
    simulator = SubtomogramSimulator(whole, torch.device("cpu"))
    rows = np.arange(len(simulator.names))
    draws, made = simulator.draws(rows), simulator.make(rows).clean
    turned = [turned_average(volume, torch.from_numpy(rotation).float(), torch.zeros(3)) for volume, rotation in zip(made, draws.rotation)]
    order = np.argsort(draws.number)
    return torch.stack(turned)[torch.from_numpy(order)]


def laid_on(volume: Tensor, truth: Tensor, fine_px: float) -> Tensor:
    """The volume turned and moved to where it correlates best with the truth."""
    box = truth.shape[-1]
    band = FourierBand.up_to(box, fine_px, 3)
    seen = FourierImages(band=band, data=band.gather(rfftn_centred(volume[None], 3)), noise=torch.ones(band.rings))
    plan = Plan(step_deg=12.0, finest_deg=0.5, fine_px=fine_px, particle_px=0.35 * box, shift_px=0.15 * box)
    shells = band.ring_mean(band.gather(rfftn_centred(truth, 3)).abs().square())
    weight = 1 / band.per_point(shells).clamp(min=1e-6 * float(shells.max()))
    found = Aligner([Reference(truth)], band, weight / weight.max(), plan).align(seen)
    return turned_average(volume, found.rotation[0], found.shift_px[0])


def discrepancy_nm(volume: Tensor, truth: Tensor, pixel_size_angst: float, fine_px: float = 8.0) -> float:
    """Resolution in nm where the FSC with the truth falls below 0.5 after alignment; infinity when the first shell is below already.

    Shells of nearest whole radius in the subtomogram's own box, linear interpolation between shells, soft sphere of 45 % of the box.
    """
    box = truth.shape[-1]
    mask = sphere_mask(box, 0.4 * box, 0.05 * box)
    found = resolution_at(fsc(laid_on(volume, truth, fine_px), truth, mask), TRUTH_THRESHOLD, box, pixel_size_angst)
    return float("inf") if found is None else found / 10


def agreement(found: np.ndarray, true: np.ndarray) -> float:
    """Part of the subtomograms that lie in the class that stands for theirs, classes being paired as well as possible."""
    counts = np.array([[np.count_nonzero((found == a) & (true == b)) for b in np.unique(true)] for a in np.unique(found)])
    rows, columns = linear_sum_assignment(-counts)
    return float(counts[rows, columns].sum() / len(true))
