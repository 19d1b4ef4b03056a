"""Poses: rotation matrices, Euler angles of RELION and Xmipp, quaternions, 6D vectors, random and uniform sets.

Convention (docs/conventions): ``A = euler_to_matrix([rot, tilt, psi])`` takes a point of the particle, (x, y, z) in Å
relative to the map's centre, to where it is seen: the point appears in the projection at ``(A x)[:2] + shift``.
All functions take leading batch dims, are differentiable and follow the device of their input.
"""

from __future__ import annotations

import math

import roma
import torch
from torch import Tensor

__all__ = [
    "angle_between_deg", "euler_to_matrix", "matrix_to_euler", "matrix_to_quaternion",
    "quaternion_to_matrix", "random_rotations", "rotation_grid", "rotation_z", "so3_exp", "so3_log", "view_grid",
]


def _axis_rotation(angle_rad: Tensor, axis: int) -> Tensor:
    """Passive rotation about z (2) or y (1), as RELION's Euler matrices use them; (...,) -> (..., 3, 3)."""
    c, s = torch.cos(angle_rad), torch.sin(angle_rad)
    zero, one = torch.zeros_like(c), torch.ones_like(c)
    rows = (c, s, zero, -s, c, zero, zero, zero, one) if axis == 2 else (c, zero, -s, zero, one, zero, s, zero, c)
    return torch.stack(rows, dim=-1).unflatten(-1, (3, 3))


def euler_to_matrix(angles_deg: Tensor) -> Tensor:
    """Rotation matrix of RELION's Euler angles (ZYZ).

    Parameters
    ----------
    angles_deg
        (..., 3) rot, tilt, psi in degrees (``rlnAngleRot``, ``rlnAngleTilt``, ``rlnAnglePsi``).

    Returns
    -------
    Tensor
        (..., 3, 3) matrices that left-multiply column vectors of xyz coordinates.

    References
    ----------
    Heymann, Chagoyen & Belnap, J. Struct. Biol. 151 (2005) 196: common conventions.
    """
    rot, tilt, psi = torch.deg2rad(angles_deg).unbind(-1)
    return _axis_rotation(psi, 2) @ _axis_rotation(tilt, 1) @ _axis_rotation(rot, 2)


def matrix_to_euler(matrix: Tensor) -> Tensor:
    """Rot, tilt, psi in degrees, (..., 3), of (..., 3, 3) matrices: tilt in [0, 180], the others in (-180, 180].

    Where tilt is 0 or 180 only one in-plane angle is defined; rot is then 0.
    """
    sin_tilt = torch.linalg.vector_norm(matrix[..., 2, :2], dim=-1)
    tilt = torch.atan2(sin_tilt, matrix[..., 2, 2])
    pole = sin_tilt < 16 * torch.finfo(matrix.dtype).eps
    rot = torch.where(pole, torch.zeros_like(tilt), torch.atan2(matrix[..., 2, 1], matrix[..., 2, 0]))
    at_pole = torch.atan2(matrix[..., 0, 1], matrix[..., 1, 1])  # right for tilt 0 and for tilt 180
    psi = torch.where(pole, at_pole, torch.atan2(matrix[..., 1, 2], -matrix[..., 0, 2]))
    return torch.rad2deg(torch.stack((rot, tilt, psi), dim=-1))


def rotation_z(angle_deg: Tensor) -> Tensor:
    """(..., 3, 3) rotation of the picture by ``angle_deg`` from x to y: left-multiplies a pose, psi becomes psi - angle."""
    return _axis_rotation(-torch.deg2rad(angle_deg), 2)


def quaternion_to_matrix(quaternion: Tensor) -> Tensor:
    """(..., 3, 3) matrices of (..., 4) quaternions x, y, z, w (scalar last, as in scipy); the length does not matter."""
    return roma.unitquat_to_rotmat(torch.nn.functional.normalize(quaternion, dim=-1))


def matrix_to_quaternion(matrix: Tensor) -> Tensor:
    """(..., 4) unit quaternions x, y, z, w with w >= 0 of (..., 3, 3) matrices."""
    quaternion = roma.rotmat_to_unitquat(matrix)
    return torch.where(quaternion[..., 3:] < 0, -quaternion, quaternion)


def so3_exp(rotvec_rad: Tensor) -> Tensor:
    """(..., 3, 3) rotations by ``|rotvec|`` radians about (..., 3) vectors (right-handed)."""
    return roma.rotvec_to_rotmat(rotvec_rad)


def so3_log(matrix: Tensor) -> Tensor:
    """(..., 3) rotation vectors in radians, of length 0 to pi, of (..., 3, 3) matrices."""
    return roma.rotmat_to_rotvec(matrix)


def angle_between_deg(first: Tensor, second: Tensor) -> Tensor:
    """Angle in degrees of the rotation that takes one pose to the other; (..., 3, 3) x2 -> (...,).

    Accurate at small angles too: it comes from ``|A - B| = 2 sqrt(2) sin(angle / 2)``, not from the trace.
    """
    chord = torch.linalg.matrix_norm(first - second) / (2 * math.sqrt(2))
    return torch.rad2deg(2 * torch.asin(chord.clamp(max=1)))


def random_rotations(
    count: int, generator: torch.Generator | None = None, dtype: torch.dtype = torch.float32,
    device: torch.device | str | None = None,
) -> Tensor:
    """(count, 3, 3) rotations drawn uniformly on SO(3), from the directions of normally distributed quaternions.

    Drawn on the generator's device and then moved, so that a seed gives the same poses on CPU and on GPU.
    """
    source = generator.device if generator is not None else torch.device("cpu")
    quaternion = torch.randn(count, 4, generator=generator, dtype=torch.float64, device=source)
    return quaternion_to_matrix(quaternion).to(device=device, dtype=dtype)


def view_grid(count: int, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Tensor:
    """(count, 3, 3) poses with psi = 0 whose viewing directions (third rows) are evenly spread: a Fibonacci sphere."""
    index = torch.arange(count, dtype=torch.float64) + 0.5
    tilt = torch.rad2deg(torch.acos(1 - 2 * index / count))
    rot = torch.remainder(index * (180 * (3 - math.sqrt(5))), 360)
    angles = torch.stack((rot, tilt, torch.zeros_like(rot)), dim=-1)
    return euler_to_matrix(angles).to(device=device, dtype=dtype)


def rotation_grid(step_deg: float, dtype: torch.dtype = torch.float32, device: torch.device | str | None = None) -> Tensor:
    """(n, 3, 3) poses that cover SO(3) at about ``step_deg``: Fibonacci views times in-plane angles.

    Raises
    ------
    ValueError
        when the step is not in (0, 180].
    """
    if not 0 < step_deg <= 180:
        raise ValueError(f"step_deg is {step_deg}, but it must be above 0 and at most 180.")
    views = view_grid(max(2, round(4 * math.pi / math.radians(step_deg) ** 2)), dtype=torch.float64)
    turns = max(1, round(360 / step_deg))
    in_plane = rotation_z(torch.arange(turns, dtype=torch.float64) * (360 / turns))
    return (in_plane[None] @ views[:, None]).flatten(0, 1).to(device=device, dtype=dtype)
