"""Trained models on disk: weights as safetensors, everything else in ``model.json``. Nothing is unpickled."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import nn

from ... import __version__
from ...common.strict_json import read_json
from ..exceptions import InputError
from .atomic import plain_value, whole_file, write_text
from .model_entries import check_entries

__all__ = ["build_trained", "fitting", "load_model", "load_model_of", "save_model"]

_LARGEST_WEIGHT = 1e9

N = TypeVar("N", bound=nn.Module)

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

    Raises
    ------
    InputError
        when weights or numbers of the description are NaN or infinite: the training diverged.
    """
    weights = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state_dict.items()}
    wrong = _not_finite(weights)
    if wrong:
        raise InputError(f"The trained model '{folder}' is not written: its weights '{wrong}' are NaN or beyond measure. Train with a lower learning rate.")
    complete = {**description, "versions": {"cryolearn": __version__, "torch": torch.__version__}}
    try:  # before the weights, so that a bad description leaves both files
        text = json.dumps(complete, indent=2, sort_keys=True, default=plain_value, allow_nan=False) + "\n"
    except ValueError as error:
        raise InputError(f"The trained model '{folder}' is not written: its description holds NaN or infinity. Train with a lower learning rate.") from error
    os.makedirs(folder, exist_ok=True)
    with whole_file(os.path.join(folder, WEIGHTS)) as part:
        save_file(weights, part)
    write_text(os.path.join(folder, DESCRIPTION), text)


def load_model(folder: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Read a model's weights (on the CPU) and description.

    Raises
    ------
    InputError
        when one of the two files is absent or damaged, a number in it is NaN, infinite or out of its range, or an entry is of another kind.
    """
    path = os.path.join(folder, DESCRIPTION)
    try:
        description = read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"'{folder}' is not a trained model: '{DESCRIPTION}' in it cannot be read ({error}).") from error
    if not isinstance(description, dict):
        raise InputError(f"'{folder}' is not a trained model: '{DESCRIPTION}' in it holds no description.")
    check_entries(folder, description)
    path = os.path.join(folder, WEIGHTS)
    try:
        weights = load_file(path)
    except (OSError, SafetensorError, ValueError, RuntimeError, KeyError, MemoryError) as error:
        raise InputError(f"The weights '{path}' of the trained model cannot be read: {error}.") from error
    wrong = _not_finite(weights)
    if wrong:
        raise InputError(f"The weights '{wrong}' in '{path}' of the trained model are NaN, infinite or beyond measure: train it again.")
    return weights, description


def _not_finite(weights: Mapping[str, torch.Tensor]) -> str:
    """Name of the first tensor that holds NaN, infinity or what no training comes to, '' where there is none."""
    return next((name for name, values in weights.items() if values.is_floating_point() and not bool((values.float().abs() <= _LARGEST_WEIGHT).all())), "")


def load_model_of(folder: str, kind: str, needed: Sequence[str], what: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """:func:`load_model`, of one method only.

    Parameters
    ----------
    folder
        Folder of the model.
    kind
        Name of models of this method in the description.
    needed
        Entries that it must have; without ``kind`` among them, all that tells models of this method are these.
    what
        The model in a sentence, "a distance network" say.

    Raises
    ------
    InputError
        also when the model is that of another method.
    """
    weights, description = load_model(folder)
    missing = [name for name in needed if name not in description]
    if missing or ("kind" in needed and description["kind"] != kind):
        raise InputError(f"'{folder}' is not {what}: its model.json has no '{(missing or [f'kind: {kind}'])[0]}'.")
    return weights, description


@contextmanager
def fitting(folder: str) -> Iterator[None]:
    """Where a model's description and weights are put to use: what does not fit there is said in one sentence.

    Raises
    ------
    InputError
        for whatever error a foreign description makes.
    """
    try:
        yield
    except InputError as error:
        text = str(error)
        raise InputError(text if folder in text else f"The trained model '{folder}' cannot be used: {text[:1].lower()}{text[1:]}") from error
    except (RuntimeError, KeyError, TypeError, ValueError, IndexError, AttributeError, ArithmeticError, MemoryError) as error:
        reason = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise InputError(
            f"The weights in '{folder}' do not fit the network that its model.json describes ({reason.rstrip('.')}): train it anew with this version."
        ) from error


def build_trained(folder: str, weights: Mapping[str, torch.Tensor], build: Callable[[], N]) -> N:
    """A network with trained weights, made when its tensors are those of the file: what is described has no memory before.

    Parameters
    ----------
    folder
        Folder of the model, for messages.
    weights
        Its weights.
    build
        Makes the untrained network that it describes.

    Raises
    ------
    InputError
        when the network cannot be made so, or has other weights.
    """
    with fitting(folder):
        with torch.device("meta"):
            shapes = {name: values.shape for name, values in build().state_dict().items()}
        for name in sorted(shapes.keys() | weights.keys()):
            needed, given = shapes.get(name), weights[name].shape if name in weights else None
            if needed != given:
                raise ValueError(f"{name} is {_shape(given)}, and must be {_shape(needed)}")
        network = build()
        network.load_state_dict({name: values.float() if values.is_floating_point() else values for name, values in weights.items()})
    return network


def _shape(shape: torch.Size | None) -> str:
    return "absent" if shape is None else " x ".join(map(str, shape)) or "one number"
