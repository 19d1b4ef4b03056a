"""Readers on damaged and hostile files for minutes each: how many were read, and how many ended in anything but the project's own error for inputs."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import sys
from pathlib import Path

import torch
from _results import parser, record

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from cryolearn.tests.engine.reader_cases import LONGEST_S, READERS, fuzz

_MEMORY_BYTES = 16 << 30  # what asks for more ends in a MemoryError, which is none of ours
_SHOWN = 5


def main() -> None:
    arguments = parser(__doc__)
    arguments.add_argument("--minutes", type=float, default=10.0, help="for each reader")
    arguments.add_argument("--only", choices=sorted(READERS), nargs="*", default=sorted(READERS), help="readers to try")
    arguments.add_argument("--seed", type=int, default=0, help="of the first damaged file")
    options = arguments.parse_args()
    torch.set_num_threads(1)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, resource.getrlimit(resource.RLIMIT_AS)[1]))
    for name in options.only:
        folder = options.work.resolve() / "silence_fuzz" / name.replace(" ", "_")
        shutil.rmtree(folder, ignore_errors=True)
        with open(os.devnull, "w", encoding="utf-8") as nowhere, contextlib.redirect_stdout(nowhere):
            tried, wrong = fuzz(name, folder, seconds=60 * options.minutes, first_seed=options.seed)
        for text in wrong[:_SHOWN]:
            print(f"  {name}: {text}", flush=True)
        record(
            "silence", f"damaged files: {name}", f"{options.minutes:g} min", f"0 tracebacks, NaN read, or answers later than {LONGEST_S:g} s",
            measured=f"{len(wrong)} of {tried}", holds=not wrong and tried > 0, scale=options.scale,
        )


if __name__ == "__main__":
    main()
