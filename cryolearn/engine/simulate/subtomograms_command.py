"""Command ``subtomogram-simulate``, and simulated subtomograms as a data set that is drawn when it is looked at."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from ..config import check_config, digest_config
from ..device import select_device
from ..figures import image_gallery, save_figure
from ..imaging.poses import matrix_to_euler
from ..io.atomic import to_disk
from ..io.maps import write_map
from ..io.mrc_header import HEADER_BYTES
from ..io.records import RunRecord, is_whole_npz
from ..io.star_text import Block
from ..io.subtomograms import SubtomogramTable, write_subtomograms
from ..io.summary import SubtomogramsSummary, write_summary
from ..io.tables import write_table
from ..launch import process_rank
from ..progress import Progress
from .config import SubtomogramSimulateConfig
from .subtomogram_simulator import SubtomogramSimulator

__all__ = ["SimulatedSubtomograms", "draw_examples", "run", "simulated_table"]

_CHUNK = 256  # subtomograms between two records on disk
_IN_FOLDER = 1000
_SHOWN = 8  # classes in the figure


class SimulatedSubtomograms(Dataset[tuple[Tensor, int]]):
    """Subtomograms that are made when they are asked for, item i from the seed and i alone: ``(volume (z, y, x), class from 0)``.

    Nothing is stored, so that any number of them costs no memory.
    """

    def __init__(self, simulator: SubtomogramSimulator, count: int | None = None) -> None:
        self.simulator, self._count = simulator, simulator.count if count is None else count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        return self.__getitems__([row])[0]

    def __getitems__(self, rows: Sequence[int]) -> list[tuple[Tensor, int]]:
        """Several at once, which a data loader asks for."""
        if any(not -self._count <= row < self._count for row in rows):
            raise IndexError(f"The set has {self._count} subtomograms.")
        at = np.asarray(rows, np.int64) % self._count
        return list(zip(self.simulator.make(at).noisy, (self.simulator.draws(at).number - 1).tolist()))


def run(config: SubtomogramSimulateConfig) -> None:
    """Simulate subtomograms as ``config`` says and write them to ``config.output``.

    Memory: the classes' densities (some MiB each), one batch, and 300 bytes a subtomogram for the tables. A killed run goes on from its last
    record, every 256 subtomograms, and several processes share them.

    Raises
    ------
    InputError
        when parameters contradict each other or an input cannot be used.
    """
    check_config(config)
    device = select_device(config)
    simulator = SubtomogramSimulator(config, device)
    os.makedirs(os.path.join(config.output, "figures"), exist_ok=True)
    digest = digest_config(config)
    variances = _write_volumes(simulator, digest)
    if variances is None:
        return
    table = simulated_table(simulator, [os.path.abspath(os.path.join(config.output, _file(row))) for row in range(simulator.count)])
    write_subtomograms(os.path.join(config.output, "subtomograms.star"), table)
    _write_truth(simulator, table, variances, digest)
    draw_examples(simulator, os.path.join(config.output, "figures", "examples.png"))
    real = simulator.draws(np.arange(simulator.count)).number <= len(simulator.density_names)
    write_summary(config.output, SubtomogramsSummary(
        subtomograms=simulator.count, classes=len(simulator.names), box=config.box, pixel_size_angst=config.pixel_size_angst, snr_asked=config.snr,
        snr_of_means=float(variances[real, 0].mean() / variances[real, 1].mean()) if config.snr else None, route=config.route, digest=digest,
    ))
    print(f"{simulator.count} subtomograms of {len(simulator.names)} classes: {', '.join(simulator.names)}", flush=True)


def simulated_table(simulator: SubtomogramSimulator, files: list[str]) -> SubtomogramTable:
    """The true table of the first ``len(files)`` subtomograms, which lie in these files."""
    config = simulator.config
    draws = simulator.draws(np.arange(len(files)))
    tilts = simulator.tilt_range(draws)
    optics: Block = {
        "rlnOpticsGroup": np.array([1]), "rlnOpticsGroupName": np.array(["opticsGroup1"], dtype=object), "rlnVoltage": np.array([config.voltage_kv]),
        "rlnSphericalAberration": np.array([config.cs_mm]), "rlnAmplitudeContrast": np.array([config.amplitude_contrast]),
        "rlnImagePixelSize": np.array([config.pixel_size_angst]), "rlnImageSize": np.array([config.box]), "rlnImageDimensionality": np.array([3]),
    }
    return SubtomogramTable(
        ids=np.arange(1, len(files) + 1), file=files, pixel_size_angst=config.pixel_size_angst, box=config.box, tilt_min_deg=tilts[:, 0],
        tilt_max_deg=tilts[:, 1],
        angles_deg=matrix_to_euler(torch.from_numpy(draws.rotation)).numpy(), shifts_angst=draws.shift_angst,
        class_name=[simulator.names[number - 1] for number in draws.number.tolist()],
        random_subset=1 + np.arange(len(files)) // len(simulator.names) % 2,  # as many of each class in both halves
        optics=optics, extra={"rlnDefocusU": draws.defocus_angst, "rlnDefocusV": draws.defocus_angst},
    )


def _file(row: int) -> str:
    return os.path.join("subtomograms", f"{row // _IN_FOLDER:05d}", f"subtomogram_{row + 1:08d}.mrc")


def _write_volumes(simulator: SubtomogramSimulator, digest: str) -> NDArray[np.float64] | None:
    """Write the volumes, of several processes each those of every n-th record; the first one returns the signal and noise variances (n, 2) of all."""
    config, count = simulator.config, simulator.count
    rank, world, _ = process_rank()
    record = RunRecord(config.output, "simulation", digest)
    if rank == 0:
        record.remove_others()  # the volumes of all runs have the same names
    names = [f"variances_{number + 1}_of_{world}" for number in range(world)] if world > 1 else ["variances"]
    recorded = record.array(names[rank], (count, 2), np.float64)
    finished = recorded.finished
    mine = range(0, count, _CHUNK)[rank::world]
    starts = [start for start in mine if not (finished[start : start + _CHUNK].all() and _are_whole(config, start, count))]
    total, missing = (sum(min(_CHUNK, count - start) for start in some) for some in (mine, starts))
    progress = Progress("Simulate", total, "subtomograms", done=total - missing)
    for start in starts:
        stop = min(start + _CHUNK, count)
        variances = np.empty((stop - start, 2))
        for first in range(start, stop, config.batch):
            rows = np.arange(first, min(first + config.batch, stop))
            made = simulator.make(rows)
            variances[rows - start] = torch.stack((made.signal_variance, made.noise_variance), dim=1).double().cpu().numpy()
            for row, volume in zip(rows.tolist(), made.noisy.cpu().numpy()):
                path = os.path.join(config.output, _file(row))
                os.makedirs(os.path.dirname(path), exist_ok=True)
                write_map(path, volume, config.pixel_size_angst, durable=False)
            progress.step(len(rows))
        _to_disk([os.path.join(config.output, _file(row)) for row in range(start, stop)])
        recorded.write(slice(start, stop), variances)
    variances = np.array(recorded.read(slice(None)))
    if world == 1:
        return variances
    stages = [record.stage(name) for name in names]
    stages[rank].write({"variances": variances})
    if rank:
        return None
    record.wait_for([stage.path for stage in stages], is_whole_npz)
    found = [stage.read() for stage in stages]
    return np.asarray(sum(columns["variances"] for columns, _ in (item for item in found if item)))  # each is 0 where it is another's


def _are_whole(config: SubtomogramSimulateConfig, start: int, count: int) -> bool:
    """Whether the files of a recorded chunk are there, as long as they should be; one that is not is named."""
    for row in range(start, min(start + _CHUNK, count)):
        path = os.path.join(config.output, _file(row))
        if not os.path.exists(path) or os.path.getsize(path) != HEADER_BYTES + 4 * config.box**3:
            print(f"The recorded volume '{path}' is not whole: it and those of its record are made anew.", flush=True)
            return False
    return True


def _to_disk(paths: Sequence[str]) -> None:
    """Files of a chunk together, which the disk takes much faster than one by one."""
    for path in [*paths, *sorted({os.path.dirname(path) for path in paths})]:
        to_disk(path)


def _write_truth(simulator: SubtomogramSimulator, table: SubtomogramTable, variances: NDArray[np.float64], digest: str) -> None:
    draws, config = simulator.draws(np.arange(simulator.count)), simulator.config
    write_table(
        os.path.join(config.output, "truth.npz"),
        {
            "id": table.ids, "class": draws.number, "rotation": draws.rotation, "shift_angst": draws.shift_angst, "tilt_deg": table.tilt_deg,
            "defocus_angst": draws.defocus_angst, "signal_variance": variances[:, 0], "noise_variance": variances[:, 1],
        },
        {"class_names": simulator.names, "snr": config.snr, "pixel_size_angst": config.pixel_size_angst, "box": config.box, "digest": digest},
    )


def draw_examples(simulator: SubtomogramSimulator, path: str) -> None:
    """Write a picture of the first subtomogram of each class, up to eight, with and without noise."""
    config = simulator.config
    rows = np.arange(min(_SHOWN, len(simulator.names)))
    made = simulator.make(rows)
    middle = config.box // 2
    rowsets = [made.clean[:, middle], made.clean[:, :, middle]]
    labels = [f"{simulator.names[row]}\nsignal, xy" for row in rows] + ["signal, xz"] * len(rows)
    if config.snr:
        rowsets += [made.noisy[:, middle], made.noisy[:, :, middle]]
        labels += ["xy"] * len(rows) + ["xz"] * len(rows)
    title = f"Simulated subtomograms, central slices, SNR {config.snr:g}" if config.snr else "Simulated subtomograms without noise"
    shown = torch.cat(rowsets).cpu().numpy()
    save_figure(image_gallery(shown, labels, len(rows), title), path)
