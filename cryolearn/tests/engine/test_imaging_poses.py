"""Poses: identities of the rotation group, RELION's Euler convention, even coverage of the grids."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from cryolearn.engine.imaging import poses

from .imaging_cases import DEVICES

ANGLES = st.tuples(st.floats(-180, 180), st.floats(0, 180), st.floats(-180, 180))
VECTOR = st.tuples(*[st.floats(-3, 3)] * 3)
few = settings(max_examples=50, deadline=None)


def _close(first: torch.Tensor, second: torch.Tensor, tolerance: float = 1e-9) -> None:
    assert torch.allclose(first, second, atol=tolerance, rtol=0), float((first - second).abs().max())


@few
@given(ANGLES)
def test_euler_matrix_is_scipys(angles: tuple[float, float, float]) -> None:
    """RELION's A is the inverse of the intrinsic ZYZ rotation by rot, tilt, psi."""
    expected = Rotation.from_euler("ZYZ", angles, degrees=True).inv().as_matrix()
    _close(poses.euler_to_matrix(torch.tensor(angles, dtype=torch.float64)), torch.from_numpy(expected))


def test_euler_matrix_written_out() -> None:
    """Third row: the viewing direction (sin tilt cos rot, sin tilt sin rot, cos tilt); psi turns the picture."""
    matrix = poses.euler_to_matrix(torch.tensor([30.0, 60.0, 0.0], dtype=torch.float64))
    sin_tilt, cos_rot, sin_rot = math.sqrt(3) / 2, math.sqrt(3) / 2, 0.5
    _close(matrix[2], torch.tensor([sin_tilt * cos_rot, sin_tilt * sin_rot, 0.5], dtype=torch.float64))
    quarter = poses.euler_to_matrix(torch.tensor([0.0, 0.0, 90.0], dtype=torch.float64))
    _close(quarter @ torch.tensor([1.0, 0, 0], dtype=torch.float64), torch.tensor([0.0, -1, 0], dtype=torch.float64))


@few
@given(ANGLES)
def test_euler_round_trip(angles: tuple[float, float, float]) -> None:
    matrix = poses.euler_to_matrix(torch.tensor(angles, dtype=torch.float64))
    back = poses.matrix_to_euler(matrix)
    assert 0 <= float(back[1]) <= 180
    _close(poses.euler_to_matrix(back), matrix, 1e-7)


@pytest.mark.parametrize("tilt", [0.0, 180.0])
def test_euler_at_the_poles(tilt: float) -> None:
    matrix = poses.euler_to_matrix(torch.tensor([40.0, tilt, 25.0]))
    back = poses.matrix_to_euler(matrix)
    assert float(back[0]) == 0
    _close(poses.euler_to_matrix(back), matrix, 1e-5)


@few
@given(VECTOR)
def test_exponential_and_logarithm(vector: tuple[float, float, float]) -> None:
    rotvec = torch.tensor(vector, dtype=torch.float64)
    matrix = poses.so3_exp(rotvec)
    _close(matrix, torch.from_numpy(Rotation.from_rotvec(vector).as_matrix()))
    _close(matrix @ poses.so3_exp(-rotvec), torch.eye(3, dtype=torch.float64))
    _close(poses.so3_exp(poses.so3_log(matrix)), matrix, 1e-7)


def test_exponential_is_differentiable_at_the_identity() -> None:
    vector = torch.zeros(3, dtype=torch.float64, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(poses.so3_exp, vector)
    generators = torch.zeros(3, 3, 3, dtype=torch.float64)  # d/dv_k of exp: the skew matrices
    for k, (i, j) in enumerate(((2, 1), (0, 2), (1, 0))):
        generators[i, j, k], generators[j, i, k] = 1, -1
    _close(jacobian, generators)


def test_quaternions() -> None:
    matrices = poses.random_rotations(200, torch.Generator().manual_seed(0), torch.float64)
    quaternions = poses.matrix_to_quaternion(matrices)
    assert torch.all(quaternions[:, 3] >= 0)
    expected = Rotation.from_matrix(matrices.numpy()).as_quat()
    expected *= np.where(expected[:, 3:] < 0, -1, 1)
    _close(quaternions, torch.from_numpy(expected))
    _close(poses.quaternion_to_matrix(5 * quaternions), matrices)


@few
@given(VECTOR, st.floats(1e-6, math.pi))
def test_angle_between(axis: tuple[float, float, float], angle: float) -> None:
    """The angle of A exp(v) against A is |v|, tiny ones included."""
    direction = torch.tensor(axis, dtype=torch.float64)
    if direction.norm() < 1e-3:
        return
    start = poses.euler_to_matrix(torch.tensor([10.0, 20, 30], dtype=torch.float64))
    turned = start @ poses.so3_exp(direction / direction.norm() * angle)
    assert math.radians(float(poses.angle_between_deg(start, turned))) == pytest.approx(angle, rel=1e-6)


def test_in_plane_rotation_turns_the_picture() -> None:
    pose = poses.euler_to_matrix(torch.tensor([10.0, 20, 30], dtype=torch.float64))
    _close(poses.rotation_z(torch.tensor(12.0, dtype=torch.float64)) @ pose, poses.euler_to_matrix(torch.tensor([10.0, 20, 18], dtype=torch.float64)))


def test_random_rotations_are_uniform() -> None:
    """Mean 0 for each element, second moment 1/3, and the angle's law (1 - cos a) / pi: mean pi / 2 + 2 / pi."""
    count = 20000
    matrices = poses.random_rotations(count, torch.Generator().manual_seed(3), torch.float64)
    error = 4 / math.sqrt(count)  # four standard errors of a quantity whose spread is below 1
    assert float(matrices.mean(0).abs().max()) < error
    assert float(((matrices**2).mean(0) - 1 / 3).abs().max()) < error
    angle = torch.deg2rad(poses.angle_between_deg(matrices, torch.eye(3, dtype=torch.float64)))
    assert float(angle.mean()) == pytest.approx(math.pi / 2 + 2 / math.pi, abs=error)


def test_seed_gives_the_same_poses() -> None:
    first, second = (poses.random_rotations(5, torch.Generator().manual_seed(9)) for _ in range(2))
    assert torch.equal(first, second)


def test_view_grid_is_even() -> None:
    """Each direction of a uniform sample has a grid view within 1.5 spacings; the mean direction vanishes."""
    count = 500
    views = poses.view_grid(count, torch.float64)
    _close(views @ views.transpose(1, 2), torch.eye(3, dtype=torch.float64).expand(count, 3, 3))
    _close(views[:, 2].mean(0), torch.zeros(3, dtype=torch.float64), 2 / count)
    assert float(poses.matrix_to_euler(views)[:, 2].abs().max()) < 1e-6
    spacing = math.sqrt(4 * math.pi / count)
    sample = poses.random_rotations(2000, torch.Generator().manual_seed(1), torch.float64)[:, 2]
    nearest = torch.acos((sample @ views[:, 2].T).clamp(-1, 1)).amin(1)
    assert float(nearest.max()) < 1.5 * spacing


def test_rotation_grid_covers_so3() -> None:
    step = 20.0
    grid = poses.rotation_grid(step, torch.float64)
    expected = 4 * math.pi / math.radians(step) ** 2 * 360 / step
    assert len(grid) == pytest.approx(expected, rel=0.02)
    sample = poses.random_rotations(300, torch.Generator().manual_seed(2), torch.float64)
    nearest = poses.angle_between_deg(sample[:, None], grid[None]).amin(1)
    assert float(nearest.max()) < 1.5 * step
    with pytest.raises(ValueError, match="step_deg"):
        poses.rotation_grid(0)


@pytest.mark.parametrize("device", DEVICES)
def test_devices(device: str) -> None:
    angles = torch.tensor([[10.0, 20, 30]], device=device)
    for tensor in (poses.euler_to_matrix(angles), poses.view_grid(3, device=device), poses.rotation_grid(90, device=device)):
        assert tensor.device.type == device
    drawn = poses.random_rotations(3, torch.Generator().manual_seed(1), device=device)
    assert torch.equal(drawn.cpu(), poses.random_rotations(3, torch.Generator().manual_seed(1)))
