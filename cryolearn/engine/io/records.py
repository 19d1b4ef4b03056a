"""What an unfinished run has done so far, on disk: the one mechanism of every command that is continued after a kill.

Records lie in ``OUTPUT/records/NAME/LAYOUT_DIGEST``. The digest is that of all that the result depends on (:mod:`cryolearn.engine.config`), so records of
other parameters or inputs are never read. Those of another layout, which another version wrote, are recognised by their place and left alone; one sentence
says so. Every file is written whole or not at all, one that is damaged is made anew, and nothing is unpickled.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from ..exceptions import InputError
from ..launch import process_rank
from ..progress import Progress
from .record_stage import Columns, Stage, is_whole_npz, say_damaged, wait_for_others
from .recorded_array import RecordedArray

__all__ = ["Columns", "RunRecord", "Stage", "is_whole_npz", "remove_records"]

_LAYOUT = "1"  # of everything below a run's folder of records: another number when any of it changes
# where versions without this module kept the same; checkpoints of training are still read (training/checkpoints.py)
_EARLIER = {
    "alignment": "chunks", "prediction": "chunks", "features": "chunks", "recovery": "stages", "heterogeneity": "stages", "averaging": "rounds",
    "tiles": "tiles", "simulation": "progress.json",
}


class RunRecord:
    """The records of one run.

    Parameters
    ----------
    folder : Path
        Output folder of the run.
    name : str
        What is recorded. Runs of another name in the same folder keep records of their own.
    digest : str
        Of everything that the result depends on.
    """

    def __init__(self, folder: str | Path, name: str, digest: str) -> None:
        self.folder, self.name, self.digest = Path(folder), name, digest
        self.path = self.folder / "records" / name / f"{_LAYOUT}_{digest}"
        if not self.path.exists() and process_rank()[0] == 0:
            self._say_what_is_not_used()

    def _say_what_is_not_used(self) -> None:
        others = [path.name for path in self.path.parent.iterdir()] if self.path.parent.exists() else []
        earlier = self.folder / _EARLIER[self.name] if self.name in _EARLIER else None
        if (earlier is not None and earlier.exists()) or any(not name.startswith(f"{_LAYOUT}_") for name in others):
            place = earlier if earlier is not None and earlier.exists() else self.path.parent
            print(f"The records in '{place}' are those of another version of this software and cannot be continued: the run starts anew.", flush=True)
        elif others:
            print(f"The records in '{self.path.parent}' belong to other parameters or inputs: the run starts anew.", flush=True)

    def part(self, name: str) -> RunRecord:
        """The records of a part of the run, in a folder of their own."""
        part = RunRecord.__new__(RunRecord)
        part.folder, part.name, part.digest, part.path = self.folder, self.name, self.digest, self.path / name
        return part

    def remove(self) -> None:
        """Remove the records, and all others of this name, once the whole result has been written."""
        remove_records(self.folder, self.name)

    def remove_others(self) -> None:
        """Remove records of other digests, for runs that record how far a file in the output folder has come: it is about to be that of this run."""
        for path in self.path.parent.iterdir() if self.path.parent.exists() else ():
            if path != self.path:
                _remove(path)
        if self.name in _EARLIER:
            _remove(self.folder / _EARLIER[self.name])

    # ------------------------------------------------ kinds of records ------------------------------------------------
    def file(self, name: str) -> Path:
        """Place of a file that its maker writes whole; its folder is made."""
        self.path.mkdir(parents=True, exist_ok=True)
        return self.path / name

    def stage(self, name: str) -> Stage:
        """A stage, recorded or not."""
        return Stage(self.path / f"{name}.npz")

    def newest(self, name: str) -> Stage | None:
        """Of the stages ``NAME_NUMBER``, with numbers of the same length, the last that can be read."""
        for path in sorted(self.path.glob(f"{name}_*.npz"), reverse=True):
            if (stage := Stage(path)).exists():
                return stage
            say_damaged(path)
        return None

    def array(self, name: str, shape: tuple[int, ...], dtype: DTypeLike) -> RecordedArray:
        """A large array whose rows are recorded one by one."""
        return RecordedArray(self.path / f"{name}.npy", shape, dtype)

    def checkpoint(self, step: int) -> Path:
        """Place of a training run's checkpoint after so many steps."""
        return self.file(f"step_{step:08d}.ckpt")

    def checkpoints(self) -> list[Path]:
        """Checkpoints of a training run, the last one first."""
        return sorted(self.path.glob("step_*.ckpt"), reverse=True)

    def once(self, name: str, make: Callable[[Path], None], is_whole: Callable[[Path], bool] = Path.exists) -> Path:
        """A file that rank 0 writes with ``make``, unless a whole one is there, and for which the other processes wait."""
        path = self.file(name)
        if process_rank()[0] == 0 and not is_whole(path):
            if path.exists():
                say_damaged(path)
            make(path)
        wait_for_others([path], is_whole, str)
        return path

    def wait_for(self, paths: Sequence[Path], is_whole: Callable[[Path], bool] = Path.exists) -> None:
        """Wait for files that other processes write; an :class:`InputError` when they have not written anything for a day."""
        wait_for_others(paths, is_whole, str)

    def in_chunks(
        self, ids: NDArray[np.int64], chunk: int, work: Callable[[NDArray[np.int64]], Columns], what: str, batch: int,
        ahead: Callable[[NDArray[np.int64]], None] | None = None,
    ) -> Columns | None:
        """Apply ``work`` to all rows of a set and gather its columns in the set's order.

        A chunk is the unit of both resume and sharding, and chunks do not depend on the number of processes, so one process, many processes and a killed
        run that is continued all give the same result.

        Parameters
        ----------
        ids : (n,) array
            Ids of the particles.
        chunk : int
            Rows of one record on disk.
        work : callable
            Columns of given rows, at most ``batch`` at a time.
        what : str
            Name in the progress lines.
        batch : int
            Rows at a time.
        ahead : callable or None
            Told of the rows that come next before ``work`` is given those before them, so that they can be read in the meantime.

        Returns
        -------
        dict or None
            Columns of all rows with ``id``; None in processes of rank 1 and above, whose part is done.

        Raises
        ------
        InputError
            when another process has not written anything for a day.
        """
        rank, world, _ = process_rank()
        pieces = list(_pieces(len(ids), chunk))
        stages = [Stage(self.path / f"chunks_{chunk}" / f"chunk_{number:07d}.npz") for number in range(len(pieces))]
        mine = range(rank, len(pieces), world)
        missing = [number for number in mine if not stages[number].exists()]
        for number in missing:
            if stages[number].path.exists():
                say_damaged(stages[number].path)
        total = sum(len(pieces[number]) for number in mine)
        progress = Progress(what, total, done=total - sum(len(pieces[number]) for number in missing))
        batches = {number: np.split(pieces[number], range(batch, len(pieces[number]), batch)) for number in missing}
        following = iter([rows for some in batches.values() for rows in some])
        _tell(ahead, following)
        for number in missing:
            columns: dict[str, list[NDArray[Any]]] = {}
            for rows in batches[number]:
                _tell(ahead, following)
                for name, values in work(rows).items():
                    columns.setdefault(name, []).append(values)
                progress.step(len(rows))
            stages[number].write({"id": ids[pieces[number]], **{name: np.concatenate(values) for name, values in columns.items()}})
        if rank:
            return None
        wait_for_others(stages, Stage.exists, lambda stage: str(stage.path))
        return _gathered(stages, pieces, ids)


def remove_records(folder: str | Path, name: str) -> None:
    """Remove all records of a name from a run's output folder, those of earlier versions too."""
    root = Path(folder)
    _remove(root / "records" / name)
    if name in _EARLIER:
        _remove(root / _EARLIER[name])
    with contextlib.suppress(OSError):  # there are records of other names
        (root / "records").rmdir()


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _pieces(count: int, chunk: int) -> Iterator[NDArray[np.int64]]:
    for first in range(0, count, chunk):
        yield np.arange(first, min(first + chunk, count))


def _tell(ahead: Callable[[NDArray[np.int64]], None] | None, following: Iterator[NDArray[np.int64]]) -> None:
    if ahead is not None and (rows := next(following, None)) is not None:
        ahead(rows)


def _gathered(stages: Sequence[Stage], pieces: Sequence[NDArray[np.int64]], ids: NDArray[np.int64]) -> Columns:
    """Columns of all chunks in the set's order, one record at a time, so that no column is in memory twice."""
    gathered: Columns = {}
    for stage, rows in zip(stages, pieces, strict=True):
        found = stage.read()
        if found is None or not np.array_equal(found[0]["id"], ids[rows]):
            raise InputError(f"The records in '{stage.path.parent}' are damaged or belong to other particles: remove that folder and run again.")
        if not gathered:
            gathered = {name: np.empty((len(ids), *values.shape[1:]), values.dtype) for name, values in found[0].items()}
        for name, column in gathered.items():
            column[rows] = found[0][name]
    return gathered
