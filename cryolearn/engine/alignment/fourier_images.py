"""Images behind a CTF, or subtomograms behind a missing wedge, as Fourier coefficients with the noise of each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from ..imaging.ctf import Ctf, ctf_at, noise_kept
from ..imaging.fourier import rfftn_centred
from ..imaging.missing_wedge import wedge_coverage
from ..training.process_group import processes, total
from .fourier_band import FourierBand
from .image_parts import batches, is_mine, summed_over_parts
from .stored_rows import StoredRows

__all__ = ["FourierImages", "tilt_groups", "transform_images", "wedged_volumes"]

_VALUES = 1 << 24  # coefficients whose power is in memory together


@dataclass(frozen=True, kw_only=True)
class FourierImages:
    """Independent samples of transforms, ``Y = C S(pose) exp(-2 pi i k shift) + noise`` where they were measured.

    The likelihood of a slice S depends on an image through two quantities only: the filtered image and the power by which ``|S|^2`` counts. These
    are ``C Y`` and ``C^2`` behind a CTF, and ``M F`` and ``M`` where the missing wedge leaves the coverage M of a subtomogram F.

    Attributes
    ----------
    band : their frequencies
    data : (n, P) complex, phases relative to the centre of the box; (0, P) where they are ``stored`` in files, read as they are needed
    noise : (rings,) variance of the noise of a coefficient
    ctf, phase_flipped : CTF of each image, none without; whether the images are phase flipped, so that the transfer function is |CTF|
    coverage, group : (g, P) coverage of different tilt ranges, and which of them (n,) each subtomogram has; none for images
    part : (n,) on the CPU, part of the set that each image is of, ascending (:mod:`.image_parts`): processes share the parts. None where each process has
        all images
    """

    band: FourierBand
    data: Tensor
    noise: Tensor
    ctf: Ctf | None = None
    phase_flipped: bool = False
    coverage: Tensor | None = None
    group: Tensor | None = None
    part: Tensor | None = None
    stored: StoredRows | None = None

    def __len__(self) -> int:
        return len(self.data if self.stored is None else self.stored)

    @property
    def device(self) -> torch.device:
        """Where the work is done."""
        return self.data.device

    def within(self, radius_px: float) -> FourierImages:
        """The same in a narrower band; shares memory."""
        band = self.band.within(radius_px)
        return replace(self, band=band, data=self.data[:, : len(band)], noise=self.noise[: band.rings],
                       coverage=None if self.coverage is None else self.coverage[:, : len(band)],
                       stored=None if self.stored is None else self.stored.narrower(len(band)))

    def rows(self, rows: Tensor) -> FourierImages:
        """Some of the images."""
        return replace(self, data=self.data[rows] if self.stored is None else self.data, ctf=None if self.ctf is None else self.ctf[rows],
                       group=None if self.group is None else self.group[rows], part=None if self.part is None else self.part[rows.to(self.part.device)],
                       stored=None if self.stored is None else self.stored.subset(rows))

    def loaded(self, rows: Tensor) -> FourierImages:
        """Some of the images in memory, as a set of which each process has all."""
        some = replace(self.rows(rows), part=None)
        return some if some.stored is None else replace(some, data=some.stored.read(some.every), stored=None)

    @property
    def every(self) -> Tensor:
        """(n,) all rows."""
        return torch.arange(len(self), device=self.device)

    @property
    def mine(self) -> Tensor:
        """Rows of the images that this process works on."""
        return self.every if self.part is None else torch.nonzero(is_mine(self.part)).flatten().to(self.device)

    def coefficients(self, rows: Tensor) -> Tensor:
        """(b, P) Data of some images."""
        return self.data[rows] if self.stored is None else self.stored.read(rows)

    def batches(self, most: int, rows: Tensor | None = None) -> Iterator[Tensor]:
        """All rows, or some, at most so many at a time."""
        return batches(self.part, self.every if rows is None else rows, max(1, most))

    def summed(self, make: Callable[[Tensor], list[Tensor]]) -> list[Tensor]:
        """Sums over all images of what ``make`` gives for some rows, the same for any number of processes (:func:`.summed_over_parts`)."""
        return summed_over_parts(self.part, self.every, make)

    def gathered(self, *columns: Tensor) -> list[Tensor]:
        """Values (n, ...) of all images, of which each process has found those of its own rows."""
        if self.part is None or processes()[1] == 1:
            return list(columns)
        mine = is_mine(self.part).to(self.device)
        return [total(torch.where(mine.view(-1, *[1] * (values.ndim - 1)), values, 0)) for values in columns]

    def transfer(self, rows: Tensor) -> Tensor | None:
        """Transfer function (b, P) of some images; none without CTF."""
        if self.ctf is None:
            return None
        return ctf_at(self.ctf[rows], self.band.kx / self.band.length, self.band.ky / self.band.length, self.phase_flipped)

    def measured(self, rows: Tensor) -> Tensor | None:
        """Coverage (b, P) of some subtomograms; none where everything was measured."""
        return None if self.coverage is None or self.group is None else self.coverage[self.group[rows]]

    def tilt_ranges(self) -> tuple[Tensor, Tensor]:
        """Coverage (g, P) of the different tilt ranges and which of them (n,) each subtomogram has; one complete range where there is none."""
        if self.coverage is None or self.group is None:
            return torch.ones(1, len(self.band), device=self.device), torch.zeros(len(self), dtype=torch.long, device=self.device)
        return self.coverage, self.group

    def filtered(self, rows: Tensor) -> tuple[Tensor, Tensor | None]:
        """Filtered images (b, P) and the power (b, P) by which ``|S|^2`` counts, none where that is 1."""
        factor, data = self.transfer(rows), self.coefficients(rows)
        if factor is not None:
            return data * factor, factor.square()
        measured = self.measured(rows)
        return (data if measured is None else data * measured), measured

    def whitening(self) -> Tensor:
        """(P,) factors that bring the noise to variance 1; 0 at the origin, where the images' offset is."""
        return self.band.per_point(self.noise).rsqrt() * (self.band.ring > 0)

    def energy_table(self, squares: Tensor) -> Tensor:
        """What :meth:`energies` needs to know of slices with squares (R, P): their sums over frequencies that images see alike."""
        if self.ctf is not None:
            return self.band.ring_sum(squares).T  # the CTF hardly changes within a ring
        return squares.sum(1)[None] if self.coverage is None else self.coverage @ squares.T

    def energies(self, table: Tensor, rows: Tensor, power: Tensor | None) -> Tensor:
        """Energies (b or 1, R) of the slices as some images see them; ``power`` is that of :meth:`filtered`."""
        if self.ctf is not None and power is not None:
            return self.band.ring_mean(power) @ table
        return table if self.group is None else table[self.group[rows]]

    def measured_power(self) -> tuple[Tensor, Tensor]:
        """Sums (P,) over all images of ``M |Y|^2`` and of the coverage M; of images ``|Y|^2`` and the part of the noise that they hold."""

        def make(rows: Tensor) -> list[Tensor]:
            power, amount = (torch.zeros(len(self.band), device=self.device) for _ in range(2))
            for some in self.batches(_VALUES // len(self.band), rows):
                square, measured = self.coefficients(some).abs().square(), self.measured(some)
                power += square.sum(0) if measured is None else (square * measured).sum(0)
                amount += self.noise_counts(some) if measured is None else measured.sum(0)
            return [power, amount]

        power, amount = self.summed(make)
        return power, amount

    def noise_counts(self, rows: Tensor) -> Tensor:
        """(P,) Number of images whose noise is at a frequency; those that hold a part of it count less (:func:`~cryolearn.engine.imaging.ctf.noise_kept`)."""
        kept = None if self.ctf is None else noise_kept(self.ctf[rows], self.band.kx / self.band.length, self.band.ky / self.band.length)
        return torch.full((len(self.band),), float(len(rows)), device=self.device) if kept is None else kept.sum(0)

    def mean_power(self) -> Tensor:
        """(rings,) mean power of what was measured: the variance of the noise if there is nothing else."""
        total, amount = (self.band.ring_sum(item) for item in self.measured_power())
        return total / amount.clamp(min=1e-6)


def transform_images(images: Tensor, band: FourierBand) -> Tensor:
    """Unitary transforms (n, P) of (n, box, box) images on a band, phases relative to the centre: white noise keeps its variance."""
    return band.gather(rfftn_centred(images, 2)) / images.shape[-1]


def wedged_volumes(data: Tensor, tilt_deg: Tensor, band: FourierBand, edge_px: float) -> FourierImages:
    """Subtomograms with coefficients ``data`` (n, P) whose first and last tilt are ``tilt_deg`` (n, 2); noise of variance 1."""
    coverage, group = tilt_groups(tilt_deg, band, edge_px)
    return FourierImages(band=band, data=data, noise=torch.ones(band.rings, device=data.device), coverage=coverage, group=group)


def tilt_groups(tilt_deg: Tensor, band: FourierBand, edge_px: float) -> tuple[Tensor, Tensor]:
    """Coverage (g, P) of the different tilt ranges in (n, 2), and which of them (n,) each subtomogram has."""
    ranges, group = torch.unique(tilt_deg.to(band.points), dim=0, return_inverse=True)
    return wedge_coverage(band.points, ranges[:, :1], ranges[:, 1:], edge_px), group
