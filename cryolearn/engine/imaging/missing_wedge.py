"""The missing wedge: which frequencies a single-axis tilt series has measured.

The tilt axis is y and the beam runs along z. The projection at tilt t sees the point (x, y, z) at ``x cos t + z sin t`` (the matrix that IMOD and
RELION 5 write for a tilt), so its central slice holds the frequencies with ``kz / kx = tan t``, and a series from ``tilt_min_deg`` to
``tilt_max_deg`` has measured those whose angle ``atan(kz / kx)`` lies in between.

Half transforms are those of :func:`torch.fft.rfftn`, (z, y, x // 2 + 1) with the zero frequency at index 0, 0, 0.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .masks import fall_off

__all__ = ["frequency_points", "rotated_wedge_mask", "wedge_coverage", "wedge_mask"]

_ROUNDING = 1e-4  # Fourier pixels: the frequency of the last tilt itself counts as measured


def frequency_points(box: int, device: torch.device | str | None = None, dtype: torch.dtype = torch.float32) -> Tensor:
    """Frequencies x, y, z in Fourier pixels of the half grid, (box, box, box // 2 + 1, 3)."""
    full = torch.fft.fftfreq(box, 1 / box, device=device, dtype=dtype).round()
    half = torch.arange(box // 2 + 1, device=device, dtype=dtype)
    z, y, x = torch.meshgrid(full, full, half, indexing="ij")
    return torch.stack((x, y, z), dim=-1)


def wedge_coverage(points: Tensor, tilt_min_deg: float | Tensor, tilt_max_deg: float | Tensor, edge_px: float = 0.0) -> Tensor:
    """How far frequencies have been measured: 1 within the tilt range, 0 in the missing wedge.

    Parameters
    ----------
    points
        (..., 3) frequencies x, y, z in Fourier pixels, in the frame of the tilt series.
    tilt_min_deg, tilt_max_deg
        First and last tilt in degrees, numbers or tensors that broadcast against (...).
    edge_px
        Width in Fourier pixels of the raised cosine by which coverage falls off beyond the last tilts. The slice of a tilt is as thick as
        one over the thickness of what was imaged, about one Fourier pixel of the box; 0 is a sharp edge.

    Returns
    -------
    Tensor
        (...); the zero frequency is covered.

    Raises
    ------
    ValueError
        when a tilt lies outside -90 to 90 degrees, or the first is not below the last.
    """
    low = torch.as_tensor(tilt_min_deg, dtype=points.dtype, device=points.device)
    high = torch.as_tensor(tilt_max_deg, dtype=points.dtype, device=points.device)
    if not bool(((low >= -90) & (high <= 90) & (low < high)).all()):
        raise ValueError("A tilt range must rise and lie within -90 and 90 degrees.")
    low, high = torch.deg2rad(low), torch.deg2rad(high)
    sign = torch.where(points[..., 0] < 0, -1.0, 1.0)  # a frequency and its Friedel mate are measured together
    x, z = points[..., 0] * sign, points[..., 2] * sign
    above = z * torch.cos(high) - x * torch.sin(high)  # signed distance beyond the slice of the last tilt
    below = x * torch.sin(low) - z * torch.cos(low)
    nearest = torch.minimum(above.abs(), below.abs())  # +90 and -90 degrees are the same slice
    outside = (torch.maximum(above, below) > _ROUNDING) & (nearest > _ROUNDING)
    return fall_off(torch.where(outside, nearest, 0.0), edge_px) if edge_px > 0 else 1.0 - outside.to(points.dtype)


def wedge_mask(
    box: int, tilt_min_deg: float | Tensor, tilt_max_deg: float | Tensor, edge_px: float = 0.0, device: torch.device | str | None = None
) -> Tensor:
    """Coverage of the half grid, (box, box, box // 2 + 1); of tilt ranges given as tensors (n,), (n, box, box, box // 2 + 1)."""
    return wedge_coverage(frequency_points(box, device), _over_grid(tilt_min_deg), _over_grid(tilt_max_deg), edge_px)


def rotated_wedge_mask(
    box: int, tilt_min_deg: float | Tensor, tilt_max_deg: float | Tensor, rotations: Tensor, edge_px: float = 0.0
) -> Tensor:
    """Coverage as seen from the frame of the particle.

    Parameters
    ----------
    box
        Side in voxels.
    tilt_min_deg, tilt_max_deg
        Numbers, or tensors (n,).
    rotations
        (n, 3, 3) poses, which take a point of the particle to where it lies in the tomogram: a subtomogram s and a reference r are related by
        ``s(x) = r(A^T x)`` and ``S(k) = R(A^T k)``, so the frequency q of the particle was measured where A q was.
    edge_px
        Width of a soft edge in Fourier pixels; 0 is none.

    Returns
    -------
    Tensor
        (n, box, box, box // 2 + 1).
    """
    grid = frequency_points(box, rotations.device, rotations.dtype)
    return wedge_coverage(torch.einsum("nij,zyxj->nzyxi", rotations, grid), _over_grid(tilt_min_deg), _over_grid(tilt_max_deg), edge_px)


def _over_grid(tilt_deg: float | Tensor) -> float | Tensor:
    return tilt_deg[..., None, None, None] if isinstance(tilt_deg, Tensor) and tilt_deg.ndim else tilt_deg
