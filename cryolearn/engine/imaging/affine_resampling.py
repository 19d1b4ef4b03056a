"""Images on another grid: other pixel size, other box, and a linear map between them, in one step from their Fourier coefficients.

The band-limited image is evaluated at any points by Kaiser-Bessel gridding on a twofold finer grid (a non-uniform Fourier transform of type 2; Fessler &
Sutton, IEEE Trans. Signal Process. 51 (2003) 560; Beatty et al., IEEE Trans. Med. Imaging 24 (2005) 799).
"""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from torch import Tensor

__all__ = ["AffineResampling"]

_WIDTH = 6  # grid points of the kernel along an axis
_BETA = math.pi * math.sqrt((_WIDTH / 2) ** 2 * 1.5**2 - 0.8)  # Beatty's, for a twofold finer grid


class AffineResampling:
    """Resamples images of one box to another; both have their origin at index n // 2.

    Beyond the image's border the background goes on: its mirror image, with the sign of each pixel's difference from the border's mean drawn at random. So the
    noise keeps its variance and spectrum, which the mirror image itself would raise at low frequencies as it repeats what is inside.

    Parameters
    ----------
    box_in, box_out : sides in pixels
    matrix : (2, 2); the pixel at y of the result is the point ``matrix @ y`` of the image, x and y in pixels from the origin
    limit : frequency along x and y, in pixels of the result, from which on it holds nothing
    """

    def __init__(self, box_in: int, box_out: int, matrix: NDArray[np.float64], limit: float = 0.5) -> None:
        self.box_in, self.box_out = box_in, box_out
        axis = np.arange(box_out) - box_out // 2
        y, x = np.meshgrid(axis, axis, indexing="ij")
        points = np.stack((matrix[0, 0] * x + matrix[0, 1] * y, matrix[1, 0] * x + matrix[1, 1] * y)).reshape(2, -1)
        reach = max(float(points.max()) - (box_in - 1) // 2, -float(points.min()) - box_in // 2)
        margin = max(math.ceil(reach - 1e-6), 0)  # pixels beyond the border; as many on both sides, so that the origin stays at n // 2
        self.wide, self.fine = box_in + 2 * margin, 2 * (box_in + 2 * margin)
        self._beyond = _Beyond(box_in, margin) if margin else None
        self._weights = _kernel_matrix(points * (self.fine / self.wide), self.fine)
        self._filter = torch.from_numpy(_band(self.wide, matrix, min(limit, 0.5)) * _unblur(self.wide, self.fine)).float()

    def __call__(self, transform: Tensor) -> Tensor:
        """Images (b, box_out, box_out) of :func:`torch.fft.rfft2` of images with their origin at index 0, 0, (b, box_in, box_in // 2 + 1)."""
        if self._beyond is not None:
            images = torch.fft.fftshift(torch.fft.irfft2(transform, s=(self.box_in, self.box_in)), dim=(-2, -1))
            transform = torch.fft.rfft2(torch.fft.ifftshift(self._beyond(images), dim=(-2, -1)))
        low, half = -(-self.wide // 2), self.wide // 2
        filtered = transform * self._filter
        wide = torch.zeros(len(transform), self.fine, self.fine // 2 + 1, dtype=filtered.dtype)
        wide[:, :low, : half + 1] = filtered[:, :low]
        wide[:, self.fine - half :, : half + 1] = filtered[:, low:]
        fine = torch.fft.irfft2(wide, s=(self.fine, self.fine)) * (self.fine / self.wide) ** 2
        values = self._weights @ fine.flatten(1).T.contiguous().numpy()
        return torch.from_numpy(np.ascontiguousarray(values.T, np.float32)).reshape(-1, self.box_out, self.box_out)


class _Beyond:
    """Images with ``margin`` more pixels of background on each side."""

    def __init__(self, box: int, margin: int) -> None:
        from_first = np.mod(np.arange(-margin, box + margin), 2 * (box - 1))
        self._mirror = torch.from_numpy(np.minimum(from_first, 2 * (box - 1) - from_first))
        side = box + 2 * margin
        signs = 2.0 * torch.randint(2, (side, side), generator=torch.Generator().manual_seed(0)) - 1
        signs[margin : box + margin, margin : box + margin] = 1
        self._signs = signs

    def __call__(self, images: Tensor) -> Tensor:
        border = torch.cat((images[:, 0], images[:, -1], images[:, 1:-1, 0], images[:, 1:-1, -1]), 1).mean(1)[:, None, None]
        return (images - border)[:, self._mirror][:, :, self._mirror] * self._signs + border


def _kernel_matrix(points: NDArray[np.float64], fine: int) -> csr_array:
    """(points, fine^2) weights of the grid points around each of (2, points)."""
    first = np.ceil(points - _WIDTH / 2).astype(np.int64)
    places = first[..., None] + np.arange(_WIDTH)
    distance = np.clip(2 * (places - points[..., None]) / _WIDTH, -1, 1)
    weight = np.i0(_BETA * np.sqrt(1 - distance**2))
    x, y = np.mod(places, fine)
    columns = (y[:, :, None] * fine + x[:, None, :]).reshape(-1)
    values = (weight[1][:, :, None] * weight[0][:, None, :]).reshape(-1)
    rows = np.arange(points.shape[1] + 1, dtype=np.int64) * _WIDTH**2
    return csr_array((values.astype(np.float32), columns, rows), shape=(points.shape[1], fine * fine))


def _unblur(box: int, fine: int) -> NDArray[np.float64]:
    """One over the kernel's Fourier transform on the half grid of the box."""
    def line(frequency: NDArray[np.float64]) -> NDArray[np.float64]:
        root = np.sqrt(_BETA**2 - (np.pi * _WIDTH * frequency / fine) ** 2)
        return _WIDTH * np.sinh(root) / root

    return np.asarray(1 / (line(np.fft.fftfreq(box, 1 / box))[:, None] * line(np.fft.rfftfreq(box, 1 / box))))


def _band(box: int, matrix: NDArray[np.float64], limit: float) -> NDArray[np.float64]:
    """1 where a frequency of the image lies below Nyquist in it, and below the limit in the result."""
    ky, kx = np.meshgrid(np.fft.fftfreq(box), np.fft.rfftfreq(box), indexing="ij")
    result = matrix.T @ np.stack((kx, ky)).reshape(2, -1)
    inside = (np.abs(result).max(0) < limit - 1e-9).reshape(kx.shape)
    return np.asarray(inside & (np.maximum(np.abs(kx), np.abs(ky)) < 0.5), np.float64)
