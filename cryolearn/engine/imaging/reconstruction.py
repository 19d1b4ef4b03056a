"""Three-dimensional reconstruction by CTF-weighted insertion of Fourier slices, with half sets and Wiener weighting.

Numerator ``sum CTF F`` and denominator ``sum CTF^2`` are gathered on a padded Fourier grid by trilinear insertion; the map is
``numerator / (denominator + regularisation)``, back in real space and divided by the interpolation's envelope.
(Penczek, Methods Enzymol. 482 (2010) 1; Scheres, J. Struct. Biol. 180 (2012) 519.)
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from .ctf import Ctf, ctf_2d
from .fourier import phase_shift
from .fourier_sphere import fourier_sphere
from .fourier_volume import padded_side, slice_points, trilinear_fading
from .fsc import ssnr_from_fsc

__all__ = ["Reconstructor"]

_CHUNK_POINTS = {"cpu": 1 << 18, "cuda": 1 << 24}  # samples inserted at a time; small ones stay in the CPU's cache
_PIXELS = {"cpu": 1 << 20, "cuda": 1 << 24}  # of images that are transformed at a time
_WEIGHT_FLOOR = 1e-3  # of the shell's mean: voxels that were hardly hit are not blown up (as RELION does)


class Reconstructor:
    """Gathers images and makes maps of them.

    Parameters
    ----------
    box
        Image side in pixels; the map has the same.
    pixel_size_angst
        Pixel size in Å.
    padding
        Side of the Fourier volume over the box.
    device
        Where the sums live and the work is done. Memory: ``2 x 12 bytes x pi / 12 x (padding box)^3``.
    phase_flipped
        The images are phase flipped: |CTF| is used.
    """

    def __init__(
        self, box: int, pixel_size_angst: float, padding: float = 2.0, device: torch.device | str = "cpu", phase_flipped: bool = False,
    ) -> None:
        self.box, self.pixel_size_angst = box, pixel_size_angst
        self.side = padded_side(box, padding)
        self.device = torch.device(device)
        self.phase_flipped = phase_flipped
        self._sphere = fourier_sphere(self.side, box, self.device)
        self.numerator = [torch.zeros(self._sphere.size, dtype=torch.complex64, device=self.device) for _ in range(2)]
        self.denominator = [torch.zeros(self._sphere.size, dtype=torch.float32, device=self.device) for _ in range(2)]
        self.count = [0, 0]
        self._points = slice_points(box, self.device)

    def insert(
        self, images: Tensor, rotations: Tensor, shift_angst: Tensor | None = None, ctf: Ctf | Tensor | None = None,
        weights: Tensor | None = None, half: int | Tensor = 1,
    ) -> None:
        """Add images.

        Parameters
        ----------
        images
            (b, box, box) real images, particle positive.
        rotations
            (b, 3, 3) poses; rows longer than 1 put samples at higher frequencies, those beyond Nyquist are left out.
        shift_angst
            (b, 2) x, y in Å of the particle from the pixel ``box // 2``.
        ctf
            Parameters, or the transfer function itself (b, box, box // 2 + 1); none is no CTF.
        weights
            (b,) weights of the images.
        half
            1 or 2, or (b,) of these: the half set.
        """
        with torch.no_grad():
            halves = torch.as_tensor(half, device=self.device).expand(len(images))
            step = max(1, _PIXELS.get(self.device.type, 1 << 20) // self.box**2)
            for start in range(0, len(images), step):
                rows = slice(start, start + step)
                self._insert(
                    images[rows], rotations[rows], None if shift_angst is None else shift_angst[rows], None if ctf is None else ctf[rows],
                    weights=None if weights is None else weights[rows], half=halves[rows])

    def _insert(
        self, images: Tensor, rotations: Tensor, shift_angst: Tensor | None, ctf: Ctf | Tensor | None, weights: Tensor | None, half: Tensor,
    ) -> None:
        transforms = torch.fft.rfft2(torch.fft.ifftshift(images.to(self.device, torch.float32), dim=(-2, -1)))
        if shift_angst is not None:
            shift_px = shift_angst.to(self.device, torch.float32) / self.pixel_size_angst
            transforms = transforms * phase_shift(-shift_px, self.box)
        index = self._points[0]
        values = transforms.flatten(1)[:, index]
        power = self._transfer(ctf, index)
        if power is None:
            power = torch.ones((), device=self.device).expand(values.shape)
        else:
            values = values * power
            power = power * power
        if weights is not None:
            scale = weights.to(self.device, torch.float32)[:, None]
            values, power = values * scale, power * scale
        self.insert_samples(values, power, rotations, self._points[1:], half)

    def insert_samples(
        self, values: Tensor, power: Tensor, rotations: Tensor, frequencies: tuple[Tensor, ...], half: int | Tensor = 1,
    ) -> None:
        """Add samples of central slices, or of whole transforms of subtomograms.

        Parameters
        ----------
        values, power
            (b, m) sums ``CTF F`` (complex) and ``CTF^2`` of transforms with their phases relative to the centre.
        rotations
            (b, 3, 3) poses.
        frequencies
            kx and ky (and kz), each (m,), in Fourier pixels of the box, below Nyquist; no point together with its Friedel mate.
        half
            1 or 2, or (b,) of these: the half set.
        """
        with torch.no_grad():
            rotations = rotations.to(self.device, torch.float32)
            halves = torch.as_tensor(half, device=self.device).expand(len(values))
            for number in (1, 2):
                rows = torch.nonzero(halves == number).flatten()
                if len(rows):
                    self.count[number - 1] += len(rows)
                    self._scatter(values[rows], power[rows], rotations[rows], torch.stack(frequencies), number - 1)

    def _transfer(self, ctf: Ctf | Tensor | None, index: Tensor) -> Tensor | None:
        """Transfer function (b, m) at the inserted points."""
        if ctf is None:
            return None
        if isinstance(ctf, Ctf):
            ctf = ctf_2d(ctf.to(self.device, torch.float32), self.box, self.pixel_size_angst, self.phase_flipped)
        return ctf.to(self.device, torch.float32).flatten(1)[:, index]

    def _scatter(self, values: Tensor, power: Tensor, rotations: Tensor, frequencies: Tensor, half: int) -> None:
        """Trilinear insertion of (b, m) samples, a few images at a time.

        ``index_add_`` on flat arrays was the fastest of what was tried on 2 cores (3.3 million samples: 27 ms; rows of
        three values 102 ms, ``bincount`` 90 ms, ``index_put_`` 40 ms).
        """
        sphere, width = self._sphere, self.side + 1
        numerator, denominator = self.numerator[half], self.denominator[half]
        plane = frequencies * (self.side / self.box)
        stretched = bool((rotations.norm(dim=2) > 1 + 1e-5).any())  # by magnification: some samples come to lie beyond Nyquist
        chunk = max(1, _CHUNK_POINTS.get(self.device.type, 1 << 20) // plane.shape[1])
        for start in range(0, len(values), chunk):
            rows = slice(start, start + chunk)
            position = rotations[rows, : len(plane)].transpose(1, 2) @ plane  # (c, 3, m): A^T (kx, ky, 0 or kz)
            sign = torch.where(position[:, 0] < 0, -1.0, 1.0)  # the mate of a point with x < 0 is stored instead
            position *= sign[:, None]
            inside = (position.square().sum(1) < (self.side / 2) ** 2) if stretched else None
            if inside is not None:
                position = position * inside[:, None]
            base = position.floor()
            fraction = position - base
            x0, y0, z0 = base.to(sphere.start.dtype).unbind(1)
            row, x0 = sphere.rows(z0, y0).flatten(), x0.flatten()
            sample = values[rows]
            sample = torch.complex(sample.real, sample.imag * sign).flatten()
            amount = power[rows].reshape(-1)
            if inside is not None:
                sample, amount = sample * inside.flatten(), amount * inside.flatten()
            fx, fy, fz = (fraction[:, axis].flatten() for axis in range(3))
            for dz, wz in ((0, 1 - fz), (1, fz)):
                for dy, wy in ((0, 1 - fy), (1, fy)):
                    wzy = wz * wy
                    corner = sphere.start.index_select(0, row + (dz * width + dy)) + x0
                    for dx, wx in ((0, 1 - fx), (1, fx)):
                        weight = wzy * wx
                        target = corner + dx if dx else corner
                        numerator.index_add_(0, target, sample * weight)
                        denominator.index_add_(0, target, amount * weight)

    @contextlib.contextmanager
    def _whole_planes(self, halves: Sequence[int]) -> Iterator[None]:
        """Adds to each point of the plane x = 0 the conjugate of its Friedel mate, and takes it away again; the rest has its mate unstored."""
        volumes = [volumes[half] for volumes in (self.numerator, self.denominator) for half in halves]
        planes = [self._sphere.plane(volume) for volume in volumes]
        try:
            for volume, plane in zip(volumes, planes):
                self._sphere.set_plane(volume, plane + plane.flip(0).conj())
            yield
        finally:
            for volume, plane in zip(volumes, planes):
                self._sphere.set_plane(volume, plane)

    def symmetrise(self, matrices: Tensor) -> None:
        """Impose a point group, (n, 3, 3) with V(S x) = V(x), on what was gathered; call it once, after all images."""
        from .symmetrise import symmetrise_sums

        for half in range(2):
            # the plane x = 0 must be whole before it is interpolated, which adds it up twice; each of its points comes with its mate again later
            with self._whole_planes([half]):
                sums = [volumes[half] for volumes in (self.numerator, self.denominator)]
                added = [volume.clone() for volume in sums]
                symmetrise_sums(self._sphere, sums, added, matrices)
            for volumes, volume in zip((self.numerator, self.denominator), added):
                self._sphere.set_plane(volume, self._sphere.plane(volume) / 2)
                volumes[half] = volume

    def half_maps(self, fsc_curve: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Maps (box, box, box) of the two half sets, not filtered.

        With an earlier estimate of their FSC the voxels of each shell are averaged with the weights that are best at its
        signal-to-noise ratio; no shell is faded.
        """
        ssnr = None if fsc_curve is None else ssnr_from_fsc(fsc_curve, half_maps=False)
        first, second = (self._solve([half], ssnr, None, faded=False) for half in range(2))
        return first, second

    def finish(self, fsc_curve: Tensor | None = None, constant: float | None = None) -> Tensor:
        """Map (box, box, box) of all images.

        Parameters
        ----------
        fsc_curve
            FSC of the half maps at shells 0 ...; makes the Wiener filter by each shell's signal-to-noise ratio.
        constant
            Without the FSC: regularisation as a fraction of the mean weight of all voxels that were hit.
        """
        ssnr = None if fsc_curve is None else ssnr_from_fsc(fsc_curve)
        return self._solve([0, 1], ssnr, constant)

    def _shell_mean(self, *weights: Tensor) -> Tensor:
        """Mean (box // 2 + 1,) of the sum of ``weights`` over each shell."""
        count = self.box // 2 + 1
        total, voxels = torch.zeros((2, count + 1), dtype=torch.float64, device=self.device)
        for part, x, y, z in self._sphere.pieces():
            shell = self._shell(x * x + y * y + z * z).clamp_(max=count)
            weight = sum((weight[part] for weight in weights[1:]), weights[0][part])
            total.index_add_(0, shell, weight.double())
            voxels.index_add_(0, shell, torch.ones_like(x, dtype=torch.float64))
        return (total / voxels)[:count].float()

    def _shell(self, squared_radius: Tensor) -> Tensor:
        """Shells of points by their squared frequency in Fourier pixels of the padded volume."""
        return (squared_radius.sqrt() * (self.box / self.side)).round_().to(torch.int32)

    def _solve(self, halves: list[int], ssnr: Tensor | None, constant: float | None, faded: bool = True) -> Tensor:
        with torch.no_grad(), self._whole_planes(halves):
            numerators, denominators = ([volumes[half] for half in halves] for volumes in (self.numerator, self.denominator))
            shell_mean = self._shell_mean(*denominators)
            if ssnr is not None:
                tail = ssnr.new_zeros(max(0, len(shell_mean) - len(ssnr)))
                ssnr = torch.cat((ssnr, tail)).to(shell_mean)[: len(shell_mean)]
                added = shell_mean / ssnr.clamp(min=1e-4)
            elif constant is not None:
                added = torch.full_like(shell_mean, constant * self._mean_of_hit(denominators))
            else:
                added = torch.zeros_like(shell_mean)
            floor = (shell_mean * _WEIGHT_FLOOR).clamp(min=torch.finfo(torch.float32).tiny)
            gain = torch.ones_like(shell_mean) if faded else (shell_mean + added) / shell_mean.clamp(min=torch.finfo(torch.float32).tiny)
            gain, added, floor = (torch.cat((curve, last)) for curve, last in ((gain, gain.new_zeros(1)), (added, added[-1:]), (floor, floor[-1:])))

            def divided(index: Tensor, squared_radius: Tensor) -> Tensor:
                shell = self._shell(squared_radius).clamp_(max=len(shell_mean)).flatten()  # the last one is left out
                numerator, weight = (_summed(volumes, index.flatten()) for volumes in (numerators, denominators))
                weight = torch.maximum(weight.add_(added.index_select(0, shell)), floor.index_select(0, shell))
                return numerator.mul_(gain.index_select(0, shell)).div_(weight).view(index.shape)

            volume = self._sphere.to_map(divided)
            for axis in range(3):
                volume /= trilinear_fading(self.box, self.side, self.device).reshape([-1 if axis == other else 1 for other in range(3)])
            return volume

    def _mean_of_hit(self, weights: list[Tensor]) -> float:
        """Mean weight of all voxels that were hit; 1 when there are none."""
        total, hit = torch.zeros((2,), dtype=torch.float64, device=self.device)
        for part, *_ in self._sphere.pieces():
            weight = sum((weight[part] for weight in weights[1:]), weights[0][part])
            total += weight.sum(dtype=torch.float64)
            hit += (weight > 0).sum()
        return float(total / hit) if bool(hit) else 1.0


def _summed(volumes: list[Tensor], index: Tensor) -> Tensor:
    """Sum over volumes of their values at some places."""
    total = volumes[0].index_select(0, index)
    for volume in volumes[1:]:
        total += volume.index_select(0, index)
    return total
