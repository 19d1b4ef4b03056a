"""Point groups by RELION's and Xmipp's names and axes."""

from __future__ import annotations

import math
import re

import torch
from torch import Tensor

from ..exceptions import InputError
from .poses import so3_exp

__all__ = ["symmetry_matrices"]

_GOLDEN = (1 + math.sqrt(5)) / 2

# generators (order, axis) of the polyhedral groups: Heymann, Chagoyen & Belnap (2005), J. Struct. Biol. 151, 196
_POLYHEDRAL: dict[str, tuple[tuple[int, tuple[float, float, float]], ...]] = {
    "T": ((3, (0, 0, 1)), (2, (0, math.sqrt(2 / 3), math.sqrt(1 / 3)))),
    "O": ((3, (1, 1, 1)), (4, (0, 0, 1))),
    "I1": ((2, (1, 0, 0)), (5, (_GOLDEN, 0, -1)), (3, (_GOLDEN**2, 1, 0))),
    "I2": ((2, (0, 0, 1)), (5, (1, 0, _GOLDEN)), (3, (0, 1, _GOLDEN**2))),
}
_POLYHEDRAL["I"] = _POLYHEDRAL["I2"]
_LARGEST_GROUP = 60


def symmetry_matrices(group: str) -> Tensor:
    """Rotations of a point group, identity first.

    Parameters
    ----------
    group
        ``Cn`` (axis z), ``Dn`` (two-fold on x), ``T`` (three-fold on z), ``O`` (four-folds on the axes),
        ``I`` = ``I2`` (two-folds on the axes, five-fold in the xz plane) or ``I1`` (the same turned by 90 degrees).

    Returns
    -------
    Tensor
        (n, 3, 3) float64; a map with that symmetry has V(S x) = V(x).

    Raises
    ------
    InputError
        when the name is none of these.
    """
    name = group.strip().upper()
    cyclic = re.fullmatch(r"([CD])([1-9]\d{0,2})", name)
    if cyclic:
        order = int(cyclic.group(2))
        turns = torch.arange(order, dtype=torch.float64) * (2 * math.pi / order)
        rotations = so3_exp(turns[:, None] * torch.tensor([0.0, 0.0, 1.0], dtype=torch.float64))
        if cyclic.group(1) == "C":
            return rotations
        flip = torch.diag(torch.tensor([1.0, -1.0, -1.0], dtype=torch.float64))
        return torch.cat((rotations, rotations @ flip))
    if name not in _POLYHEDRAL:
        raise InputError(f"The symmetry '{group}' is not known: give Cn, Dn, T, O, I, I1 or I2.")
    generators = []
    for fold, axis in _POLYHEDRAL[name]:
        vector = torch.tensor(axis, dtype=torch.float64)
        generators.append(so3_exp(vector / vector.norm() * (2 * math.pi / fold)))
    return _closure(generators)


def _closure(generators: list[Tensor]) -> Tensor:
    """All products of the generators."""
    found = [torch.eye(3, dtype=torch.float64)]
    for matrix in found:  # grows while it is walked
        for generator in generators:
            product = generator @ matrix
            if not any(bool((product - other).abs().max() < 1e-6) for other in found):
                found.append(product)
        if len(found) > _LARGEST_GROUP:
            raise AssertionError("the generators do not make a finite point group")
    return torch.stack(found)
