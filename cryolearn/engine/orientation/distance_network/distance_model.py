"""A trained distance network: reads particles, gives their distances to landmarks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from ....common.checks import check_trained_for
from ...config import digest_values
from ...digests import digest_images, digest_input
from ...exceptions import InputError
from ...io.atomic import naming, reserve
from ...io.models import build_trained, fitting, load_model_of
from ...io.records import RunRecord
from ...io.star import ParticleTable
from ...launch import process_rank
from ...training.network_input import NetworkInput
from ...training.particle_images import ParticleImages
from ..config import RecoverOrientationsConfig
from ..similarity_kernel import SimilarityKernel
from .distance_calibration import Calibration
from .networks import build_network, compare, encode
from .training_simulator import standardise

__all__ = ["FEATURES", "DistanceModel"]

FEATURES = "features"  # name of the records

_IN_MEMORY_BYTES = 1 << 30
_AT_ONCE = 4096
_NEEDED = ("kind", "preset", "arguments", "symmetry", "input", "box", "pixel_size_angst", "calibration", "digest",
           "radius_angst", "shift_range_angst")


class DistanceModel:
    """A distance network with what it was trained on.

    Attributes
    ----------
    kernel : similarity that it learned, of the particle's point group
    preset : 'exact', 'paper' or 'views'
    description : what ``model.json`` holds
    """

    def __init__(self, folder: str, network: nn.Module, kernel: SimilarityKernel, description: dict[str, Any], device: torch.device) -> None:
        self.folder, self.kernel, self.description, self.device = folder, kernel, description, device
        self.preset = str(description["preset"])
        self.scheme = NetworkInput.from_dict(description["input"])
        self.calibration = Calibration.from_dict(description["calibration"])
        self._network = network

    @classmethod
    def load(cls, folder: str, device: torch.device) -> DistanceModel:
        """Read a model.

        Raises
        ------
        InputError
            when the folder holds none, or the model of another method.
        """
        weights, description = load_model_of(folder, "distance", _NEEDED, "a distance network")
        if description["preset"] == "views" and "views" not in description:
            raise InputError(f"'{folder}' is not a distance network: its model.json has no 'views'.")
        with fitting(folder):
            kernel = SimilarityKernel(description["symmetry"])
        network = build_trained(folder, weights, lambda: build_network(description["preset"], kernel, description["arguments"]))
        with fitting(folder):
            model = cls(folder, network.to(device).eval(), kernel, description, device)
        model.scheme.check(folder)
        model.calibration.check(folder)
        return model

    def check_particles(self, table: ParticleTable) -> None:
        """Refuse particles that the network cannot take.

        Raises
        ------
        InputError
            when the pixel size is another one or the box is smaller than the network's; larger boxes are cut.
        """
        pixel, box = float(self.description["pixel_size_angst"]), int(self.description["box"])
        check_trained_for("particles", table.box, table.pixel_size_angst, box, pixel, larger_boxes=True)

    def measure(
        self, table: ParticleTable, landmarks: np.ndarray, config: RecoverOrientationsConfig, folder: str | Path
    ) -> tuple[np.ndarray, np.ndarray]:
        """Calibrated distances in radians of all particles to some of them, and their weights.

        The network looks at each image once; what it says is recorded by chunks, so that killed work goes on; the caller removes the records, whose name
        is :data:`FEATURES`. Beyond a gibibyte the result is a file among the records that is mapped into memory.

        Parameters
        ----------
        table
            P particles.
        landmarks : (L,)
            Rows of the table.
        config
            How the images carry CTF and contrast, size of chunks and batches, and the seed that orders landmarks for the network 'views'.
        folder
            Output folder, for records.

        Returns
        -------
        distances, weights : (P, L) float32; weights are 1 / variance in 1/rad^2, and 0 for the distance of a landmark to itself
        """
        self.check_particles(table)
        if table.ctf is not None and self.scheme.ignore_ctf and not config.ignore_ctf:
            print("Warning: the particles have a CTF, but the distance network was trained on images without: its distances may be poor.", flush=True)
        record = self._record(table, config, folder)
        encoded = self._encode(table, config, record)
        assert encoded is not None  # the first process
        landmarks = np.asarray(landmarks, dtype=np.int64)
        distances, weights = (_new_array(record.file(f"{name}.f32"), (len(table), len(landmarks))) for name in ("distances", "weights"))
        together = self.views // 2 or None
        rows_at_once, landmarks_at_once = together or _AT_ONCE, together or len(landmarks)
        # in sets, landmarks meet in another order than that of the file, where neighbours may be alike
        order = np.random.default_rng(config.seed).permutation(len(landmarks)) if together else np.arange(len(landmarks))
        for columns in np.split(order, range(landmarks_at_once, len(landmarks), landmarks_at_once)):
            there = encoded[landmarks[columns]].to(self.device)
            for start in range(0, len(table), rows_at_once):
                rows = np.arange(start, min(start + rows_at_once, len(table)))
                found = self._compare(encoded[rows].to(self.device), there)
                for result, values in zip((distances, weights), found, strict=True):
                    result[np.ix_(rows, columns)] = values.cpu().numpy()
        distances[landmarks, np.arange(len(landmarks))] = 0
        weights[landmarks, np.arange(len(landmarks))] = 0
        return distances, weights

    @torch.no_grad()
    def _compare(self, encoded: torch.Tensor, others: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return self.calibration.apply(*compare(self._network, encoded[None], others[None]))

    @property
    def views(self) -> int:
        """Images that the network wants to see together; 0 when it looks at one pair after another."""
        return int(self.description["views"]) if self.preset == "views" else 0

    def encode(self, table: ParticleTable, config: RecoverOrientationsConfig, folder: str | Path) -> torch.Tensor:
        """What the network keeps of each image, (P, n) on the CPU, streamed; of 'exact' and 'paper' unit features and a log variance."""
        encoded = self._encode(table, config, self._record(table, config, folder))
        assert encoded is not None  # one process
        return encoded

    def encode_share(self, table: ParticleTable, config: RecoverOrientationsConfig, folder: str | Path) -> None:
        """Look at this process's share of the images, for :meth:`measure` of the first process, which then need not; alone there is nothing to share."""
        if process_rank()[1] > 1:
            self._encode(table, config, self._record(table, config, folder))

    def _record(self, table: ParticleTable, config: RecoverOrientationsConfig, folder: str | Path) -> RunRecord:
        return RunRecord(folder, FEATURES, digest_values([
            digest_input(self.folder), digest_images(table.files()), digest_input(config.particles) if config.particles else "", table.ids.tolist(),
            config.invert_contrast, config.phase_flipped, config.ignore_ctf,
        ]))

    def _encode(self, table: ParticleTable, config: RecoverOrientationsConfig, record: RunRecord) -> torch.Tensor | None:
        """What the network keeps of each image; none in processes of rank 1 and above, whose share is done."""
        radius = float(self.description["radius_angst"]) + float(self.description["shift_range_angst"])
        images = ParticleImages(table, radius, self.device, invert_contrast=config.invert_contrast, ignore_ctf=self._ignore_ctf(config), normalise=False)
        scheme = NetworkInput.from_dict({**self.scheme.to_dict(), "phase_flipped": config.phase_flipped, "ignore_ctf": self._ignore_ctf(config)})
        box = self.scheme.box
        first = table.box // 2 - box // 2

        @torch.no_grad()
        def look(rows: np.ndarray) -> dict[str, np.ndarray]:
            data, ctf = images.read(rows)
            seen = standardise(scheme.from_images(data[:, first : first + box, first : first + box], ctf))
            encoded = encode(self._network, seen).cpu().numpy()
            bad = np.flatnonzero(~np.isfinite(encoded).all(1))
            if len(bad):
                particle = table.ids[rows[bad[0]]]
                raise InputError(f"The answer of the network '{self.folder}' for particle {particle} is not a number: the model is damaged; train it again.")
            return {"encoded": encoded}

        columns = record.in_chunks(table.ids, config.chunk, look, "features", config.batch)
        return None if columns is None else torch.from_numpy(columns["encoded"])

    def _ignore_ctf(self, config: RecoverOrientationsConfig) -> bool:
        return config.ignore_ctf or self.scheme.ignore_ctf


def _new_array(path: Path, shape: tuple[int, int]) -> np.ndarray:
    if 4 * shape[0] * shape[1] <= _IN_MEMORY_BYTES:
        return np.zeros(shape, np.float32)
    with naming(path):
        made = np.memmap(path, np.float32, "w+", shape=shape)
        reserve(path)
    return made
