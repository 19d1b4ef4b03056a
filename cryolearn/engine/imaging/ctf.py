"""Contrast transfer function with RELION's parameters and sign.

``CTF(k) = sin(pi lambda Df(theta) k^2 - pi/2 Cs lambda^3 k^4 + phase + asin(Q0))``: positive at the origin, so that positive
density gives positive images. The value at the origin is the amplitude contrast Q0. Even Zernike terms are taken off the phase, and a B factor and a scale
multiply the sine.

torch-ctf gives the same numbers (a test compares them) but works in 32 bits only and takes 31 ms where this takes 1.2 ms
(64 images of 128 pixels, 2 CPU cores), as it forms angles and azimuths point by point.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .fourier import frequency_grid
from .zernike import aberration_phase

__all__ = ["Ctf", "Microscope", "apply_ctf", "critical_exposure", "ctf_2d", "ctf_at", "electron_wavelength_angst", "noise_kept", "plain_factor",
           "transfer_as_taken"]

_LEAST_CTF = 0.1  # premultiplied images are not divided by less; what they hold of the density's information below that is 4e-4
_LEAST_ENVELOPE = 0.05  # of it, by which premultiplied images were multiplied too: what 16-bit files round is not blown up


def electron_wavelength_angst(voltage_kv: Tensor) -> Tensor:
    """Relativistic wavelength in Å of electrons accelerated by ``voltage_kv``."""
    volts = voltage_kv * 1e3
    return 12.2643247 / torch.sqrt(volts * (1 + volts * 0.978466e-6))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Microscope:
    """Acquisition parameters that all images of a session share."""

    voltage_kv: float = 300.0
    cs_mm: float = 2.7
    amplitude_contrast: float = 0.1


@dataclasses.dataclass
class Ctf:
    """CTF parameters of a batch of images, each a tensor (b,).

    ``defocus_u_angst`` is the defocus (Å, positive is underfocus) along the axis at ``defocus_angle_deg`` from x towards y,
    ``defocus_v_angst`` the one across it. What comes after ``phase_shift_deg`` is none where no image has it: ``b_factor_angst2`` and ``scale`` of the
    envelope ``scale exp(-B k^2 / 4)``, coefficients ``even_zernike`` (b, k), whether images are ``phase_flipped`` or were ``premultiplied`` (these are
    divided by their CTF where they are read, see :func:`plain_factor`), the frequency along x and y, ``limit_inv_angst``, from which on they hold nothing, the
    electrons ``dose_e_angst2`` that the specimen had received before, and matrices ``magnification`` (b, 2, 2) that take the frequencies of images to those
    at which the CTF is meant.
    """

    defocus_u_angst: Tensor
    defocus_v_angst: Tensor
    defocus_angle_deg: Tensor
    voltage_kv: Tensor
    cs_mm: Tensor
    amplitude_contrast: Tensor
    phase_shift_deg: Tensor
    b_factor_angst2: Tensor | None = None
    scale: Tensor | None = None
    even_zernike: Tensor | None = None
    phase_flipped: Tensor | None = None
    premultiplied: Tensor | None = None
    limit_inv_angst: Tensor | None = None
    dose_e_angst2: Tensor | None = None
    magnification: Tensor | None = None

    def __len__(self) -> int:
        return int(self.defocus_u_angst.shape[0])

    def __getitem__(self, rows: Any) -> Ctf:
        """The parameters of some of the images (slice, mask or indices)."""
        return self._each(lambda values: values[rows])

    def to(self, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> Ctf:
        """The same parameters on another device or in another precision."""
        return self._each(lambda values: values.to(device=device, dtype=dtype if values.is_floating_point() else None))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Ctf:
        values = (getattr(self, field.name) for field in dataclasses.fields(self))
        return Ctf(*(None if value is None else change(value) for value in values))  # type: ignore[arg-type]

    @classmethod
    def constant(
        cls, count: int, defocus_u_angst: float, defocus_v_angst: float | None = None, defocus_angle_deg: float = 0.0, phase_shift_deg: float = 0.0,
        microscope: Microscope = Microscope(), dtype: torch.dtype = torch.float32, device: torch.device | str | None = None,
    ) -> Ctf:
        """One set of parameters for ``count`` images; without ``defocus_v_angst`` there is no astigmatism."""
        second = defocus_u_angst if defocus_v_angst is None else defocus_v_angst
        values = (defocus_u_angst, second, defocus_angle_deg, *dataclasses.astuple(microscope), phase_shift_deg)
        return cls(*(torch.full((count,), float(value), dtype=dtype, device=device) for value in values))

    @classmethod
    def from_table(
        cls, table: Any, rows: Sequence[int] | np.ndarray | slice | None = None, device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> Ctf:
        """Parameters of some rows of the ``CtfTable`` of a particle table (:mod:`cryolearn.engine.io.star`)."""
        names = ("defocus_u", "defocus_v", "defocus_angle", "voltage_kv", "cs_mm", "amplitude_contrast", "phase_shift")
        more = ("b_factor", "scale", "even_zernike", "phase_flipped", "premultiplied", "limit", "dose")
        take = slice(None) if rows is None else rows

        def column(name: str) -> Any:
            values = getattr(table, name)
            if values is None:
                return None
            found = torch.from_numpy(np.ascontiguousarray(np.asarray(values)[take]))
            return found.to(device) if found.dtype == torch.bool else found.to(device=device, dtype=dtype)

        return cls(*map(column, (*names, *more)))


def ctf_2d(ctf: Ctf, box: int, pixel_size_angst: float, phase_flipped: bool = False) -> Tensor:
    """CTF on the half grid of :func:`torch.fft.rfft2`.

    Parameters
    ----------
    ctf
        Parameters, tensors (b,); gradients flow to them.
    box
        Image side in pixels.
    pixel_size_angst
        Pixel size in Å.
    phase_flipped
        The images are phase flipped already: the absolute value is returned.

    Returns
    -------
    Tensor
        (b, box, box // 2 + 1), origin at index 0, 0.

    References
    ----------
    Mindell & Grigorieff, J. Struct. Biol. 142 (2003) 334; Rohou & Grigorieff, J. Struct. Biol. 192 (2015) 216.
    The phase is taken in the parameters' precision: 32 bits keep it to 1e-4 rad at 3 um and 2 Å.
    """
    like = ctf.defocus_u_angst
    ky, kx = frequency_grid(box, device=like.device, dtype=like.dtype)
    return ctf_at(ctf, kx / pixel_size_angst, ky / pixel_size_angst, phase_flipped)


def ctf_at(ctf: Ctf, kx: Tensor, ky: Tensor, phase_flipped: bool = False) -> Tensor:
    """Transfer function (b, ...) of images as they are after reading, at frequencies in 1/Å: tensors of any, broadcastable shapes.

    ``phase_flipped`` holds for all images, besides those of which ``ctf`` says so.
    """
    result = transfer_as_taken(ctf, kx, ky)
    like, plain = kx * ky, result
    if phase_flipped:
        result = plain.abs()
    elif ctf.phase_flipped is not None:
        result = torch.where(_column(ctf.phase_flipped, like), plain.abs(), plain)
    if ctf.premultiplied is not None:
        result = torch.where(_column(ctf.premultiplied, like), plain * (plain.square() / _least(ctf, kx, ky).square()).clamp(max=1), result)
    if ctf.limit_inv_angst is not None:
        result = result * (torch.maximum(kx.abs(), ky.abs()) < _column(ctf.limit_inv_angst, like))
    return result


def plain_factor(ctf: Ctf, kx: Tensor, ky: Tensor) -> Tensor:
    """What the transforms of premultiplied images are multiplied by (b, ...) to become plain ones.

    Where the CTF is .1 (of its envelope) or more that is one over it, and the noise is white again. Below, the images stay weaker by ``g = CTF^2 / .01``,
    signal and noise alike, which :func:`ctf_at` knows of: as the noise is taken for white, they count by ``g^2`` of what they are worth, and nothing is
    divided by a small CTF.
    """
    transfer = transfer_as_taken(ctf, kx, ky)
    return transfer / torch.maximum(transfer.square(), _least(ctf, kx, ky).square())


def _least(ctf: Ctf, kx: Tensor, ky: Tensor) -> Tensor:
    """Smallest transfer (b, ...) that premultiplied images are divided by."""
    axes = (kx * ky).dim()
    kx, ky = _true_frequencies(ctf, kx, ky)
    envelope = _envelope(ctf, kx * kx + ky * ky, axes)
    return kx.new_tensor(_LEAST_CTF) if envelope is None else _LEAST_CTF * envelope.clamp(min=_LEAST_ENVELOPE)


def noise_kept(ctf: Ctf, kx: Tensor, ky: Tensor) -> Tensor | None:
    """Part (b, ...) of its variance that noise has in images after reading, at frequencies in 1/Å; none where it is 1 in all of them.

    It is ``g^2`` in premultiplied images (see :func:`plain_factor`) and 0 beyond the frequency at which an image ends. Noise is estimated as a sum of powers
    over the sum of these parts, so that images which do not hold a frequency do not count there.
    """
    like, kept = kx * ky, None
    if ctf.premultiplied is not None:
        weak = (transfer_as_taken(ctf, kx, ky) * plain_factor(ctf, kx, ky)).square()
        kept = torch.where(_column(ctf.premultiplied, like), weak, 1.0)
    if ctf.limit_inv_angst is not None:
        inside = (torch.maximum(kx.abs(), ky.abs()) < _column(ctf.limit_inv_angst, like)).to(like)
        kept = inside if kept is None else kept * inside
    return kept


def _column(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(-1, *(1 for _ in like.shape))


def transfer_as_taken(ctf: Ctf, kx: Tensor, ky: Tensor) -> Tensor:
    """CTF (b, ...) of images as the microscope took them."""
    axes = (kx * ky).shape
    kx, ky = _true_frequencies(ctf, kx, ky)
    k2 = ky * ky + kx * kx
    # Df(theta) k^2 = mean k^2 + half difference (cos 2(theta - angle)) k^2, without ever forming theta
    cos2, sin2 = kx * kx - ky * ky, 2 * kx * ky
    wavelength = electron_wavelength_angst(ctf.voltage_kv)
    mean = (ctf.defocus_u_angst + ctf.defocus_v_angst) / 2
    half = (ctf.defocus_u_angst - ctf.defocus_v_angst) / 2
    axis = torch.deg2rad(2 * ctf.defocus_angle_deg)
    offset = torch.deg2rad(ctf.phase_shift_deg) + torch.asin(ctf.amplitude_contrast)

    def column(values: Tensor) -> Tensor:
        return values.reshape(-1, *(1 for _ in axes))

    phase = column(math.pi * wavelength * mean) * k2
    phase = phase + column(math.pi * wavelength * half * torch.cos(axis)) * cos2
    phase = phase + column(math.pi * wavelength * half * torch.sin(axis)) * sin2
    phase = phase - column(math.pi / 2 * ctf.cs_mm * 1e7 * wavelength**3) * (k2 * k2)
    if ctf.even_zernike is not None:
        phase = phase - aberration_phase(ctf.even_zernike, kx, ky, odd=False, axes=len(axes))
    result = torch.sin(phase + column(offset))
    envelope = _envelope(ctf, k2, len(axes))
    return result if envelope is None else result * envelope


def _true_frequencies(ctf: Ctf, kx: Tensor, ky: Tensor) -> tuple[Tensor, Tensor]:
    """Frequencies (...), or (b, ...) with anisotropic magnification, at which the CTF is meant."""
    if ctf.magnification is None:
        return kx, ky
    matrix = ctf.magnification.reshape(-1, 2, 2, *(1 for _ in (kx * ky).shape))
    return matrix[:, 0, 0] * kx + matrix[:, 0, 1] * ky, matrix[:, 1, 0] * kx + matrix[:, 1, 1] * ky


def _envelope(ctf: Ctf, k2: Tensor, axes: int) -> Tensor | None:
    """What multiplies the sine (b, ...) at squared frequencies (...) or (b, ...) with so many axes but the batch's; None is 1."""
    def column(values: Tensor) -> Tensor:
        return values.reshape(-1, *(1,) * axes)

    found = None if ctf.scale is None else column(ctf.scale)
    if ctf.b_factor_angst2 is not None:
        fall = torch.exp(column(-ctf.b_factor_angst2 / 4) * k2)
        found = fall if found is None else found * fall
    if ctf.dose_e_angst2 is not None:
        fall = torch.exp(column(-ctf.dose_e_angst2 / 2) / critical_exposure(k2))
        found = fall if found is None else found * fall
    return found


def critical_exposure(squared_frequency: Tensor) -> Tensor:
    """Electrons per Å^2 after which amplitudes at k^2 (1/Å^2) have fallen to exp(-1/2), infinite at 0.

    References
    ----------
    Grant & Grigorieff, eLife 4 (2015) e06980, at 300 kV; RELION 5 and WarpTools weight tilts by it.
    """
    return 0.245 * squared_frequency.pow(-1.665 / 2) + 2.81


def apply_ctf(images: Tensor, ctf: Ctf, pixel_size_angst: float, phase_flipped: bool = False) -> Tensor:
    """(b, box, box) images seen through the microscope: multiplied by the CTF in Fourier space."""
    transfer = ctf_2d(ctf, images.shape[-1], pixel_size_angst, phase_flipped)
    return torch.fft.irfft2(torch.fft.rfft2(images) * transfer, s=images.shape[-2:])
