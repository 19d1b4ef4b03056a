"""The Fourier slice projector against the analytic projection of Gaussians; point groups."""

from __future__ import annotations

import pytest
import torch

from cryolearn.engine.exceptions import InputError
from cryolearn.engine.imaging.ctf import Ctf, apply_ctf
from cryolearn.engine.imaging.poses import random_rotations, so3_exp
from cryolearn.engine.imaging.slices import VolumeProjector
from cryolearn.engine.imaging.symmetry import symmetry_matrices

from .imaging_cases import DEVICES, correlation, gaussian_model


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("box", [48, 47])
def test_projection_of_gaussians(box: int, device: str) -> None:
    """Correlation with the exact projection, shifts and CTF included, at least the .998 asked of referees; the scale is 1."""
    pixel, count = 3.0, 12
    model = gaussian_model(24, 5.0)
    generator = torch.Generator().manual_seed(0)
    rotations, shift = random_rotations(count, generator), (torch.rand(count, 2, generator=generator) - 0.5) * 12
    ctf = Ctf.constant(count, 12000, 10500, 30)
    expected = apply_ctf(model.images(rotations, shift, box, pixel), ctf, pixel)
    projector = VolumeProjector(model.volume(box, pixel).to(device) * pixel)
    found = projector.project_real(rotations.to(device), shift.to(device) / pixel, ctf.to(device), pixel).cpu()
    assert float(correlation(found, expected).min()) > 0.998
    scale = (found * expected).sum((1, 2)) / (expected * expected).sum((1, 2))
    assert float((scale - 1).abs().max()) < 0.02


def test_unrotated_projection_is_the_sum_along_z() -> None:
    """No interpolation is needed without a rotation, so only the padding's envelope is in the way."""
    volume = gaussian_model(15, 5.0).volume(48, 3.0)
    image = VolumeProjector(volume, padding=4).project_real(torch.eye(3)[None])[0]
    assert float((image - volume.sum(0)).abs().max()) < 0.01 * float(image.max())


def test_more_padding_is_better() -> None:
    model, rotations = gaussian_model(40, 5.0), random_rotations(6, torch.Generator().manual_seed(0))
    expected = model.images(rotations, torch.zeros(6, 2), 48, 3.0)
    volume = model.volume(48, 3.0) * 3.0
    errors = [float((VolumeProjector(volume, padding).project_real(rotations) - expected).norm()) for padding in (1, 2, 4)]
    assert errors[0] > errors[1] > errors[2]


def test_gradients_to_map_and_pose() -> None:
    volume = gaussian_model(8, 3.0, count=5).volume(8, 3.0).double().requires_grad_()
    vector = torch.tensor([[0.3, -0.2, 0.5]], dtype=torch.float64, requires_grad=True)

    def image(data: torch.Tensor, rotvec: torch.Tensor) -> torch.Tensor:
        return VolumeProjector(data).project_real(so3_exp(rotvec))

    assert torch.autograd.gradcheck(image, (volume, vector), eps=1e-6, atol=1e-6)


def test_refuses_what_is_not_a_cube() -> None:
    with pytest.raises(ValueError, match="equal sides"):
        VolumeProjector(torch.zeros(8, 8, 6))


@pytest.mark.parametrize("name, order", [("C1", 1), ("c4", 4), ("D2", 4), ("D7", 14), ("T", 12), ("O", 24), ("I", 60), ("I1", 60), ("I2", 60)])
def test_point_groups(name: str, order: int) -> None:
    """As many rotations as the group has, closed under products, identity first."""
    matrices = symmetry_matrices(name)
    eye = torch.eye(3, dtype=torch.float64)
    assert len(matrices) == order and torch.allclose(matrices[0], eye)
    assert torch.allclose(matrices @ matrices.transpose(1, 2), eye.expand(order, 3, 3), atol=1e-10)
    assert torch.allclose(torch.linalg.det(matrices), torch.ones(order, dtype=torch.float64))
    products = (matrices[:, None] @ matrices[None]).flatten(0, 1)
    distance = (products[:, None] - matrices[None]).flatten(2).abs().amax(2)
    assert float(distance.amin(1).max()) < 1e-6
    assert int((distance < 1e-6).sum()) == order**2


@pytest.mark.parametrize("name", ["", "X", "C0", "C", "I3", "../C1"])
def test_unknown_point_groups(name: str) -> None:
    with pytest.raises(InputError, match="symmetry"):
        symmetry_matrices(name)
