"""Limits that hold on both sides."""

from __future__ import annotations

import ast
import math
from pathlib import Path

import pytest

import cryolearn
from cryolearn.common.limits import PIXEL_SIZE_TOLERANCE, same_pixel_size


@pytest.mark.parametrize("first, second, same", [
    (2.5, 2.5, True), (2.504, 2.5, True), (2.496, 2.5, True), (13.7, 13.68, True),  # two decimals, one decimal at 13 Å
    (2.51, 2.5, False), (2.49, 2.5, False), (1.01, 1.0, False), (0.0, 2.5, False), (2.5, 0.0, False), (math.nan, 2.5, False),
])
def test_pixel_sizes_are_the_same_but_for_rounding(first: float, second: float, same: bool) -> None:
    assert same_pixel_size(first, second) is same


def test_nobody_compares_pixel_sizes_with_a_tolerance_of_their_own() -> None:
    """abs(... pixel size or sampling rate ...) > number stands nowhere but in the shared function."""
    words = ("pixel_size", "voxel_angst", "getSamplingRate", "pixelSize")
    found = []
    for path in sorted(Path(cryolearn.__file__).parent.rglob("*.py")):
        if "tests" in path.parts or path.parts[-2:] == ("common", "limits.py"):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare) and isinstance(node.left, ast.Call) and getattr(node.left.func, "id", "") == "abs":
                text = ast.unparse(node.left)
                if any(word in text for word in words):
                    found.append(f"{path.name}:{node.lineno} {text}")
    assert found == []
    assert PIXEL_SIZE_TOLERANCE == 2e-3
