"""Work over all particles of a set in chunks: recorded on disk, taken up again after a kill, shared among processes.

A chunk is the unit of both resume and sharding, and chunks do not depend on the number of processes, so one process,
many processes and a killed run that goes on all give the same result.
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from .exceptions import InputError
from .io.tables import read_table, write_table
from .progress import Progress

Columns = dict[str, np.ndarray]

_POLL_S = 0.5
_SILENCE_S = 24 * 3600.0


def process_rank() -> tuple[int, int, int]:
    """Rank, number of processes and rank on this node, from torchrun's or SLURM's environment; ``(0, 1, 0)`` alone."""
    # SLURM_STEP_NUM_TASKS is set in srun's tasks only: a batch script is one process, whatever SLURM_NTASKS says
    for rank, world, local in (("RANK", "WORLD_SIZE", "LOCAL_RANK"), ("SLURM_PROCID", "SLURM_STEP_NUM_TASKS", "SLURM_LOCALID")):
        if rank in os.environ and world in os.environ:
            return int(os.environ[rank]), int(os.environ[world]), int(os.environ.get(local, "0"))
    return 0, 1, 0


def in_chunks(
    folder: Path, digest: str, ids: np.ndarray, chunk: int, work: Callable[[np.ndarray], Columns], what: str, batch: int
) -> Columns | None:
    """Apply ``work`` to all rows of a set and gather its columns in the set's order.

    Parameters
    ----------
    folder : where ``chunks/`` is kept until the caller removes it with :func:`remove_chunks`
    digest : of all that the result depends on; chunks of another digest are computed anew
    ids : ``(n,)`` ids of the particles
    chunk : rows of one record on disk
    work : columns of given rows, at most ``batch`` at a time
    what : name in the progress lines

    Returns
    -------
    columns of all rows with ``id``; None in processes of rank 1 and above, whose part is done
    """
    rank, world, _ = process_rank()
    # the digest is part of the folder's name, so that nothing of other parameters can be mistaken for this run's
    parts = folder / "chunks" / f"{digest}_{chunk}"
    parts.mkdir(parents=True, exist_ok=True)
    pieces = list(_pieces(len(ids), chunk))
    paths = [parts / f"chunk_{number:07d}.npz" for number in range(len(pieces))]
    mine = range(rank, len(pieces), world)
    finished = sum(len(pieces[number]) for number in mine if paths[number].exists())
    progress = Progress(what, sum(len(pieces[number]) for number in mine), done=finished)
    for number in mine:
        if paths[number].exists():
            continue
        columns: dict[str, list[np.ndarray]] = {}
        for rows in np.split(pieces[number], range(batch, len(pieces[number]), batch)):
            for name, values in work(rows).items():
                columns.setdefault(name, []).append(values)
            progress.step(len(rows))
        whole = {name: np.concatenate(values) for name, values in columns.items()}
        write_table(str(paths[number]), {"id": ids[pieces[number]], **whole})
    if rank:
        return None
    _wait_for(paths)
    gathered: Columns = {}
    for path, rows in zip(paths, pieces):  # one record at a time, so that no column is in memory twice
        record = read_table(str(path))[0]
        if not np.array_equal(record["id"], ids[rows]):
            raise InputError(f"The records in '{parts}' belong to other particles: remove that folder and run again.")
        if not gathered:
            gathered = {name: np.empty((len(ids), *values.shape[1:]), values.dtype) for name, values in record.items()}
        for name, column in gathered.items():
            column[rows] = record[name]
    return gathered


def remove_chunks(folder: Path) -> None:
    """Remove the records once the whole result has been written."""
    shutil.rmtree(folder / "chunks", ignore_errors=True)


def once_for_all(path: Path, make: Callable[[Path], None]) -> None:
    """Let rank 0 write a file with ``make`` (unless it is there) and the others wait for it."""
    if process_rank()[0] == 0 and not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        make(path)
    _wait_for([path])


def _pieces(count: int, chunk: int) -> Iterator[np.ndarray]:
    for first in range(0, count, chunk):
        yield np.arange(first, min(first + chunk, count))


def _wait_for(paths: list[Path]) -> None:
    """Wait for files that other processes write; give up after a day without a new one."""
    last, missing = time.monotonic(), len(paths)
    while True:
        absent = [path for path in paths if not path.exists()]
        if not absent:
            return
        if len(absent) < missing:
            last, missing = time.monotonic(), len(absent)
        if time.monotonic() - last > _SILENCE_S:
            raise InputError(f"Another process never wrote '{absent[0]}': look at its log and run again.")
        time.sleep(_POLL_S)
