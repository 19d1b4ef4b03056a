"""Averages of subtomograms in the frame of the particle: sum(F M) / sum(M) with a floor on the coverage."""

from __future__ import annotations

import torch
from torch import Tensor

from ...alignment.fourier_band import FourierBand
from ...imaging.fourier import irfftn_centred
from ...imaging.fourier_volume import slice_channels
from ...imaging.interpolate import sample_half_volume
from ...imaging.missing_wedge import wedge_coverage

__all__ = ["Averages", "turned_average"]

_PADDING = 2.0
_VOXELS = {"cpu": 1 << 22, "cuda": 1 << 27}  # of padded subtomograms held at a time


class Averages:
    """Sums of subtomograms of several classes and both half sets.

    Each subtomogram is put back by its pose: its transform F is sampled where the particle's frequencies q were measured, at A q, and the sums of
    F M and of M are kept on the particle's half grid. M is the coverage at A q, turned with the particle.

    Memory: ``2 x classes x 24 bytes x box^3 / 2`` and, for the batch, 64 bytes a voxel of the subtomograms padded twofold, some at a time.
    """

    def __init__(self, box: int, classes: int, device: torch.device | str = "cpu", edge_px: float = 0.0) -> None:
        self.box, self.edge_px, self.device = box, edge_px, torch.device(device)
        self.band = FourierBand.up_to(box, box / 2, 3, device=device)
        self._zero = self.band.points.new_zeros(1, 3)
        shape = (2, classes, 1 + len(self.band))  # the zero frequency comes first
        self.signal = torch.zeros(shape, dtype=torch.complex128, device=device)
        self.weight = torch.zeros(shape, dtype=torch.float64, device=device)
        self.count = torch.zeros((2, classes), dtype=torch.int64, device=device)

    def add(
        self, volumes: Tensor, tilt_deg: Tensor, rotation: Tensor, shift_px: Tensor, number: Tensor, half: Tensor, group: Tensor | None = None,
    ) -> None:
        """Add (n, box, box, box) subtomograms.

        Parameters
        ----------
        volumes
            (n, box, box, box) density on axes z, y, x, in the frame of the tomogram.
        tilt_deg
            (n, 2) first and last tilt.
        rotation, shift_px
            (n, 3, 3) and (n, 3) poses.
        number, half
            (n,) class from 0; half set 1 or 2.
        group
            (g, 3, 3) rotations of a point group; each subtomogram counts once for each of them.
        """
        points = torch.cat((self._zero, self.band.points))
        turns = torch.eye(3, device=self.device)[None] if group is None else group.to(points)
        where = (half - 1) * self.count.shape[1] + number
        step = max(1, _VOXELS.get(self.device.type, 1 << 22) // (int(_PADDING) * self.box) ** 3)
        for rows in torch.arange(len(volumes)).split(step):
            channels, side = slice_channels(volumes[rows].float(), _PADDING)
            low, high = tilt_deg[rows].to(points).unsqueeze(1).unbind(-1)
            for turn in turns:
                at = points @ (rotation[rows].to(points) @ turn).mT  # rows: A S q
                values = sample_half_volume(channels, at * (side / self.box))
                known = wedge_coverage(at, low, high, self.edge_px) / len(turns)
                moved = torch.complex(values[:, 0], values[:, 1]) * self.band.phase_at(at, -shift_px[rows]) * known
                self.signal.flatten(0, 1).index_add_(0, where[rows], moved.to(self.signal.dtype))
                self.weight.flatten(0, 1).index_add_(0, where[rows], known.to(self.weight.dtype))
        self.count.flatten().index_add_(0, where, torch.ones_like(where))

    def coverage(self, floor: float) -> Tensor:
        """Half grids (2, classes, box, box, box // 2 + 1): 1 where at least ``floor`` of the subtomograms have measured, less below."""
        least = (floor * self.count.clamp(min=1))[..., None]
        return self._grid((self.weight / least).clamp(max=1)).float()

    def maps(self, floor: float, joined: bool = False) -> Tensor:
        """Maps (2, classes, box, box, box) of the half sets, or (classes, box, box, box) of both ``joined``.

        Parameters
        ----------
        floor
            Least coverage, in parts of the number of subtomograms: where fewer have measured, the average fades instead of being blown up.
        joined
            Average both half sets together.
        """
        signal, weight, count = self.signal, self.weight, self.count
        if joined:
            signal, weight, count = signal.sum(0), weight.sum(0), count.sum(0)
        least = (floor * count.clamp(min=1))[..., None]
        return irfftn_centred(self._grid(signal / torch.maximum(weight, least)), self.box, 3).float()

    def _grid(self, values: Tensor) -> Tensor:
        """Half grids of values at the zero frequency and the band, with the Friedel mates of the plane x = 0."""
        box = self.box
        flat = values.new_zeros((*values.shape[:-1], box * box * (box // 2 + 1)))
        flat[..., 0] = values[..., 0]
        flat[..., self.band.index] = values[..., 1:]
        on_plane, mates = self.band.mates
        flat[..., mates] = values[..., 1:][..., on_plane].conj() if values.is_complex() else values[..., 1:][..., on_plane]
        return flat.unflatten(-1, (box, box, box // 2 + 1))

    def state(self) -> dict[str, Tensor]:
        """What a record on disk holds."""
        return {"signal": self.signal.cpu(), "weight": self.weight.cpu(), "count": self.count.cpu()}


def turned_average(volume: Tensor, rotation: Tensor, shift_px: Tensor) -> Tensor:
    """A map (box, box, box) put back by the pose (3, 3), (3,) at which it appears, in one interpolation."""
    work = Averages(int(volume.shape[-1]), 1, volume.device)
    everything, zero = torch.tensor([[-90.0, 90.0]], device=volume.device), torch.zeros(1, dtype=torch.long, device=volume.device)
    work.add(volume[None], everything, rotation[None], shift_px[None], zero, zero + 1)
    return work.maps(1e-6)[0, 0]
