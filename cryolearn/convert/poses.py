"""Poses: the matrix of Scipion's ``Transform`` <-> RELION's angles and origins.

A particle's ``Transform`` holds ``inv(M)`` with ``M = [A | s]``: ``A`` is RELION's rotation of (rot, tilt, psi), so that an
atom at ``x`` (from the centre of the map) appears at ``(A x)[:2] + s``, and ``s = -rlnOrigin`` in pixels.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

_LARGEST_DEVIATION = 1e-2  # of a rotation's product with its transpose from 1: matrices in text have a few digits
_EPSILON = np.finfo(float).eps * 4.0  # where pwem.convert.transformations calls a tilt singular


def rotationFromAngles(anglesDeg: Any) -> NDArray[Any]:
    """RELION's rotation ``A`` (ZYZ, intrinsic frame of the map).

    Parameters
    ----------
    anglesDeg : array (..., 3)
        rot, tilt, psi in degrees.

    Returns
    -------
    array (..., 3, 3)
    """
    angles = np.deg2rad(np.asarray(anglesDeg, dtype=float))
    cosA, cosB, cosC = np.moveaxis(np.cos(angles), -1, 0)
    sinA, sinB, sinC = np.moveaxis(np.sin(angles), -1, 0)
    matrix = np.empty(angles.shape[:-1] + (3, 3))
    matrix[..., 0, 0] = cosC * cosB * cosA - sinC * sinA
    matrix[..., 0, 1] = cosC * cosB * sinA + sinC * cosA
    matrix[..., 0, 2] = -cosC * sinB
    matrix[..., 1, 0] = -sinC * cosB * cosA - cosC * sinA
    matrix[..., 1, 1] = -sinC * cosB * sinA + cosC * cosA
    matrix[..., 1, 2] = sinC * sinB
    matrix[..., 2, 0] = sinB * cosA
    matrix[..., 2, 1] = sinB * sinA
    matrix[..., 2, 2] = cosB
    return matrix


def anglesFromRotation(matrix: Any) -> NDArray[Any]:
    """rot, tilt, psi in degrees of rotations ``A`` (..., 3, 3); tilt is in 0..180, rot is 0 where tilt is 0 or 180.

    Same branches as ``pwem.convert.transformations.euler_from_matrix(A, 'szyz')``, which scipion-em-relion uses.
    """
    matrix = np.asarray(matrix, dtype=float)
    sinTilt = np.hypot(matrix[..., 2, 1], matrix[..., 2, 0])
    regular = sinTilt > _EPSILON
    rot = np.where(regular, np.arctan2(matrix[..., 2, 1], matrix[..., 2, 0]),
                   np.arctan2(-matrix[..., 1, 0], matrix[..., 1, 1]))
    tilt = np.arctan2(sinTilt, matrix[..., 2, 2])
    psi = np.where(regular, np.arctan2(matrix[..., 1, 2], -matrix[..., 0, 2]), 0.0)
    return np.rad2deg(np.stack([rot, tilt, psi], axis=-1))


def transformsFromPoses(rotations: Any, shiftsAngst: Any, pixelSize: float) -> NDArray[Any]:
    """Matrices of Scipion's ``Transform`` from the engine's poses.

    Parameters
    ----------
    rotations : array (n, 3, 3)
        Rotations ``A``.
    shiftsAngst : array (n, 2) or (n, 3)
        Where the projected origin lies, in Å from the centre of the image (= -rlnOrigin).
    pixelSize : float
        Å a pixel.

    Returns
    -------
    array (n, 4, 4)
    """
    rotations = np.asarray(rotations, dtype=float)
    shifts = np.zeros(rotations.shape[:-2] + (3,))
    given = np.asarray(shiftsAngst, dtype=float)
    shifts[..., :given.shape[-1]] = given / pixelSize
    # inv([A | s]) = [A' | -A' s], without a general inverse for each particle
    inverse = np.swapaxes(rotations, -1, -2)
    transforms = np.zeros(rotations.shape[:-2] + (4, 4))
    transforms[..., :3, :3] = inverse
    transforms[..., :3, 3] = -np.einsum('...ij,...j->...i', inverse, shifts)
    transforms[..., 3, 3] = 1.0
    return transforms


def posesFromTransforms(transforms: Any, pixelSize: float, ids: Any = (), what: str = 'particles') -> tuple[NDArray[Any], NDArray[Any]]:
    """The engine's poses of Scipion's matrices.

    Parameters
    ----------
    transforms : array (n, 4, 4)
        Matrices of Scipion's ``Transform``.
    pixelSize : float
        Å a pixel.
    ids : sequence of int, optional
        Of the items, for messages.
    what : str
        What the items are, for messages.

    Returns
    -------
    rotations (n, 3, 3), shiftsAngst (n, 3)

    Raises
    ------
    ValueError
        naming the first item whose matrix is no rotation and shift.
    """
    transforms = np.asarray(transforms, dtype=float)
    turns = transforms[..., :3, :3]
    with np.errstate(invalid='ignore', over='ignore'):
        products = turns @ np.swapaxes(turns, -1, -2)
        right = np.isfinite(transforms).all(axis=(-1, -2)) & (np.abs(products - np.eye(3)).max(axis=(-1, -2)) < _LARGEST_DEVIATION)
        right &= np.where(right, np.linalg.det(np.where(right[..., None, None], turns, np.eye(3))), 0) > 0
    if not right.all():
        first = int(np.flatnonzero(~np.atleast_1d(right))[0])
        raise ValueError('The alignment of %s is no rotation and shift, but %s: align the %s again.' % (
            '%s %s' % (what.rstrip('s'), ids[first]) if len(ids) else 'one of the %s' % what,
            np.array2string(transforms.reshape(-1, 4, 4)[first, :3], precision=3).replace('\n', ''), what))
    inverse = np.linalg.inv(transforms)
    return inverse[..., :3, :3], inverse[..., :3, 3] * pixelSize


def transformsFromRelion(anglesDeg: Any, originAngst: Any, pixelSize: float) -> NDArray[Any]:
    """Scipion's matrices (n, 4, 4) from rlnAngleRot/Tilt/Psi (n, 3) and rlnOriginX/Y(/Z)Angst (n, 2 or 3)."""
    return transformsFromPoses(rotationFromAngles(anglesDeg), -np.asarray(originAngst, dtype=float), pixelSize)


def relionFromTransforms(transforms: Any, pixelSize: float, ids: Any = (), what: str = 'particles') -> tuple[NDArray[Any], NDArray[Any]]:
    """rlnAngleRot/Tilt/Psi (n, 3) in degrees and rlnOriginX/Y/ZAngst (n, 3) of Scipion's matrices (n, 4, 4); see :func:`posesFromTransforms`."""
    rotations, shifts = posesFromTransforms(transforms, pixelSize, ids, what)
    return anglesFromRotation(rotations), -shifts
