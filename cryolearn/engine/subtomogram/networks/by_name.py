"""The networks by name."""

from __future__ import annotations

from typing import Any

from torch import nn

from .network_paper import DSRF3D, Inception3D
from .network_residual import Residual3D
from .rotation_invariant_features import RifSvm

__all__ = ["build_network"]

_KINDS: dict[str, type[nn.Module]] = {"residual3d": Residual3D, "inception3d": Inception3D, "dsrf3d": DSRF3D, "rif_svm": RifSvm}


def build_network(name: str, arguments: dict[str, Any]) -> nn.Module:
    """An untrained network: (n, channels, box, box, box) -> logits (n, classes) and features (n, d)."""
    return _KINDS[name](**arguments)
