"""Trained models on disk: weights as safetensors, everything else in ``model.json``. Nothing is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ... import __version__
from ..exceptions import InputError
from .atomic import plain_value, whole_file, write_text

WEIGHTS = "weights.safetensors"
DESCRIPTION = "model.json"


def save_model(folder: str, state_dict: Mapping[str, torch.Tensor], description: Mapping[str, Any]) -> None:
    """Write a model's weights and description.

    Parameters
    ----------
    folder : str
        Folder of the model; it is made when absent.
    state_dict : mapping of str to tensor
        The weights.
    description : mapping
        Architecture, its parameters, digest of the training data, pixel size, box; the versions of this software
        and of PyTorch are added.
    """
    os.makedirs(folder, exist_ok=True)
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    complete = {**description, "versions": {"cryolearn": __version__, "torch": torch.__version__}}
    text = json.dumps(complete, indent=2, sort_keys=True, default=plain_value) + "\n"  # before the weights, so that a bad description leaves both files
    with whole_file(os.path.join(folder, WEIGHTS)) as part:
        save_file(weights, part)
    write_text(os.path.join(folder, DESCRIPTION), text)


def load_model(folder: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a model's weights (on the CPU) and description.

    Raises
    ------
    InputError
        when one of the two files is absent or damaged.
    """
    path = os.path.join(folder, DESCRIPTION)
    try:
        with open(path, encoding="utf-8") as handle:
            description = json.load(handle)
    except (OSError, ValueError) as error:
        raise InputError(f"'{folder}' is not a trained model: '{DESCRIPTION}' in it cannot be read ({error}).") from error
    if not isinstance(description, dict):
        raise InputError(f"'{folder}' is not a trained model: '{DESCRIPTION}' in it holds no description.")
    path = os.path.join(folder, WEIGHTS)
    try:
        weights = load_file(path)
    except (OSError, SafetensorError) as error:
        raise InputError(f"The weights '{path}' of the trained model cannot be read: {error}.") from error
    return weights, description


def load_model_of(folder: str, kind: str, needed: Sequence[str], what: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """:func:`load_model`, of one method only.

    Parameters
    ----------
    folder
        Folder of the model.
    kind
        Name of models of this method in the description.
    needed
        Entries that it must have, ``kind`` among them.
    what
        The model in a sentence, "a distance network" say.

    Raises
    ------
    InputError
        also when the model is that of another method.
    """
    weights, description = load_model(folder)
    missing = [name for name in needed if name not in description]
    if missing or description["kind"] != kind:
        raise InputError(f"'{folder}' is not {what}: its model.json has no '{(missing or [f'kind: {kind}'])[0]}'.")
    return weights, description
