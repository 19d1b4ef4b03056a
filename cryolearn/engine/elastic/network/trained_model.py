"""A trained amplitude network with the modes that it learned and what it was trained on."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ....common.checks import check_trained_for
from ...config import digest_file
from ...exceptions import InputError
from ...io.model_entries import require_agreement
from ...io.models import build_trained, fitting, load_model_of
from ...io.modes import Modes, read_modes
from ...io.star import ParticleTable
from ...training.network_input import NetworkInput
from .architectures import AmplitudeResNet34, MultiNetwork, build_network

__all__ = ["ElasticModel"]

_NEEDED = (
    "architecture", "arguments", "input", "mode_numbers", "box", "pixel_size_angst", "reference", "digest", "amplitude_range", "shift_range_angst",
    "hypotheses",
)


@dataclass(frozen=True, kw_only=True)
class ElasticModel:
    """A network from disk.

    Attributes
    ----------
    folder : of the model
    network : in evaluation
    scheme : of its input
    mode_numbers : that its amplitudes belong to
    amplitude_range, shift_range_angst : of the training, Å
    hypotheses : that are refined
    description : what ``model.json`` holds
    """

    folder: str
    network: MultiNetwork | AmplitudeResNet34
    scheme: NetworkInput
    mode_numbers: list[int]
    amplitude_range: float
    shift_range_angst: float
    hypotheses: int
    description: dict[str, Any]

    @classmethod
    def load(cls, folder: str, device: torch.device) -> ElasticModel:
        """Read a model.

        Raises
        ------
        InputError
            when the folder holds none, or the model of another method, or one whose entries contradict one another.
        """
        weights, description = load_model_of(folder, "elastic", _NEEDED, "an elastic network")
        network = build_trained(folder, weights, lambda: build_network(description["architecture"], description["arguments"]))
        with fitting(folder):
            scheme = NetworkInput.from_dict(description["input"])
            numbers = [int(number) for number in description["mode_numbers"]]
        scheme.check(folder)
        require_agreement(folder, {"arguments.modes": network.modes, "mode_numbers": numbers})
        if (scheme.box, scheme.pixel_size_angst) != (description["box"], description["pixel_size_angst"]):
            raise InputError(
                f"The trained model '{folder}' cannot be used: input in its model.json is of {scheme.box} px at {scheme.pixel_size_angst:g} Å/px, but box and "
                f"pixel_size_angst are {description['box']} px at {description['pixel_size_angst']:g} Å/px."
            )
        return cls(
            folder=folder, network=network.to(device).eval(), scheme=scheme, mode_numbers=numbers, amplitude_range=float(description["amplitude_range"]),
            shift_range_angst=float(description["shift_range_angst"]), hypotheses=int(description["hypotheses"]), description=description,
        )

    def check(self, table: ParticleTable) -> None:
        """Refuse particles that the network was not trained for.

        Raises
        ------
        InputError
            naming what differs, with both values.
        """
        check_trained_for("particles", table.box, table.pixel_size_angst, self.scheme.box, self.scheme.pixel_size_angst)

    def modes(self) -> Modes:
        """The modes that it learned.

        Raises
        ------
        InputError
            when they are not in the folder, or others.
        """
        path = Path(self.folder) / "modes.npz"
        if not path.exists():
            raise InputError(f"The model '{self.folder}' has lost its modes.npz: train it again, or copy the modes that it was trained with.")
        found = digest_file(str(path))
        if found != self.description["reference"]:
            raise InputError(
                f"The modes.npz in the model '{self.folder}' have the digest {found}, but the network was trained with those of "
                f"{self.description['reference']}: put the right modes back."
            )
        return read_modes(str(path))
