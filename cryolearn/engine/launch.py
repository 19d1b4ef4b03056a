"""Several processes for one command: ``srun`` inside a SLURM allocation of that many tasks, else ``torchrun``."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .cpu import number_in
from .exceptions import EXIT_CRASH, EXIT_INTERRUPTED, EXIT_NO_RESOURCE, InputError

_PATIENCE_S = 30.0
_FORGOTTEN_S = 30 * 86400.0  # longer than any run
_TORCHRUN = ("RANK", "WORLD_SIZE", "LOCAL_RANK")
_SRUN = ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")  # the second is set in srun's tasks only: a batch script is one process
_RUN_OF_TORCHRUN = "TORCHELASTIC_RUN_ID"
_OF_OTHERS = re.compile(r"connection|peer|gloo|nccl|socket|timed out|timeout", re.IGNORECASE)  # what a process says when another one is gone


class Ending(NamedTuple):
    """How a run of several processes ended: exit code, sentence, and whether one of the processes has said it already."""

    code: int
    error: str | None
    is_said: bool = False


def is_torchrun() -> bool:
    """Whether this is a process that torchrun started: variables of its processes without its own are left over from another program."""
    return _RUN_OF_TORCHRUN in os.environ and _numbers(_TORCHRUN) is not None


def process_rank() -> tuple[int, int, int]:
    """Rank, number of processes and rank on this node, from torchrun's or SLURM's environment; ``(0, 1, 0)`` alone."""
    return (_numbers(_TORCHRUN) if is_torchrun() else _numbers(_SRUN)) or (0, 1, 0)


def _numbers(names: tuple[str, str, str]) -> tuple[int, int, int] | None:
    rank, world, local = (number_in(name, -1) for name in names)
    return (rank, world, max(local, 0)) if 0 <= rank < world else None


def forget_launchers() -> None:
    """Take variables that another launcher left out of this process's environment when it works alone: libraries would believe them."""
    if process_rank()[1] == 1:
        for name in (*_TORCHRUN, "LOCAL_WORLD_SIZE", "GROUP_RANK", _RUN_OF_TORCHRUN, *_SRUN):
            os.environ.pop(name, None)


def is_first_process() -> bool:
    """True in the process that speaks for all of them (rank 0 of torchrun or srun, or the only one)."""
    return process_rank()[0] == 0


def say_once(text: str) -> None:
    """Print a line for the log: one of all processes does."""
    if is_first_process():
        print(text, flush=True)


def launch_processes(processes: int, words: Sequence[str], folder: str) -> Ending:
    """Start the same command in ``processes`` processes and wait for them.

    Parameters
    ----------
    processes
        Their number.
    words
        The command line.
    folder
        Output folder of the run, which all processes see; they leave there how they ended.
    """
    for old in Path(folder).glob(".processes-*"):
        if time.time() - old.stat().st_mtime > _FORGOTTEN_S:  # a launcher that was killed left it
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=".processes-", dir=folder) as endings:
        launcher = subprocess.Popen(launch_command(processes, [*_without_option(words, "--status"), "--status", endings]))
        try:
            code = launcher.wait()
        except KeyboardInterrupt:
            launcher.terminate()  # both launchers pass it on to their workers
            try:
                launcher.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                launcher.kill()
            raise
        return how_it_ended(endings, processes, code) if code else Ending(0, None)


def how_it_ended(endings: str, processes: int, code: int) -> Ending:
    """What the endings that processes wrote into a folder say of a run, whose launcher ended with an exit code other than 0.

    A process that refuses its input says why, and its launcher interrupts the others. One that is killed says nothing; then the others are interrupted, or
    fail because it is gone.
    """
    found = {rank: ending for rank in range(processes) if (ending := _read_ending(os.path.join(endings, f"{rank}.json"))) is not None}
    silent = [rank for rank in range(processes) if rank not in found]
    failed = [ending for ending in found.values() if ending.code not in (0, EXIT_INTERRUPTED)]
    for ending in failed:
        if not (silent and ending.code == EXIT_CRASH and _OF_OTHERS.search(ending.error or "")):
            return ending
    if len(silent) == processes:
        return Ending(EXIT_CRASH, f"None of {processes} processes said how it ended (exit code {code} of the launcher): see the lines above.")
    if silent:
        names = " and ".join(str(rank + 1) for rank in silent)
        was = "Process" if len(silent) == 1 else "Processes"
        return Ending(
            EXIT_NO_RESOURCE, f"{was} {names} of {processes} {'was' if len(silent) == 1 else 'were'} killed from outside, most often because the memory was "
            "used up: give more memory or take fewer processes. Started again, the run goes on from the last record.")
    return failed[0] if failed else Ending(EXIT_INTERRUPTED, next(iter(found.values())).error, True)


def _read_ending(path: str) -> Ending | None:
    try:
        with open(path, encoding="utf-8") as handle:
            said: dict[str, Any] = json.load(handle)
        return Ending(int(said["exit_code"]), said["error"], True)
    except (OSError, ValueError, KeyError, TypeError):
        return None


def launch_command(processes: int, words: Sequence[str]) -> list[str]:
    """Command line that starts ``python -m cryolearn.engine WORDS`` in that many processes.

    Raises
    ------
    InputError
        when the processes cannot be spread evenly over the nodes of a SLURM job.
    """
    rest = _without_option(words, "--processes")
    if "SLURM_JOB_ID" in os.environ and number_in("SLURM_NTASKS", 1) >= processes:
        return [*_srun(processes), sys.executable, "-m", "cryolearn.engine", *rest]
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "-m", "--", "cryolearn.engine", *rest,  # torchrun would take our options for abbreviations of its own
    ]  # fmt: skip


def _srun(processes: int) -> list[str]:
    nodes = max(1, number_in("SLURM_JOB_NUM_NODES", 1))
    if processes % nodes:
        raise InputError(f"{processes} processes cannot be spread evenly over the {nodes} nodes of this job: ask for a multiple of {nodes}.")
    command = ["srun", f"--ntasks={processes}", f"--nodes={nodes}", f"--ntasks-per-node={processes // nodes}", "--kill-on-bad-exit=1"]
    # since SLURM 22.05 srun does not take the number of cores from the job
    if cpus := number_in("SLURM_CPUS_PER_TASK", 0):
        command.append(f"--cpus-per-task={cpus}")
    return command


def _without_option(words: Sequence[str], option: str) -> list[str]:
    kept, skip = [], False
    for word in words:
        if skip:
            skip = False
        elif word == option:
            skip = True
        elif not word.startswith(option + "="):
            kept.append(word)
    return kept
