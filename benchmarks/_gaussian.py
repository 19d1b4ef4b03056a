"""What the benchmarks of the Gaussian method share: engine runs, judges against the truth, and the peers in their own environments."""

from __future__ import annotations

import argparse
import hashlib
import importlib.metadata
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from _gaussian_data import ParticleSet, add_structures_option
from _results import parser, record
from _run import Usage, engine, run_process
from numpy.typing import NDArray
from scipy.stats import rankdata, spearmanr
from torch import Tensor

from cryolearn.engine.imaging.fourier import fourier_resize, low_pass
from cryolearn.engine.imaging.fsc import fsc
from cryolearn.engine.imaging.masks import mask_from_map
from cryolearn.engine.io.maps import read_map
from cryolearn.engine.io.motions import MotionModel, read_motion
from cryolearn.engine.io.tables import join, read_table
from cryolearn.engine.landscape.gaussian_maps import GaussianMaps

METHOD = "gaussian"
CRYODRGN = "4.3.1"
Array = NDArray[np.float64]
_KEEP = {"results": False}


def arguments(description: str, structures: bool = False, peers: bool = False) -> argparse.Namespace:
    """Options of a benchmark; ``device`` is where data are made."""
    made = parser(description)
    made.add_argument("--use-gpu", action="store_true", help="make data and run everything on the GPU")
    made.add_argument("--keep", action="store_true", help="judge engine results that lie in the work folder already, of the same particles and options")
    made.add_argument("--only", nargs="*", default=[], help="names of the sets to run; all without it")
    if structures:
        add_structures_option(made)
    if peers:
        made.add_argument("--no-peers", action="store_true", help="leave cryoDRGN out")
        made.add_argument("--cryodrgn", type=Path, help="Python of an environment with cryoDRGN; without it one is made in the work folder")
        made.add_argument("--recovar", type=Path, help="Python of an environment with RECOVAR (non-commercial licence; never installed by this script)")
    options = made.parse_args()
    if options.use_gpu and not torch.cuda.is_available():
        sys.exit("ERROR: --use-gpu was given, but PyTorch sees no GPU.")
    options.device = torch.device("cuda" if options.use_gpu else "cpu")
    _KEEP["results"] = options.keep
    return options


# ---------------------------------------------------------------- the engine

@dataclass
class Run:
    """Outputs of ``gaussian-heterogeneity``, its rows in the order of the set's."""

    folder: Path
    usage: Usage
    columns: dict[str, NDArray[np.generic]]
    meta: dict[str, object]
    summary: dict[str, object] = field(default_factory=dict)

    @property
    def latents(self) -> Array:
        return np.asarray(self.columns["amplitudes"], float)

    @property
    def sigma(self) -> Array:
        return np.asarray(self.columns["amplitude_sigma"], float)

    def motion(self) -> MotionModel:
        return read_motion(str(self.folder / "motion.npz"))

    def path_maps(self) -> tuple[Array, Tensor]:
        """Latents (S, K) and maps (S, n, n, n) that the run reconstructed."""
        with open(self.folder / "maps" / "reconstructions.json", encoding="utf-8") as handle:
            entries = json.load(handle)["reconstructions"]
        volumes = [torch.from_numpy(read_map(str(self.folder / "maps" / entry["files"]["map"])).data) for entry in entries]
        return np.array([entry["latent"] for entry in entries], float), torch.stack(volumes)


def heterogeneity(made: ParticleSet, output: Path, gpu: bool = False, **options: object) -> Run:
    """Run the command on a set; with ``--keep`` only when the folder holds no result of the same particles and options."""
    settings = {"particles": made.particles, "volume": made.consensus, **options}
    if gpu:
        settings["use_gpu"] = True
    note = output / "benchmark.json"
    key = {"particles": stack_digest(made), "options": {name: str(value) for name, value in settings.items()}}
    known = json.loads(note.read_text()) if _KEEP["results"] and note.exists() else {}
    if known.get("key") == key:
        usage = Usage(known["seconds"], known["memory_mib"], known.get("cpu_seconds", 0.0))
    else:
        usage = engine("gaussian-heterogeneity", output, **settings)
        note.write_text(json.dumps({"key": key, "seconds": usage.seconds, "memory_mib": usage.memory_mib, "cpu_seconds": usage.cpu_seconds}))
    columns, meta = read_table(str(output / "conformations.npz"))
    rows = join(columns["id"], made.columns["id"])
    ordered = {name: np.empty_like(values) for name, values in columns.items()}
    for name, values in columns.items():
        ordered[name][rows] = values
    with open(output / "summary.json", encoding="utf-8") as handle:
        summary = json.load(handle)
    return Run(output, usage, ordered, meta, summary)


def consensus(made: ParticleSet, work: Path, gpu: bool = False) -> None:
    """The consensus map as anybody gets it: all particles reconstructed at the poses of the STAR file."""
    settings: dict[str, object] = {"use_gpu": True} if gpu else {}
    engine("reconstruct", work, particles=made.particles, **settings)
    os.replace(work / "map.mrc", made.consensus)


# ---------------------------------------------------------------- judges

def rank_correlation(latents: Array, truth: Array, rows: NDArray[np.bool_] | None = None) -> float:
    """|Spearman| of one latent with the truth; of several, the best among the axes and the principal components."""
    values, goal = np.asarray(latents, float).reshape(len(latents), -1), np.asarray(truth, float)
    if rows is not None:
        values, goal = values[rows], goal[rows]
    if values.shape[1] > 1:
        values = np.concatenate([values, (values - values.mean(axis=0)) @ np.linalg.svd(values - values.mean(axis=0), full_matrices=False)[2].T], axis=1)
    return max(abs(float(spearmanr(column, goal)[0])) if np.ptp(column) > 0 else 0.0 for column in values.T)


def ceiling(truth: Array) -> float:
    """Largest |Spearman| that a latent without ties can have with a truth in classes."""
    return float(spearmanr(np.argsort(np.argsort(truth, kind="stable")), truth)[0])


def auc(score: Array, positive: NDArray[np.bool_]) -> float:
    """Area under the ROC curve, whichever way round the score is."""
    ranks, count = rankdata(score), int(positive.sum())
    value = (ranks[positive].sum() - count * (count + 1) / 2) / (count * (len(ranks) - count))
    return float(max(value, 1 - value))


def best_auc(latents: Array, positive: NDArray[np.bool_]) -> float:
    """The same for the best of several latents or their principal components."""
    values = np.asarray(latents, float).reshape(len(latents), -1)
    if values.shape[1] > 1:
        centred = values - values.mean(axis=0)
        values = np.concatenate([values, centred @ np.linalg.svd(centred, full_matrices=False)[2].T], axis=1)
    return max(auc(column, positive) for column in values.T)


def circular_correlation(first_rad: Array, second_rad: Array) -> float:
    """Mean resultant of the difference (or sum) of two sets of angles: 1 when one is the other up to a turn and a mirror."""
    return float(max(abs(np.exp(1j * (first_rad - sign * second_rad)).mean()) for sign in (1, -1)))


def circular_best(latents: Array, truth_rad: Array) -> float:
    """The same for latents in a space: the angle in the plane of the two first principal components."""
    centred = latents - latents.mean(axis=0)
    if latents.shape[1] == 1:
        ranks = rankdata(latents[:, 0]) / len(latents)
        return circular_correlation(2 * np.pi * ranks, truth_rad)
    plane = centred @ np.linalg.svd(centred, full_matrices=False)[2][:2].T
    return circular_correlation(np.arctan2(plane[:, 1], plane[:, 0]), truth_rad)


def truth_mask(maps: Tensor) -> Tensor:
    """Soft mask of all that any of the true maps holds."""
    union = torch.stack([low_pass(volume, 4.0, 1.0, dims=3) for volume in maps]).amax(dim=0)
    return mask_from_map(union, 0.1 * float(union.max()), 2.0, 4.0)


def fsc_area(maps: Tensor, truth: Tensor, mask: Tensor, shells: int | None = None) -> Array:
    """Area under each map's FSC with its truth, over frequencies from 0 to 0.5 (of ``shells``, for a peer that works on a smaller box)."""
    last = (truth.shape[-1] // 2 if shells is None else shells) - 1
    areas = []
    for mine, true in zip(maps, truth):
        resized = fourier_resize(mine[None], truth.shape[-1], 3)[0] if mine.shape[-1] != truth.shape[-1] else mine
        areas.append(0.5 * float(fsc(resized.float(), true, mask)[1 : last + 1].mean()))
    return np.array(areas)


def centres(latents: Array, states: NDArray[np.int64], kind: str) -> Array:
    """Place (S, K) of each true conformation: the mean of its particles' latents, on the circle or by majority where that is due."""
    found = []
    for state in np.unique(states):
        mine = latents[states == state]
        if kind == "closed":
            angle = np.pi * mine[:, :1]
            found.append(np.arctan2(np.sin(angle).mean(axis=0), np.cos(angle).mean(axis=0)) / np.pi)
        elif kind == "states":
            values, counts = np.unique(mine[:, 0], return_counts=True)
            found.append(values[[counts.argmax()]])
        else:
            found.append(mine.mean(axis=0))
    return np.array(found)


def nearest(places: Array, available: Array, kind: str) -> NDArray[np.int64]:
    """Which of the available latents (S, K) is nearest to each place (T, K)."""
    gap = places[:, None] - available[None]
    if kind == "closed":
        gap = (gap + 1) % 2 - 1
    scale = np.where(available.std(axis=0) > 0, available.std(axis=0), 1.0)
    return np.linalg.norm(gap / scale, axis=2).argmin(axis=1)


def decoded_maps(made: ParticleSet, run: Run, latents: Array, on_consensus: bool) -> Tensor:
    """Maps (T, n, n, n) at latents (T, K): the Gaussian model's own, or what it changes on top of the consensus map."""
    motion, seen = run.motion(), run.latents[run.columns["weight"] > 0.5]
    maps = GaussianMaps(motion, seen, made.box, made.pixel, read_map(str(made.consensus)).data if on_consensus else None)
    return torch.stack([maps.at(places, weights) for places, weights in zip(*motion.conformation(latents))])


@dataclass
class Judged:
    """Area under the FSC of each conformation: of reconstructions, of Gaussian models, and of the consensus map with what the model changes."""

    maps: Array
    model: Array
    on_consensus: Array


def judge_maps(run: Run, made: ParticleSet, kind: str, shells: int | None = None) -> Judged:
    """Per-conformation FSC of what the run offers at the mean latent of each conformation's particles."""
    real = made.real
    states = made.columns["state"][real].astype(int)
    truth = torch.from_numpy(made.truth_maps())
    mask = truth_mask(truth)
    truth = truth[np.unique(states)]
    places = centres(run.latents[real], states, kind)
    at, volumes = run.path_maps()
    mine = volumes[torch.as_tensor(nearest(places, at, kind))]
    model, on_consensus = (decoded_maps(made, run, places, whether) for whether in (False, True))
    return Judged(*(fsc_area(volumes, truth, mask, shells) for volumes in (mine, model, on_consensus)))


def consensus_area(made: ParticleSet, shells: int | None = None) -> Array:
    """The same for the consensus map, which is what there is without any of this."""
    truth = torch.from_numpy(made.truth_maps())
    states = np.unique(made.columns["state"][made.real].astype(int))
    only = torch.from_numpy(read_map(str(made.consensus)).data).expand(len(states), -1, -1, -1)
    return fsc_area(only, truth[states], truth_mask(truth), shells)


def steps_along_truth(volumes: Tensor, truth: Tensor) -> NDArray[np.int64]:
    """For each map along a path, the true map that it correlates with best."""
    pixels = [values.flatten(1) - values.flatten(1).mean(dim=1, keepdim=True) for values in (volumes, truth)]
    first, second = (values / values.norm(dim=1, keepdim=True) for values in pixels)
    return (first @ second.T).argmax(dim=1).numpy()


def is_monotonic(steps: NDArray[np.int64]) -> bool:
    change = np.diff(steps)
    return bool(((change >= 0).all() or (change <= 0).all()) and abs(int(steps[-1]) - int(steps[0])) > 0)


def in_truth_units(latent: Array, truth: Array) -> Array:
    """A latent on the scale of the truth, by a cubic (the path's own scale is arbitrary, its order is not)."""
    order = np.polynomial.Polynomial.fit(latent, truth, 3)
    return np.asarray(order(latent))


# ---------------------------------------------------------------- cryoDRGN

def stack_digest(made: ParticleSet) -> str:
    digest = hashlib.sha256()
    for path in (made.folder / "particles.mrcs", made.particles):
        with open(path, "rb") as handle:
            while block := handle.read(1 << 24):
                digest.update(block)
    return digest.hexdigest()[:16]


def cryodrgn_environment(options: argparse.Namespace) -> Path:
    """Python of cryoDRGN's environment, which is made in the work folder when none is named."""
    if options.cryodrgn:
        return Path(options.cryodrgn)
    home = options.work / "cryodrgn-environment"
    python = home / "bin" / "python"
    if not (home / "made").exists():
        print(f"Making an environment with cryoDRGN {CRYODRGN} in {home}; this takes some minutes, once.", flush=True)
        run_process([sys.executable, "-m", "venv", "--clear", str(home)])
        pip = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check", f"cryodrgn=={CRYODRGN}"]
        same = importlib.metadata.version("torch")  # the build that is known to fit this machine, where pip finds it
        if subprocess.run([*pip, f"torch=={same}"], check=False).returncode:
            run_process(pip)
        (home / "made").touch()
    return python


@dataclass
class CryoDrgn:
    """A trained cryoDRGN model: latents (n, Z) of the particles, where it lies, and the processor's time of its training."""

    latents: Array
    folder: Path
    python: Path
    box: int
    seconds: float

    def maps(self, latents: Array) -> Tensor:
        """Maps (T, box, box, box) at latents (T, Z)."""
        output = self.folder / "volumes"
        output.mkdir(exist_ok=True)
        for old in output.glob("*.mrc"):
            old.unlink()
        np.savetxt(self.folder / "places.txt", latents)
        command = [str(self.python.parent / "cryodrgn"), "eval_vol", str(self.folder / "model" / "weights.pkl"),
                   "-c", str(self.folder / "model" / "config.yaml"), "--zfile", str(self.folder / "places.txt"), "-o", str(output)]
        with open(self.folder / "eval.log", "w", encoding="utf-8") as log:
            run_process(command, stdout=log, stderr=subprocess.STDOUT)
        return torch.stack([torch.from_numpy(read_map(str(path)).data) for path in sorted(output.glob("*.mrc"))])


def run_cryodrgn(options: argparse.Namespace, made: ParticleSet, folder: Path, box: int, latents: int = 8, epochs: int = 20, width: int = 256,
                 batch: int = 16) -> CryoDrgn:
    """Train cryoDRGN on the same particles (binned to ``box``) with the same poses; a model of the very same particles is used again."""
    python = cryodrgn_environment(options)
    folder.mkdir(parents=True, exist_ok=True)
    key = {"particles": stack_digest(made), "box": box, "latents": latents, "epochs": epochs, "width": width, "batch": batch}
    done = folder / "done.json"
    if not done.exists() or json.loads(done.read_text())["key"] != key:
        done.unlink(missing_ok=True)
        tool = [str(python.parent / "cryodrgn")]
        binned = folder / "binned.mrcs"
        with open(folder / "run.log", "w", encoding="utf-8") as log:
            def call(*words: str) -> Usage:
                # threads that sleep while they wait, as our own do
                return run_process([*tool, *words], stdout=log, stderr=subprocess.STDOUT, env={"OMP_WAIT_POLICY": "passive", **os.environ})

            call("downsample", str(made.folder / "particles.mrcs"), "-D", str(box), "-o", str(binned))
            call("parse_pose_star", str(made.particles), "-o", str(folder / "poses.pkl"))
            call("parse_ctf_star", str(made.particles), "-o", str(folder / "ctf.pkl"))
            extra = [] if options.use_gpu else ["--no-amp"]
            usage = call("train_vae", str(binned), "--poses", str(folder / "poses.pkl"), "--ctf", str(folder / "ctf.pkl"), "--zdim", str(latents),
                         "-n", str(epochs), "-b", str(batch), "--enc-dim", str(width), "--dec-dim", str(width), "--uninvert-data", "--no-analysis",
                         "--seed", "1", "-o", str(folder / "model"), *extra)
        # its own pickle is read by its own interpreter
        script = "import pickle, sys, numpy; numpy.save(sys.argv[2], pickle.load(open(sys.argv[1], 'rb')))"
        run_process([str(python), "-c", script, str(folder / "model" / "z.pkl"), str(folder / "latents.npy")])
        done.write_text(json.dumps({"key": key, "seconds": usage.cpu_seconds}))
    return CryoDrgn(np.load(folder / "latents.npy").astype(float), folder, python, box, json.loads(done.read_text())["seconds"])


def judge_cryodrgn(model: CryoDrgn, made: ParticleSet) -> Array:
    """Per-conformation FSC areas of cryoDRGN's maps at its own mean latents, over its own band; the sign of its contrast is given to it."""
    real = made.real
    states = made.columns["state"][real].astype(int)
    truth = torch.from_numpy(made.truth_maps())
    mask = truth_mask(truth)
    maps = model.maps(centres(model.latents[real], states, "mean"))
    truth = truth[np.unique(states)]
    areas = [fsc_area(sign * maps, truth, mask, model.box // 2) for sign in (1, -1)]
    return max(areas, key=lambda values: float(values.mean()))


# ---------------------------------------------------------------- RECOVAR

# latents in the order of the particles
_RECOVAR_LATENTS = """
import sys, numpy
from recovar import dataset, output
result = output.PipelineOutput(sys.argv[1] + '/')
found = dataset.reorder_to_original_indexing(result.get('zs')[int(sys.argv[3])], result.get('lazy_dataset'))
numpy.save(sys.argv[2], numpy.asarray(found))
"""


def run_recovar(options: argparse.Namespace, made: ParticleSet, folder: Path, peer: CryoDrgn, latents: int = 4) -> Array | None:
    """Latents of RECOVAR in the environment that the person named, from cryoDRGN's binned stack, poses and CTF; None without one."""
    if not options.recovar:
        return None
    python, output = str(options.recovar), folder / "recovar"
    words = [python, "-m", "recovar.command_line", "pipeline", str(peer.folder / "binned.mrcs"), "-o", str(output), "--poses", str(peer.folder / "poses.pkl"),
             "--ctf", str(peer.folder / "ctf.pkl"), "--mask", "sphere", "--zdim", str(latents)]
    with open(folder / "recovar.log", "w", encoding="utf-8") as log:
        run_process(words + ([] if options.use_gpu else ["--accept-cpu"]), stdout=log, stderr=subprocess.STDOUT)
    run_process([python, "-c", _RECOVAR_LATENTS, str(output), str(folder / "recovar.npy"), str(latents)])
    return np.load(folder / "recovar.npy").astype(float)


def compare(options: argparse.Namespace, name: str, condition: str, made: ParticleSet, run: Run, kind: str, peer_box: int,
            correlation: Callable[[Array], float] | None, peer: dict[str, int]) -> list[dict[str, object]]:
    """Judge a run, and cryoDRGN (and RECOVAR) on the same particles, by correlation with the truth and by the maps of each conformation.

    ``correlation`` takes the latents (n, K) of the particles that are no contaminants. Areas under the FSC go up to the Nyquist
    frequency of the peer's box for all, so that binning costs nobody anything.
    """
    real = made.real
    shells = None if peer_box == made.box else peer_box // 2
    judged = judge_maps(run, made, kind, shells)
    rows: list[dict[str, object]] = [{
        "set": name, "condition": condition, "program": "this software", "correlation": correlation(run.latents[real]) if correlation else "",
        "fsc_area_maps": float(judged.maps.mean()), "fsc_area_model": float(judged.model.mean()),
        "fsc_area_on_consensus": float(judged.on_consensus.mean()), "cpu_seconds": run.usage.cpu_seconds}]
    rows.append({"set": name, "condition": condition, "program": "the consensus map, whatever the particle", "correlation": "",
                 "fsc_area_maps": float(consensus_area(made, shells).mean()), "fsc_area_model": "", "fsc_area_on_consensus": "", "cpu_seconds": ""})
    if not options.no_peers:
        model = run_cryodrgn(options, made, options.work / METHOD / f"{name}-cryodrgn", peer_box, **peer)
        area = judge_cryodrgn(model, made)
        rival = f"cryoDRGN, {peer['epochs']} epochs:"
        rows.append({"set": name, "condition": condition, "program": f"cryoDRGN {CRYODRGN}, {peer['epochs']} epochs",
                     "correlation": correlation(model.latents[real]) if correlation else "", "fsc_area_maps": float(area.mean()),
                     "fsc_area_model": "", "fsc_area_on_consensus": "", "cpu_seconds": model.seconds})
        other = run_recovar(options, made, options.work / METHOD / f"{name}-cryodrgn", model)
        if other is not None:
            recovar = correlation(other[real]) if correlation else ""
            rows.append({"set": name, "condition": condition, "program": "RECOVAR", "correlation": recovar, "fsc_area_maps": "", "fsc_area_model": "",
                         "fsc_area_on_consensus": "", "cpu_seconds": ""})
        band = f"up to {2 * made.box * made.pixel / peer_box:.3g} Å"
        for what, mine in (("reconstructions", judged.maps), ("Gaussian models", judged.model),
                           ("consensus map with the Gaussian model's change", judged.on_consensus)):
            target(options, f"{name}: per-conformation FSC area {band} of the {what}, ceiling .5", condition, "above cryoDRGN",
                   f"{mine.mean():.3f} ({rival} {area.mean():.3f}, consensus map {rows[1]['fsc_area_maps']:.3f})", float(mine.mean()) > float(area.mean()))
        if correlation:
            own, theirs = (float(rows[number]["correlation"]) for number in (0, 2))  # type: ignore[arg-type]
            beside = "".join(f"; RECOVAR {row['correlation']:.3f}" for row in rows[3:])
            target(options, f"{name}: correlation with the truth", condition, "above cryoDRGN", f"{own:.3f} ({rival} {theirs:.3f}{beside})", own > theirs)
    for row in rows:
        print(row, flush=True)
    return rows


def target(options: argparse.Namespace, what: str, condition: str, goal: str, measured: str, holds: bool) -> None:
    """One row of benchmarks/results/gaussian.csv."""
    record(METHOD, what, condition=condition, target=goal, measured=measured, holds=holds, scale=options.scale)
