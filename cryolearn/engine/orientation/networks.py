"""The networks by name, from the arguments that ``model.json`` holds."""

from __future__ import annotations

from typing import Any

from torch import nn

from .kernel import SimilarityKernel
from .network_exact import RingNetwork
from .network_paper import PaperNetwork
from .readout import ExactReadout, PaperReadout, Readout

__all__ = ["build_network", "choose_readout"]


def build_network(preset: str, kernel: SimilarityKernel, arguments: dict[str, Any]) -> nn.Module:
    """A network that maps standardised images to unit features and their log variances."""
    if preset == "paper":
        return PaperNetwork(**arguments)
    return RingNetwork(kernel, **arguments)


def choose_readout(preset: str, kernel: SimilarityKernel) -> Readout:
    """How a preset's similarities are read as distances."""
    return PaperReadout() if preset == "paper" else ExactReadout(kernel)
