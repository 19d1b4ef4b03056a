"""What the benchmarks of the orientation method share: engine runs, and judges of distances, orientations and maps against the truth."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from _orientation_data import METHOD, Array, ParticleSet, Specimen, add_data_option
from _results import parser, record
from _run import Outcome, kept_engine
from numpy.typing import NDArray
from scipy.optimize import minimize
from torch import Tensor

from cryolearn.common.fsc import resolution_at
from cryolearn.engine.imaging.fourier import fourier_resize, low_pass
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import sphere_mask
from cryolearn.engine.imaging.poses import so3_exp
from cryolearn.engine.io.maps import read_map
from cryolearn.engine.io.star import read_particles
from cryolearn.engine.io.tables import join, read_table
from cryolearn.engine.orientation.config import RecoverOrientationsConfig
from cryolearn.engine.orientation.distance_network.distance_model import DistanceModel
from cryolearn.engine.orientation.frame_alignment import Alignment, align_o4, align_physical
from cryolearn.engine.orientation.similarity_kernel import SimilarityKernel

PAPER_PLATEAU_RAD = 2.69  # where the paper's read-out ends at best
_BINS = 32  # of distances, as the paper makes its pairs uniform

# epochs and images per epoch of a training
BUDGETS = {"laptop": {"epochs": 10, "images_per_epoch": 12800}, "paper": {"epochs": 100, "images_per_epoch": 63104}}
SHORT_BUDGETS = {"laptop": {"epochs": 4, "images_per_epoch": 12800}, "paper": BUDGETS["paper"]}  # of benchmarks that train a network for each condition


def arguments(description: str, peers: bool = False, distances_only: bool = False) -> argparse.Namespace:
    """Options of a benchmark."""
    made = parser(description)
    add_data_option(made)
    made.add_argument("--use-gpu", action="store_true", help="run the engine on the GPU")
    made.add_argument("--keep", action="store_true", help="judge engine results of the same options that lie in the work folder, and go on with killed ones")
    made.add_argument("--only", nargs="*", default=[], help="names of the cases to run; all without it")
    if peers:
        made.add_argument("--aspire", type=Path, help="Python of an environment with ASPIRE; without it ASPIRE is left out")
    if distances_only:
        made.add_argument("--distances-only", action="store_true", help="train and judge the distances and what is recovered from them, without maps")
    options = made.parse_args()
    if options.use_gpu and not torch.cuda.is_available():
        sys.exit("ERROR: --use-gpu was given, but PyTorch sees no GPU.")
    options.work = options.work.resolve()
    return options


def target(options: argparse.Namespace, what: str, condition: str, goal: str, measured: str, holds: bool) -> None:
    """One row of benchmarks/results/orientation.csv."""
    record(METHOD, what, condition=condition, target=goal, measured=measured, holds=holds, scale=options.scale)


# ---------------------------------------------------------------- the engine

def run_engine(options: argparse.Namespace, command: str, name: str, **settings: object) -> Outcome:
    """Run a command in a folder of its own settings; with ``--keep`` a finished one is used again and a killed one goes on."""
    if options.use_gpu:
        settings["use_gpu"] = True
    return kept_engine(options.work / METHOD / "runs", options.keep, command, name, **settings)


def train(options: argparse.Namespace, like: ParticleSet, **settings: object) -> Outcome:
    """A distance network for the specimen of a set, trained on simulated images.

    A set with noise or CTF is shown to the command, which takes noise and CTF from it as it would from real particles; orientations it has none.
    """
    specimen, imaging = like.specimen, like.imaging
    given: dict[str, object] = {"volumes": [str(specimen.path)], "symmetry": specimen.group, "shift_range_angst": shift_range(like),
                                **BUDGETS[options.scale], **settings}
    if imaging.noise or imaging.ctf:
        given |= {"particles": like.particles}
    else:
        given |= {"box_px": specimen.box, "pixel_size_angst": specimen.pixel}
    return run_engine(options, "distance-train", f"train-{specimen.name}", **ctf_options(like), **given)


def shift_range(made: ParticleSet) -> float:
    """Å that no shift of a set exceeds, and a pixel at least."""
    return max(float(np.ceil(np.abs(made.shift_angst).max())), made.specimen.pixel)


def ctf_options(made: ParticleSet) -> dict[str, object]:
    return {} if made.imaging.ctf else {"ignore_ctf": True}


@dataclass
class Recovered:
    """Orientations (n, 3, 3) in the order of the truth, and the run that found them."""

    rotation: Array
    columns: dict[str, NDArray[np.generic]]
    outcome: Outcome

    def map(self) -> Tensor:
        return torch.from_numpy(read_map(str(self.outcome.folder / "map.mrc")).data)


def recover(options: argparse.Namespace, made: ParticleSet, model: Path | None, **settings: object) -> Recovered:
    """Orientations of a set from its images alone (``model`` None: from random starts)."""
    given: dict[str, object] = {"particles": made.particles, "symmetry": made.specimen.group, **settings}
    given |= {"start": "random"} if model is None else {"model": model}
    given.setdefault("shift_range_angst", shift_range(made) + 2 * made.specimen.pixel)
    outcome = run_engine(options, "orientation-recover", f"recover-{made.specimen.name}", **ctf_options(made), **given)
    columns, _ = read_table(str(outcome.folder / "orientations.npz"))
    rows = join(made.ids, columns["id"])
    ordered = {name: values[rows] for name, values in columns.items()}
    return Recovered(ordered["rotation"], ordered, outcome)


# ---------------------------------------------------------------- judges

@dataclass
class DistanceErrors:
    """Of learned distances: mean absolute error over pairs as they come and made uniform in distance, and what happens at the far end.

    ``far`` is the mean learned distance of pairs beyond 95 % of the largest, ``slope`` that of learned against true beyond 80 % of it:
    1 without a plateau, 0 on one, .24 for the paper's read-out at its best.
    """

    mae: float
    mae_uniform: float
    far: float
    slope: float

    @property
    def plateau(self) -> bool:
        return self.slope < 0.5

    def __str__(self) -> str:
        return f"MAE {self.mae_uniform:.3f} (all pairs {self.mae:.3f}), far end {self.far:.2f}, slope there {self.slope:.2f}"


def judge_distances(true_rad: Array, learned_rad: Array) -> DistanceErrors:
    """Judge learned distances of pairs (any shape) against the true ones."""
    true, learned = np.ravel(true_rad).astype(float), np.ravel(learned_rad).astype(float)
    error, largest = np.abs(learned - true), float(true.max())
    bins = np.minimum((true / largest * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    uniform = (np.bincount(bins, error, _BINS)[counts > 0] / counts[counts > 0]).mean()
    end = true > 0.8 * largest
    weight = 1 / counts[bins[end]]
    offset = true[end] - np.average(true[end], weights=weight)
    slope = float((weight * offset * learned[end]).sum() / (weight * offset**2).sum())
    return DistanceErrors(float(error.mean()), float(uniform), float(learned[true > 0.95 * largest].mean()), slope)


@dataclass
class OrientationErrors:
    """In radians, smallest over the group: after the alignment that distances leave free (O(4)), and after that which images do."""

    o4_mean: float
    o4_median: float
    physical_mean: float
    physical_median: float
    physical: Alignment

    def __str__(self) -> str:
        return f"E_OR {self.o4_mean:.3f} (median {self.o4_median:.3f}), physical {self.physical_mean:.3f} (median {self.physical_median:.3f})"


def judge_orientations(truth: Array, found: Array, group: str) -> OrientationErrors:
    kernel = SimilarityKernel(group)
    pair = torch.as_tensor(truth, dtype=torch.float64), torch.as_tensor(found, dtype=torch.float64)
    free, physical = align_o4(*pair, kernel), align_physical(*pair, kernel)
    free = min(free, physical, key=lambda item: float(np.mean(item.errors_rad)))  # what images leave free, distances do too
    values = [np.asarray(torch.as_tensor(item.errors_rad)) for item in (free, physical)]
    return OrientationErrors(*(float(number(item)) for item in values for number in (np.mean, np.median)), physical)


def judge_map(volume: Tensor, specimen: Specimen, truth: Array, found: Array, errors: OrientationErrors) -> tuple[float | None, Tensor]:
    """Resolution in Å at FSC 0.5 against the true density, and the curve, after alignment of frame, hand and place.

    Both maps lie within the same soft sphere of the particle's radius. ``found`` are the orientations that belong to the map; None of a
    resolution says that the first shell is below 0.5 already.
    """
    density = specimen.volume()
    turn, mirrored = frame_between(truth, found, errors.physical)
    placed = place_map(mirror(volume.float()) if mirrored else volume.float(), density, specimen.pixel, turn)
    soft = 4.0
    mask = sphere_mask(specimen.box, min(particle_radius_px(density), specimen.box / 2 - soft), soft)
    curve = fsc(placed, density, mask)
    return resolution_at(curve, 0.5, specimen.box, specimen.pixel), curve


def frame_between(truth: Array, found: Array, alignment: Alignment) -> tuple[Tensor, bool]:
    """Rotation Q (3, 3) with ``truth ~ hand(found) @ Q``, and whether the hand is the other one, of a physical alignment.

    Images leave both free: the map of the found orientations is ``W`` with ``V(u) = W(Q u)``, W turned to the other hand before.
    """
    start = torch.as_tensor(found, dtype=torch.float64)
    aligned = torch.as_tensor(alignment.apply(start), dtype=torch.float64)
    flip = torch.diag(torch.tensor([1.0, 1, -1], dtype=torch.float64))
    mirrored = bool(alignment.mirrored)
    hand = flip @ start @ flip if mirrored else start
    u, _, vt = torch.linalg.svd((hand.transpose(1, 2) @ aligned).mean(dim=0))
    return u @ torch.diag(torch.tensor([1.0, 1, float(torch.det(u @ vt))], dtype=torch.float64)) @ vt, mirrored


def mirror(volume: Tensor) -> Tensor:
    """The other hand: ``W(x, y, -z)`` about the centre n // 2; its images at poses J A J are those of W at A."""
    flipped = volume.flip(0)
    return flipped.roll(1, 0) if volume.shape[0] % 2 == 0 else flipped


def particle_radius_px(density: Tensor, part: float = 0.02) -> float:
    """Radius that holds all of a density above a part of its maximum."""
    axis = torch.arange(density.shape[-1]) - density.shape[-1] // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return float(torch.sqrt((x**2 + y**2 + z**2)[density > part * density.max()].max().float())) + 1


def sample_map(volume: Tensor, turn: Tensor, shift_px: Tensor) -> Tensor:
    """``W(Q u + t)`` on the map's own grid, trilinear; Q (3, 3) and t (3,) in x, y, z."""
    n = volume.shape[-1]
    axis = torch.arange(n, dtype=volume.dtype) - n // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    places = torch.stack((x, y, z), dim=-1) @ turn.to(volume.dtype).T + shift_px.to(volume.dtype)
    unit = 2 * (places + n // 2) / (n - 1) - 1
    return torch.nn.functional.grid_sample(volume[None, None], unit[None], align_corners=True)[0, 0]


def place_map(volume: Tensor, density: Tensor, pixel: float, turn: Tensor) -> Tensor:
    """The map brought onto a density: from the rotation that the orientations give, refined with a shift by correlation, coarse to fine."""
    pose = np.zeros(6)
    side = density.shape[-1] * pixel
    for shells in (10, 20):
        box = min(4 * shells, density.shape[-1]) // 2 * 2
        small = [low_pass(fourier_resize(item.double()[None], box, 3)[0], side / shells, side / box, dims=3) for item in (volume, density)]

        def loss(values: Array, small: list[Tensor] = small, box: int = box) -> tuple[float, Array]:
            free = torch.tensor(values, requires_grad=True)
            moved = sample_map(small[0], turn @ so3_exp(free[:3]), free[3:] * box)
            cost = -torch.nn.functional.cosine_similarity(moved.flatten(), small[1].flatten(), dim=0)
            cost.backward()
            return float(cost.detach()), free.grad.numpy()  # type: ignore[union-attr]

        pose = minimize(loss, pose, jac=True, method="L-BFGS-B", options={"maxiter": 60}).x
    rotation, shift = turn @ so3_exp(torch.from_numpy(pose[:3])), torch.from_numpy(pose[3:])
    n = density.shape[-1]
    fine = fourier_resize(volume[None].float(), 2 * n, 3)[0]  # so that the interpolation costs nothing below Nyquist
    return sample_half_steps(fine, rotation, shift * n)


def sample_half_steps(fine: Tensor, turn: Tensor, shift_px: Tensor) -> Tensor:
    """``W(Q u + t)`` at whole pixels u of a map drawn at half the pixel size; shift in whole pixels."""
    moved = sample_map(fine, turn, 2 * shift_px)
    return moved[::2, ::2, ::2] if (fine.shape[-1] // 2) % 2 == 0 else moved[1::2, 1::2, 1::2]


def measure_distances(made: ParticleSet, model: Path, work: Path) -> tuple[Array, Array]:
    """Learned distances (n, n) in radians of all pairs of a set, and their weights."""
    config = RecoverOrientationsConfig(output=str(work), particles=str(made.particles), model=str(model), ignore_ctf=not made.imaging.ctf)
    work.mkdir(parents=True, exist_ok=True)
    table = read_particles(str(made.particles))
    measured = DistanceModel.load(str(model), torch.device("cpu")).measure(table, np.arange(len(table)), config, str(work))
    return np.asarray(measured[0], float), np.asarray(measured[1], float)


def true_distances(rotation: Array, group: str) -> Array:
    """Distances (n, n) in radians between orientations modulo a group."""
    poses = torch.as_tensor(rotation, dtype=torch.float64)
    kernel = SimilarityKernel(group)
    return np.concatenate([np.asarray(kernel.distance_rad(part[:, None], poses[None])) for part in poses.split(64)])


def judge_learned(made: ParticleSet, distances_rad: Array) -> DistanceErrors:
    """Judge the distances (n, n) of all pairs of a set."""
    true = true_distances(made.rotation, made.specimen.group)
    pairs = np.triu_indices(len(true), 1)
    return judge_distances(true[pairs], distances_rad[pairs])


def map_of_truth(options: argparse.Namespace, made: ParticleSet) -> float | None:
    """Resolution at FSC 0.5 of the map of the same images at their true orientations: what no orientations can better by much."""
    outcome = run_engine(options, "reconstruct", f"truth-{made.specimen.name}", particles=made.truth, use_ctf=made.imaging.ctf, symmetry=made.specimen.group)
    errors = judge_orientations(made.rotation, made.rotation, made.specimen.group)
    volume = torch.from_numpy(read_map(str(outcome.folder / "map.mrc")).data)
    return judge_map(volume, made.specimen, made.rotation, made.rotation, errors)[0]


def in_angstrom(resolution: float | None) -> str:
    return "none" if resolution is None else f"{resolution:.1f} Å"
