"""The networks by name, from the arguments that ``model.json`` holds, and what they have in common: similarities of the images of a set."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from ...exceptions import InputError
from ..similarity_kernel import SimilarityKernel
from .distance_readout import ExactReadout, PaperReadout, Readout
from .network_exact import RingNetwork
from .network_paper import PaperNetwork
from .network_views import ViewsNetwork

__all__ = ["build_network", "choose_readout", "compare", "encode"]


def build_network(preset: str, kernel: SimilarityKernel, arguments: dict[str, Any]) -> nn.Module:
    """A network for standardised images.

    Raises
    ------
    InputError
        when views of a symmetric particle are to be seen together: their relative rotations are not defined.
    """
    if preset == "paper":
        return PaperNetwork(**arguments)
    if preset == "views":
        if len(kernel.matrices) > 1:
            raise InputError(f"The network 'views' learns no symmetry, but {kernel.group} was declared: choose C1, or the network 'exact'.")
        return ViewsNetwork(**arguments)
    if preset != "exact":
        raise InputError(f"The network '{preset}' is not known: there are exact, paper and views.")
    return RingNetwork(kernel, **arguments)


def encode(network: nn.Module, images: torch.Tensor) -> torch.Tensor:
    """What a network keeps of each image, (b, n): all that it needs to compare it with others."""
    if isinstance(network, ViewsNetwork):
        return network.encode(images)
    feature, log_variance = network(images)
    return torch.cat([feature, log_variance[:, None]], 1)


def compare(network: nn.Module, encoded: torch.Tensor, others: torch.Tensor | None = None) -> tuple[torch.Tensor, torch.Tensor]:
    """Similarities and their predicted variances of encoded images of one particle.

    Parameters
    ----------
    network
        The network that encoded the images.
    encoded : (..., v, n)
        Sets of images, as :func:`encode` keeps them.
    others : (..., w, n)
        Images to compare each with; the set itself when left out.

    Returns
    -------
    Tensors (..., v, v) or (..., v, w). The network 'views' looks at all of them together, the others at one pair after another.
    """
    if isinstance(network, ViewsNetwork):
        together = encoded if others is None else torch.cat([encoded, others], -2)
        flat = together.reshape(-1, *together.shape[-2:])
        found = [values.unflatten(0, together.shape[:-2]) if together.ndim != 3 else values for values in network.compare(flat)]
        count = encoded.shape[-2]
        similarity, variance = found if others is None else (values[..., :count, count:] for values in found)
        return similarity, variance
    other = encoded if others is None else others
    variance = encoded[..., -1].exp()[..., :, None] + other[..., -1].exp()[..., None, :]
    return encoded[..., :-1] @ other[..., :-1].transpose(-1, -2), variance


def choose_readout(preset: str, kernel: SimilarityKernel) -> Readout:
    """How a preset's similarities are read as distances."""
    return PaperReadout() if preset == "paper" else ExactReadout(kernel)
