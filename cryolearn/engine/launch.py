"""Several processes for one command: ``srun`` inside a SLURM allocation of that many tasks, else ``torchrun``."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

_OPTION = "--processes"


def is_first_process() -> bool:
    """True in the process that speaks for all of them (rank 0 of torchrun or srun, or the only one)."""
    return int(os.environ.get("RANK", os.environ.get("SLURM_PROCID", "0"))) == 0


def launch_processes(processes: int, words: Sequence[str]) -> int:
    """Start the same command in ``processes`` processes and wait; returns 0 or the launcher's exit code."""
    return subprocess.call(launch_command(processes, words))


def launch_command(processes: int, words: Sequence[str]) -> list[str]:
    """Command line that starts ``python -m cryolearn.engine WORDS`` in that many processes."""
    rest = _without_option(words)
    if int(os.environ.get("SLURM_NTASKS", "1")) >= processes and "SLURM_JOB_ID" in os.environ:
        return ["srun", f"--ntasks={processes}", "--kill-on-bad-exit=1", sys.executable, "-m", "cryolearn.engine", *rest]
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "-m", "cryolearn.engine", *rest,
    ]  # fmt: skip


def _without_option(words: Sequence[str]) -> list[str]:
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == _OPTION:
            skip = True
        elif not word.startswith(_OPTION + "="):
            kept.append(word)
    return kept
