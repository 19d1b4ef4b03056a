"""Fourier tools: centred transforms, shifts, crop and pad, filters, radial averages.

Images are (..., y, x) with the origin at pixel ``box // 2``. Half transforms are those of :func:`torch.fft.rfft2`,
with the zero frequency at index 0, 0. All functions take leading batch dims, are differentiable and keep the device.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

__all__ = [
    "cosine_low_pass", "filter_shells", "fourier_crop", "fourier_resize", "frequency_grid",
    "irfft2_centred", "irfftn_centred", "low_pass", "phase_shift", "power_spectrum", "radial_average", "radial_filter",
    "radial_index", "rfft2_centred", "rfftn_centred",
]


def frequency_grid(
    box: int, dims: int = 2, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32
) -> tuple[Tensor, ...]:
    """Frequencies in cycles a pixel on the half grid, one broadcastable tensor an axis: (z,) y, x."""
    full = torch.fft.fftfreq(box, device=device, dtype=dtype)
    half = torch.arange(box // 2 + 1, device=device, dtype=dtype) / box
    shapes = [[-1 if axis == other else 1 for other in range(dims)] for axis in range(dims)]
    return tuple((half if axis == dims - 1 else full).reshape(shapes[axis]) for axis in range(dims))


def rfftn_centred(images: Tensor, dims: int = 2) -> Tensor:
    """Half transform over the last ``dims`` axes with phases relative to the centre ``box // 2``."""
    axes = tuple(range(-dims, 0))
    return torch.fft.rfftn(torch.fft.ifftshift(images, dim=axes), dim=axes)


def irfftn_centred(transform: Tensor, box: int, dims: int = 2) -> Tensor:
    """Inverse of :func:`rfftn_centred` for images of side ``box``."""
    axes = tuple(range(-dims, 0))
    return torch.fft.fftshift(torch.fft.irfftn(transform, s=(box,) * dims, dim=axes), dim=axes)


def rfft2_centred(images: Tensor) -> Tensor:
    """(..., box, box) real -> (..., box, box // 2 + 1) complex, phases relative to the centre."""
    return rfftn_centred(images, 2)


def irfft2_centred(transform: Tensor, box: int) -> Tensor:
    """Inverse of :func:`rfft2_centred`."""
    return irfftn_centred(transform, box, 2)


def phase_shift(shift_px: Tensor, box: int) -> Tensor:
    """Factors (..., box, box // 2 + 1) that move images by (..., 2) x, y pixels when they multiply the transform."""
    ky, kx = frequency_grid(box, device=shift_px.device, dtype=shift_px.dtype)
    along_x = torch.exp(-2j * math.pi * (kx * shift_px[..., 0, None, None]))
    along_y = torch.exp(-2j * math.pi * (ky * shift_px[..., 1, None, None]))
    return along_y * along_x


def _resize_axis(transform: Tensor, new_box: int, axis: int) -> Tensor:
    """Crop or zero-pad one axis of a full transform; the Nyquist term is shared between both ends, or their sum."""
    box = transform.shape[axis]
    keep = min(box, new_box)
    low = (keep + 1) // 2  # frequencies 0 ... low-1, and -1 ... -(low-1) at the end
    parts = [transform.narrow(axis, 0, low)]
    end = transform.narrow(axis, box - (low - 1), low - 1)
    if keep % 2 == 0:
        if new_box < box:
            nyquist = [transform.narrow(axis, keep // 2, 1) + transform.narrow(axis, box - keep // 2, 1)]
        else:
            nyquist = [transform.narrow(axis, keep // 2, 1) / 2] * 2
    else:
        nyquist = []
    shape = list(transform.shape)
    shape[axis] = new_box - (2 * low - 1) - len(nyquist)
    gap = [transform.new_zeros(shape)] if shape[axis] else []
    return torch.cat(parts + nyquist[:1] + gap + nyquist[1:] + [end], dim=axis)


def fourier_resize(images: Tensor, new_box: int, dims: int = 2) -> Tensor:
    """Resample the last ``dims`` axes to ``new_box`` pixels over the same field of view; values (densities) are kept."""
    box = images.shape[-1]
    if new_box == box:
        return images
    axes = tuple(range(-dims, 0))
    transform = torch.fft.fftn(torch.fft.ifftshift(images, dim=axes), dim=axes)
    for axis in axes:
        transform = _resize_axis(transform, new_box, axis)
    resized = torch.fft.fftshift(torch.fft.ifftn(transform, dim=axes).real, dim=axes)
    return resized * (new_box / box) ** dims


def fourier_crop(images: Tensor, new_box: int) -> Tensor:
    """Downsample (..., box, box) images to ``new_box`` pixels; the pixel size grows by ``box / new_box``.

    Raises
    ------
    ValueError
        when ``new_box`` is larger than the box.
    """
    if new_box > images.shape[-1]:
        raise ValueError(f"new_box {new_box} is larger than the box {images.shape[-1]}.")
    return fourier_resize(images, new_box)


def radial_index(box: int, dims: int = 2, device: torch.device | str | None = None) -> Tensor:
    """Shell (nearest integer radius, in Fourier pixels) of each point of the half grid, int64."""
    grid = frequency_grid(box, dims, device=device, dtype=torch.float64)
    squared = torch.zeros((), dtype=torch.float64, device=device)
    for axis in grid:
        squared = squared + (axis * box).round() ** 2
    return torch.sqrt(squared).round().long()


def hermitian_weight(box: int, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """(box // 2 + 1,): how many points of the full transform each column of the half transform stands for."""
    weight = torch.full((box // 2 + 1,), 2.0, device=device, dtype=dtype)
    weight[0] = 1
    if box % 2 == 0:
        weight[-1] = 1
    return weight


def shell_sum(values: Tensor, box: int, dims: int = 2) -> Tensor:
    """Sum of real (..., half grid) values over the shells 0 ... box // 2 of the full transform; (..., box // 2 + 1)."""
    shells = box // 2 + 1
    index = radial_index(box, dims, values.device).clamp(max=shells).flatten()
    weighted = (values * hermitian_weight(box, values.device, values.dtype)).flatten(-dims)
    total = values.new_zeros((*weighted.shape[:-1], shells + 1))
    return total.index_add(-1, index, weighted)[..., :shells]


def radial_average(values: Tensor, box: int, dims: int = 2) -> Tensor:
    """Mean of real half-grid values (..., box, box // 2 + 1) over each shell; (..., box // 2 + 1)."""
    count = shell_sum(torch.ones(values.shape[-dims:], device=values.device, dtype=values.dtype), box, dims)
    return shell_sum(values, box, dims) / count


def power_spectrum(images: Tensor) -> Tensor:
    """Radially averaged power (..., box // 2 + 1) of (..., box, box) images; white noise of variance s^2 gives s^2."""
    box = images.shape[-1]
    return radial_average(torch.fft.rfft2(images, norm="ortho").abs() ** 2, box)


def radial_filter(curve: Tensor, box: int, dims: int = 2) -> Tensor:
    """(..., half grid) filter from (..., n) values at shells 0 ... n-1, linear in between, the last value beyond."""
    grid = frequency_grid(box, dims, device=curve.device, dtype=curve.dtype)
    squared = torch.zeros((), dtype=curve.dtype, device=curve.device)
    for axis in grid:
        squared = squared + (axis * box) ** 2
    radius = torch.sqrt(squared).clamp(max=curve.shape[-1] - 1)
    below = radius.floor().long().clamp(max=max(curve.shape[-1] - 2, 0))
    above = (below + 1).clamp(max=curve.shape[-1] - 1)
    fraction = radius - below
    return curve[..., below] * (1 - fraction) + curve[..., above] * fraction


def filter_shells(volume: Tensor, curve: Tensor) -> Tensor:
    """Maps (..., box, box, box) with each shell multiplied by ``curve`` (shells,), linear in between, the last value beyond."""
    box = volume.shape[-1]
    return irfftn_centred(rfftn_centred(volume, 3) * radial_filter(curve.to(volume), box, 3), box, 3)


def cosine_low_pass(
    box: int, cutoff_px: float, width_px: float = 2.0, dims: int = 2, device: torch.device | str | None = None
) -> Tensor:
    """Half-grid filter: 1 inside ``cutoff_px`` Fourier pixels, 0 outside, a raised cosine of full width ``width_px``."""
    grid = frequency_grid(box, dims, device=device)
    squared = torch.zeros((), device=device)
    for axis in grid:
        squared = squared + (axis * box) ** 2
    ramp = ((torch.sqrt(squared) - cutoff_px) / max(width_px, 1e-6) + 0.5).clamp(0, 1)
    return (1 + torch.cos(math.pi * ramp)) / 2


def _filtered(images: Tensor, filter_half: Tensor, dims: int) -> Tensor:
    axes = tuple(range(-dims, 0))
    transform = torch.fft.rfftn(images, dim=axes) * filter_half.to(images.dtype)
    return torch.fft.irfftn(transform, s=images.shape[-dims:], dim=axes)


def low_pass(images: Tensor, resolution_angst: float, pixel_size_angst: float, width_px: float = 2.0, dims: int = 2) -> Tensor:
    """Keep what is coarser than ``resolution_angst``, with a raised-cosine edge of ``width_px`` Fourier pixels."""
    box = images.shape[-1]
    return _filtered(images, cosine_low_pass(box, box * pixel_size_angst / resolution_angst, width_px, dims, images.device), dims)
