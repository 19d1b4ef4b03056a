"""What a network says of any number of subtomograms: streamed, recorded on disk, the next batch read while this one is looked at."""

from __future__ import annotations

import hashlib
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...config import digest_values
from ...exceptions import InputError
from ...io.records import RunRecord
from ...io.subtomograms import SubtomogramStack, SubtomogramTable
from ..usable_subtomograms import UsableSubtomograms
from .trained_model import SubtomogramModel

__all__ = ["FEATURES", "ReadAhead", "measure"]

FEATURES = "features"  # name of the records


class ReadAhead:
    """Reads rows, and the rows behind them in the background."""

    def __init__(self, stack: UsableSubtomograms) -> None:
        self._stack, self._pool = stack, ThreadPoolExecutor(1)
        self._next: tuple[NDArray[np.int64], Future[NDArray[np.float32]]] | None = None

    def read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Volumes (n, z, y, x); one batch more than this is in memory."""
        ahead, self._next = self._next, None
        if ahead is not None and np.array_equal(ahead[0], rows):
            volumes = ahead[1].result()
        else:
            volumes = self._stack.read(rows)
        following = rows[-1] + 1 + np.arange(len(rows))
        following = following[following < len(self._stack)]
        if len(following):
            self._next = following, self._pool.submit(self._stack.read, following)
        return volumes

    def close(self) -> None:
        """End the reader."""
        self._pool.shutdown(cancel_futures=True)


def measure(
    model: SubtomogramModel, table: SubtomogramTable, folder: Path, batch: int, chunk: int, invert_contrast: bool = False
) -> dict[str, NDArray[Any]] | None:
    """Columns ``id``, ``logits``, ``features``, ``class_distance`` and ``unusable`` of all subtomograms; None in processes of rank 1 and above.

    Memory: the table, two batches of volumes with what the network makes of one, and 4 bytes a feature and 8 a class for each subtomogram. The caller
    removes the records, whose name is :data:`FEATURES`.

    Raises
    ------
    InputError
        naming the subtomogram that cannot be used.
    """
    model.check(table)
    stack = UsableSubtomograms(SubtomogramStack(table, invert_contrast=invert_contrast), refuse=False)
    reader = ReadAhead(stack)
    tilts = table.tilt_deg

    def look(rows: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
        seen = model.look(reader.read(rows), tilts[rows])
        for row, fine in zip(rows, np.isfinite(seen["logits"]).all(1) & np.isfinite(seen["features"]).all(1)):
            if not fine:
                raise InputError(f"The network's answer for the {table.name(int(row))} is not a number: the model is damaged; train it again.")
        return {**seen, "unusable": stack.unusable[rows]}

    rows = hashlib.sha256(table.ids.tobytes() + tilts.tobytes()).hexdigest()
    digest = digest_values([digest_values(model.description), _weights_digest(model), table.files_digest(), rows, invert_contrast, "unusable"])
    try:
        return RunRecord(folder, FEATURES, digest).in_chunks(table.ids, chunk, look, "subtomograms", batch)
    finally:
        reader.close()


def _weights_digest(model: SubtomogramModel) -> str:
    """Of what the network computes with, which its description need not tell."""
    sha = hashlib.sha256(np.ascontiguousarray(model.known.centres).tobytes() + np.ascontiguousarray(model.known.whitening).tobytes())
    for name, values in model.network.state_dict().items():
        sha.update(name.encode() + values.detach().cpu().contiguous().numpy().tobytes())
    return sha.hexdigest()
