"""Motion models: bases against closed forms, conformations by hand, files there and back, damaged ones refused."""

from __future__ import annotations

import numpy as np
import pytest

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.io.motions import BASES, MotionModel, basis_values, read_motion, write_motion


def _model(basis: str = "polynomial", terms: int = 3, gaussians: int = 5, **changes) -> MotionModel:
    random = np.random.default_rng(0)
    values = dict(
        positions_angst=random.normal(0, 20, (gaussians, 3)), weights=random.uniform(0.5, 2, gaussians), sigma_angst=random.uniform(2, 3, gaussians),
        displacement=random.normal(0, 2, (terms, gaussians, 3)), weight_change=random.normal(0, 0.2, (terms, gaussians)), basis=basis,
        meta={"box": 32, "pixel_size_angst": 4.0, "origin_angst": [1.0, 2.0, 3.0]},
    )
    return MotionModel(**{**values, **changes})


def test_polynomials_are_legendre() -> None:
    z = np.linspace(-1, 1, 7)[:, None]
    found = basis_values("polynomial", 3, z)
    assert np.allclose(found, np.concatenate([z, (3 * z**2 - 1) / 2, (5 * z**3 - 3 * z) / 2], axis=1))


def test_a_closed_path_comes_back() -> None:
    z = np.linspace(-1, 1, 9)[:, None]
    found = basis_values("periodic", 4, z)
    assert np.allclose(found[0], found[-1])
    angle = np.pi * z[:, 0]
    assert np.allclose(found, np.stack([np.cos(angle), np.sin(angle), np.cos(2 * angle), np.sin(2 * angle)], axis=1))


def test_states_and_linear_latents() -> None:
    assert np.array_equal(basis_values("states", 3, [[0.0], [2.0], [5.0]]), [[1, 0, 0], [0, 0, 1], [0, 0, 0]])
    assert np.array_equal(basis_values("linear", 2, [[0.5, -2.0]]), [[0.5, -2.0]])
    for basis, latent in (("linear", [1.0]), ("polynomial", [1.0, 2.0]), ("screws", [1.0])):
        with pytest.raises(ValueError):
            basis_values(basis, 2, latent)


@pytest.mark.parametrize("basis", [basis for basis in BASES if basis != "network"])
def test_a_conformation_is_the_reference_plus_its_fields(basis: str) -> None:
    model = _model(basis)
    latent = np.full((2, model.latent_dim), 1.0)
    latent[1] = 0.0
    places, weights = model.conformation(latent)
    factors = model.basis_values(latent)
    assert places.shape == (2, 5, 3) and weights.shape == (2, 5)
    for row in range(2):
        moved = model.positions_angst + sum(factor * field for factor, field in zip(factors[row], model.displacement))
        change = 1 + sum(factor * field for factor, field in zip(factors[row], model.weight_change))
        assert np.allclose(places[row], moved) and np.allclose(weights[row], model.weights * change)
    one, _ = model.conformation(latent[0])
    assert np.allclose(one, places[0])


def test_weights_never_become_negative() -> None:
    model = _model("linear", 1, weight_change=np.full((1, 5), -0.4))
    assert np.allclose(model.conformation([2.0])[1], 0.2 * model.weights)
    assert np.array_equal(model.conformation([4.0])[1], np.zeros(5))


def test_a_network_is_a_perceptron_with_silu() -> None:
    """Two layers by hand: z -> silu(2 z) -> fields."""
    model = _model("network", 2, layers=[(np.array([[2.0]]), np.zeros(1)), (np.array([[1.0], [-1.0]]), np.array([0.0, 0.5]))])
    inner = 2 * 0.7 / (1 + np.exp(-2 * 0.7))
    assert model.latent_dim == 1
    assert np.allclose(model.basis_values([0.7]), [inner, 0.5 - inner])


@pytest.mark.parametrize("basis", BASES)
def test_files_there_and_back(basis: str, tmp_path) -> None:
    layers = [(np.ones((4, 2)), np.zeros(4)), (np.ones((3, 4)), np.ones(3))] if basis == "network" else []
    model = _model(basis, layers=layers)
    path = str(tmp_path / "motion.npz")
    write_motion(path, model)
    again = read_motion(path)
    latent = np.zeros((3, model.latent_dim)) + np.array([[0.0], [1.0], [0.3]])
    assert again.basis == basis and again.meta == model.meta and again.latent_dim == model.latent_dim
    for name in ("positions_angst", "weights", "sigma_angst", "displacement", "weight_change"):
        assert np.array_equal(getattr(again, name), getattr(model, name))
    assert all(np.array_equal(a, b) for mine, theirs in zip(again.layers, model.layers) for a, b in zip(mine, theirs))
    assert np.array_equal(again.conformation(latent)[0], model.conformation(latent)[0])
    assert [file.name for file in tmp_path.iterdir()] == ["motion.npz"]


@pytest.mark.parametrize(("changes", "words"), [
    (dict(displacement=np.zeros((3, 4, 3))), "'displacement'"), (dict(weight_change=np.zeros((2, 5))), "'weight_change'"),
    (dict(sigma_angst=np.full(5, np.nan)), "NaN"), (dict(basis="screws"), "unknown basis"),
])
def test_models_that_do_not_fit_are_refused(changes, words: str, tmp_path) -> None:
    path = str(tmp_path / "motion.npz")
    write_motion(path, _model(**changes))
    with pytest.raises(InputError, match=words):
        read_motion(path)


def test_other_files_are_refused(tmp_path) -> None:
    path = str(tmp_path / "motion.npz")
    with pytest.raises(InputError, match="motion"):
        read_motion(path)
    np.savez(path, positions_angst=np.zeros((2, 3)))
    with pytest.raises(InputError, match="no array 'weights'"):
        read_motion(path)
    arrays = dict(positions_angst=np.zeros((2, 3)), weights=np.ones(2), sigma_angst=np.ones(2), displacement=np.zeros((1, 2, 3)),
                  weight_change=np.zeros((1, 2)))
    np.savez(path, **arrays, description=np.array("{not JSON"))
    with pytest.raises(InputError, match="damaged"):
        read_motion(path)
    np.savez(path, **arrays, description=np.array([{"basis": "linear"}], dtype=object))
    with pytest.raises(InputError):  # nothing is unpickled
        read_motion(path)
