"""The engine's tests run in an interpreter that cannot import Scipion, and in which warnings are errors."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

SCIPION = ("pyworkflow", "pwem", "tomo", "relion", "xmippLib", "emtable")

# Warnings are errors, those of exceptions that nothing can catch (a file that is never closed) too. Left alone is only what other packages cause.
WARNINGS = (
    "error",
    "ignore:unclosed file .*substitution_matrices:ResourceWarning",  # Biopython opens its matrices and leaves them open, on import and on use
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Set the filters of the tests of this folder; what a test sets itself comes after them."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings(*WARNINGS), append=False)


@pytest.fixture(autouse=True)
def no_scipion(monkeypatch: pytest.MonkeyPatch) -> None:
    """``import pyworkflow`` (pwem, tomo ...) raises ImportError during each engine test."""
    for name in [*SCIPION, *(module for module in sys.modules if module.split(".")[0] in SCIPION)]:
        monkeypatch.setitem(sys.modules, name, None)
