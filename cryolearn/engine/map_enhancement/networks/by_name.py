"""The two networks by name, and a trained one on disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ...exceptions import InputError
from ...io.models import build_trained, load_model_of
from .network_paper import PaperMapNetwork
from .network_residual import ResidualMapNetwork

__all__ = ["SHIPPED", "MapNetwork", "TrainedMapNetwork", "build_network"]

MapNetwork = PaperMapNetwork | ResidualMapNetwork
SHIPPED = str(Path(__file__).resolve().parents[1] / "weights")
_KINDS: dict[str, type[MapNetwork]] = {"paper": PaperMapNetwork, "residual": ResidualMapNetwork}
_NEEDED = ("kind", "preset", "arguments", "voxel_angst", "degradation", "finest_angst", "coarsest_angst")


def build_network(preset: str, arguments: dict[str, Any]) -> MapNetwork:
    """An untrained network."""
    return _KINDS[preset](**arguments)


class TrainedMapNetwork:
    """A network from disk with what its ``model.json`` says of it.

    Attributes
    ----------
    voxel_angst : voxel size that it works at
    finest_angst, coarsest_angst : resolutions of the inputs that it was trained on
    unit : it takes maps of 0 to 1, and not signed ones
    """

    def __init__(self, network: MapNetwork, description: dict[str, Any]) -> None:
        self.network, self.description = network, description
        self.voxel_angst = float(description["voxel_angst"])
        self.finest_angst, self.coarsest_angst = float(description["finest_angst"]), float(description["coarsest_angst"])
        self.unit = description["preset"] == "paper"

    @classmethod
    def load(cls, folder: str, device: torch.device) -> TrainedMapNetwork:
        """Read a model; an empty name is the one that comes with this software.

        Raises
        ------
        InputError
            when the folder holds none, or the model of another method.
        """
        folder = folder or SHIPPED
        weights, description = load_model_of(folder, "map", _NEEDED, "a map network")
        if description["finest_angst"] > description["coarsest_angst"]:
            raise InputError(f"The trained model '{folder}' cannot be used: finest_angst in its model.json is larger than coarsest_angst.")
        network = build_trained(folder, weights, lambda: build_network(description["preset"], description["arguments"]))
        return cls(network.to(device).eval(), description)
