"""What a GPU that is at hand for minutes can tell (``gpu.sh`` starts this): commands against the CPU, speed of the hot loops, rows of the papers' tables.

Parts come in the order of their weight, each row is written as soon as it is measured, and nothing begins that would not end in time.
"""

from __future__ import annotations

import contextlib
import io
import math
import multiprocessing
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

import torch
from _gpu_rates import LOOPS, measure
from _results import parser, record

from cryolearn.engine.__main__ import main as engine
from cryolearn.tests.engine.bad_input_sets import make_sets
from cryolearn.tests.engine.command_results import CASES, difference, results, words_of_case

ROOT = Path(__file__).resolve().parent.parent
# Sums of single precision come in another order on a GPU; a search may take another of two equal candidates, so that rows are told, not judged, above this.
CLOSE = 1e-3
# Scripts of the papers' tables with the minutes that each is given.
PAPERS = (
    ("orientation_fig5.py --part groups", 1.0), ("superres_speed.py", 1.0), ("subtomo_speed.py", 1.0), ("orientation_speed.py", 1.0),
    ("gaussian_slides.py --no-peers", 2.0),
)


class Clock:
    """Minutes that are left of those that were given."""

    def __init__(self, minutes: float) -> None:
        self._end = time.monotonic() + 60 * minutes

    def left(self) -> float:
        return (self._end - time.monotonic()) / 60


def main() -> None:
    parse = parser(__doc__ or "")
    parse.add_argument("--minutes", type=float, default=8.5, help="time that there is")
    parse.add_argument("--rehearse", action="store_true", help="on the CPU, with the smallest sizes")
    parse.add_argument("--parts", nargs="+", choices=("commands", "rates", "papers"), default=["commands", "rates", "papers"])
    options = parse.parse_args()
    if not options.rehearse and not torch.cuda.is_available():
        sys.exit("ERROR: PyTorch sees no GPU here: take --rehearse to try this on the CPU.")
    clock = Clock(options.minutes if not options.rehearse else 15.0)
    options.work.mkdir(parents=True, exist_ok=True)
    where = "CPU (rehearsal)" if options.rehearse else torch.cuda.get_device_name(0)
    print(f"{where}; PyTorch {torch.__version__}", flush=True)
    for part in options.parts:
        {"commands": commands, "rates": rates, "papers": papers}[part](options, clock, where)
    print(f"{clock.left():.1f} minutes were left", flush=True)


def commands(options: Any, clock: Clock, where: str) -> None:
    """Each command on the GPU against its result on the CPU, which another process makes meanwhile."""
    folder = options.work / "commands"
    with quiet():
        make_sets(folder / "sets", whole=True)
    other = multiprocessing.get_context("spawn").Process(target=on_the_cpu, args=(folder,))
    other.start()
    try:
        for name, (_, _, tolerance) in CASES.items():
            if clock.left() < 1:
                return
            with quiet() as said:
                code = engine([*words_of_case(name, folder / "gpu" / name, folder / "sets"), *([] if options.rehearse else ["--use_gpu", "true"])])
            if code:
                measured, holds = f"exit {code}: {said.getvalue().strip().splitlines()[-1][:200]}", False
            else:
                while other.is_alive() and not (folder / "cpu" / f"{name}.done").exists():
                    time.sleep(0.1)
                measured, holds = against(results(folder / "gpu" / name), results(folder / "cpu" / name), max(tolerance, CLOSE))
            record("gpu", f"{name}: result against the CPU's", condition=where, target=f"within {max(tolerance, CLOSE):g} of the largest number",
                   measured=measured, holds=holds, scale=options.scale)
    finally:
        other.kill()


def on_the_cpu(folder: Path) -> None:
    with quiet():
        for name in CASES:
            engine(words_of_case(name, folder / "cpu" / name, folder / "sets"))
            (folder / "cpu" / f"{name}.done").touch()


def against(found: dict[str, Any], expected: dict[str, Any], tolerance: float) -> tuple[str, bool]:
    """The largest difference and where it is."""
    if not expected or found.keys() != expected.keys():
        return f"other results: {sorted(found.keys() ^ expected.keys())[:3]}", False
    place, largest = max(((place, difference(found[place], values)) for place, values in expected.items()), key=lambda item: item[1])
    return f"{largest:.1e} in {place}", largest <= tolerance


def rates(options: Any, clock: Clock, where: str) -> None:
    """Images a second of the hot loops, launches an image, and the share of the card's limit."""
    for name, loop in LOOPS.items():
        if clock.left() < 1.5:
            return
        try:
            cost = measure(name, options.work / "rates", not options.rehearse, options.rehearse)
        except (RuntimeError, torch.OutOfMemoryError) as error:
            record("gpu", f"{name}: speed", condition=f"{where}, {loop.box} px", target="measured", measured=f"failed: {error}"[:300], holds=False,
                   scale=options.scale)
            continue
        per = f"{1 / cost.seconds:.0f} {loop.what} a second" if cost.seconds > 0 else "too fast to tell"
        record("gpu", f"{name}: speed", condition=f"{where}, {loop.box} px" + (", a round" if loop.rounds > 1 else ""), target="measured",
               measured=f"{per}; {cost.launches:.0f} launches each (5 µs: {100 * cost.launch_bound() / max(cost.seconds, 1e-9):.0f} % of the time); "
               f"{100 * cost.limit():.2g} % of what an H200 could do", holds=math.isfinite(cost.seconds) and cost.seconds > 0, scale=options.scale)


def papers(options: Any, clock: Clock, where: str) -> None:
    """Scripts of the papers' tables, as many as there is time for; they write their own rows."""
    for words, minutes in PAPERS:
        if clock.left() < minutes:
            continue
        script, *rest = words.split()
        scale = ["--scale", "laptop"] if options.rehearse else ["--scale", "paper", "--use_gpu"]
        limit = 60 * min(minutes if not options.rehearse else 0.2, clock.left())
        try:
            done = subprocess.run([sys.executable, str(ROOT / "benchmarks" / script), *rest, *scale, "--work", str(options.work / "papers")],
                                  timeout=limit, check=False, stdout=subprocess.DEVNULL)
            said = f"exit {done.returncode}"
        except subprocess.TimeoutExpired:
            said = f"not over after {limit:.0f} s"
        print(f"{script}: {said}", flush=True)


@contextlib.contextmanager
def quiet() -> Any:
    """Keep what commands print; show it where Python itself fails."""
    text = io.StringIO()
    try:
        with contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
            yield text
    except BaseException:
        traceback.print_exc()
        print(text.getvalue()[-2000:], flush=True)
        raise


if __name__ == "__main__":
    main()
