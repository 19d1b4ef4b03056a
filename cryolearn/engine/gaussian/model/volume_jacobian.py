"""A model's transform together with its derivatives by latents, and the misfit of both to the sums that images leave, with exact gradients."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .slices import OVERSAMPLING, SliceGrid

__all__ = ["tangent_misfit", "tangent_volumes"]


def tangent_volumes(
    grid: SliceGrid, positions_angst: Tensor, amplitudes: Tensor, sigma_angst: Tensor, displacement: Tensor | None, change: Tensor | None,
) -> Tensor:
    """A model's transform and its derivatives by K latents, (1 + K, z, y, x).

    Parameters
    ----------
    grid
        Frequencies at which the transform is sampled.
    positions_angst, amplitudes, sigma_angst
        (M, 3), (M,), (M,) positions in Å, amplitudes and standard deviations in Å of the Gaussians.
    displacement
        (K, M, 3) Å by one unit of the latents, or None.
    change
        (K, M) change of the amplitudes by one unit, or None.
    """
    planes, x = _factors(grid, positions_angst, sigma_angst)
    return _volumes(grid, planes, x, amplitudes, displacement, change)


def tangent_misfit(
    grid: SliceGrid, positions_angst: Tensor, amplitudes: Tensor, sigma_angst: Tensor, displacement: Tensor | None, change: Tensor | None, signal: Tensor,
    power: Tensor,
) -> tuple[float, Tensor, Tensor, Tensor | None, Tensor | None]:
    """``sum_ab L_ab Re V_a* V_b - 2 Re sum_a b_a* V_a`` of :func:`tangent_volumes` V, and its exact gradients.

    Parameters
    ----------
    grid, positions_angst, amplitudes, sigma_angst, displacement, change
        As in :func:`tangent_volumes`.
    signal
        b (1 + K, z, y, x).
    power
        L ((1 + K)(2 + K) / 2, z, y, x), the upper triangle row by row.

    Returns
    -------
    Value; derivatives by positions (M, 3), amplitudes (M,), displacement (K, M, 3) and change (K, M).

    With ``G_a`` the derivative by ``V_a`` all follow from the moments ``sum_q G_a exp(-i q p) q^n`` of order n = 0, 1, 2 of each Gaussian.
    """
    planes, x = _factors(grid, positions_angst, sigma_angst)
    volumes = _volumes(grid, planes, x, amplitudes, displacement, change)
    outer, count = len(volumes), len(amplitudes)
    pair = {}
    for number, (left, right) in enumerate(torch.triu_indices(outer, outer).T.tolist()):
        pair[left, right] = pair[right, left] = number
    k, kx = _frequencies(grid, x)
    powers = torch.stack((torch.ones_like(k), k, k**2), dim=1).to(x.dtype)  # (z, 3) or (y, 3)
    columns = torch.cat((x, x * kx, x * kx**2))
    value = 0.0
    by_place, by_amplitude = torch.zeros_like(positions_angst), torch.zeros_like(amplitudes)
    by_displacement = None if displacement is None else torch.zeros_like(displacement)
    by_change = None if change is None else torch.zeros_like(change)
    for number, volume in enumerate(volumes):
        weighted = sum(power[pair[number, other]] * volumes[other] for other in range(outer))
        assert isinstance(weighted, Tensor)
        value += float((volume.conj() * (weighted - 2 * signal[number])).real.double().sum())
        direction = (2 * (weighted - signal[number])).conj().flatten(0, 1)
        orders = 3 if number and displacement is not None else 2
        spread = (columns[: orders * count] @ direction.T).view(orders, count, -1) * planes
        moments = torch.einsum("omzp,zq->omqp", spread.view(orders, count, *grid.shape[:2]) @ powers, powers)  # (order of x, M, of z, of y)
        first = torch.stack((moments[1, :, 0, 0], moments[0, :, 0, 1], moments[0, :, 1, 0]), dim=-1)  # (M, 3)
        plain = moments[0, :, 0, 0].real
        if number == 0:
            by_amplitude += plain
            by_place += amplitudes[:, None] * first.imag
            continue
        if change is not None and by_change is not None:
            by_change[number - 1] = plain
            by_place += change[number - 1, :, None] * first.imag
        if displacement is not None and by_displacement is not None:
            field = displacement[number - 1]
            by_displacement[number - 1] = amplitudes[:, None] * first.imag
            by_amplitude += (field * first.imag).sum(1)
            xx, xy, xz = moments[2, :, 0, 0].real, moments[1, :, 0, 1].real, moments[1, :, 1, 0].real
            yy, yz, zz = moments[0, :, 0, 2].real, moments[0, :, 1, 1].real, moments[0, :, 2, 0].real
            second = torch.stack((xx, xy, xz, xy, yy, yz, xz, yz, zz), dim=-1).view(-1, 3, 3)
            by_place -= amplitudes[:, None] * (second @ field[..., None])[..., 0]
    return value, by_place, by_amplitude, by_displacement, by_change


def _frequencies(grid: SliceGrid, like: Tensor) -> tuple[Tensor, Tensor]:
    """Angular frequencies along z and y, and along x, in 1 / Å."""
    unit = 2 * math.pi / (grid.band.length * OVERSAMPLING)
    along = torch.arange(-grid.half, grid.half + 1, device=like.device, dtype=like.real.dtype) * unit
    return along, along[grid.half :]


def _factors(grid: SliceGrid, positions_angst: Tensor, sigma_angst: Tensor) -> tuple[Tensor, Tensor]:
    """Waves (M, z y) and (M, x) of Gaussians of unit amplitude."""
    _, half = _frequencies(grid, positions_angst)
    fade = torch.exp((torch.outer(sigma_angst**2, half**2) / -2).clamp(min=-28))
    wave = torch.polar(fade[:, None].expand(-1, 3, -1), positions_angst[..., None] * -half)  # (M, 3, k)
    y, z = torch.cat((wave[:, 1:, 1:].flip(-1).conj(), wave[:, 1:]), dim=-1).unbind(1)
    return (z[:, :, None] * y[:, None, :]).flatten(1), wave[:, 0]


def _volumes(grid: SliceGrid, planes: Tensor, x: Tensor, amplitudes: Tensor, displacement: Tensor | None, change: Tensor | None) -> Tensor:
    k, kx = _frequencies(grid, x)
    columns = [amplitudes[None, :, None] * x]
    if displacement is not None:
        weight = displacement * amplitudes[:, None]
        # d exp(-i k p) = -i k . u exp(-i k p): kx is known here, ky and kz wait for the sum over Gaussians
        along_x = torch.complex(torch.zeros_like(weight[..., :1]).expand(-1, -1, len(kx)), -weight[..., :1] * kx)
        if change is not None:
            along_x = along_x + change[..., None]
        columns += [along_x * x, weight[..., 1, None] * x, weight[..., 2, None] * x]
    elif change is not None:
        columns += [change[..., None] * x]
    found = (planes.T @ torch.cat(columns).permute(1, 0, 2).flatten(1)).view(*grid.shape[:2], -1, grid.shape[2]).permute(2, 0, 1, 3)
    if displacement is None:
        return found
    count = len(displacement)
    sloped = found[1 : 1 + count] - 1j * (k[:, None] * found[1 + count : 1 + 2 * count] + k[:, None, None] * found[1 + 2 * count :])
    return torch.cat((found[:1], sloped))
