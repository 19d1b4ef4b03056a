"""The parts ``particles`` and ``subtomograms`` of scale.py: what sets of many items cost, stage by stage, and how that grows with their number.

A stage that has been measured at a size is not measured again in the same ``--work`` folder, and its rows are written as soon as it is done. Times on
the clock hold the start of an engine command, those of the processor do not.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Callable
from pathlib import Path

from _results import record
from _run import engine, run_process

SIZES = {"laptop": (1_000, 10_000), "paper": (10_000, 100_000, 1_000_000)}
SUBTOMOGRAM_SIZES = {"laptop": (1_000, 10_000), "paper": (1_000, 10_000, 100_000)}
MOST_GROWTH = 1.05  # exponent of the processor's time
MOST_BYTES = {"engine": 2000.0, "scipion": 1000.0}  # of memory an item, beyond what the smallest size needs
_FEW = 200  # items whose time is that of the start, and is taken off
_SQUARE = [-50, -50, 50, -50, 50, 50, -50, 50]

Measured = dict[str, float]
# what a row says, stage of _scale_stages.py or options of an engine command
PARTICLES: list[tuple[str, object]] = [
    ("import by scipion-em-relion", "import_star"), ("set to STAR", "convert"), ("output set", "output_set"), ("set to table", "latents"),
    ("20 classes", "classes"), ("landscape window", "window"),
    ("cluster-landscape", {"table": "alignment.npz", "clusters": 20}),
    ("select-landscape", {"table": "alignment.npz", "polygon": _SQUARE}),
    ("reconstruct", {"particles": "particles.star"}),
]
SUBTOMOGRAMS: list[tuple[str, object]] = [
    ("STAR to set", "register"), ("set to STAR", "convert_subtomograms"), ("output set", "output_subtomograms"), ("20 classes", "classes_of_subtomograms"),
]


def particles(options: argparse.Namespace) -> None:
    """Rows of all stages of particles."""
    _run(options, "particles", _sizes(options, SIZES), "make_particles", PARTICLES)


def subtomograms(options: argparse.Namespace) -> None:
    """Rows of all stages of subtomograms, whose files are hard links."""
    _run(options, "subtomograms", _sizes(options, SUBTOMOGRAM_SIZES), "make_subtomograms", SUBTOMOGRAMS)


def _sizes(options: argparse.Namespace, kinds: dict[str, tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(options.sizes or kinds[options.scale])


def _run(options: argparse.Namespace, what: str, sizes: tuple[int, ...], make: str, stages: list[tuple[str, object]]) -> None:
    taken: dict[str, list[Measured]] = {}
    for count in sizes:
        for name, stage in [("", make), *stages]:
            found, few = (_measure(options, what, number, name, stage) for number in (count, _FEW))
            if name:
                found["cpu_s"] -= few["cpu_s"]
                taken.setdefault(name, []).append(found)
                _row(options, f"{what}: {name}", count, found)
                _growth(options, f"{what}: {name}", sizes, taken[name], "scipion" if isinstance(stage, str) else "engine")


def _measure(options: argparse.Namespace, what: str, count: int, name: str, stage: object) -> Measured:
    folder = (options.work / "scale" / what / str(count)).resolve()
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(stage, str):
        return _once(folder / f"{stage}.json", lambda: run_process([sys.executable, str(Path(__file__).with_name("_scale_stages.py")), stage, str(count)],
                                                                    cwd=folder))
    assert isinstance(stage, dict)

    def command() -> None:
        words = {option: str(folder / value) if isinstance(value, str) else value for option, value in stage.items()}
        usage = engine(name, folder / name, **words)
        found = {"cpu_s": usage.cpu_seconds, "seconds": usage.seconds, "memory_mib": usage.memory_mib}
        (folder / f"{name}.json").write_text(json.dumps(found), encoding="utf-8")

    return _once(folder / f"{name}.json", command)


def _once(path: Path, do: Callable[[], object]) -> Measured:
    """What a stage took, now or before."""
    if not path.exists():
        do()
    return dict(json.loads(path.read_text(encoding="utf-8")))


def _row(options: argparse.Namespace, what: str, count: int, found: Measured) -> None:
    record("scale", what, f"{count:,}", "reported", f"{found['cpu_s']:.2f} s of processor ({1e6 * found['cpu_s'] / count:.0f} µs each), "
           f"{found['seconds']:.1f} s on the clock, {found['memory_mib']:.0f} MiB", True, options.scale)


def _growth(options: argparse.Namespace, what: str, sizes: tuple[int, ...], taken: list[Measured], kind: str) -> None:
    """Exponent from the first size to the last one measured, and memory an item between them."""
    if len(taken) < 2:
        return
    first, last = taken[0], taken[-1]
    many, condition = sizes[len(taken) - 1], f"{sizes[0]:,} to {sizes[-1]:,}"
    exponent = math.log(max(last["cpu_s"], 1e-3) / max(first["cpu_s"], 1e-3)) / math.log(many / sizes[0])
    record("scale", f"{what}, growth", condition, f"<= {MOST_GROWTH}", f"{exponent:.2f} to {many:,}", exponent <= MOST_GROWTH, options.scale)
    each = (last["memory_mib"] - first["memory_mib"]) * 2**20 / (many - sizes[0])
    measured = f"{each:.0f} bytes each, {last['memory_mib']:.0f} MiB at {many:,}"
    record("scale", f"{what}, memory", condition, f"<= {MOST_BYTES[kind]:.0f} bytes each", measured, each <= MOST_BYTES[kind], options.scale)
