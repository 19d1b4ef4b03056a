"""FSC curves for both sides: the first crossing, its edges, and the files."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from cryolearn.common.fsc import (
    crossing_shell,
    curve_names,
    first_shell_below,
    read_curve,
    resolution_at,
    resolution_of_curve,
    resolution_text,
)
from cryolearn.engine.imaging.half_set_maps import write_fsc_csv


@pytest.mark.parametrize("curve, below, crossing", [
    ([1, 0.9, 0.6, 0.2, 0.1], 3, 2.5),
    ([1, 0.9, 0.6, 0.2, 0.9, 0.1], 3, 2.5),  # the first of two crossings
    ([1, 0.9, 0.4, 0.1], 3, 2.0),  # a shell at the threshold is not below it
    ([0, 0.9, 0.8], 3, 2.0),  # shell 0 says nothing; never below: the last shell
    ([1, 0.1, 0.9, 0.1], 1, None),  # the first shell is below
    ([1, 0.9, math.nan, 0.1], 2, 1.0),  # a shell without information ends the curve
    ([1, math.nan, 0.9], 1, None),
    ([1], 1, None),
    ([], 0, None),
])
def test_the_first_shell_below_and_where_the_curve_crosses(curve: list[float], below: int, crossing: float | None) -> None:
    for kind in (list, np.array, torch.tensor):
        values = kind(curve)
        assert first_shell_below(values, 0.4) == below
        assert crossing_shell(values, 0.4) == (crossing if crossing is None else pytest.approx(crossing, abs=1e-6))


def test_a_logistic_curve_crosses_where_its_formula_says() -> None:
    box, pixel, resolution, width = 400, 1.25, 7.3, 0.01
    frequency = np.arange(box // 2 + 1) / (box * pixel)
    curve = 1 / (1 + np.exp((frequency - 1 / resolution) / width + np.log(1 / 0.143 - 1)))
    found = resolution_at(curve, 0.143, box, pixel)
    # The error of linear interpolation between shells is at most h^2 / 8 |f'' / f'|, of a logistic curve at most h^2 / (8 width).
    assert found is not None and abs(1 / found - 1 / resolution) <= frequency[1] ** 2 / (8 * width)
    # The same curve as files hold it, from shell 1 on, and with shell 0.
    for start in (0, 1):
        assert resolution_of_curve(frequency[start:], curve[start:], 0.143) == pytest.approx(found)


@pytest.mark.parametrize("values", [[0.9, 0.6, 0.2], [0.9, 0.9, 0.9], [0.1, 0.9, 0.9], [0.9, math.nan, 0.9]])
def test_shells_and_frequencies_say_the_same(values: list[float]) -> None:
    box, pixel = 20, 1.5
    frequency = [shell / (box * pixel) for shell in (1, 2, 3)]
    by_shell = resolution_at([1.0, *values], 0.4, box, pixel)
    for found in (resolution_of_curve(frequency, values, 0.4), resolution_of_curve([0.0, *frequency], [1.0, *values], 0.4)):
        assert found == (None if by_shell is None else pytest.approx(by_shell))


def test_no_curve_has_no_resolution() -> None:
    assert resolution_of_curve([], []) is None
    assert resolution_text(None) == "not resolved" and resolution_text(8.3) == "8.30 Å"


def test_what_the_engine_writes_is_read(tmp_path: Path) -> None:
    path = str(tmp_path / "fsc.csv")
    curves = {"fsc": torch.tensor([1.0, 0.8, 0.4]), "fsc_unmasked": torch.tensor([1.0, 0.7, -0.1])}
    write_fsc_csv(path, curves, 4, 2.0)
    assert curve_names(path) == ["fsc", "fsc_unmasked"]
    frequency, values = read_curve(path, "fsc_unmasked")
    assert frequency == pytest.approx([1 / 8, 2 / 8]) and values == pytest.approx([0.7, -0.1])
    assert resolution_of_curve(frequency, values, 0.3) == pytest.approx(resolution_at(curves["fsc_unmasked"], 0.3, 4, 2.0))
    with pytest.raises(ValueError, match=r"fsc\.csv"):
        read_curve(path, "absent")
