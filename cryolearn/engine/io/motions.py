"""Gaussian models that move: a reference, displacements, and how latent coordinates mix them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ...common.strict_json import json_text, parse_json
from ..exceptions import InputError
from .atomic import write_npz
from .modes import load_arrays

__all__ = ["BASES", "MotionModel", "basis_values", "read_motion", "write_motion"]

Array = NDArray[np.float64]
BASES = ("linear", "polynomial", "periodic", "states", "network")
_LARGEST = 1e9  # of places in Å and weights
_FIXED = ("positions_angst", "weights", "sigma_angst", "displacement", "weight_change")


def basis_values(basis: str, terms: int, latent: ArrayLike) -> Array:
    """Factors (..., D) of the ``D = terms`` displacement fields at latents (..., K).

    'linear': the latents themselves. 'polynomial': Legendre polynomials of degree 1 to D of one latent in [-1, 1].
    'periodic': cosine and sine of 1, 2, ... turns of one latent in [-1, 1]. 'states': 1 at the whole number given, else 0.

    Raises
    ------
    ValueError
        when the latents do not fit the basis.
    """
    z = np.asarray(latent, np.float64)
    if basis == "linear":
        if z.shape[-1] != terms:
            raise ValueError(f"{terms} latents are needed, not {z.shape[-1]}")
        return z
    if z.shape[-1] != 1:
        raise ValueError(f"the basis '{basis}' has one latent, not {z.shape[-1]}")
    if basis == "polynomial":
        return np.stack([np.polynomial.legendre.Legendre.basis(degree)(z[..., 0]) for degree in range(1, terms + 1)], axis=-1)
    if basis == "periodic":
        turns = np.arange(terms) // 2 + 1
        angle = np.pi * z * turns
        return np.where(np.arange(terms) % 2 == 0, np.cos(angle), np.sin(angle))
    if basis == "states":
        return (np.round(z).astype(np.int64) == np.arange(terms)).astype(np.float64)
    raise ValueError(f"unknown basis '{basis}'")


@dataclass(kw_only=True)
class MotionModel:
    """Gaussians whose positions and weights depend on latent coordinates z.

    ``p_m(z) = p_m + sum_d phi_d(z) displacement_dm`` and ``w_m(z) = w_m max(0, 1 + sum_d phi_d(z) weight_change_dm)``.

    Attributes
    ----------
    positions_angst : (M, 3)
        x, y, z in Å from the centre (voxel n // 2) of the box.
    weights : (M,)
        Integrals in density x Å^3.
    sigma_angst : (M,)
        Standard deviations in Å.
    displacement : (D, M, 3)
        Å.
    weight_change : (D, M)
        Relative change of the weights.
    basis : str
        How z gives phi: see :func:`basis_values`; 'network' is a perceptron with SiLU between its ``layers``.
    layers : list of (weight (out, in), bias (out,))
        Of the basis 'network'.
    meta : dict
        box, pixel_size_angst, origin_angst (of the map file), resolution_angst, latent_names ...
    """

    positions_angst: Array
    weights: Array
    sigma_angst: Array
    displacement: Array
    weight_change: Array
    basis: str = "linear"
    layers: list[tuple[Array, Array]] = field(default_factory=list)
    meta: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.weights)

    @property
    def latent_dim(self) -> int:
        """Number of latent coordinates of a particle."""
        if self.basis == "network":
            return int(self.layers[0][0].shape[1])
        return len(self.displacement) if self.basis == "linear" else 1

    def basis_values(self, latent: ArrayLike) -> Array:
        """Factors (..., D) of the displacement fields at latents (..., K)."""
        if self.basis != "network":
            return basis_values(self.basis, len(self.displacement), latent)
        values = np.asarray(latent, np.float64)
        for number, (weight, bias) in enumerate(self.layers):
            values = values @ weight.T + bias
            if number < len(self.layers) - 1:
                values = values / (1 + np.exp(-values))
        return values

    def conformation(self, latent: ArrayLike) -> tuple[Array, Array]:
        """Positions (..., M, 3) in Å and weights (..., M) at latents (..., K)."""
        factors = self.basis_values(latent)
        moved = self.positions_angst + np.tensordot(factors, self.displacement, axes=1)
        return moved, self.weights * np.clip(1 + factors @ self.weight_change, 0, None)


def write_motion(path: str, model: MotionModel) -> None:
    """Write a model as npz; a reader sees the old file or the whole new one."""
    arrays: dict[str, Any] = {name: getattr(model, name) for name in _FIXED}
    for number, (weight, bias) in enumerate(model.layers):
        arrays[f"layer{number}_weight"], arrays[f"layer{number}_bias"] = weight, bias
    arrays["description"] = np.array(json_text({"basis": model.basis, "layers": len(model.layers), "meta": model.meta}))
    write_npz(path, arrays)


def read_motion(path: str) -> MotionModel:
    """Read a model that :func:`write_motion` wrote.

    Raises
    ------
    InputError
        when the file is absent, damaged, or is something else.
    """
    arrays = load_arrays(path)
    missing = [name for name in (*_FIXED, "description") if name not in arrays]
    if missing:
        raise InputError(f"'{path}' is not a motion model of this software: it has no array '{missing[0]}'.")
    try:
        described = parse_json(str(arrays["description"]))
        basis, count, meta = described["basis"], int(described["layers"]), dict(described["meta"])
        layers = [(arrays[f"layer{number}_weight"], arrays[f"layer{number}_bias"]) for number in range(count)]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"The description in the motion model '{path}' is damaged: {error}.") from error
    for name in [*_FIXED, *(name for name in arrays if name.startswith("layer"))]:
        if arrays[name].dtype.kind not in "iuf" or not (np.abs(arrays[name].astype(np.float64)) <= _LARGEST).all():
            raise InputError(f"The array '{name}' of the motion model '{path}' holds text, NaN, infinite or impossible values.")
    if not all(arrays[name].ndim for name in _FIXED):
        raise InputError(f"The arrays of the motion model '{path}' do not fit one another.")
    model = MotionModel(**{name: arrays[name].astype(np.float64) for name in _FIXED}, basis=basis, layers=layers, meta=meta)
    if basis not in BASES:
        raise InputError(f"The motion model '{path}' has the unknown basis '{basis}'.")
    gaussians, terms = len(model), len(model.displacement)
    shapes = {"positions_angst": (gaussians, 3), "weights": (gaussians,), "sigma_angst": (gaussians,), "displacement": (terms, gaussians, 3),
              "weight_change": (terms, gaussians)}
    for name, shape in shapes.items():
        values = getattr(model, name)
        if values.shape != shape:
            raise InputError(f"The array '{name}' of the motion model '{path}' is {values.shape}, but {shape} belongs there.")
    if basis == "network" and not _is_chain(layers, terms):
        raise InputError(f"The layers of the motion model '{path}' do not fit one another, or its displacements.")
    return model


def _is_chain(layers: list[tuple[Array, Array]], terms: int) -> bool:
    """Whether each layer takes what the one before gives, and the last gives a factor for each displacement."""
    given = [*(weight.shape[0] if weight.ndim == 2 else -1 for weight, _ in layers)]
    taken = [*(weight.shape[1] if weight.ndim == 2 else -2 for weight, _ in layers)]
    return bool(layers) and given[-1] == terms and given[:-1] == taken[1:] and all(bias.shape == (count,) for (_, bias), count in zip(layers, given))
