"""Particle images as the Gaussian model sees them: the few Fourier coefficients within a resolution."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ....common.limits import FINEST_RESOLUTION_PX
from ...alignment.fourier_band import FourierBand
from ...exceptions import InputError
from ...imaging.ctf import Ctf, ctf_at, noise_kept
from ...imaging.fourier import rfft2_centred
from ...imaging.normalise import normalise_background
from ...imaging.poses import euler_to_matrix
from ...imaging.standard_images import StandardImages, even_rows
from ...io.atomic import reserve, whole_file, write_npz
from ...io.recorded_array import mapped_array
from ...io.records import is_whole_npz
from ...io.star import CtfTable, ParticleTable
from ...progress import Progress

__all__ = ["Batch", "Coefficients", "GaussianImages", "ImageConventions", "band_between", "crop_images"]

_POINTS_AT_A_TIME = {"cpu": 1 << 19, "cuda": 1 << 23}  # Fourier coefficients of the images that are worked on together


def band_between(box: int, pixel_size_angst: float, resolution_angst: float, coarse_angst: float, device: torch.device | str = "cpu") -> FourierBand:
    """Band of images from ``coarse_angst`` to ``resolution_angst``; its length is in Å.

    Raises
    ------
    InputError
        when there is nothing between the two, or the resolution is beyond Nyquist.
    """
    length = box * pixel_size_angst
    radius, lowest = round(length / resolution_angst), max(1, round(length / coarse_angst))
    if radius > box // 2 - 1:
        finest = FINEST_RESOLUTION_PX * pixel_size_angst
        raise InputError(f"The resolution {resolution_angst:g} Å is finer than the images hold: choose {finest:.2g} Å or coarser.")
    if radius < lowest + 2:
        raise InputError(
            f"Between {coarse_angst:g} Å and {resolution_angst:g} Å there are fewer than three rings of the images ({length:.0f} Å wide): "
            "choose a finer resolution.")
    return FourierBand.up_to(box, radius + 0.5, length=length, lowest=lowest, device=device)


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Some images, shifted to their centres.

    Coefficients ``data`` (b, P), the real transfer of the microscope ``transfer`` (b, P), and poses ``rotation`` (b, 3, 3). The first two were multiplied by
    ``white`` (b, P), if any, so that the noise of a ring is the same in all images. ``member`` (b,) counts the particles of the batch; None is one an image.
    """

    rows: NDArray[np.int64]
    data: Tensor
    transfer: Tensor
    rotation: Tensor
    white: Tensor | None = None
    member: Tensor | None = None

    def pooled(self, values: Tensor) -> Tensor:
        """Sums of (b, ...) over the images of each particle, given to each of them: what tilt images say together."""
        if self.member is None:
            return values
        total = values.new_zeros(int(self.member[-1]) + 1, *values.shape[1:]).index_add_(0, self.member, values)
        return total[self.member]

    def filtered(self, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Images ``C Y / noise`` and ``C^2 / noise``, both (b, P), for noise variances (P,)."""
        return self.transfer / noise * self.data, self.transfer.square() / noise


class Coefficients(Protocol):
    """Rows of coefficients (n, P): an array, or what makes rows when they are asked for."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Rows and coefficients."""
        ...

    def __len__(self) -> int: ...

    def __getitem__(self, item: Any, /) -> Any:
        """Coefficients of some rows; of some columns of all rows, as ``[:, columns]``, again such rows."""
        ...


@dataclass(kw_only=True)
class GaussianImages:
    """Coefficients and poses of a particle set.

    The coefficients live in a file that the system keeps in memory as far as there is room (8 P bytes an image: 1.3 kB at ring 10,
    16 kB at ring 36); what is worked on at a time is bounded by a number of coefficients.

    Attributes
    ----------
    transforms : (n, P) complex64, not shifted
    rotation : (n, 3, 3)
    shift_angst : (n, 2) place of the particle
    ctf : CtfTable or None
    phase_flipped : the images were
    gain, noise_power : (rings,) radial factor between model and images, and variance of the noise of a coefficient
    ctf_noise : (rings,) or None: the noise is that at a zero of the CTF, ``noise_power``, times ``1 + ctf_noise CTF^2``. What ice, carbon and neighbours add
        has passed the CTF as the particle has
    particle : (n,) or None: the particle, counted from 0, that a tilt image shows; images of a particle follow one another. Likelihoods, gradients and latents
        of tilt images are those of their particle
    """

    band: FourierBand
    transforms: Coefficients
    rotation: Tensor
    shift_angst: Tensor
    ctf: CtfTable | None
    phase_flipped: bool
    device: torch.device
    gain: Tensor
    noise_power: Tensor
    ctf_noise: Tensor | None = None
    particle: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.transforms)

    @property
    def unusable(self) -> NDArray[np.bool_]:
        """Images (n,) that hold no frequency: constant, masked or saturated ones, see :mod:`cryolearn.engine.imaging.unusable_images`."""
        limit = None if self.ctf is None else self.ctf.limit
        return np.zeros(len(self), bool) if limit is None else np.asarray(limit <= 0)

    def subset(self, rows: NDArray[np.int64]) -> Self:
        """The images in ``rows`` (a copy of their coefficients)."""
        return self._with_rows(self.transforms[rows], rows)

    def _with_rows(self, transforms: Coefficients, rows: NDArray[np.int64]) -> Self:
        """These coefficients with the poses and CTF of ``rows``."""
        at = torch.from_numpy(rows).to(self.rotation.device)
        ctf = None if self.ctf is None else self.ctf.subset(rows)
        particle = None if self.particle is None else self.particle[rows]
        return replace(self, transforms=transforms, rotation=self.rotation[at], shift_angst=self.shift_angst[at], ctf=ctf, particle=particle)

    def sample_rows(self, most: int) -> NDArray[np.int64]:
        """All images of at most ``most`` particles, spread evenly over the set."""
        if self.particle is None:
            return even_rows(len(self), most)
        known = np.unique(self.particle)
        return np.flatnonzero(np.isin(self.particle, known[even_rows(len(known), most)]))

    def coarser(self, resolution_angst: float) -> GaussianImages:
        """The same images as far as a coarser resolution."""
        band = self.band.within(max(self.band.lowest + 2, round(self.band.length / resolution_angst)) + 0.5)
        if len(band) == len(self.band):
            return self
        return replace(self, band=band, transforms=self.transforms[:, : len(band)], gain=self.gain[: band.rings],
                       noise_power=self.noise_power[: band.rings], ctf_noise=None if self.ctf_noise is None else self.ctf_noise[: band.rings])

    @property
    def chunk(self) -> int:
        """Images at a time; it does not depend on the number of images or on the reading batch, so neither changes the result."""
        return max(8, _POINTS_AT_A_TIME[self.device.type] // len(self.band))

    def batches(self, rows: NDArray[np.int64] | None = None, chunk: int = 0) -> Iterator[Batch]:
        """All images, or those of ``rows``, a chunk at a time; ``transfer`` holds CTF and gain, and noise is made even (see :class:`Batch`).

        Tilt images of a particle come together, however small the chunk.
        """
        todo = np.arange(len(self)) if rows is None else rows
        for part in self._parts(todo, chunk or self.chunk):
            data = torch.from_numpy(np.ascontiguousarray(self.transforms[part])).to(self.device)
            data, ctf = data * self.band.phase(-self.shift_angst[part]), self._ctf(part)
            transfer, white = ctf * self.band.per_point(self.gain), self._white(ctf)
            if white is not None:
                data, transfer = data * white, transfer * white
            member = None if self.particle is None else torch.from_numpy(np.unique(self.particle[part], return_inverse=True)[1]).to(self.device)
            yield Batch(rows=part, data=data, transfer=transfer, rotation=self.rotation[part], white=white, member=member)

    def _parts(self, todo: NDArray[np.int64], step: int) -> list[NDArray[np.int64]]:
        """Rows in pieces of about ``step``, never between two images of a particle."""
        if self.particle is None:
            return [todo[start : start + step] for start in range(0, len(todo), step)]
        ends = np.append(np.flatnonzero(np.diff(self.particle[todo])) + 1, len(todo))
        cuts, start = [], 0
        for end, following in zip(ends, [*ends[1:], len(todo) + step]):
            if following - start > step:
                cuts.append(end)
                start = end
        return [part for part in np.split(todo, cuts) if len(part)]

    def transfer(self, rows: NDArray[np.int64]) -> Tensor:
        """CTF times radial gain (b, P)."""
        return self._ctf(rows) * self.band.per_point(self.gain)

    def white(self, rows: NDArray[np.int64]) -> Tensor | None:
        """Factors (b, P) that make the noise of each ring ``noise_power`` whatever the CTF."""
        return self._white(self._ctf(rows))

    def noise_kept(self, rows: NDArray[np.int64]) -> Tensor:
        """Part (b, P) of the noise's variance that images hold, as :func:`cryolearn.engine.imaging.ctf.noise_kept`."""
        kept = None
        if self.ctf is not None:
            kept = noise_kept(Ctf.from_table(self.ctf, rows, self.device), self.band.kx / self.band.length, self.band.ky / self.band.length)
        return torch.ones(len(rows), len(self.band), device=self.device) if kept is None else kept

    def _white(self, ctf: Tensor) -> Tensor | None:
        return None if self.ctf_noise is None else (1 + self.band.per_point(self.ctf_noise) * ctf.square()).rsqrt()

    def _ctf(self, rows: NDArray[np.int64]) -> Tensor:
        if self.ctf is None:
            return torch.ones(len(rows), len(self.band), device=self.device)
        ctf = Ctf.from_table(self.ctf, rows, self.device)
        return ctf_at(ctf, self.band.kx / self.band.length, self.band.ky / self.band.length, self.phase_flipped)


@dataclass(frozen=True, kw_only=True)
class ImageConventions:
    """How the images of a set show the density: whether the CTF is left out, was corrected by phase flipping, and whether the contrast is to be inverted."""

    ignore_ctf: bool = False
    phase_flipped: bool = False
    invert_contrast: bool = False


def crop_images(
    table: ParticleTable, band: FourierBand, path: Path, device: torch.device, *, radius_angst: float, conventions: ImageConventions, batch: int = 500,
) -> GaussianImages:
    """Read all images once and keep the coefficients of ``band`` in the file ``path``; a finished file is used again, a damaged one is made anew.

    The images are brought to background mean 0 and deviation 1 outside ``radius_angst``.
    """
    stack = StandardImages(table)
    count = len(table)
    found = path.with_suffix(".faults.npz")
    if mapped_array(path, (count, len(band)), np.complex64) is not None and is_whole_npz(found):
        with np.load(found, allow_pickle=False) as archive:
            stack.faults[:] = archive["faults"]
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        radius_px = min(radius_angst / table.pixel_size_angst, 0.48 * table.box)
        sign = -1.0 if conventions.invert_contrast else 1.0
        progress = Progress("Read images", count)
        with whole_file(path) as part:
            store = np.lib.format.open_memmap(part, "w+", np.complex64, (count, len(band)))
            reserve(part)
            for start in range(0, count, batch):
                rows = np.arange(start, min(start + batch, count))
                images = normalise_background(torch.from_numpy(stack.read(rows)).to(device) * sign, radius_px, stack.noise_kept(rows, device))
                store[rows] = band.gather(rfft2_centred(images)).cpu().numpy()
                progress.step(len(rows))
            store.flush()
            del store
            write_npz(found, {"faults": stack.faults})
    assert table.angles_deg is not None
    origin = np.zeros((count, 2)) if table.origin_angst is None else table.origin_angst
    ones = torch.ones(band.rings, device=device)
    ctf = stack.ctf_table(conventions.ignore_ctf)  # knows the images that cannot be used once they have been read
    return GaussianImages(
        band=band, transforms=np.load(path, mmap_mode="r"), rotation=euler_to_matrix(torch.from_numpy(table.angles_deg)).float().to(device),
        shift_angst=torch.from_numpy(-origin).float().to(device), ctf=ctf, phase_flipped=conventions.phase_flipped,
        device=device, gain=ones, noise_power=ones.clone(), particle=None if table.tilts is None else table.particles()[1],
    )
