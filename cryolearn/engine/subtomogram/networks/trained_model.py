"""A trained network with what it knows: classes, confidence, and what is none of them."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ....common.checks import check_trained_for
from ...device import has_fast_bfloat16
from ...exceptions import InputError
from ...io.model_entries import require_agreement
from ...io.models import build_trained, fitting, load_model_of, save_model
from ...io.subtomograms import SubtomogramTable
from .by_name import build_network
from .confidence_calibration import KnownClasses, probabilities
from .network_input import keep_wedge, network_input, turn_volumes
from .network_residual import Residual3D

__all__ = ["SubtomogramModel"]

Volumes = Tensor | NDArray[np.float32]

_TILT_TOLERANCE_DEG = 5.0
_NEEDED = (
    "kind", "architecture", "arguments", "classes", "pixel_size_angst", "box", "wedge_channel", "average_turns", "temperature", "novelty_quantiles",
    "digest",
)


class SubtomogramModel:
    """A network and its calibration.

    Attributes
    ----------
    names : of the classes, number 1 first
    temperature : of the logits
    known : where the classes lie in the network's representation
    novelty_quantiles : (101,) percentiles of the novelty of unseen subtomograms of the known classes
    description : what ``model.json`` holds
    """

    def __init__(self, network: nn.Module, known: KnownClasses, description: dict[str, Any], device: torch.device) -> None:
        self.network, self.known, self.description, self.device = network.to(device).eval(), known, description, device
        self._layout = torch.contiguous_format
        if description["architecture"] == "residual3d":  # a third quicker on a CPU
            self._layout = torch.channels_last_3d
            self.network.to(memory_format=self._layout)  # type: ignore[call-overload]
        self.names = [str(name) for name in description["classes"]]
        self.temperature = float(description["temperature"])
        self.novelty_quantiles = np.asarray(description["novelty_quantiles"], np.float64)
        self.box, self.pixel_size_angst = int(description["box"]), float(description["pixel_size_angst"])

    @classmethod
    def load(cls, folder: str, device: torch.device) -> SubtomogramModel:
        """Read a model.

        Raises
        ------
        InputError
            when the folder holds none, or the model of another method.
        """
        weights, description = load_model_of(folder, "subtomogram", _NEEDED, "a network for subtomograms")
        with fitting(folder):
            known = KnownClasses(
                centres=weights.pop("known.centres").numpy(), whitening=weights.pop("known.whitening").numpy(),
                discriminants=int(description.get("novelty_discriminants", 0)),
            )
        own = {name.removeprefix("network."): values for name, values in weights.items()}
        network = build_trained(folder, own, lambda: build_network(description["architecture"], description["arguments"]))
        with fitting(folder):
            _check(folder, description, known)
        return cls(network, known, description, device)

    def save(self, folder: str) -> None:
        """Write ``weights.safetensors`` and ``model.json``."""
        state = {f"network.{name}": values for name, values in self.network.state_dict().items()}
        state |= {"known.centres": torch.from_numpy(self.known.centres), "known.whitening": torch.from_numpy(self.known.whitening)}
        save_model(folder, state, self.description)

    def check(self, table: SubtomogramTable) -> None:
        """Refuse subtomograms that the network cannot take; warn of tilt ranges that it has not been trained with.

        Raises
        ------
        InputError
            when box or voxel size are not those of the training.
        """
        check_trained_for("subtomograms", table.box, table.pixel_size_angst, self.box, self.pixel_size_angst)
        low, high = self.description.get("tilt_range_deg", (-90.0, 90.0))
        if max(abs(table.tilt_min_deg.min() - low), abs(table.tilt_max_deg.max() - high)) > _TILT_TOLERANCE_DEG:
            print(
                f"Warning: the subtomograms have tilts from {table.tilt_min_deg.min():g} to {table.tilt_max_deg.max():g} degrees, the network was trained with "
                f"{low:g} to {high:g}: its answers may be poor.", flush=True,
            )

    def look(self, volumes: Volumes, tilt_deg: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
        """Columns ``logits`` (n, classes), ``features`` (n, d) and ``class_distance`` (n, classes) of subtomograms.

        Parameters
        ----------
        volumes : (n, z, y, x)
            Density in the frame of the tomogram, of the box and voxel size of the training.
        tilt_deg : (n, 2)
            First and last tilt in degrees.
        """
        seen = self.represent(volumes, tilt_deg)
        representation = seen.pop("representation")
        return {**seen, "class_distance": self.known.distances(representation if self.known.discriminants else seen["features"])}

    @torch.no_grad()
    def represent(self, volumes: Volumes, tilt_deg: NDArray[np.float64]) -> dict[str, NDArray[np.float32]]:
        """Columns ``logits``, ``features`` and ``representation``, in which novelty is measured: what the class head is given, or the features."""
        seen = torch.as_tensor(volumes).to(self.device, torch.float32)
        made = network_input(seen, tilt_deg, bool(self.description["wedge_channel"]))
        turns = range(4) if self.description["average_turns"] else range(1)
        parts = [self._pass(turn_volumes(made, keep_wedge(tilt_deg, np.full(len(made), turn)))) for turn in turns]
        logits, features, representation = (torch.stack(items).mean(0) for items in zip(*parts))
        if len(turns) > 1:  # unit vectors
            features = torch.nn.functional.normalize(features, dim=1)
        return {"logits": logits.cpu().numpy(), "features": features.cpu().numpy(), "representation": representation.cpu().numpy()}

    def _pass(self, made: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        made = made.contiguous(memory_format=self._layout)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self._half_precision()):
            if isinstance(self.network, Residual3D):
                logits, features, representation = self.network.represent(made)
            else:
                logits, features = self.network(made)
                representation = features
        return logits.float(), features.float(), representation.float()

    def answer(self, logits: NDArray[np.float32], class_distance: NDArray[np.float32]) -> dict[str, NDArray[Any]]:
        """Columns ``best_class`` (from 1), ``confidence``, ``novelty``, ``probability`` (n, classes) from two columns of :meth:`look`."""
        probability = probabilities(logits, self.temperature)
        return {
            "best_class": (probability.argmax(1) + 1).astype(np.int32), "confidence": probability.max(1).astype(np.float32),
            "novelty": class_distance.min(1), "probability": probability.astype(np.float32),
        }

    def novelty_limit(self, reject_fraction: float) -> float:
        """Novelty above which lies this part of unseen subtomograms of the known classes; infinite for 0."""
        return float(np.interp(100 * (1 - reject_fraction), np.arange(101), self.novelty_quantiles)) if reject_fraction else float("inf")

    def _half_precision(self) -> bool:
        return self.device.type != "cpu" and self.description["architecture"] != "rif_svm" and has_fast_bfloat16(self.device)


def _check(folder: str, description: dict[str, Any], known: KnownClasses) -> None:
    """Refuse a model whose entries contradict one another."""
    if not all(isinstance(name, str) for name in description["classes"]):
        raise InputError(f"The trained model '{folder}' cannot be used: classes in its model.json are not names.")
    arguments, low_high = description["arguments"], description.get("tilt_range_deg", [-90.0, 90.0])
    require_agreement(folder, {"classes": description["classes"], "arguments.classes": int(arguments.get("classes", 0)), "known.centres": len(known.centres)})
    require_agreement(folder, {"101 percentiles": 101, "novelty_quantiles": description["novelty_quantiles"]})
    require_agreement(folder, {"a range": 2, "tilt_range_deg": low_high})
    length = known.centres.shape[-1]
    if known.whitening.shape != (length, length) or known.centres.ndim != 2:
        raise InputError(f"The weights in '{folder}' do not fit the network that its model.json describes: known.whitening is not {length} x {length}.")
    told = {"arguments.box": (arguments.get("box", description["box"]), description["box"]),
            "arguments.channels": (arguments.get("channels", 1), 1 + description["wedge_channel"])}
    for name, (one, other) in told.items():
        if one != other:
            raise InputError(f"The trained model '{folder}' cannot be used: {name} in its model.json is {one}, but its other entries say {other}.")
