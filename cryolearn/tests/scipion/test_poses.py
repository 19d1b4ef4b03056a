"""Poses of Scipion and RELION, against pwem's own transformations and scipion-em-relion."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cryolearn.convert.poses import (
    anglesFromRotation,
    posesFromTransforms,
    relionFromTransforms,
    rotationFromAngles,
    transformsFromPoses,
    transformsFromRelion,
)

angle = st.floats(-180, 180, allow_nan=False, width=32)
tilt = st.floats(0, 180, allow_nan=False, width=32)
origin = st.floats(-50, 50, allow_nan=False, width=32)
pixel = st.floats(0.3, 10, allow_nan=False)


def _pwemTransform(angles, originAngst, pixelSize):
    """The matrix as DESIGN and scipion-em-relion define it, by pwem's functions."""
    tfs = pytest.importorskip('pwem.convert.transformations')
    rot, til, psi = -np.deg2rad(angles)
    matrix = tfs.euler_matrix(rot, til, psi, 'szyz')
    matrix[:2, 3] = -np.asarray(originAngst) / pixelSize
    return np.linalg.inv(matrix)


@given(angle, angle, angle, origin, origin, pixel)
@settings(max_examples=200, deadline=None)
def test_transform_is_that_of_pwem(rot, til, psi, x, y, pixelSize):
    ours = transformsFromRelion([[rot, til, psi]], [[x, y]], pixelSize)[0]
    np.testing.assert_allclose(ours, _pwemTransform([rot, til, psi], [x, y], pixelSize), atol=1e-10)


@given(angle, tilt, angle, origin, origin, pixel)
@settings(max_examples=200, deadline=None)
def test_relion_roundtrip(rot, til, psi, x, y, pixelSize):
    transforms = transformsFromRelion([[rot, til, psi]], [[x, y]], pixelSize)
    angles, origins = relionFromTransforms(transforms, pixelSize)
    # the same rotation; the angles themselves are not unique where the tilt is 0 or 180
    np.testing.assert_allclose(rotationFromAngles(angles), rotationFromAngles([[rot, til, psi]]), atol=1e-7)
    np.testing.assert_allclose(origins[0], [x, y, 0], atol=1e-8)
    assert -1e-9 <= angles[0, 1] <= 180 + 1e-9


@given(angle, st.sampled_from([0.0, 1e-12, 90.0, 180.0]), angle)
@settings(max_examples=60, deadline=None)
def test_special_tilts_take_the_branch_of_pwem(rot, til, psi):
    tfs = pytest.importorskip('pwem.convert.transformations')
    matrix = rotationFromAngles([rot, til, psi])
    expected = -np.rad2deg(tfs.euler_from_matrix(matrix, 'szyz'))
    np.testing.assert_allclose(rotationFromAngles(anglesFromRotation(matrix)), rotationFromAngles(expected), atol=1e-9)
    np.testing.assert_allclose(anglesFromRotation(matrix), expected, atol=1e-6)


@pytest.mark.parametrize('fault', ['NaN', 'infinite', 'scaled', 'mirrored', 'singular'])
def test_what_is_no_rotation_and_shift_is_named(fault):
    transforms = transformsFromRelion([[10, 20, 30], [40, 50, 60], [70, 80, 90]], [[1, 2], [3, 4], [5, 6]], 2.0)
    relionFromTransforms(transforms, 2.0, [4, 7, 9])
    if fault in ('NaN', 'infinite'):
        transforms[1, 0, 3] = float('nan' if fault == 'NaN' else 'inf')
    else:
        transforms[1, :3, :3] = {'scaled': 2, 'mirrored': -1, 'singular': 0}[fault] * transforms[1, :3, :3]
    with pytest.raises(ValueError, match='alignment of particle 7 is no rotation'):
        relionFromTransforms(transforms, 2.0, [4, 7, 9])
    with pytest.raises(ValueError, match='alignment of one of the subtomograms'):
        posesFromTransforms(transforms[1], 2.0, what='subtomograms')


def test_an_atom_appears_where_the_convention_says():
    """rot = tilt = 0, psi = 90: an atom on the map's x axis appears on the image's negative y axis, moved by -origin."""
    rotations, shifts = posesFromTransforms(transformsFromRelion([[0, 0, 90]], [[3, -5]], 2.0), 2.0)
    place = (rotations[0] @ [10, 0, 0])[:2] + shifts[0, :2]
    np.testing.assert_allclose(place, [0 - 3, -10 + 5], atol=1e-9)


def test_engine_poses_roundtrip():
    rng = np.random.default_rng(3)
    rotations = rotationFromAngles(rng.uniform(-180, 180, (50, 3)))
    shifts = rng.uniform(-20, 20, (50, 2))
    back, moved = posesFromTransforms(transformsFromPoses(rotations, shifts, 1.7), 1.7)
    np.testing.assert_allclose(back, rotations, atol=1e-12)
    np.testing.assert_allclose(moved[:, :2], shifts, atol=1e-12)
    np.testing.assert_allclose(moved[:, 2], 0, atol=1e-12)
