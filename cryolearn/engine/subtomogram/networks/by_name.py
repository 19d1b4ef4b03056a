"""The networks by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from ...exceptions import InputError
from .network_paper import DSRF3D, Inception3D
from .network_residual import Residual3D
from .rotation_invariant_features import RifSvm

__all__ = ["build_network", "check_box", "count_weights"]

_KINDS: dict[str, type[nn.Module]] = {"residual3d": Residual3D, "inception3d": Inception3D, "dsrf3d": DSRF3D, "rif_svm": RifSvm}
_MULTIPLES = {"residual3d": 1, "inception3d": 2, "dsrf3d": 4, "rif_svm": 2}


def build_network(name: str, arguments: dict[str, Any]) -> nn.Module:
    """An untrained network: `(n, channels, box, box, box)` -> logits `(n, classes)` and features `(n, d)`."""
    return _KINDS[name](**arguments)


def check_box(name: str, box: int) -> None:
    """Refuse a box that a network cannot take.

    Raises
    ------
    InputError
        naming the network and what its box must be.
    """
    multiple = _MULTIPLES[name]
    if box % multiple or box < 16:
        raise InputError(f"The subtomograms have a box of {box} voxels, but the network '{name}' wants a multiple of {multiple}, 16 at least.")


def count_weights(network: nn.Module) -> int:
    """Number of weights."""
    return sum(weight.numel() for weight in network.parameters())
