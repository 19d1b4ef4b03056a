"""Hot loops of every method at two numbers of images each: what one more image costs a device, without start-up and set-up."""

from __future__ import annotations

import contextlib
import io
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import prody
import torch
from _run import engine_words
from _traffic import LAUNCH_SECONDS, Traffic

from cryolearn.engine.__main__ import main as engine

STRUCTURE = Path(prody.__file__).parent / "tests" / "datafiles" / "4akeA_alg_fixed.pdb"
MODES = {"mode_numbers": [7, 8, 9]}


@dataclass(frozen=True)
class Loop:
    """A command whose work grows with the number of images (``particles``), subtomograms or voxels.

    ``settings`` gives its options for a folder of data and a number of images; ``counts`` are the two numbers at full size and in a rehearsal.
    """

    command: str
    settings: Callable[[Path, int], dict[str, object]]
    counts: tuple[int, int]
    quick: tuple[int, int]
    box: int = 128
    rounds: int = 1  # passes over the images, which share the cost
    what: str = "images"


def stack(folder: Path, count: int) -> str:
    return str(folder / f"images_{count}" / "particles.star")


def _tomograms(folder: Path, count: int) -> dict[str, object]:
    return {"subtomograms": str(folder / f"subtomograms_{count}" / "subtomograms.star"), "classes": 1, "iterations": 1, "starts": 1}


LOOPS: dict[str, Loop] = {
    "elastic alignment, blind": Loop(
        "elastic-align", lambda at, n: {"particles": stack(at, n), "modes": str(at / "modes/modes.npz"), **MODES}, (64, 192), (4, 8)),
    "elastic alignment, local": Loop(
        "elastic-align", lambda at, n: {"particles": stack(at, n), "modes": str(at / "modes/modes.npz"), **MODES, "start": "local"}, (128, 1024), (4, 12)),
    "elastic prediction": Loop("elastic-predict", lambda at, n: {"particles": stack(at, n), "model": str(at / "elastic/model")}, (256, 2048), (4, 12)),
    "reconstruct": Loop("reconstruct", lambda at, n: {"particles": stack(at, n)}, (256, 2048), (8, 24)),
    "Gaussian heterogeneity, curve": Loop(
        "gaussian-heterogeneity", lambda at, n: {"particles": stack(at, n), "volume": str(at / "map/map.mrc"), "gaussians": str(at / "gaussians/gaussians.npz"),
                                                 "maps": 0, "halves": False}, (256, 2048), (20, 40), rounds=12),
    "orientation recovery, matching": Loop(
        "orientation-recover", lambda at, n: {"particles": stack(at, n), "start": "random", "restarts": 1, "rounds": 4}, (128, 512), (50, 60), rounds=4),
    "subtomogram averaging": Loop("subtomogram-average", _tomograms, (64, 256), (8, 16), box=40, what="subtomograms"),
}


@dataclass
class Cost:
    """What one more image costs."""

    seconds: float
    launches: float = float("nan")
    h200_seconds: float = float("nan")

    def limit(self) -> float:
        """Share of what the card could do at best that was reached."""
        return self.h200_seconds / self.seconds if self.seconds > 0 else float("nan")

    def launch_bound(self) -> float:
        return self.launches * LAUNCH_SECONDS


def run(command: str, output: Path, gpu: bool, **options: object) -> float:
    """Run a command in this process; its seconds.

    Raises
    ------
    RuntimeError
        when it refuses, with its last lines.
    """
    words = engine_words(command, output, **options)[3:] + (["--use_gpu", "true"] if gpu else [])
    text = io.StringIO()
    start = time.perf_counter()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code = engine(words)
    if code:
        raise RuntimeError(f"{command}: {text.getvalue().strip().splitlines()[-1]}")
    return time.perf_counter() - start


def prepare(folder: Path, loop: Loop, counts: tuple[int, int], gpu: bool) -> Path:
    """Data that a loop needs, each made once."""
    at = folder / f"box{loop.box}"
    at.mkdir(parents=True, exist_ok=True)
    size = {"box": loop.box, "pixel_size_angst": 128 * 1.1 / loop.box if loop.what == "images" else 4.0}

    def made(name: str, command: str, **options: object) -> None:
        if not (at / name / "summary.json").exists():
            run(command, at / name, gpu and command not in ("normal-modes",), **options)
    if loop.what == "subtomograms":
        for count in counts:
            made(f"subtomograms_{count}", "subtomogram-simulate", structures=[str(STRUCTURE)], per_class=count, snr=0.5, **size)
        return at
    made("modes", "normal-modes", structure=str(STRUCTURE), number=12)
    for count in counts:
        made(f"images_{count}", "simulate-particles", modes=str(at / "modes/modes.npz"), number=count, amplitude=150.0, snr=0.1, shift_angst=4.0,
             **MODES, **size)
    last = stack(at, max(counts))
    if loop.command == "elastic-predict":
        made("elastic", "elastic-train", modes=str(at / "modes/modes.npz"), particles=last, labels="simulation", **MODES, epochs=1,
             images_per_epoch=64, batch=16)
    if loop.command == "gaussian-heterogeneity":
        made("map", "reconstruct", particles=last)
        made("gaussians", "volume-to-gaussians", volume=str(at / "map/map.mrc"), resolution_angst=12.0)
    return at


def measure(name: str, folder: Path, gpu: bool, rehearse: bool) -> Cost:
    """What one more image costs a loop of :data:`LOOPS`: seconds of a warm second run; launches on CUDA; least time of an H200 by what a small run moves."""
    loop = LOOPS[name]
    counts = loop.quick if rehearse else loop.counts
    at = prepare(folder, loop, tuple(sorted({*counts, *loop.quick})), gpu)  # type: ignore[arg-type]

    def once(count: int) -> float:
        output = folder / "runs" / f"{name}-{count}-{time.monotonic_ns()}"
        return run(loop.command, output, gpu, **loop.settings(at, count))
    once(counts[0])  # warms kernels and caches up
    seconds = [once(count) for count in counts]
    share = (counts[1] - counts[0]) * loop.rounds
    cost = Cost((seconds[1] - seconds[0]) / share)
    few = (loop.quick[1] - loop.quick[0]) * loop.rounds
    traffic = []
    for count in loop.quick:
        with Traffic() as moved:
            once(count)
        traffic.append(moved)
    cost.h200_seconds = (traffic[1].h200_seconds() - traffic[0].h200_seconds()) / few
    if gpu:
        cost.launches = (kernels(once, loop.quick[1]) - kernels(once, loop.quick[0])) / few
    else:
        cost.launches = (traffic[1].operations - traffic[0].operations) / few
    return cost


def kernels(once: Callable[[int], Any], count: int) -> int:
    """Kernels that CUDA was given by a run."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        once(count)
    return sum(event.count for event in profile.key_averages() if event.device_type == torch.autograd.DeviceType.CUDA)
