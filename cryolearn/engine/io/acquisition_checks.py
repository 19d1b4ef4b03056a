"""What particles say of their acquisition, held against what microscopes have: values that are probably in other units are pointed out before work begins."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from .optics import OpticsGroups

if TYPE_CHECKING:
    from .star import CtfTable

__all__ = ["doubtful_ctf", "doubtful_origins"]

_SMALL_DEFOCUS_ANGST, _LARGE_DEFOCUS_ANGST = 3000.0, 200_000.0  # of most particles; 1.5 µm would be 1500 in nm, 15 000 in Å
_PHASE_PLATE_DEG = 20.0
_SMALL_SHIFT = 0.3  # of phase plates in rad; in degrees they have 20 to 160


def doubtful_ctf(path: str, ctf: CtfTable) -> list[str]:
    """A sentence when most particles have a defocus that is negative, or so small or large that its unit is in doubt; one for phase shifts in rad."""
    shift = np.abs(ctf.phase_shift)
    found = _doubtful_defocus(path, ctf)
    if _SMALL_SHIFT < float(np.median(shift)) and float(shift.max()) <= math.pi:
        found.append(f"The phase shift of most particles in '{path}' is {float(np.median(shift)):.3g} degrees: it is needed in degrees, not in rad.")
    return found


def _doubtful_defocus(path: str, ctf: CtfTable) -> list[str]:
    middle = float(np.median((ctf.defocus_u + ctf.defocus_v) / 2))
    said = f"The defocus of most particles in '{path}' is {middle:.6g} Å"
    if middle < 0:
        return [f"{said}, which is overfocus: programs that count underfocus as negative need the opposite sign here."]
    unshifted = float(np.median(np.abs(ctf.phase_shift))) < _PHASE_PLATE_DEG
    if unshifted and middle < _SMALL_DEFOCUS_ANGST and ctf.defocus_u.any():
        return [f"{said}, which is close to focus: it is needed in Å, not in nm or µm."]
    if middle > _LARGE_DEFOCUS_ANGST:
        return [f"{said}, which is {middle / 1e4:.3g} µm: it is needed in Å."]
    return []


def doubtful_origins(path: str, origin_angst: NDArray[np.float64], groups: OpticsGroups, group_row: NDArray[np.int64], box: int) -> list[str]:
    """A sentence when particles are centred outside their images.

    Parameters
    ----------
    path : str
        Particle file.
    origin_angst : (n, 2)
        ``rlnOriginXAngst``, ``rlnOriginYAngst``.
    groups : OpticsGroups
        Of the file.
    group_row : (n,) int
        Row of each particle's group among them.
    box : int
        Side in pixels where a group does not say it.
    """
    half = np.where(groups.box > 0, groups.box, box)[group_row] * groups.pixel_size_angst[group_row] / 2
    furthest = np.abs(origin_angst).max(axis=1)
    outside = int((furthest > half).sum())
    if not outside:
        return []
    return [f"{outside} of the {len(half)} particles in '{path}' have origins of more than half their box (up to {furthest.max():.6g} Å), so that they are "
            "centred outside their images: rlnOriginXAngst is needed in Å, and shifts belong to the images that are named."]
