"""Several processes for one command: ``srun`` inside a SLURM allocation of that many tasks, else ``torchrun``."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence

from .exceptions import InputError

_OPTION = "--processes"
_PATIENCE_S = 30.0


def process_rank() -> tuple[int, int, int]:
    """Rank, number of processes and rank on this node, from torchrun's or SLURM's environment; ``(0, 1, 0)`` alone."""
    # SLURM_STEP_NUM_TASKS is set in srun's tasks only: a batch script is one process, whatever SLURM_NTASKS says
    for rank, world, local in (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")):
        if rank in os.environ and world in os.environ:
            return int(os.environ[rank]), int(os.environ[world]), int(os.environ.get(local, "0"))
    return 0, 1, 0


def is_first_process() -> bool:
    """True in the process that speaks for all of them (rank 0 of torchrun or srun, or the only one)."""
    return process_rank()[0] == 0


def say_once(text: str) -> None:
    """Print a line for the log: one of all processes does."""
    if is_first_process():
        print(text, flush=True)


def launch_processes(processes: int, words: Sequence[str], status_file: str | None = None) -> int:
    """Start the same command in ``processes`` processes and wait for them.

    Returns
    -------
    int
        0, or the exit code of the process that failed as it wrote it in the status file.

    Raises
    ------
    RuntimeError
        when a process ended without saying why (it was killed, or the launcher could not start it).
    """
    with tempfile.TemporaryDirectory() as folder:
        written = status_file or os.path.join(folder, "status.json")
        launcher = subprocess.Popen(launch_command(processes, words if status_file else [*words, "--status", written]))
        try:
            code = launcher.wait()
        except KeyboardInterrupt:
            launcher.terminate()  # both launchers pass it on to their workers
            try:
                launcher.wait(_PATIENCE_S)
            except subprocess.TimeoutExpired:
                launcher.kill()
            raise
        if not code:
            return 0
        with contextlib.suppress(OSError, ValueError), open(written, encoding="utf-8") as handle:
            if said := int(json.load(handle)["exit_code"]):
                return said
    raise RuntimeError(f"one of {processes} processes ended without a word (exit code {code} of the launcher); it may have been killed")


def launch_command(processes: int, words: Sequence[str]) -> list[str]:
    """Command line that starts ``python -m cryolearn.engine WORDS`` in that many processes.

    Raises
    ------
    InputError
        when the processes cannot be spread evenly over the nodes of a SLURM job.
    """
    rest = _without_option(words)
    if "SLURM_JOB_ID" in os.environ and int(os.environ.get("SLURM_NTASKS", "1")) >= processes:
        return [*_srun(processes), sys.executable, "-m", "cryolearn.engine", *rest]
    return [
        sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={processes}",
        "-m", "cryolearn.engine", *rest,
    ]  # fmt: skip


def _srun(processes: int) -> list[str]:
    nodes = int(os.environ.get("SLURM_JOB_NUM_NODES", "1"))
    if processes % nodes:
        raise InputError(f"{processes} processes cannot be spread evenly over the {nodes} nodes of this job: ask for a multiple of {nodes}.")
    command = ["srun", f"--ntasks={processes}", f"--nodes={nodes}", f"--ntasks-per-node={processes // nodes}", "--kill-on-bad-exit=1"]
    # since SLURM 22.05 srun does not take the number of cores from the job
    if cpus := os.environ.get("SLURM_CPUS_PER_TASK"):
        command.append(f"--cpus-per-task={cpus}")
    return command


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
