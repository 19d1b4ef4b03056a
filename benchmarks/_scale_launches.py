"""Launches of kernels and waits of the host, counted on a pretend GPU (``cryolearn/tests/pretend_gpu.py``): where batches are small, they are a GPU's time.

A command runs on two numbers of images (and of rounds); the differences leave out what a run does once. Batches are as large as on a GPU. By default the two
numbers are one batch of 64 images and two; ``--images 8 16`` is quicker and right only for code that works image by image.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from _results import Row
from _run import engine_words

from cryolearn.engine.__main__ import main as run_engine
from cryolearn.tests.engine.bad_input_sets import make_sets
from cryolearn.tests.pretend_gpu import Counts
from cryolearn.tests.pretend_gpu_engine import run_on_pretend_gpu

BATCH = 64
WAITS = 10  # of the host a batch
_ELASTIC = {"mode_numbers": [7, 8], "amplitude_range": 30.0, "shift_range_angst": 4.0, "batch": BATCH, "modes": "modes/modes.npz"}


@dataclass(frozen=True)
class Case:
    """A command whose launches are counted.

    ``rounds`` names its parameter of rounds, where one more round is counted; ``most`` launches an image (and round) are the target, None has no target.
    """

    name: str
    command: str
    most: int | None
    options: dict[str, object]
    rounds: str = ""
    images: str = "particles"


_LOCAL = {"start": "local", "local_range_deg": 5.0}
_CURVE = {"volume": "map/map.mrc", "gaussians": "gaussians/gaussians.npz", "maps": 0, "halves": False, "batch": BATCH}
_AVERAGE = {"classes": 2, "starts": 1, "angular_step_deg": 30.0}
CASES = (
    Case("elastic-align, blind", "elastic-align", 30, _ELASTIC),
    Case("elastic-align, local", "elastic-align", 15, {**_ELASTIC, **_LOCAL}),
    Case("elastic-predict", "elastic-predict", 15, {"model": "elastic/model", "batch": BATCH}),
    Case("gaussian-heterogeneity, curve", "gaussian-heterogeneity", 5, _CURVE, rounds="rounds"),
    Case("orientation-recover, matching", "orientation-recover", 10, {"start": "random"}, rounds="rounds"),
    Case("subtomogram-average", "subtomogram-average", None, _AVERAGE, rounds="iterations", images="subtomograms"),
)


def add_arguments(arguments: argparse.ArgumentParser) -> None:
    """Options of this part."""
    arguments.add_argument("--images", type=int, nargs=2, default=(BATCH, 2 * BATCH), metavar=("FEW", "MANY"), help="launches: numbers of images")
    arguments.add_argument("--cases", nargs="*", default=[case.name for case in CASES], help="launches: the cases to count")
    arguments.add_argument("--places", type=int, default=0, help="launches: print so many places in the engine that launch or wait most")


def rows(options: argparse.Namespace) -> Iterator[Row]:
    """Two rows a case: launches an image, and waits of the host a batch."""
    sets = _inputs(options.work.resolve() / "scale_launches", max(options.images))
    for case in (one for one in CASES if one.name in options.cases):
        rounds = (1, 2) if case.rounds else (0,)
        few, many = ([_counts(case, sets, number, turns, options.places) for turns in rounds] for number in options.images)
        more = options.images[1] - options.images[0]
        launches, waits = (_difference(kind, few, many) / more for kind in ("launches", "waits"))
        if options.places:
            for (place, name), count in (many[-1].places - few[-1].places).most_common(options.places):
                print(f"{count / more:10.1f} an image  {place}  {name}")
        unit = "an image and round" if case.rounds else "an image"
        condition = f"{case.name}; batch of {BATCH}, runs on {options.images[0]} and {options.images[1]} of 32 px"
        if case.images == "subtomograms":
            condition = condition.replace("32 px", "16 px")
        most = case.most
        yield Row(f"launches {unit}", condition, "reported" if most is None else f"<= {most}", f"{launches:.1f}", most is None or launches <= most)
        yield Row(f"waits of the host for the GPU, a batch{' and round' if case.rounds else ''}", condition, f"<= {WAITS}", f"{waits * BATCH:.0f}",
                  waits * BATCH <= WAITS)


def _difference(kind: str, few: list[Counts], many: list[Counts]) -> int:
    """What more images took, in the last of the rounds where there are several."""
    fewer, more = ([sum(getattr(counts, kind).values()) for counts in each] for each in (few, many))
    return (more[-1] - fewer[-1]) - (more[0] - fewer[0] if len(few) > 1 else 0)


def _counts(case: Case, sets: Path, images: int, rounds: int, places: int) -> Counts:
    star = sets / f"{case.images}_{images}.star"
    if not star.exists():
        star.write_text(_first_rows((sets / f"{case.images}.star").read_text(), images))
    out = sets / "run"
    shutil.rmtree(out, ignore_errors=True)
    known = {name: str(sets / value) if isinstance(value, str) and "/" in value else value for name, value in case.options.items()}
    words = _words(case.command, out, {case.images: str(star), **known, **({case.rounds: rounds} if rounds else {})})
    text = io.StringIO()
    with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
        code, counts = run_on_pretend_gpu(words, sizes="cuda", places=bool(places))
    if code:
        raise SystemExit(f"ERROR: {case.name} did not run: {text.getvalue()[-2000:]}")
    return counts


def _first_rows(text: str, count: int) -> str:
    """A STAR file with the first rows of its last table."""
    lines = text.rstrip().splitlines()
    end = max(place for place, line in enumerate(lines) if line.startswith("_")) + 1
    return "\n".join([*lines[: end + count], ""])


def _words(command: str, out: Path, options: dict[str, object]) -> list[str]:
    return engine_words(command, out, **options, threads=1)[3:]


def _inputs(sets: Path, number: int) -> Path:
    """Particles, subtomograms, a map, Gaussians and a network of a small protein."""
    make_sets(sets)
    modes = str(sets / "modes" / "modes.npz")
    image = {"modes": modes, "number": number, "box": 32, "pixel_size_angst": 2.5, "amplitude": 30.0, "snr": 0.5, "shift_angst": 3.0, "mode_numbers": [7, 8]}
    volume = {"structures": f'["{sets / "a.pdb"}", "{sets / "b.pdb"}"]', "per_class": -(-number // 2), "box": 16, "pixel_size_angst": 4.0, "snr": 1.0,
              "shift_angst": 4.0, "defocus_angst": 20000.0, "tilt_step_deg": 5.0}
    making: tuple[tuple[str, str, dict[str, object]], ...] = (
        (f"particles_{number}", "simulate-particles", image), (f"subtomograms_{number}", "subtomogram-simulate", volume),
        ("gaussians", "volume-to-gaussians", {"volume": str(sets / "map" / "map.mrc"), "resolution_angst": 12.0, "iterations": 20}),
        ("elastic", "elastic-train", {"modes": modes, "particles": str(sets / "few.star"), "labels": "simulation", "width": 16, "epochs": 1,
                                      "images_per_epoch": 16, "mode_numbers": [7, 8], "amplitude_range": 30.0, "shift_range_angst": 4.0, "batch": 16}),
    )
    for name, command, options in making:
        if not (sets / name).exists() and run_engine(_words(command, sets / name, options)):
            raise SystemExit(f"ERROR: {command} did not make its input.")
    for kind in ("particles", "subtomograms"):
        text = (sets / f"{kind}_{number}" / f"{kind}.star").read_text()
        (sets / f"{kind}.star").write_text(re.sub(r"(?m)(@|^)(particles\.mrcs|subtomograms/)", rf"\1{kind}_{number}/\2", text))
    return sets
