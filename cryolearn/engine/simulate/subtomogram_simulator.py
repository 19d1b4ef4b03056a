"""Subtomograms of molecules by either of two routes, any of them at any time.

Route 'tilts' does what a microscope does: the density is projected at every tilt, structural noise is added, the CTF and its envelope are applied, the
detector's noise is added, the MTF is applied, and the slices are put back by direct Fourier inversion. Route 'shaped' does the same to the
volume at once: all of these are products in Fourier space, and of the inversion the power of its noise is left (:mod:`.tilt_series`).

Both work in a box half as large again, so that nothing wraps around, and cut it.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..exceptions import InputError
from ..imaging.ctf import Ctf, Microscope, ctf_at
from ..imaging.fourier import frequency_grid, hermitian_weight
from .config import SubtomogramSimulateConfig
from .densities import ClassDensity, class_names, density_of_map, density_of_structure
from .resample import centred_window
from .subtomogram_laws import SubtomogramDraws, draw_subtomograms, noise_generator
from .tilt_series import TiltSeries

__all__ = ["NULL", "Simulated", "SubtomogramSimulator"]

NULL = "NULL"
_PROBE = 4  # subtomograms of each class whose variance sets the scale of all
_SERIES_KEPT = 64
_AT_ONCE = {"shaped": 32, "tilts": 8}


@dataclass
class Simulated:
    """Some subtomograms; volumes (n, z, y, x).

    Attributes
    ----------
    clean, noisy : without and with noise
    signal_variance, noise_variance : (n,) of the reconstructions, over the whole box; the noise's is that of its law
    """

    clean: Tensor
    noisy: Tensor
    signal_variance: Tensor
    noise_variance: Tensor


class SubtomogramSimulator:
    """Makes subtomograms.

    Attributes
    ----------
    names : of the classes, number 1 first; the last is 'NULL' when noise alone is a class
    density_names : of those that have a density

    Raises
    ------
    InputError
        when there is nothing to simulate, a class does not fit the box, or parameters contradict each other.
    """

    def __init__(self, config: SubtomogramSimulateConfig, device: torch.device) -> None:
        _check(config)
        self.config, self.device = config, device
        self.work = 2 * math.ceil(0.75 * config.box)
        paths = [*config.structures, *config.volumes]
        self.density_names = class_names(list(config.names), paths)
        self.names = self.density_names + ([NULL] if config.null_class else [])
        self.densities = [density_of_structure(path, config.pixel_size_angst, device) for path in config.structures]
        self.densities += [density_of_map(path, config.pixel_size_angst, config.map_floor, device) for path in config.volumes]
        for density in self.densities:
            self._check_size(density)
        length = self.work * config.pixel_size_angst
        z, y, x = (axis / config.pixel_size_angst for axis in frequency_grid(self.work, 3, device))
        self._grid = torch.stack(torch.broadcast_tensors(x, y, z), dim=-1)
        self._radius = self._grid.norm(dim=-1)
        self._length = length
        self._series: OrderedDict[tuple[int, int], TiltSeries] = OrderedDict()
        self._powers: dict[tuple[float, float], Tensor] = {}  # small, but a second's work each
        self.mean_variance, self.scale = 1.0, 1.0
        probe = np.flatnonzero(np.arange(_PROBE * len(self.names)) % len(self.names) < len(self.densities))
        self.mean_variance = float(self.make(probe).signal_variance.mean())
        if not self.mean_variance > 0:
            raise InputError("The subtomograms are empty: the structures or maps have no density in the box.")
        self.scale = 1 / math.sqrt(self.mean_variance / (config.snr or 1.0))
        self.mean_variance *= self.scale**2

    @property
    def count(self) -> int:
        """Subtomograms of the whole set."""
        return self.config.per_class * len(self.names)

    def draws(self, rows: NDArray[np.int64]) -> SubtomogramDraws:
        """Random quantities of the subtomograms ``rows`` (counted from 0)."""
        return draw_subtomograms(self.config, np.asarray(rows, np.int64), len(self.names))

    def tilt_range(self, draws: SubtomogramDraws) -> NDArray[np.float64]:
        """First and last tilt (n, 2) in degrees."""
        return np.array([[float(tilts[0]), float(tilts[-1])] for tilts in (self._tilts(*steps) for steps in draws.tilt_steps.tolist())]).reshape(-1, 2)

    def make(self, rows: NDArray[np.int64], copy: int = 0) -> Simulated:
        """The subtomograms ``rows``; another ``copy`` has other noise and is else the same."""
        rows = np.asarray(rows, np.int64)
        draws, box = self.draws(rows), self.config.box
        clean = torch.zeros((len(rows), box, box, box), device=self.device)
        noise = torch.zeros_like(clean)
        steps, group = np.unique(draws.tilt_steps, axis=0, return_inverse=True)
        for number, (low, high) in enumerate(steps.tolist()):
            series = self._tilt_series(low, high)
            here = np.flatnonzero(group.reshape(-1) == number)
            for part in np.split(here, range(_AT_ONCE[self.config.route], len(here), _AT_ONCE[self.config.route])):
                at = torch.from_numpy(part).to(self.device)
                clean[at], noise[at] = self._shaped(series, draws[part], rows[part], copy) if self.config.route == "shaped" else self._tilted(
                    series, draws[part], rows[part], copy)
        clean *= self.scale
        variance = clean.var(dim=(1, 2, 3), correction=0)
        if not self.config.snr:
            return Simulated(clean, clean, variance, torch.zeros_like(variance))
        empty = torch.from_numpy(draws.number > len(self.densities)).to(self.device)
        shared = torch.full_like(variance, self.mean_variance)
        reference = torch.where(empty, shared, variance) if self.config.noise_scale == "particle" else shared
        noise_variance = reference / self.config.snr
        return Simulated(clean, clean + noise * noise_variance.sqrt()[:, None, None, None], variance, noise_variance)

    def _shaped(self, series: TiltSeries, draws: SubtomogramDraws, rows: NDArray[np.int64], copy: int) -> tuple[Tensor, Tensor]:
        """Clean reconstructions, and noise of variance 1."""
        microscope, detector, power, measured = self._transfer(series, draws)
        clean = self._signal(self._grid.flatten(0, 2), draws).view(len(rows), *self._radius.shape) * (microscope * detector * measured)
        if not self.config.snr:
            return self._real(clean), clean.new_zeros(1, dtype=torch.float32)
        white = torch.stack([self._white(row, copy, (self.work,) * 3) for row in rows.tolist()])
        before, after = self.config.noise_before_ctf, 1 - self.config.noise_before_ctf
        through, direct = (power * measured * filtered**2 for filtered in (microscope * detector, detector))
        total = before * through / self._mean(through) + after * direct / self._mean(direct)
        return self._real(clean), self._real(torch.fft.rfftn(white, dim=(1, 2, 3)) * total.sqrt())

    def _tilted(self, series: TiltSeries, draws: SubtomogramDraws, rows: NDArray[np.int64], copy: int) -> tuple[Tensor, Tensor]:
        work, tilts = self.work, len(series.tilts_deg)
        shape = (tilts, work, work // 2 + 1)
        points = series.points / self._length
        radius = points.norm(dim=1)
        inside = (radius < 0.5 / self.config.pixel_size_angst).view(shape)
        microscope, detector = (values.view(-1, *shape) for values in self._filters(radius, draws))
        signal = self._signal(points, draws).view(len(rows), *shape)
        clean = self._cut(series.invert(signal * (microscope * detector * inside)))
        if not self.config.snr:
            return clean, clean.new_zeros(1)
        grid_microscope, grid_detector, power, _ = self._transfer(series, draws)
        means = [self._mean(power * filtered**2) for filtered in (grid_microscope * grid_detector, grid_detector)]
        # noise of variance work / mean in the images has variance 1 in the reconstruction
        size = [(part * work / mean).sqrt().view(-1, 1, 1, 1) for part, mean in zip((self.config.noise_before_ctf, 1 - self.config.noise_before_ctf), means)]
        colour = self._image_colour(series, radius).view(shape)
        white = torch.stack([self._white(row, copy, (2, tilts, work, work)) for row in rows.tolist()])
        structural, counted = (torch.fft.rfft2(white) * (colour * inside)).unbind(1)
        images = (structural * size[0] * microscope + counted * size[1]) * detector
        return clean, self._cut(series.invert(images))

    def _filters(self, radius: Tensor, draws: SubtomogramDraws) -> tuple[Tensor, Tensor]:
        """Transfer of the microscope (n or 1, ...) and of the detector (1, ...) at frequencies in 1/Å."""
        config = self.config
        same = not config.defocus_spread_angst
        defocus = torch.from_numpy(draws.defocus_angst[:1] if same else draws.defocus_angst)
        microscope = Microscope(voltage_kv=config.voltage_kv, cs_mm=config.cs_mm, amplitude_contrast=config.amplitude_contrast)
        ctf = Ctf.constant(len(defocus), 0.0, microscope=microscope, dtype=torch.float64)
        ctf.defocus_u_angst = ctf.defocus_v_angst = defocus
        at = radius.double().cpu()
        passed = ctf_at(ctf, at, torch.zeros_like(at)).to(self.device, torch.float32) if config.apply_ctf else torch.ones_like(radius)[None]
        passed = passed * torch.exp(-config.b_factor_angst2 / 4 * radius**2)
        detector = torch.sinc(radius * config.pixel_size_angst)[None] if config.mtf == "sinc" else torch.ones_like(radius)[None]
        return passed, detector

    def _transfer(self, series: TiltSeries, draws: SubtomogramDraws) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Of the microscope, of the detector, the relative power of noise, and what was measured; on the half grid."""
        microscope, detector = self._filters(self._radius, draws)
        sphere = self._radius < 0.5 / self.config.pixel_size_angst
        power = self._noise_power(series) * sphere if self.config.snr else sphere.float()
        if self.config.noise_colour == "pink":
            power = power / (self._radius * self._length).clamp(min=1)
        return microscope, detector, power, series.measured & sphere

    def _noise_power(self, series: TiltSeries) -> Tensor:
        key = (float(series.tilts_deg[0]), float(series.tilts_deg[-1]))
        if key not in self._powers:
            self._powers[key] = series.noise_power(self.config.box, even=self.config.noise_colour != "inversion")
        return self._powers[key]

    def _image_colour(self, series: TiltSeries, radius: Tensor) -> Tensor:
        """Amplitude of the noise of the images that gives the reconstruction's its colour."""
        if self.config.noise_colour == "inversion":
            return torch.ones_like(radius)
        covered = series.coverage_at_samples().sqrt()
        return covered if self.config.noise_colour == "flat" else covered / (radius * self._length).clamp(min=1).sqrt()

    def _signal(self, points: Tensor, draws: SubtomogramDraws) -> Tensor:
        """Transforms (n, m) at frequencies (m, 3) in 1/Å, in units of the density times voxels; 0 for noise alone."""
        values = torch.zeros((len(draws), len(points)), dtype=torch.complex64, device=self.device)
        for number in np.unique(draws.number).tolist():
            if number > len(self.densities):
                continue
            at = np.flatnonzero(draws.number == number)
            rotation, shift = (torch.from_numpy(item[at]).to(self.device, torch.float32) for item in (draws.rotation, draws.shift_angst))
            values[torch.from_numpy(at).to(self.device)] = self.densities[number - 1].transform(points, rotation, shift)
        return values / self.config.pixel_size_angst**3

    def _white(self, row: int, copy: int, shape: tuple[int, ...]) -> Tensor:
        return torch.from_numpy(noise_generator(self.config.seed, row, copy).standard_normal(shape, dtype=np.float32)).to(self.device)

    def _mean(self, half_grid: Tensor) -> Tensor:
        """Mean over the full grid of (n, half grid), (n, 1, 1, 1)."""
        weight = hermitian_weight(self.work, self.device)
        return (half_grid * weight).sum(dim=(-3, -2, -1), keepdim=True) / self.work**3

    def _real(self, transform: Tensor) -> Tensor:
        volumes = torch.fft.irfftn(transform, s=(self.work,) * 3, dim=(1, 2, 3))
        return self._cut(torch.fft.fftshift(volumes, dim=(1, 2, 3)))

    def _cut(self, volumes: Tensor) -> Tensor:
        return centred_window(volumes, (self.config.box,) * 3)

    def _tilts(self, left_out: int, left_out_above: int) -> Tensor:
        tilts = TiltSeries.angles(self.config.tilt_min_deg, self.config.tilt_max_deg, self.config.tilt_step_deg)
        return tilts[left_out : len(tilts) - left_out_above]

    def _tilt_series(self, left_out: int, left_out_above: int) -> TiltSeries:
        key = (left_out, left_out_above)
        if key not in self._series:
            while len(self._series) >= _SERIES_KEPT:
                self._series.popitem(last=False)
            self._series[key] = TiltSeries(self.work, self._tilts(*key), self.device)
        self._series.move_to_end(key)
        return self._series[key]

    def _check_size(self, density: ClassDensity) -> None:
        room = self.work * self.config.pixel_size_angst - 2 * self.config.shift_angst
        if density.diameter_angst > room:
            raise InputError(
                f"'{density.name}' is {density.diameter_angst:.0f} Å wide, but a box of {self.config.box} voxels of {self.config.pixel_size_angst:g} Å "
                f"with shifts of {self.config.shift_angst:g} Å holds {room:.0f} Å at most: choose a larger box or smaller shifts."
            )


def _check(config: SubtomogramSimulateConfig) -> None:
    if not config.structures and not config.volumes:
        raise InputError("There is nothing to simulate: give structures or volumes, one for each class.")
    if config.box % 2:
        raise InputError(f"Parameter box is {config.box}, but it must be even.")
    if config.tilt_max_deg - config.tilt_min_deg < 2 * config.tilt_spread_deg + config.tilt_step_deg:
        raise InputError(
            f"The tilt range {config.tilt_min_deg:g} to {config.tilt_max_deg:g} degrees is too narrow: it must rise, and leave a step after it is narrowed by "
            f"{config.tilt_spread_deg:g} degrees at both ends."
        )
    if not config.apply_ctf and config.defocus_spread_angst:
        raise InputError("A spread of defocus needs apply_ctf, which is off.")
    if config.null_class and not config.snr:
        raise InputError("A class of noise alone needs noise: give an SNR above 0.")
