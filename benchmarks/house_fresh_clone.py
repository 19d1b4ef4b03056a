"""Do ``make test`` and ``make demo`` pass from a fresh clone on a busy machine? Their time is told, and nothing hangs on it."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from pathlib import Path

from _results import parser, record

ROOT = Path(__file__).resolve().parent.parent


def main() -> None:
    parse = parser(__doc__ or "")
    parse.add_argument("--busy", type=int, default=3, help="other processes that compute all the time")
    parse.add_argument("--targets", nargs="+", default=["test", "demo"], choices=("test", "demo"))
    options = parse.parse_args()
    clone = options.work.resolve() / "fresh-clone"
    shutil.rmtree(clone, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(options.busy)]
    try:
        for target in options.targets:
            start = time.monotonic()
            with open(options.work / f"make-{target}.log", "w") as log:
                code = subprocess.run(["make", target], cwd=clone, stdout=log, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, check=False).returncode
            minutes = (time.monotonic() - start) / 60
            record(
                "house",
                f"make {target} from a fresh clone",
                condition=f"beside {options.busy} busy processes",
                target="exit 0",
                measured=f"exit {code}, {minutes:.0f} minutes",
                holds=code == 0,
                scale=options.scale,
            )
    finally:
        for process in busy:
            process.kill()


if __name__ == "__main__":
    main()
