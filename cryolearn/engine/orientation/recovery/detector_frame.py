"""The rotation on the detector's side, and transposition, that distances leave free, found from the images by the consistency of common lines.

Distances between orientations A are the same for ``P A Q`` and for ``A^T``, but images fix P (up to half a turn about the view, which is the handedness that
images cannot tell either) and transposition: the transforms of two projections agree along the line in which their slices meet (van Heel,
Ultramicroscopy 21 (1987) 111). So of all candidates P and both bits the one wins under which the predicted common lines agree best.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...imaging.fourier import fourier_crop
from ...imaging.masks import sphere_mask
from ...imaging.poses import random_rotations, so3_exp

__all__ = ["MOST_IMAGES", "Gauge", "apply_gauge", "find_gauge", "line_agreement"]

MOST_IMAGES = 500
_PAIRS = 5000
_GRID_PAIRS = 1200  # for the first look at all candidates
_ANGLES = 90  # over a full turn, 4 degrees apart
_RINGS = 18  # of a box twice the particle's diameter
_LEAST_SINE = 0.2  # of the angle between two views; the common line of close views is not defined well
_AT_ONCE = 1 << 20  # candidates times pairs
_KEPT = 8
_TRIALS, _LEVELS = 40, 9
_OTHER_DEG = 30.0


@dataclass
class Gauge:
    """The frame in which recovered orientations agree with the images.

    Attributes
    ----------
    left : (3, 3) rotation to multiply all recovered orientations with, from the left
    transposed : the recovered orientations are to be transposed first
    score : mean agreement of predicted common lines over their mean power, at most about SNR / (1 + SNR)
    margin : how much of the score's gain over a random candidate the best really different one (other bit, or 30 degrees away) falls short of
    """

    left: Tensor
    transposed: bool
    score: float
    margin: float


def apply_gauge(gauge: Gauge, rotations: Tensor) -> Tensor:
    """Orientations (n, 3, 3) as images see them."""
    return gauge.left.to(rotations) @ (rotations.transpose(-1, -2) if gauge.transposed else rotations)


def _polar_lines(images: Tensor, diameter_px: float) -> Tensor:
    """Transforms (n, angles / 2, rings) along lines through the origin, by direct sums over a masked, cropped image."""
    box = images.shape[-1]
    wide = min(box, 2 * math.ceil(diameter_px / 2))
    first = box // 2 - wide // 2
    images = images * sphere_mask(box, diameter_px / 2, 0.05 * box, dims=2, device=images.device)
    images = images[..., first : first + wide, first : first + wide]
    small = min(wide, 2 * math.ceil(_RINGS / 2 * 1.3) + 4)
    images = fourier_crop(images, small) if small < wide else images
    axis = torch.arange(small, device=images.device, dtype=torch.float32) - small // 2
    angle = torch.arange(_ANGLES // 2, device=images.device) * (2 * math.pi / _ANGLES)
    radius = torch.arange(1, min(_RINGS, small - 2) + 1, device=images.device) / (2 * small)  # half Fourier pixels
    along_x, along_y = (torch.outer(part, radius).flatten()[:, None] * axis * (-2 * math.pi) for part in (angle.cos(), angle.sin()))
    rows = torch.einsum("nyx,kx->nky", images.to(torch.complex64), torch.polar(torch.ones_like(along_x), along_x))
    lines = torch.einsum("nky,ky->nk", rows, torch.polar(torch.ones_like(along_y), along_y))
    return lines.view(len(images), len(angle), len(radius))


def line_agreement(images: Tensor, first: Tensor, second: Tensor, diameter_px: float, shift_px: float) -> Tensor:
    """Agreement (pairs, angles / 2, angles) of every line of one image with every line of another, over the mean power of lines.

    Lines are whitened ring by ring over all images, rid of their mean, and weighted by the square root of the frequency. Shifts of the particle move
    phases along the line linearly: of relative shifts up to ``shift_px`` the best is taken for each pair of lines.
    """
    lines = _polar_lines(images, diameter_px)
    lines = lines - lines.mean((0, 1), keepdim=True)
    radius = torch.arange(1, lines.shape[-1] + 1, device=lines.device, dtype=torch.float32)
    power = lines.abs().square().mean((0, 1))
    # weight by frequency, less where power is but noise: the last rings tell its level
    noise = power[-max(2, len(power) // 6) :].mean()
    weight = (radius * (power - noise).clamp(min=0.02 * float(power.max())) / power).sqrt() / power.sqrt()
    lines = lines * weight
    total = lines.abs().square().sum(-1).mean()
    wide = min(images.shape[-1], 2 * math.ceil(diameter_px / 2))
    step = wide / len(radius)  # of relative shifts in pixels: a turn of half a wave at the last ring
    reach = math.ceil(2 * shift_px / step) if shift_px > 0 else 0
    everywhere = torch.cat((lines, lines.conj()), dim=1)
    found = torch.empty(len(first), lines.shape[1], everywhere.shape[1], device=lines.device)
    for pairs in torch.arange(len(first), device=lines.device).split(512):
        one, other = lines[first[pairs]], everywhere[second[pairs]].transpose(1, 2)
        best = None
        for number in range(-reach, reach + 1):
            phase = radius * (math.pi / wide * number * step)
            turned = one * torch.polar(torch.ones_like(phase), phase)
            value = turned.real @ other.real + turned.imag @ other.imag  # Re of one times the other's conjugate
            best = value if best is None else torch.maximum(best, value)
        assert best is not None
        found[pairs] = best / total
    return found


class _Scores:
    """Scores of candidates by looking up the agreement of their common lines."""

    def __init__(self, agreement: Tensor, first: Tensor, second: Tensor, rotations: Tensor) -> None:
        self.agreement, self.first, self.second = agreement.flatten(), first, second
        self.half = agreement.shape[1]
        self.rotations = rotations
        self.offset = torch.arange(len(first), device=rotations.device) * (2 * self.half * self.half)

    def of(self, candidates: Tensor, transposed: bool, pairs: int | None = None) -> Tensor:
        """(B,) scores of left rotations (B, 3, 3), over the first ``pairs`` pairs."""
        rotations = self.rotations.transpose(1, 2) if transposed else self.rotations
        some = slice(pairs)
        relative = rotations[self.first[some]] @ rotations[self.second[some]].transpose(1, 2)  # A_i A_j^T; with B it is B (A_i A_j^T) B^T
        step = max(1, _AT_ONCE // len(relative))
        return torch.cat([self._of(part, relative) for part in candidates.split(step)])

    def _of(self, candidates: Tensor, relative: Tensor) -> Tensor:
        axis = candidates[:, 2].T
        to_view, from_view = (matrix @ axis for matrix in (relative, relative.transpose(1, 2)))  # (pairs, 3, B)
        # of M = B (A_i A_j^T) B^T: the view z_j as image i sees it, (M_xz, M_yz), and the other way round
        mxz, myz, mzx, mzy = ((candidates[:, row].T * part).sum(1).T for part in (to_view, from_view) for row in (0, 1))
        sine = torch.sqrt(mxz.square() + myz.square())
        # c = z_i x z_j in i's frame is e_z x M e_z = (-M_yz, M_xz), in j's frame M^T e_z x e_z = (M_zy, -M_zx)
        in_first, in_second = torch.atan2(mxz, -myz), torch.atan2(-mzx, mzy)
        count = 2 * self.half
        unit = count / (2 * math.pi)
        one = torch.remainder(torch.round(in_first * unit).long(), count)
        other = torch.remainder(torch.round(in_second * unit).long(), count)
        over = one >= self.half  # both lines are turned by half a turn: conjugates on both sides
        one = torch.where(over, one - self.half, one)
        other = torch.where(over, torch.remainder(other + self.half, count), other)
        value = self.agreement[self.offset[: len(relative)] + one * count + other]
        used = sine > _LEAST_SINE
        return (value * used).sum(1) / used.sum(1).clamp(min=1)


def _climb(scores: _Scores, start: Tensor, transposed: bool, generator: torch.Generator, spacing_rad: float) -> tuple[Tensor, float]:
    """Best of random turns about the best so far, in a ball that shrinks by a third each time."""
    best, value, reach = start, float(scores.of(start[None], transposed)[0]), spacing_rad
    for _ in range(_LEVELS):
        turns = torch.randn(_TRIALS, 3, generator=generator).to(start) * (reach / math.sqrt(3))
        trials = so3_exp(turns) @ best
        found = scores.of(trials, transposed)
        if float(found.max()) > value:
            best, value = trials[int(found.argmax())], float(found.max())
        reach *= 0.65
    return best, value


def _apart_deg(first: Tensor, second: Tensor) -> float:
    """Angle between two left rotations, modulo half a turn about the view (the handedness)."""
    half_turn = torch.diag(torch.tensor([-1.0, -1.0, 1.0], device=first.device))
    traces = [float(torch.einsum("ij,ij->", other @ first, second)) for other in (torch.eye(3, device=first.device), half_turn)]
    return math.degrees(math.acos(max(-1.0, min(1.0, (max(traces) - 1) / 2))))


def find_gauge(
    images: Tensor, rotations: Tensor, candidates: int, seed: int, *, diameter_px: float, shift_px: float = 0.0, transposition: bool = True,
) -> Gauge:
    """Find what the images say about the orientations that distances left free.

    Takes some seconds on one core for 200 images and 3,000 candidates, and memory of 0.1 GB and the images.

    Parameters
    ----------
    images
        (n, box, box), n at most 500; phase flipped, particles positive.
    rotations
        (n, 3, 3) recovered orientations.
    candidates
        Random left rotations that are tried before the best ones are polished.
    seed
        Of the candidates, of the pairs of images that are compared, and of the polishing.
    diameter_px
        Of the particle.
    shift_px
        Largest shift of the particles from the centre.
    transposition
        Try the transposed orientations as well: with a symmetric particle distances tell.

    Raises
    ------
    ValueError
        when there are more than 500 or fewer than 3 images.
    """
    if not 3 <= len(images) <= MOST_IMAGES:
        raise ValueError(f"{len(images)} images, but there must be 3 to {MOST_IMAGES}.")
    generator = torch.Generator().manual_seed(seed)
    rows, columns = torch.triu_indices(len(images), len(images), 1)
    chosen = torch.randperm(len(rows), generator=generator)[:_PAIRS]
    first, second = rows[chosen].to(images.device), columns[chosen].to(images.device)
    with torch.no_grad():
        scores = _Scores(line_agreement(images, first, second, diameter_px, shift_px), first, second, rotations.to(images))
        grid = random_rotations(candidates, generator, device=images.device)
        spacing = (8 * math.pi**2 / candidates) ** (1 / 3) / 2
        found: list[tuple[float, bool, Tensor]] = []
        chance: list[float] = []
        for transposed in (False, True) if transposition else (False,):
            values = scores.of(grid, transposed, _GRID_PAIRS)
            chance.append(float(values.mean()))
            for index in values.argsort(descending=True)[:_KEPT].tolist():
                left, value = _climb(scores, grid[index], transposed, generator, spacing)
                found.append((value, transposed, left))
            ahead = values.argsort(descending=True)[_KEPT : 20 * _KEPT]
            again = scores.of(grid[ahead], transposed).tolist()
            found += [(value, transposed, left) for value, left in zip(again, grid[ahead], strict=True)]
    found.sort(key=lambda item: -item[0])
    score, bit, left = found[0]
    others = [value for value, other_bit, other in found if other_bit != bit or _apart_deg(left, other) > _OTHER_DEG]
    gain = max(score - sum(chance) / len(chance), 1e-12)
    return Gauge(left, bit, score, min(1.0, (score - max(others, default=score - gain)) / gain))
