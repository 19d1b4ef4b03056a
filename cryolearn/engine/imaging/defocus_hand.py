"""Handedness of the defocus of tilt series: whether it grows or falls with the depth of a particle, as the images show it.

Noise of premultiplied images has the power spectrum ``sigma^2 CTF^2``, whose zeros are where the defocus says: it shows the sign without any particle in sight.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..io.stacks import ImageStack
from ..io.star import ParticleTable
from ..launch import say_once
from .ctf import Ctf, transfer_as_taken
from .fourier import frequency_grid

__all__ = ["with_defocus_hand"]

_SAMPLE = 400
_CLEAR = 20.0  # difference of the log-likelihoods from which on the sign is believed
_LEAST_POWER = 1e-3  # of the mean, at zeros of the CTF: what resampling and rounding leave


def with_defocus_hand(table: ParticleTable) -> ParticleTable:
    """The particles with defocus at depth of the sign that the images show, where their file does not know it; where it does, a warning if they disagree.

    Only premultiplied tilt images tell it; others stay as they are, and what is not known is said.
    """
    tilts, ctf = table.tilts, table.ctf
    if tilts is None or tilts.depth_angst is None or tilts.hand is None or ctf is None:
        return table
    known = bool((tilts.hand != 0).all())
    difference = _for_positive(table, tilts.depth_angst, tilts.hand) if ctf.premultiplied is not None and ctf.premultiplied.all() else 0.0
    if abs(difference) < _CLEAR:
        if known:
            return table
        return _warned(table, "rlnTomoHand is not known and the images do not show it: particles are given the defocus of the tomogram's centre.")
    sign = 1.0 if difference > 0 else -1.0
    if known:
        if (np.sign(tilts.hand) == sign).all():
            return table
        return _warned(table, f"The images show a handedness of the defocus (rlnTomoHand) of {sign:+.0f} (log-likelihood ratio {abs(difference):.0f}), but "
                       f"'{tilts.source.tomograms_file}' says otherwise: correct it.")
    say_once(f"Handedness of the defocus (rlnTomoHand) by the images: {sign:+.0f} (log-likelihood ratio {abs(difference):.0f}).")
    moved = np.where(tilts.hand == 0, sign * tilts.depth_angst, 0.0)
    hand = np.where(tilts.hand == 0, sign, tilts.hand)
    return replace(table, tilts=replace(tilts, hand=hand), ctf=replace(ctf, defocus_u=ctf.defocus_u + moved, defocus_v=ctf.defocus_v + moved))


def _warned(table: ParticleTable, text: str) -> ParticleTable:
    say_once(f"WARNING: {text}")
    return replace(table, warnings=[*table.warnings, text])


def _for_positive(table: ParticleTable, depth_angst: NDArray[np.float64], hand: NDArray[np.float64]) -> float:
    """Log-likelihood of the images' power spectra for the sign + less that for -; images far from the centre are looked at."""
    box = table.box
    kept = np.flatnonzero(np.asarray(table.groups()[0].box)[table.groups()[1]] == box)
    rows = np.sort(kept[np.argsort(-np.abs(depth_angst[kept]))[:_SAMPLE]])
    if not len(rows):
        return 0.0
    images = torch.from_numpy(ImageStack(table).read(rows))
    power = torch.fft.rfft2(images - images.mean((1, 2), keepdim=True)).abs().square().double()
    ky, kx = frequency_grid(box)
    radius = torch.hypot(kx, ky) * box
    band = (radius > box / 8) & (radius < box / 2 - 0.5) & (kx > 0)
    ring = radius.round().long()[band]
    ctf = Ctf.from_table(table.ctf, rows, dtype=torch.float64)
    depth, now = (torch.from_numpy(values[rows]) for values in (depth_angst, hand * depth_angst))
    kx, ky = kx.double() / table.pixel_size_angst, ky.double() / table.pixel_size_angst
    values = []
    for sign in (1.0, -1.0):
        change = sign * depth - now
        tried = replace(ctf, defocus_u_angst=ctf.defocus_u_angst + change, defocus_v_angst=ctf.defocus_v_angst + change)
        model = transfer_as_taken(tried, kx, ky).square()[:, band]
        values.append(_whittle(power[:, band], model + _LEAST_POWER * model.mean(1, keepdim=True), ring))
    return values[0] - values[1]


def _whittle(power: Tensor, model: Tensor, ring: Tensor) -> float:
    """Log-likelihood of power spectra (n, P) given their shape (n, P); levels of the images and of the rings (P,) are fitted."""
    count = torch.bincount(ring).clamp(min=1)
    for _ in range(2):
        model = model * (power / model).mean(1, keepdim=True)
        level = torch.zeros(len(count), dtype=model.dtype).index_add_(0, ring, (power / model).mean(0)) / count
        model = model * level[ring]
    return -float((model.log() + power / model).sum())
