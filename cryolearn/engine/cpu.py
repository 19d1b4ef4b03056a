"""CPU threads of this process (no PyTorch here, so that it can be asked before PyTorch starts its own)."""

from __future__ import annotations

import os


def cpu_threads(asked: int = 0) -> int:
    """Threads to use: what was asked for (0: all), never more than this process may run on."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(asked, allowed) if asked > 0 else allowed
