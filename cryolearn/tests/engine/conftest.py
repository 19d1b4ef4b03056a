"""The engine's tests run in an interpreter that cannot import Scipion."""

from __future__ import annotations

import sys

import pytest

SCIPION = ("pyworkflow", "pwem", "tomo", "relion", "xmippLib", "emtable")


@pytest.fixture(autouse=True)
def no_scipion(monkeypatch: pytest.MonkeyPatch) -> None:
    """``import pyworkflow`` (pwem, tomo ...) raises ImportError during each engine test."""
    for name in [*SCIPION, *(module for module in sys.modules if module.split(".")[0] in SCIPION)]:
        monkeypatch.setitem(sys.modules, name, None)
