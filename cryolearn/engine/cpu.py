"""CPU threads of this process (no PyTorch here, so that it can be asked before PyTorch starts its own)."""

from __future__ import annotations

import os


def cpu_threads(asked: int = 0) -> int:
    """Threads to use: what was asked for, never more than this process may run on.

    0 asks for all of them: those that SLURM gave to each task, shared with the other processes that torchrun started on
    this machine.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if asked > 0:
        return min(asked, allowed)
    allowed = min(allowed, int(os.environ.get("SLURM_CPUS_PER_TASK", allowed)))
    return max(1, allowed // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
