"""CPU threads of this process (no PyTorch here, so that it can be asked before PyTorch starts its own)."""

from __future__ import annotations

import contextlib
import ctypes
import os

# glibc's <malloc.h>
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_BYTES = 1 << 30


def number_in(name: str, default: int) -> int:
    """A number in the environment; ``default`` when it is not there or is none."""
    text = os.environ.get(name, "")
    return int(text) if text.isdecimal() else default


def cpu_threads(asked: int = 0) -> int:
    """Threads to use: what was asked for, never more than this process may run on.

    0 asks for all of them: those that SLURM gave to each task, shared with the other processes that torchrun started on
    this machine.
    """
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if asked > 0:
        return min(asked, allowed)
    allowed = min(allowed, max(1, number_in("SLURM_CPUS_PER_TASK", allowed)))
    return max(1, allowed // max(1, number_in("LOCAL_WORLD_SIZE", 1)))


def share_cores_politely() -> None:
    """Let OpenMP threads sleep while they wait, and NumPy's linear algebra have one; call this before PyTorch or NumPy are imported.

    By default they spin, and as soon as another program wants the same cores each parallel loop waits for a thread that
    is not running: on two cores with a second busy program the projections of a template bank took 5.5 s of CPU instead
    of 0.3 s. On idle cores the difference is not measurable. A user's own setting stays.

    OpenBLAS has no such switch. NumPy inverts batches of small matrices one by one, and two threads of OpenBLAS wait for each other at each of them: 90,000
    of 7 x 7 took .25 s with one thread, .37 s with two, and 141 s with two beside busy programs. Large products are PyTorch's, which has its own threads.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def keep_freed_memory() -> None:
    """Let glibc keep freed blocks of up to 1 GiB for the next array of that size, instead of giving them back to the system each time.

    Every batch frees and takes arrays of tens of megabytes, and the system clears each page that it hands out: a third of the processor's time of a run of
    Gaussian heterogeneity, a tenth of a recovery of orientations, went into that. Peak memory of that recovery grew by 8 %. Other C libraries have no such
    switch and stay as they are.
    """
    with contextlib.suppress(OSError, AttributeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_THRESHOLD, _KEEP_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_BYTES)
