"""Images of a particle set with their CTFs and poses, read in batches."""

from __future__ import annotations

from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

from ..exceptions import InputError
from ..imaging.ctf import Ctf
from ..imaging.fourier import radial_average
from ..imaging.normalise import kept_share, noise_spectrum, normalise_background
from ..imaging.poses import euler_to_matrix
from ..imaging.standard_images import StandardImages, even_rows
from ..io.star import ParticleTable

__all__ = ["ParticleImages"]

_NOISE_SAMPLE = 500
_AT_ONCE = 64
_FEWEST = 1e-3  # images that hold a shell


class ParticleImages:
    """Images and CTFs of a particle set, read in batches.

    Parameters
    ----------
    table : particles
    radius_angst : the background begins here
    invert_contrast : particles are black
    ignore_ctf : images carry no CTF
    normalise : bring the background to mean 0 and deviation 1

    Raises
    ------
    InputError
        when the set is empty, carries no CTF though one is expected, or the particle does not fit its box.
    """

    def __init__(
        self, table: ParticleTable, radius_angst: float, device: torch.device, *, invert_contrast: bool = False, ignore_ctf: bool = False,
        normalise: bool = True,
    ) -> None:
        if not len(table):
            raise InputError("The particle set is empty: give at least one particle.")
        if table.ctf is None and not ignore_ctf:
            raise InputError("The particles carry no CTF: estimate it first, or choose to ignore the CTF when they have none.")
        half = table.box * table.pixel_size_angst / 2
        if radius_angst > 1.5 * half:
            raise InputError(
                f"The reference reaches {radius_angst:.0f} Å from its centre, but the images only {half:.0f} Å: use a larger box "
                "or check the pixel size."
            )
        self.table, self.device = table, device
        self._stack = StandardImages(table)
        # at least the image's corners are background
        self.radius_px = min(radius_angst / table.pixel_size_angst, 0.48 * table.box)
        self._sign = -1.0 if invert_contrast else 1.0
        self._ignore_ctf, self._normalise = ignore_ctf, normalise
        self._reader: ThreadPoolExecutor | None = None
        self._coming: list[tuple[np.ndarray, Future[torch.Tensor]]] = []

    def expect(self, rows: np.ndarray) -> None:
        """Begin to read images in a thread, for one of the next calls of :meth:`read`; what was expected before them and not asked for is dropped."""
        if self._reader is None:
            self._reader = ThreadPoolExecutor(1)
        self._coming.append((rows, self._reader.submit(self._from_files, rows)))

    def _from_files(self, rows: np.ndarray) -> torch.Tensor:
        images = torch.from_numpy(self._stack.read(rows))
        return images.pin_memory() if self.device.type == "cuda" else images

    def _expected(self, rows: np.ndarray) -> torch.Tensor:
        """Images that a thread has read, or has to be waited for, and others from their files."""
        for number, (expected, coming) in enumerate(self._coming):
            if np.array_equal(expected, rows):
                del self._coming[: number + 1]
                return coming.result()
        return self._from_files(rows)

    def read(self, rows: np.ndarray) -> tuple[torch.Tensor, Ctf | None]:
        """Images (B, box, box), background of mean 0 and deviation 1 unless they are left as they are, and their CTFs."""
        images = self._expected(rows).to(self.device, non_blocking=True) * self._sign
        if self._normalise:
            images = normalise_background(images, self.radius_px, self._stack.noise_kept(rows, self.device))
        return images, self.ctf(rows)

    def ctf(self, rows: np.ndarray) -> Ctf | None:
        """CTFs (B,) of images that were read."""
        return self._stack.ctf(rows, self.device, self._ignore_ctf)

    @property
    def unusable(self) -> np.ndarray:
        """Which images (n,), of those read until now, cannot be used; see :mod:`cryolearn.engine.imaging.unusable_images`."""
        return self._stack.unusable

    @property
    def faults(self) -> np.ndarray:
        """Why images (n,) cannot be used, of those read until now; what an earlier reading found may be put in."""
        return self._stack.faults

    def noise_share(self, rows: np.ndarray) -> torch.Tensor:
        """Part (B,) of the noise's variance that is left in the images: less than 1 where they hold part of the frequencies."""
        kept = self._stack.noise_kept(rows, self.device)
        return torch.ones(len(rows), device=self.device) if kept is None else kept_share(kept)

    def noise_kept(self, rows: np.ndarray) -> torch.Tensor:
        """Part (box // 2 + 1,) of the noise's power that the images keep at each shell, on average: powers are means over what is there, divided by it."""
        kept = self._stack.noise_kept(rows, self.device)
        return torch.ones(self.table.box // 2 + 1, device=self.device) if kept is None else radial_average(kept, self.table.box).mean(0)

    def poses(self, rows: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
        """Rotations (B, 3, 3) and shifts (B, 2) Å of the STAR file; without poses they are 1 and 0."""
        table = self.table
        if table.angles_deg is None:
            return torch.eye(3, device=self.device).expand(len(rows), 3, 3), torch.zeros(len(rows), 2, device=self.device)
        origin = np.zeros((len(rows), 2)) if table.origin_angst is None else table.origin_angst[rows]
        rotation = euler_to_matrix(torch.from_numpy(table.angles_deg[rows]))
        return rotation.float().to(self.device), torch.from_numpy(-origin).float().to(self.device)

    def warnings(self) -> list[str]:
        """What is to be said of the images read until now."""
        return self._stack.warnings()

    def sample_rows(self, count: int) -> np.ndarray:
        """Rows of images that can be used, at most ``count`` spread evenly over the set; they are read to see that.

        Raises
        ------
        InputError
            when none can be used.
        """
        rows = even_rows(len(self.table), count)
        for some in np.split(rows, range(_AT_ONCE, len(rows), _AT_ONCE)):
            self._stack.read(some)
        usable = rows[~self.unusable[rows]]
        if not len(usable):
            raise InputError(f"None of the {len(rows)} images looked at can be used: {' '.join(self.warnings())}")
        return usable

    def noise_power(self) -> torch.Tensor:
        """Radial noise spectrum (box // 2 + 1,) from the background of a sample of the images."""
        rows = self.sample_rows(_NOISE_SAMPLE)
        total = torch.zeros(self.table.box // 2 + 1, device=self.device)
        count = torch.zeros_like(total)
        for some in np.array_split(rows, max(1, len(rows) // 64)):
            total += noise_spectrum(self.read(some)[0], self.radius_px) * len(some)
            count += self.noise_kept(some) * len(some)
        power = total / count.clamp_min(_FEWEST)
        floor = 1e-6 * float(power.max())
        if not floor > 0:
            raise InputError("The images have an empty background, so the noise cannot be estimated: give images with their noise.")
        return power.clamp_min(floor)
