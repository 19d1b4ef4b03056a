"""Networks for subtomograms: the weights that the paper counts, invariances, and a support vector machine that is scikit-learn's."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

from cryolearn.common.checks import check_network_box
from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.missing_wedge import wedge_mask
from cryolearn.engine.imaging.poses import euler_to_matrix
from cryolearn.engine.subtomogram.networks.by_name import build_network
from cryolearn.engine.subtomogram.networks.network_input import keep_wedge, move_volumes, network_input, standardise
from cryolearn.engine.subtomogram.networks.network_residual import supervised_contrastive
from cryolearn.engine.subtomogram.networks.rotation_invariant_features import DEGREE, fit_svm, rif_features, rif_length
from cryolearn.engine.training.training_run import count_weights


@pytest.mark.parametrize(("name", "weights"), [("inception3d", 18_206_983), ("dsrf3d", 33_237_559)])
def test_the_papers_networks_have_the_papers_weights(name: str, weights: int) -> None:
    with torch.device("meta"):
        network = build_network(name, {"classes": 23, "box": 40})
    assert count_weights(network) == weights
    small = build_network(name, {"classes": 5, "box": 16}).eval()
    logits, features = small(torch.randn(2, 1, 16, 16, 16))
    assert logits.shape == (2, 5) and features is logits
    with pytest.raises(InputError, match=r"a box of 15 .* 'dsrf3d' wants a multiple of 4"):
        check_network_box("dsrf3d", 15)


def test_the_default_network_is_small_and_embeds_on_the_sphere() -> None:
    network = build_network("residual3d", {"classes": 23, "box": 40}).eval()
    assert round(count_weights(network) / 1000) == 263  # thousand: the table of networks in docs/subtomograms.rst
    logits, features = network(torch.randn(3, 1, 40, 40, 40))
    assert logits.shape == (3, 23)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))


@pytest.mark.parametrize("name", ["residual3d", "inception3d", "dsrf3d"])
def test_no_amplitude_reaches_a_network(name: str) -> None:
    """Strength and offset of a subtomogram change nothing, so its standard deviation cannot tell its class."""
    torch.manual_seed(0)
    network = build_network(name, {"classes": 4, "box": 16}).eval()
    volumes = torch.randn(3, 16, 16, 16)
    tilts = np.tile([-60.0, 60.0], (3, 1))
    scaled = volumes * torch.tensor([0.01, 3.0, 250.0])[:, None, None, None] + torch.tensor([5.0, -1.0, 40.0])[:, None, None, None]
    one, other = (network(network_input(seen, tilts, False))[0] for seen in (volumes, scaled))
    torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    seen = standardise(scaled)
    torch.testing.assert_close(seen.std((1, 2, 3), correction=0), torch.ones(3), rtol=1e-5, atol=1e-5)
    assert not bool(standardise(torch.full((1, 4, 4, 4), 7.0)).any())


def test_half_turns_keep_the_wedge_and_the_centre() -> None:
    box = 12
    mask = wedge_mask(box, -60, 60)
    volume = torch.fft.fftshift(torch.fft.irfftn(torch.fft.rfftn(torch.randn(box, box, box)) * mask, s=(box,) * 3))
    point = torch.zeros(1, 1, box, box, box)
    point[0, 0, box // 2, box // 2 + 1, box // 2 + 3] = 1  # x = 3, y = 1, z = 0
    for turn, place in ((1, (3, -1)), (2, (-3, 1)), (3, (-3, -1))):
        moved = move_volumes(volume[None, None], np.array([turn]), np.zeros((1, 3), np.int64))[0, 0]
        power = torch.fft.rfftn(moved).abs().square()
        assert float(power[mask == 0].sum() / power.sum()) < 1e-9
        seen = move_volumes(point, np.array([turn]), np.zeros((1, 3), np.int64))[0, 0]
        assert bool(seen[box // 2, box // 2 + place[1], box // 2 + place[0]] == 1)
    shifted = move_volumes(point, np.array([0]), np.array([[1, 2, -3]]))[0, 0]
    assert bool(shifted[box // 2 - 3, box // 2 + 3, box // 2 + 4] == 1)
    tilts = np.array([[-60.0, 60.0], [-40.0, 60.0]])
    assert keep_wedge(np.repeat(tilts, 4, 0), np.tile(np.arange(4), 2)).tolist() == [0, 1, 2, 3, 0, 0, 2, 2]


def test_the_wedge_channel_says_what_was_measured() -> None:
    volumes = torch.randn(3, 8, 8, 8)
    seen = network_input(volumes, np.array([[-60.0, 60.0], [-30.0, 30.0], [-60.0, 60.0]]), True)
    assert seen.shape == (3, 2, 8, 8, 8)
    torch.testing.assert_close(seen[0, 1], seen[2, 1])
    assert float(seen[1, 1].mean()) < float(seen[0, 1].mean())
    half = torch.fft.ifftshift(seen[0, 1])[..., :5]
    torch.testing.assert_close((half[1:4, :, :4] + 1) / 2, wedge_mask(8, -60, 60)[1:4, :, :4])


def test_the_contrastive_loss_is_that_of_its_definition() -> None:
    features = torch.nn.functional.normalize(torch.randn(5, 3, dtype=torch.float64), dim=1)
    labels = torch.tensor([0, 1, 0, 0, 2])
    found = supervised_contrastive(features, labels)
    similarity = torch.exp(features @ features.T / 0.1)
    for i in range(5):
        others = [a for a in range(5) if a != i]
        alike = [p for p in others if labels[p] == labels[i]]
        total = sum(similarity[i, a] for a in others)
        expected = -sum(torch.log(similarity[i, p] / total) for p in alike) / max(len(alike), 1)
        torch.testing.assert_close(found[i], torch.as_tensor(expected, dtype=torch.float64))


def gaussians(places: torch.Tensor, box: int) -> torch.Tensor:
    axis = torch.arange(box, dtype=torch.float64) - box // 2
    z, y, x = torch.meshgrid(axis, axis, axis, indexing="ij")
    return sum(torch.exp(-((x - p[0]) ** 2 + (y - p[1]) ** 2 + (z - p[2]) ** 2) / 8) for p in places).float()


def test_features_do_not_turn_with_the_molecule() -> None:
    """Real-space features are blind to rotation, the transform's modulus to shifts too; spheres of one blob have the known length of degree 0."""
    box = 24
    places = torch.tensor([[3.0, 1, 0], [-2, 4, 1], [0, -3, -4]], dtype=torch.float64)
    turn = euler_to_matrix(torch.tensor([40.0, 75, -20], dtype=torch.float64))
    other = torch.tensor([[5.0, 0, 0], [-5, 0, 0], [0, 5, 0]], dtype=torch.float64)
    volumes = torch.stack([gaussians(places, box), gaussians(places @ turn.T, box), gaussians(other, box), gaussians(places + 2, box)])
    for space in ("real", "fourier"):
        found = rif_features(volumes, space)
        assert found.shape == (4, rif_length(box, space))
        same = float((found[0] - found[1]).norm() / found[0].norm())
        apart = float((found[0] - found[2]).norm() / found[0].norm())
        assert same < 0.05 and same < apart / 4
    moved = rif_features(volumes, "fourier")
    assert float((moved[0] - moved[3]).norm() / moved[0].norm()) < 1e-3
    centred = rif_features(gaussians(torch.zeros(1, 3), box)[None], "real").view(-1, DEGREE + 1)
    radii = torch.arange(1, box // 2, dtype=torch.float32)
    torch.testing.assert_close(centred[:, 0], np.sqrt(4 * np.pi) * torch.exp(-(radii**2) / 8), rtol=0.1, atol=0.06)
    assert float(centred[:, 1:].max()) < 0.1


@pytest.mark.parametrize("classes", [2, 5])
def test_the_stored_machine_is_scikit_learns(classes: int) -> None:
    generator = np.random.default_rng(0)
    labels = np.arange(60) % classes
    centres = generator.normal(size=(classes, rif_length(12, "real")))
    features = centres[labels] + 1.5 * generator.normal(size=(60, centres.shape[1]))
    machine, chosen = fit_svm(features, labels, 12, classes, "real", [1.0, 10.0], True, 1)
    assert chosen in (1.0, 10.0)
    scaler = StandardScaler().fit(features)
    fresh = generator.normal(size=(40, centres.shape[1])) + centres[np.arange(40) % classes]
    reference = SVC(C=chosen, gamma="scale", class_weight="balanced").fit(scaler.transform(features), labels)
    found = machine.decide(torch.as_tensor(scaler.transform(fresh), dtype=torch.float32)).numpy()
    expected = reference.decision_function(scaler.transform(fresh))
    if classes == 2:
        assert (found.argmax(1) == reference.predict(scaler.transform(fresh))).all()
        assert np.corrcoef(found[:, 1] - found[:, 0], expected)[0, 1] > 0.9
    else:
        np.testing.assert_allclose(found, expected, atol=1e-3)
