"""Particle images brought to one standard where they are read: pixel size and box of the set, no odd aberrations, no magnification error, not premultiplied.

What remains of an image's optics is its CTF at true frequencies (:mod:`cryolearn.engine.imaging.ctf`), so that no user of images needs to know more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ..exceptions import InputError
from ..io.optics import OpticsGroups, same_pixel
from ..io.stacks import ImageStack
from ..io.star import CtfTable, ParticleTable
from .affine_resampling import AffineResampling
from .ctf import Ctf, electron_wavelength_angst, noise_kept, plain_factor
from .fourier import frequency_grid
from .unusable_images import UnusableImages
from .zernike import aberration_phase

__all__ = ["StandardImages", "even_rows", "odd_phase"]

_SAMPLED_TOGETHER = 25


def even_rows(count: int, most: int) -> NDArray[np.int64]:
    """At most ``most`` rows spread evenly over ``count``, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(most, count)).round().astype(np.int64))


class StandardImages:
    """The images of a particle set, at its pixel size and in its box.

    Odd aberrations only change phases, so that white noise stays white. Resampled images are scaled so that white noise keeps its variance in what they hold
    of the frequencies, as it is where images of all optics groups were normalised to a background of deviation 1.

    Parameters
    ----------
    table : particles
    keep_magnification : leave anisotropic magnification in images of the set's pixel size and box; :meth:`magnification` tells it. For reconstruction, which
        puts each coefficient where it belongs: nothing is interpolated, and a CTF that reaches beyond the box does no harm

    Raises
    ------
    InputError
        naming the stack that cannot be used, or the optics group whose beam tilt needs the microscope's voltage and spherical aberration.
    """

    def __init__(self, table: ParticleTable, keep_magnification: bool = False) -> None:
        self.table, self._keep_magnification = table, keep_magnification
        self._stack = ImageStack(table)
        self._groups, self._group_row = table.groups()
        self._limits = self._groups.limits(table.pixel_size_angst)
        self._premultiplied = np.zeros(len(table), bool) if table.ctf is None or table.ctf.premultiplied is None else table.ctf.premultiplied
        present = dict(zip(*(values.tolist() for values in np.unique(self._group_row, return_index=True))))  # a particle of each group
        self._resamplers: dict[tuple[float, ...], AffineResampling] = {}
        self._resampling = {row: self._resampler(row) for row in present}
        self._kept = np.array([self._resampling.get(row) is None for row in range(len(self._groups.number))])
        self._odd = {row for row in present if self._groups.beam_tilt_mrad[row].any() or self._groups.odd_zernike[row].any()}
        self._scope = _microscope(table, self._groups, present)
        self._as_they_are = not (self._odd or self._premultiplied.any() or any(self._resampling.values()))
        self._limit = np.where(self._kept, np.inf, self._limits)[self._group_row] if keep_magnification else self._limits[self._group_row]
        self._unusable = UnusableImages(len(table), self._sample)

    def __len__(self) -> int:
        return len(self.table)

    def read(self, rows: ArrayLike) -> NDArray[np.float32]:
        """Read images (b, box, box) of ``rows`` (b,) of the table, as :meth:`cryolearn.engine.io.stacks.ImageStack.read`."""
        at = np.atleast_1d(np.asarray(rows, np.int64))
        if self._as_they_are:
            return self._read(at)
        images = np.empty((len(at), self.table.box, self.table.box), np.float32)
        kinds = 2 * self._group_row[at] + self._premultiplied[at]
        for kind in np.unique(kinds):
            here = np.flatnonzero(kinds == kind)
            images[here] = self._standard(int(kind) // 2, at[here], bool(kind % 2))
        return images

    @property
    def unusable(self) -> NDArray[np.bool_]:
        """Which images (n,), of those read until now, cannot be used, see :mod:`.unusable_images`; they are read as 0 and hold no frequency."""
        return self._unusable.found

    @property
    def faults(self) -> NDArray[np.int8]:
        """Why images (n,) cannot be used, 0 for those that can; what an earlier reading found may be put in."""
        return self._unusable.reason

    @property
    def deviations(self) -> NDArray[np.float64]:
        """Standard deviation of images (n,) over the median one, 1 of those not read; what another process found may be put in."""
        return self._unusable.ratio

    def warnings(self) -> list[str]:
        """What is to be said of the images read until now."""
        return self._unusable.sentences(self.table.ids)

    def warnings_of_the_set(self) -> list[str]:
        """What is to be said of many of the images, from a sample."""
        return self._unusable.of_the_set()

    def _read(self, rows: NDArray[np.int64]) -> NDArray[np.float32]:
        """Images of one box as they are in their files; those that cannot be used are 0."""
        images = self._stack.read(rows)
        self._unusable.judge(rows, images)
        return images

    def _sample(self, most: int) -> Iterator[NDArray[np.float32]]:
        rows = even_rows(len(self), most)
        boxes = self._stack.boxes[rows]
        for box in np.unique(boxes):
            same = rows[boxes == box]
            for some in np.split(same, range(_SAMPLED_TOGETHER, len(same), _SAMPLED_TOGETHER)):
                yield self._stack.read(some)

    def _limits_now(self) -> NDArray[np.float64] | None:
        """Frequency in 1/Å (n,) at which each image ends, as far as the images were read; none where no image ends within the box."""
        limit = np.where(self.unusable, 0.0, self._limit) if self.unusable.any() else self._limit
        return limit if np.isfinite(limit).any() else None

    def magnification(self, rows: ArrayLike) -> NDArray[np.float64] | None:
        """Matrices (b, 2, 2) that take frequencies of the images read to the true ones; none where all are true."""
        at = self._group_row[np.atleast_1d(np.asarray(rows, np.int64))]
        found = np.where(self._kept[at, None, None], self._groups.magnification[at], np.eye(2))
        return None if np.array_equal(found, np.broadcast_to(np.eye(2), found.shape)) else found

    def ctf_table(self, ignore_ctf: bool = False) -> CtfTable | None:
        """CTFs of the images read, 1 where they are ignored or not given, which end where the images do; none where that is 1 everywhere."""
        limit = self._limits_now()
        if self.table.ctf is not None and not ignore_ctf:
            return replace(self.table.ctf, limit=limit)
        return None if limit is None else CtfTable.flat(limit)

    def ctf(self, rows: ArrayLike, device: torch.device | str | None = None, ignore_ctf: bool = False) -> Ctf | None:
        """Rows (b,) of :meth:`ctf_table`."""
        table = self.ctf_table(ignore_ctf)
        return None if table is None else Ctf.from_table(table, np.asarray(rows, np.int64), device)

    def noise_kept(self, rows: ArrayLike, device: torch.device | str | None = None) -> Tensor | None:
        """Part (b, box, box // 2 + 1) of its variance that white noise has in the images read; none where it is 1, see :func:`.ctf.noise_kept`."""
        whole = not self._premultiplied.any() and self._limits_now() is None
        ctf = None if whole else self.ctf(rows, device)
        if ctf is None:
            return None
        ky, kx = (axis / self.table.pixel_size_angst for axis in frequency_grid(self.table.box, device=device))
        return noise_kept(ctf, kx, ky)

    def _resampler(self, row: int) -> AffineResampling | None:
        """How images of a group come to the set's pixel size and box; none where they have them."""
        groups, table = self._groups, self.table
        box, matrix = int(groups.box[row]) or table.box, groups.magnification[row]
        pixel = groups.pixel_size_angst[row]
        same = box == table.box and bool(same_pixel(pixel, table.pixel_size_angst))
        if same and (self._keep_magnification or np.array_equal(matrix, np.eye(2))):
            return None
        kind = (float(box), float(pixel), *matrix.ravel().tolist())  # beam tilts make many groups of one kind
        if kind not in self._resamplers:
            limit = self._limits[row] * table.pixel_size_angst
            self._resamplers[kind] = AffineResampling(box, table.box, matrix.T * (table.pixel_size_angst / pixel), limit)
        return self._resamplers[kind]

    def _standard(self, row: int, rows: NDArray[np.int64], premultiplied: bool) -> NDArray[np.float32]:
        """Images of one optics group."""
        images = self._read(rows)
        resample = self._resampling[row]
        if resample is None and row not in self._odd and not premultiplied:
            return images
        transform = torch.fft.rfft2(torch.fft.ifftshift(torch.from_numpy(images), dim=(-2, -1)))
        pixel = float(self._groups.pixel_size_angst[row])
        ky, kx = (axis / pixel for axis in frequency_grid(images.shape[-1]))
        turn = torch.from_numpy(self._groups.magnification[row]).float()
        kx, ky = turn[0, 0] * kx + turn[0, 1] * ky, turn[1, 0] * kx + turn[1, 1] * ky  # the true frequencies
        if row in self._odd:
            transform = transform * torch.exp(-1j * self._phase(row, kx, ky))
        if premultiplied:
            transform = transform * plain_factor(Ctf.from_table(self.table.ctf, rows), kx, ky)
        if resample is None:
            return np.asarray(torch.fft.fftshift(torch.fft.irfft2(transform, s=images.shape[-2:]), dim=(-2, -1)).numpy())
        scale = self.table.pixel_size_angst / pixel * math.sqrt(abs(float(torch.linalg.det(turn))))
        return np.asarray(resample(transform).numpy() * np.float32(scale))

    def _phase(self, row: int, kx: Tensor, ky: Tensor) -> Tensor:
        groups = self._groups
        voltage_kv, cs_mm = self._scope.get(row, (300.0, 0.0))
        return odd_phase(torch.from_numpy(groups.odd_zernike[row]), torch.from_numpy(groups.beam_tilt_mrad[row]), voltage_kv, cs_mm, (kx, ky))


def odd_phase(odd_zernike: Tensor, beam_tilt_mrad: Tensor, voltage_kv: float, cs_mm: float, frequencies: tuple[Tensor, Tensor]) -> Tensor:
    """Phase in rad that odd aberrations give the transform of an image: ``sum c Z(k) - 2 pi Cs lambda^2 k^2 (k . tilt)``.

    Parameters
    ----------
    odd_zernike
        (k,) coefficients in rad.
    beam_tilt_mrad
        (2,) along x and y.
    voltage_kv, cs_mm
        Of the microscope.
    frequencies
        kx and ky in 1/Å.

    References
    ----------
    Zivanov, Nakane & Scheres, IUCrJ 7 (2020) 253.
    """
    kx, ky = frequencies
    wavelength = float(electron_wavelength_angst(torch.tensor(voltage_kv, dtype=torch.float64)))
    tilt = beam_tilt_mrad.to(kx) * 1e-3
    phase = aberration_phase(odd_zernike[None].to(kx), kx, ky, odd=True)[0]
    return phase - 2 * math.pi * cs_mm * 1e7 * wavelength**2 * (kx * kx + ky * ky) * (kx * tilt[0] + ky * tilt[1])


def _microscope(table: ParticleTable, groups: OpticsGroups, present: dict[int, int]) -> dict[int, tuple[float, float]]:
    """Voltage in kV and spherical aberration in mm of the groups (rows, with a particle of each) that have a beam tilt."""
    found = {}
    labels = ("rlnVoltage", "rlnSphericalAberration")
    for row, first in present.items():
        if not groups.beam_tilt_mrad[row].any():
            continue
        if table.ctf is not None:
            found[row] = float(table.ctf.voltage_kv[first]), float(table.ctf.cs_mm[first])
        elif all(label in table.optics for label in labels):
            found[row] = float(table.optics[labels[0]][row]), float(table.optics[labels[1]][row])
        else:
            raise InputError(f"Optics group {groups.number[row]} has a beam tilt (rlnBeamTiltX), but no rlnVoltage and rlnSphericalAberration.")
    return found
