"""The detector-side rotation and the transposition that distances leave free, found by common lines."""

from __future__ import annotations

import math

import pytest
import torch

from cryolearn.engine.imaging.poses import random_rotations, so3_exp
from cryolearn.engine.orientation.frame_alignment import align_physical
from cryolearn.engine.orientation.recovery.detector_frame import apply_gauge, find_gauge, line_agreement

from .orientation_cases import BOX, DIAMETER, PIXEL, degrees, projections

ERROR_RAD = 0.15  # standard deviation about each axis: a mean error of 14 degrees


@pytest.mark.parametrize(("transposed", "shift_angst"), [(False, 0.0), (True, 6.0)])
def test_recovered_orientations_are_put_right(transposed: bool, shift_angst: float) -> None:
    """SNR 0.26, 200 images: from a guess's physical error to within 5 % of that of the orientations themselves."""
    images, truth, _ = projections(200, 0.26, 1, shift_angst)
    generator = torch.Generator().manual_seed(2)
    noisy = so3_exp(torch.randn(200, 3, generator=generator) * ERROR_RAD) @ truth
    left, right = random_rotations(2, generator)
    recovered = left @ noisy @ right
    recovered = recovered.transpose(1, 2) if transposed else recovered
    gauge = find_gauge(images, recovered, 1500, 0, diameter_px=DIAMETER / PIXEL, shift_px=shift_angst / PIXEL)
    floor, before, after = (degrees(align_physical(truth, poses).errors_rad) for poses in (noisy, recovered, apply_gauge(gauge, recovered)))
    assert 12 < floor < 16 and before > 60
    assert gauge.transposed is transposed
    assert after < 1.05 * floor + 0.5
    assert gauge.margin > 0.3


def test_orientations_that_fit_nothing_have_no_margin() -> None:
    images, _, _ = projections(100, 0.26, 1)
    wrong = random_rotations(100, torch.Generator().manual_seed(9))
    assert find_gauge(images, wrong, 500, 0, diameter_px=DIAMETER / PIXEL).margin < 0.15


def test_lines_agree_where_slices_meet() -> None:
    """Clean projections have the same values along their common line: their agreement there is the lines' own power, elsewhere next to nothing."""
    images, truth, _ = projections(120, 1e4, 3)
    first, second = torch.arange(60), torch.arange(60, 120)
    agreement = line_agreement(images, first, second, DIAMETER / PIXEL, 0.0)
    count = agreement.shape[2]
    axis = torch.linalg.cross(truth[first][:, 2], truth[second][:, 2], dim=1)
    seen = [(truth[rows] @ axis[..., None])[..., 0] for rows in (first, second)]
    one, other = (torch.round(torch.atan2(line[:, 1], line[:, 0]) * (count / (2 * math.pi))).long() % count for line in seen)
    over = one >= count // 2
    one, other = torch.where(over, one - count // 2, one), torch.where(over, (other + count // 2) % count, other)
    assert 0.6 < float(agreement[torch.arange(60), one, other].mean()) < 1.3
    assert abs(float(agreement.mean())) < 0.1


def test_numbers_of_images_are_refused() -> None:
    with pytest.raises(ValueError, match="501 images"):
        find_gauge(torch.zeros(501, BOX, BOX), torch.eye(3).expand(501, 3, 3), 100, 0, diameter_px=20)
